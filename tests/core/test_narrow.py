"""Shares in the narrowest rings: what is sent, claimed and checked stays as it was traced."""

from __future__ import annotations

import numpy as np
import pytest

from engine.bench.planfile import plan_from_text, plan_to_text
from engine.clear import clear
from engine.errors import BoundError
from engine.gates.polynomial import polynomial
from engine.graph import LINEAR, Graph, WireType
from engine.kernels.interface import Kernels
from engine.models.bert import bert
from engine.models.calibrate import default_ranges
from engine.models.shapes import SHAPES
from engine.narrow import narrowed
from engine.scheduler.plan import Call, Plan, Program, Segment, segment
from engine.testing.registry import gates
from engine.testing.traced import trace
from engine.wires import Masked

RANGES = default_ranges(SHAPES["bert-tiny"])
SEGMENTS = [
    *(trace(spec, 3).segment for spec in gates().values()),
    *Plan(bert(SHAPES["bert-tiny"], RANGES, (16,))).program.segments,
]


def squares(ring: int = 60, opened: int = 12) -> Plan:
    """The sum of the squares of two numbers, claimed to be below 2^10 and opened in few bits."""
    g = Graph("squares")
    x = Masked(g, g.add("input", (), WireType("masked", (3, 2), 20, 0, 1 << 8), owner=0, name="x"))
    total = polynomial(x * x, ring).sum().bounded(1 << 10).open(opened)
    g.add("reveal", (total.as_share().index,), WireType("output", (3, 1), opened, 0, 1 << 10), to=0, name="y")
    return Plan(Program((segment(g),), (Call(0, "squares"),)))


@pytest.mark.parametrize("s", SEGMENTS, ids=lambda s: s.graph.name)
def test_a_share_is_as_wide_as_its_widest_reader_takes(s: Segment) -> None:
    for node, traced in zip(s.graph, s.traced, strict=True):
        assert (node.op, node.inputs, node.attrs) == (traced.op, traced.inputs, traced.attrs)
        kind = node.type
        assert (kind.shape, kind.scale, kind.bound) == (traced.type.shape, traced.type.scale, traced.type.bound)
        if node.op in LINEAR | {"poly", "matmul", "weight_matmul"} and kind.kind == "share":
            readers = [n.type.ring for n in s.graph if node.index in n.inputs]
            assert kind.ring == min(traced.type.ring, max(readers)), node.canonical()
        elif kind.kind != "share" and node.op != "mask_share":
            assert kind == traced.type


@pytest.mark.parametrize("s", SEGMENTS, ids=lambda s: s.graph.name)
def test_nothing_is_left_to_narrow_and_nothing_sent_has_changed(s: Segment) -> None:
    assert narrowed(s.graph).digest() == s.graph.digest() == narrowed(s.traced).digest()
    for node in s.graph:
        if node.opening:
            assert node == s.traced[node.index]
    assert s.graph.outputs == s.traced.outputs
    assert all(s.graph[i] == s.traced[i] for i in s.graph.outputs)


def test_coefficients_are_dealt_at_the_width_that_is_opened() -> None:
    """x^2 = (x_hat - r)^2: of a wire of 20 bits opened in 12 nothing is lifted, and -2 r takes 11 bits, two bytes; a
    square in a ring of 60 would take eight bytes for h, and five for each of two lifts."""
    s = squares().program.segments[0]
    poly = next(n for n in s.graph if n.op == "poly")
    assert poly.type.ring == 12 and s.traced[poly.index].type.ring == 60
    assert s.needs[poly.index].tape == (0, 2 * 6)


def test_a_value_beyond_its_bound_is_found_where_the_narrow_ring_would_hide_it(kernels: Kernels) -> None:
    """64^2 = 2^12 is 0 in the ring that is opened."""
    plan, small, large = squares(), np.array([[3, 4]] * 3), np.array([[3, 4], [64, 0], [1, 1]])
    assert clear(plan, kernels, {"x": small}, {}, check=True)["y"].tolist() == [[25]] * 3
    assert clear(plan, kernels, {"x": large}, {})["y"].tolist() == [[25], [0], [2]]
    with pytest.raises(BoundError, match="claim"):
        clear(plan, kernels, {"x": large}, {}, check=True)


def test_a_saved_plan_keeps_what_was_traced(kernels: Kernels) -> None:
    plan = plan_from_text(plan_to_text(squares()))
    assert plan.digest == squares().digest
    assert plan.program.segments[0].traced.digest() == squares().program.segments[0].traced.digest()
    with pytest.raises(BoundError):
        clear(plan, kernels, {"x": np.full((3, 2), 64)}, {}, check=True)
