"""Sides on one clock, traces of two sides brought together, costs that add up to the plan's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.cost import plan_cost, total
from engine.errors import InputError
from engine.models.bert import bert
from engine.models.calibrate import default_ranges
from engine.models.shapes import SHAPES
from engine.report.recording import aligned, gate_costs, merged
from engine.scheduler.plan import Plan
from tests.report.made import client, owner, recording


def test_gate_costs_add_up_to_the_plans() -> None:
    shape = SHAPES["bert-tiny"]
    plan = Plan(bert(shape, default_ranges(shape), (16,)))
    whole = total("total", [c.cost for c in gate_costs(plan)])
    assert replace(whole, headroom=None) == replace(plan_cost(plan), headroom=None)


def test_one_clock_is_left_alone() -> None:
    both = client(), owner()
    assert aligned(both) == both


@pytest.mark.parametrize("ahead", [-1e5, 40.0, 1e6])
def test_clocks_of_two_machines_are_aligned_by_what_crossed(ahead: float) -> None:
    """P0's frame took 0.25 s and P1's 0.375 s: aligned, both take as long as their mean."""
    first, second = aligned((client(), owner().moved(ahead)))
    assert first == client() and second is not None
    there = second.events[2].start - client().events[2].start
    back = client().events[4].start - second.events[1].start
    assert there == pytest.approx(0.3125) and back == pytest.approx(0.3125)
    assert second.online[0] == pytest.approx(10.0625)


def test_traces_of_both_sides_make_one() -> None:
    whole = recording()
    mine, theirs = (
        replace(whole, runs=(replace(whole.runs[0], sides=s),)) for s in ((client(), None), (None, owner()))
    )
    assert merged([mine, theirs]) == whole


def test_traces_of_other_runs_and_other_plans_are_refused() -> None:
    with pytest.raises(InputError, match="different runs"):
        merged([recording(), recording(tape="cd" * 16)])
    other = recording()
    other = replace(other, runs=(replace(other.runs[0], costs=other.runs[0].costs[1:]),))
    with pytest.raises(InputError, match="different plans"):
        merged([recording(), other])
