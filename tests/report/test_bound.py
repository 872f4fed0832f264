"""What bounds a run, of timelines where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.report.bound import what_bounds
from engine.report.intervals import Union
from engine.report.recording import Side
from tests.report.made import client, owner, side, work

SECONDS = st.integers(0, 40).map(lambda n: n / 4)


@given(st.lists(st.tuples(SECONDS, SECONDS).map(lambda p: (min(p), max(p))), max_size=8), SECONDS, SECONDS)
def test_unions_are_those_of_small_steps(intervals: list[tuple[float, float]], a: float, b: float) -> None:
    window = (1.0, 9.0)
    union = Union(intervals, window)
    inside = [k for k in range(40) if any(s * 4 <= k < t * 4 for s, t in intervals) and 4 <= k < 36]
    assert union.total == pytest.approx(len(inside) / 4)
    start, stop = min(a, b), max(a, b)
    free = sum(1 for k in range(40) if start * 4 <= k < stop * 4 and k not in inside) / 4
    assert union.free(np.array([start]), np.array([stop]))[0] == pytest.approx(free)


def network_run(bytes_of: list[int], seconds_of: list[float]) -> tuple[Side, Side]:
    """Both compute for 0.1 s, then both wait for `seconds_of` each round."""
    at, events = 10.0, []
    for number, (size, wait) in enumerate(zip(bytes_of, seconds_of, strict=True), 1):
        events.append(work("evaluate", at, at + 0.1, number, gate="gelu"))
        events.append(work("send", at + 0.1, at + 0.1, number, size))
        events.append(work("wait", at + 0.1, at + 0.1 + wait, number, size, "gelu"))
        at += 0.1 + wait
    return side(*events, online=(10.0, at)), side(*events, online=(10.0, at))


def test_a_wait_while_the_other_side_computes_is_computing() -> None:
    bound = what_bounds((client(), owner()))
    assert bound is not None
    assert bound.compute == pytest.approx(2.5 / 3) and bound.latency + bound.bandwidth == pytest.approx(0.5 / 3)
    assert bound.kind == "compute" and bound.sentence.startswith("Computing bounds this run")


def test_latency_bounds_rounds_of_any_size_that_take_equally_long() -> None:
    bound = what_bounds(network_run([10, 1000, 500, 80], [0.4] * 4))
    assert bound is not None and bound.kind == "latency"
    assert (bound.compute, bound.latency, bound.bandwidth) == pytest.approx((0.2, 0.8, 0.0))
    assert "fewer rounds" in bound.sentence


def test_bandwidth_bounds_rounds_that_take_as_long_as_their_bytes() -> None:
    sizes = [1000, 3000, 6000, 10_000]
    for rates in (None, (80_000.0, 80_000.0), (160_000.0, 80_000.0)):
        bound = what_bounds(network_run(sizes, [s / 10_000 for s in sizes]), rates)
        assert bound is not None and bound.kind == "bandwidth" and "fewer bytes" in bound.sentence
        assert (bound.compute, bound.bandwidth) == pytest.approx((0.4 / 2.4, 2.0 / 2.4))
        assert bound.link == (None if rates is None else pytest.approx(2.0 / 2.4))


def test_one_side_alone_cannot_tell_whom_it_waits_for() -> None:
    bound = what_bounds((client(), None))
    assert bound is not None and (bound.compute, bound.peer, bound.latency) == pytest.approx((2 / 3, 1 / 3, 0))
    assert "the other side's trace would tell" in bound.sentence


@pytest.mark.parametrize("sides", [(client(), owner()), (client(), None), network_run([1, 2], [0.1, 3.0])])
def test_shares_add_up(sides: tuple[Side, Side | None]) -> None:
    bound = what_bounds(sides)
    assert bound is not None
    assert bound.compute + bound.latency + bound.bandwidth + bound.peer + bound.other == pytest.approx(1)


def test_nothing_recorded_is_bounded_by_nothing() -> None:
    assert what_bounds((None, None)) is None and what_bounds((Side(()), None)) is None
