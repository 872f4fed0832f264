"""Small rings, completely: every value with every mask, or with every mask on the seams where that is too many."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.errors import TraceError
from engine.gates.fss import Table, at_least, below, counts, equal, interval, lookup, piece
from engine.gates.matmul import gain, matmul
from engine.gates.maximum import argmax, maximum, stabiliser
from engine.gates.polynomial import polynomial, square
from engine.gates.relu import relu
from engine.kernels.interface import Kernels
from engine.testing.check import check_gate
from engine.testing.declare import Input, MaskedInput, WeightInput
from engine.wires import Masked, Share

Real = Any


def inside(lo: int, hi: int) -> Callable[[Real], Real]:
    return lambda x: (x >= lo) & (x < hi)


def of_table(table: Table) -> Callable[[Real], Real]:
    known = {table.first + i: v for i, v in enumerate(table.values)}
    return np.vectorize(lambda x: known.get(int(x), 0) / 2.0**table.scale, otypes=[float])


def check(gate: Callable[..., Any], *inputs: Input, ref: Callable[..., Any], kernels: Kernels, tol: float = 0) -> None:
    check_gate(gate, *inputs, reference=ref, tolerance=tol, exhaustive=True, kernels=kernels)


@pytest.mark.parametrize("m", [2, 3, 6, 8])
def test_questions(m: int, kernels: Kernels) -> None:
    top = 1 << (m - 1)
    for lo, hi in {(-top + 1, top), (-1, 1), (-top, top - 1), (top - 1, top)}:
        check(lambda x, a=lo, b=hi: interval(x, a, b), MaskedInput(m), ref=inside(lo, hi), kernels=kernels)
    for at in {-top + 1, 0, top - 1}:
        check(lambda x, a=at: at_least(x, a), MaskedInput(m), ref=inside(at, top), kernels=kernels)
        check(lambda x, a=at: below(x, a), MaskedInput(m), ref=inside(-top, at), kernels=kernels)
        check(lambda x, a=at: equal(x, a), MaskedInput(m), ref=inside(at, at + 1), kernels=kernels)


@pytest.mark.parametrize("m", [9, 12])
def test_trees(m: int, kernels: Kernels) -> None:
    """Domains of several leaves, all values, masks on the seams."""
    check(lambda x: interval(x, -5, 130), MaskedInput(m), ref=inside(-5, 130), kernels=kernels)
    table = Table("t", -100, 0, tuple(range(1, 300 if m > 9 else 201)))
    check(lambda x: lookup(x, table), MaskedInput(m), ref=of_table(table), kernels=kernels)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 6])
def test_tables_that_fill_their_domain(m: int, kernels: Kernels) -> None:
    top = 1 << (m - 1)
    for first, size in {(-top, 2 * top), (-top, top), (0, top), (top - 1, 1), (-1, 2)}:
        if first < -top or first + size > top:
            continue
        table = Table("t", first, 1, tuple((-3) ** (i % 7) + i for i in range(size)))
        check(lambda x, t=table: lookup(x, t), MaskedInput(m), ref=of_table(table), kernels=kernels)
        check(lambda x, t=table: piece(x, None, t), MaskedInput(m), ref=of_table(table), kernels=kernels)


def test_piece_with_a_rest(kernels: Kernels) -> None:
    table = Table("t", -8, 0, tuple(range(-8, 8)), tuple(5 * j for j in range(-8, 8)))

    def gate(x: Masked) -> Share:
        index, rest = x.split(0)
        return piece(index, rest, table)

    report = check_gate(gate, MaskedInput(6, 2, 27), exhaustive=True, kernels=kernels)
    assert report.evaluations == 55 * 64


@pytest.mark.parametrize(("w", "out"), [(2, 3), (3, 8), (4, 64), (7, 8), (8, 33)])
def test_lift(w: int, out: int, kernels: Kernels) -> None:
    wire = MaskedInput(w, bound=(1 << (w - 2)) - 1)
    check(lambda x: polynomial(x, out), wire, ref=lambda x: x, kernels=kernels)


def test_lift_refuses_what_it_cannot_hold(kernels: Kernels) -> None:
    with pytest.raises(TraceError, match="two bits of head-room"):
        check_gate(lambda x: polynomial(x, 8), MaskedInput(5, bound=8), exhaustive=True, kernels=kernels)


def test_the_head_room_of_a_lift_is_needed(kernels: Kernels) -> None:
    """One value more, smuggled in by a claim, and the checker sees it."""
    with pytest.raises(AssertionError, match="exceeds the bound"):
        check_gate(lambda x: polynomial(x.bounded(7), 8), MaskedInput(5, bound=8), exhaustive=True, kernels=kernels)


@pytest.mark.parametrize("t", [1, 2, 5])
def test_truncate_rounds_to_a_neighbour(t: int, kernels: Kernels) -> None:
    wire = MaskedInput(8, scale=t, bound=127 - (1 << t))
    check(lambda x: x.truncate(0), wire, ref=lambda x: x, kernels=kernels, tol=1 - 2.0**-t)


def test_truncate_is_exact_on_multiples(kernels: Kernels) -> None:
    check(lambda x: x.times(4, scale=2).truncate(0), MaskedInput(7, bound=15), ref=lambda x: x, kernels=kernels)


def test_reduce(kernels: Kernels) -> None:
    check(lambda x: x.reduce(4), MaskedInput(8, bound=7), ref=lambda x: x, kernels=kernels)


def test_rest_restores_its_wire(kernels: Kernels) -> None:
    def gate(x: Masked) -> Share:
        index, rest = x.split(1)
        return polynomial(index + rest, 8)

    check(gate, MaskedInput(8, 4, 50), ref=lambda x: x, kernels=kernels)


def test_products(kernels: Kernels) -> None:
    x, y = MaskedInput(4, bound=3), MaskedInput(5, bound=7)
    check(lambda a, b: polynomial(a * b, 16), x, y, ref=lambda a, b: a * b, kernels=kernels)
    check(lambda a, b: polynomial(a * b, 4, 7), MaskedInput(4, bound=2), MaskedInput(4, bound=3),
          ref=lambda a, b: a * b, kernels=kernels)  # fmt: skip
    check(lambda a: square(a, 7), MaskedInput(7, bound=7), ref=lambda a: a * a, kernels=kernels)
    check(lambda a: square(a, 20), MaskedInput(8, bound=63), ref=lambda a: a * a, kernels=kernels)
    check(lambda a: polynomial(a * a * a - 2 * a + 1, 12), MaskedInput(6, bound=12),
          ref=lambda a: a**3 - 2 * a + 1, kernels=kernels)  # fmt: skip


def test_bits_and_answers_in_one_polynomial(kernels: Kernels) -> None:
    table = Table("t", -3, 0, (5, -1, 0, 2, 7))

    def gate(x: Masked) -> Share:
        bit, answer = at_least(x, 1).open(), lookup(x, table).open()
        return polynomial(bit * x * 3 - answer + (1 - bit) * answer * answer, 20)

    def ref(x: Real) -> Real:
        t = of_table(table)(x)
        return np.where(x >= 1, 3 * x - t, t * t - t)

    check(gate, MaskedInput(6, bound=15), ref=ref, kernels=kernels)


def test_relu(kernels: Kernels) -> None:
    check(relu, MaskedInput(8), ref=lambda x: np.maximum(x, 0), kernels=kernels)
    check(lambda x: relu(x, 20), MaskedInput(8, bound=63), ref=lambda x: np.maximum(x, 0), kernels=kernels)


def test_rows(kernels: Kernels) -> None:
    pair, triple = MaskedInput(4, bound=3, shape=(2,)), MaskedInput(3, bound=1, shape=(3,))
    for wire in (pair, triple):
        check(maximum, wire, ref=lambda x: x.max(-1, keepdims=True), kernels=kernels)
        slots = np.arange(-(1 << wire.ring - 1), 1 << wire.ring - 1)
        check(lambda x: counts(x, 8), wire, ref=lambda x, k=slots: (x[..., None] == k).sum(-2), kernels=kernels)
    check(lambda x: stabiliser(x, 0, 3), pair, ref=lambda x: x.max(-1, keepdims=True), kernels=kernels, tol=1)
    check(argmax, pair, ref=lambda x: x.argmax(-1)[..., None], kernels=kernels)


@pytest.mark.parametrize("owner", [0, 1, "public", "shared"])
@pytest.mark.parametrize("mine", [0, 1, None])
def test_weights(owner: int | str, mine: int | None, kernels: Kernels) -> None:
    x = MaskedInput(6, bound=5, shape=(1, 2), owner=mine)
    check(matmul, x, WeightInput((2, 2), bound=3, owner=owner, ring=6), ref=np.matmul, kernels=kernels)
    check(gain, x, WeightInput((2,), bound=3, owner=owner, ring=6), ref=lambda a, b: a * b, kernels=kernels)


def test_secret_product(kernels: Kernels) -> None:
    x, y = MaskedInput(5, bound=3, shape=(1, 1)), MaskedInput(6, bound=3, shape=(1, 1))
    check(matmul, x, y, ref=np.matmul, kernels=kernels)
