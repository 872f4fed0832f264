"""Random wires, masks and polynomials: the protocol equals clear bit for bit, and clear equals plain arithmetic."""

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.gates.fss import Table, interval, lookup
from engine.gates.polynomial import polynomial
from engine.graph import WireType
from engine.kernels import get_kernels
from engine.ring import reduce, to_ring, to_signed
from engine.testing.check import check_gate
from engine.testing.declare import MaskedInput
from engine.testing.seams import draw_masks, draw_values, edges, mask_seams
from engine.testing.strategies import masks, rings, shapes, values, wire_masks, wire_types, wire_values
from engine.wires import Masked, Share

KERNELS = get_kernels("numpy")
MANY = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def check(gate: Any, *wires: MaskedInput, reference: Any, seed: int, tolerance: float = 0.0) -> None:
    check_gate(gate, *wires, reference=reference, tolerance=tolerance, examples=64, seed=seed, kernels=KERNELS)


@MANY
@given(st.data(), SEEDS)
def test_truncation_rounds_to_a_neighbour(data: st.DataObject, seed: int) -> None:
    ring = data.draw(rings(3, 53))
    t = data.draw(st.integers(1, ring - 2))
    bound = data.draw(values(1, (1 << (ring - 1)) - (1 << t)))
    wire = MaskedInput(ring, t, bound)
    check(lambda x: x.truncate(0), wire, reference=lambda x: x, seed=seed, tolerance=1 - 2.0**-t)


@MANY
@given(st.data(), SEEDS)
def test_truncation_by_two_amounts_and_the_rest(data: st.DataObject, seed: int) -> None:
    ring = data.draw(rings(6, 50))
    g = data.draw(st.integers(1, ring - 4))
    wire = MaskedInput(ring, g, (1 << ring - 3) - (1 << g) + 1 if ring - 3 > g else 1)

    def gate(x: Masked) -> Share:
        index, rest = x.split(0)
        return polynomial(index + rest, 64)

    check(gate, wire, reference=lambda x: x, seed=seed)


@MANY
@given(st.data(), SEEDS)
def test_lift_is_exact(data: st.DataObject, seed: int) -> None:
    ring = data.draw(rings(3, 52))
    out = data.draw(rings(ring + 1, 64))
    wire = MaskedInput(ring, bound=(1 << (ring - 2)) - 1)
    check(lambda x: polynomial(x, out), wire, reference=lambda x: x, seed=seed)


@MANY
@given(st.data(), SEEDS)
def test_interval(data: st.DataObject, seed: int) -> None:
    m = data.draw(rings(2, 52))
    top = 1 << (m - 1)
    lo = data.draw(values(-top, top - 1))
    hi = data.draw(values(lo + 1, min(top, lo + (1 << m) - 1)))
    check(lambda x: interval(x, lo, hi), MaskedInput(m), reference=lambda x: (x >= lo) & (x < hi), seed=seed)


@MANY
@given(st.data(), SEEDS)
def test_lookup(data: st.DataObject, seed: int) -> None:
    m = data.draw(rings(1, 40))
    top = 1 << (m - 1)
    size = data.draw(values(1, min(1 << m, 700)))
    first = data.draw(values(-top, top - min(size, top)))
    first = min(first, top - size)
    entries = tuple(np.random.default_rng(seed).integers(-1 << 40, 1 << 40, size).tolist())
    table = Table("drawn", first, 0, entries)

    def reference(x: Any) -> Any:
        at = x.astype(np.int64) - first
        return np.where((at >= 0) & (at < size), np.array(entries)[np.clip(at, 0, size - 1)], 0)

    check(lambda x: lookup(x, table), MaskedInput(m), reference=reference, seed=seed)


@st.composite
def polynomials(draw: st.DrawFn) -> tuple[tuple[MaskedInput, ...], list[tuple[int, tuple[int, ...]]], int]:
    """Wires, terms (coefficient, wires) of degree three at most, and the ring of the result."""
    out = draw(rings(8, 64))
    wires = []
    for _ in range(draw(st.integers(1, 3))):
        bits = draw(st.integers(1, 12))
        wires.append(MaskedInput(draw(st.integers(bits + 2, 64)), bound=(1 << bits) - 1))
    monomials = st.lists(st.integers(0, len(wires) - 1), max_size=3).map(tuple)
    return tuple(wires), draw(st.lists(st.tuples(st.integers(-9, 9), monomials), min_size=1, max_size=5)), out


@MANY
@given(polynomials(), SEEDS)
def test_polynomial(drawn: tuple[tuple[MaskedInput, ...], list[tuple[int, tuple[int, ...]]], int], seed: int) -> None:
    wires, terms, out = drawn
    assumed = (1 << out - 1) - 1

    def gate(*x: Masked) -> Share:
        total = x[0].operand() * 0 + sum((math.prod((x[i].operand() for i in m), start=c) for c, m in terms), 0)
        return polynomial(total, out, assumed)

    def reference(*x: Any) -> Any:
        exact = sum((math.prod((x[i].astype(object).astype(int) for i in m), start=c) for c, m in terms), 0)
        exact = np.broadcast_to(np.asarray(exact, object), x[0].shape)
        wrapped = [((int(v) + (1 << out - 1)) % (1 << out)) - (1 << out - 1) for v in exact]
        return np.array(wrapped, object).astype(float)

    if _bound(wires, terms) <= assumed:
        check(gate, *wires, reference=reference, seed=seed)


def _bound(wires: tuple[MaskedInput, ...], terms: list[tuple[int, tuple[int, ...]]]) -> int:
    return sum(abs(c) * math.prod(wires[i].limit for i in m) for c, m in terms)


@MANY
@given(wire_types(headroom=2), st.data())
def test_ring_arithmetic_of_a_wire(wire: WireType, data: st.DataObject) -> None:
    x = data.draw(wire_values(wire))
    words = to_ring(x, wire.ring)
    r = data.draw(wire_masks(wire, words))
    assert np.array_equal(to_signed(words, wire.ring), x)
    assert np.array_equal(to_signed(reduce(reduce(words + r, wire.ring) - r, wire.ring), wire.ring), x)
    assert x.shape == wire.shape and int(np.abs(x).max()) <= wire.bound


@given(rings(1, 64), st.data())
def test_drawn_masks_meet_the_seams(ring: int, data: st.DataObject) -> None:
    assert 0 <= data.draw(masks(ring)) < 1 << ring
    seams = set(mask_seams(ring))
    assert {0, (1 << ring) - 1, 1 << (ring - 1)} <= seams
    rng = np.random.default_rng(data.draw(SEEDS))
    at = reduce(rng.integers(0, 1 << 64, 600, np.uint64), ring)
    drawn = draw_masks(rng, ring, at)
    assert int(drawn.max()) < 1 << ring
    assert sum(int(v) in seams for v in drawn) >= 60
    assert sum(int(v) in seams for v in reduce(drawn + at, ring)) >= 60


@given(values(-50, 90, near=(17,)), shapes())
def test_drawn_values_meet_the_edges(value: int, shape: tuple[int, ...]) -> None:
    assert -50 <= value <= 90
    points = edges(-50, 90, near=(17,))
    assert {-50, -49, -1, 0, 1, 16, 17, 18, 31, 32, 63, 64, 65, 89, 90} <= set(points)
    drawn = draw_values(np.random.default_rng(1), -50, 90, (500, *shape), (17,), rows=True)
    assert drawn.min() >= -50 and drawn.max() <= 90 and set(points) <= set(drawn.reshape(-1).tolist())
