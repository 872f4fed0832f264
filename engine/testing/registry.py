"""Every gate and composite of the package, declared: what it takes, what it should compute, how far off it may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from math import erf
from typing import Any

import numpy as np

from engine.gates.causal import causal_softmax_times
from engine.gates.exp import exp, exp_piece
from engine.gates.fss import Table, at_least, below, counts, equal, interval, lookup, piece
from engine.gates.gelu import gelu
from engine.gates.gelu_new import gelu_new
from engine.gates.matmul import bias, gain, matmul
from engine.gates.maximum import argmax, maximum, stabiliser
from engine.gates.norm import NormRange, layer_norm, rms_norm
from engine.gates.polynomial import polynomial, square
from engine.gates.reciprocal import reciprocal, rsqrt
from engine.gates.relu import relu
from engine.gates.sigmoid import sigmoid
from engine.gates.silu import silu
from engine.gates.softmax import SoftmaxRange, softmax, softmax_times
from engine.gates.tanh import tanh
from engine.testing.declare import GateSpec, Input, MaskedInput, WeightInput
from engine.variants import Variants
from engine.wires import Masked, Share, concat

__all__ = ["gates"]

Real = Any  # an array of reals, examples first
OWNERS: tuple[int | str, ...] = (0, 1, "public", "shared")


@cache
def gates() -> dict[str, GateSpec]:
    """By name, in the order of the protocol's description."""
    specs = [*_free(), *_questions(), *_algebra(), *_products(), *_activations(), *_rows(), *_variants()]
    return {s.name: s for s in specs}


def _spec(
    name: str, function: Callable[..., Any], *inputs: Input, ref: Callable[..., Any], tol: float = 0.0, rel: float = 0.0
) -> GateSpec:
    return GateSpec(name, function, inputs, ref, tol, rel)


def _same(x: Real) -> Real:
    return x


# ---------------------------------------------------------------------- what is free
def _free() -> Iterator[GateSpec]:
    wire = MaskedInput(24, 12, bound=2000 << 12)
    yield _spec("truncate", lambda x: x.truncate(5), wire, ref=_same, tol=2**-5)
    yield _spec("truncate twice", lambda x: (x.truncate(9), x.truncate(2)), wire, ref=lambda x: (x, x), tol=2**-2)
    yield _spec("reduce", lambda x: x.reduce(9), MaskedInput(30, 2, bound=255), ref=_same)
    yield _spec("lift", lambda x: polynomial(x, 64), MaskedInput(17, 3, bound=(1 << 15) - 1), ref=_same)
    yield _spec("rest", _rest, MaskedInput(26, 12, bound=2000 << 12), ref=_same)
    yield _spec("linear", _linear, MaskedInput(30, 4, 1 << 20, (3, 4)), ref=_linear_ref)


def _rest(x: Masked) -> Share:
    """index 2^g + rest is x again, exactly."""
    index, rest = x.split(5)
    return polynomial(index + rest, 40)


def _linear(x: Masked) -> Masked:
    y = x.reshape(x.shape[0], 4, 3).slice(-1, 1, 3).plus(7).times(3)
    z = concat([y.slice(-2, 0, 2), y.slice(-2, 2, 4)], -1)
    difference: Masked = z.suffix_sum() - z.sum().broadcast_to(*z.shape)
    return difference.bounded(1 << 26)


def _linear_ref(x: Real) -> Real:
    y = (x.reshape(-1, 4, 3)[..., 1:3] + 7 / 16) * 3
    z = np.concatenate([y[:, :2], y[:, 2:]], -1)
    return np.cumsum(z[..., ::-1], -1)[..., ::-1] - z.sum(-1, keepdims=True)


# ---------------------------------------------------------------------- questions to one key
TABLE = Table("a parabola", -20, 6, tuple(i * i - 100 for i in range(45)))
SLOPED = Table("chords of cubes", -6, 8, tuple(j**3 << 8 for j in range(-6, 7)),
               tuple(((j + 1) ** 3 - j**3) << 5 for j in range(-6, 7)))  # fmt: skip


def _questions() -> Iterator[GateSpec]:
    narrow, wide = MaskedInput(7), MaskedInput(40)
    for label, wire, lo, hi in (("", narrow, -17, 23), (" of 40 bits", wide, -(1 << 30), 1 << 38)):
        yield _spec(f"interval{label}", lambda x, a=lo, b=hi: interval(x, a, b), wire, ref=_between(lo, hi))
        yield _spec(f"at_least{label}", lambda x, a=lo: at_least(x, a), wire, ref=_between(lo, 1 << 60))
        yield _spec(f"below{label}", lambda x, b=hi: below(x, b), wire, ref=_between(-(1 << 60), hi))
        yield _spec(f"equal{label}", lambda x, a=lo: equal(x, a), wire, ref=_between(lo, lo + 1))
    for label, wire, lo in (
        (" in one walk", MaskedInput(8, 0, 63), -17),
        (" of 40 bits in one walk", MaskedInput(40, 0, (1 << 38) - 1), 1 << 30),
    ):
        yield _spec(f"at_least{label}", lambda x, a=lo: at_least(x, a), wire, ref=_between(lo, 1 << 60))
        yield _spec(f"below{label}", lambda x, b=lo: below(x, b), wire, ref=_between(-(1 << 60), lo))
    yield _spec("lookup", lambda x: lookup(x, TABLE).open(), narrow, ref=_table)
    yield _spec("lookup of 12 bits", lambda x: lookup(x, TABLE).open(), MaskedInput(12), ref=_table)
    yield _spec("many questions", _many, MaskedInput(10), ref=lambda x: (_between(-3, 9)(x), x == 5, _table(x)))
    yield _spec("piece", lambda x: piece(x, None, TABLE), MaskedInput(9), ref=_table)
    yield _spec("piece with slope", _sloped, MaskedInput(16, 3, 1000, low=-400), ref=_chords, tol=1e-9)
    yield _spec("counts", lambda x: counts(x, 8), MaskedInput(4, 0, 7, (9,)), ref=_histogram)


def _between(lo: int, hi: int) -> Callable[[Real], Any]:
    return lambda x: (x >= lo) & (x < hi)


def _table(x: Real) -> Real:
    values = np.array(TABLE.values) / 2.0**TABLE.scale
    at = x.astype(int) - TABLE.first
    return np.where((at >= 0) & (at < len(values)), values[np.clip(at, 0, len(values) - 1)], 0.0)


def _many(x: Masked) -> tuple[Any, ...]:
    return interval(x, -3, 9), equal(x, 5), lookup(x, TABLE)


def _sloped(x: Masked) -> Share:
    index, rest = x.split(0)
    return piece(index, rest, SLOPED)


def _chords(x: Real) -> Real:
    """Between cubes, where no rounding of the index leads out of the table."""
    inside = (x >= -5) & (x <= 6)
    j = np.floor(x)
    exact = j**3 + ((j + 1) ** 3 - j**3) * (x - j)
    return np.where(inside & (x == j), exact, np.nan)


def _histogram(x: Real) -> Real:
    return (x[..., None] == np.arange(-8, 8)).sum(-2)


# ---------------------------------------------------------------------- polynomials
def _algebra() -> Iterator[GateSpec]:
    a, b = MaskedInput(20, 4, bound=1 << 10), MaskedInput(18, 3, bound=1 << 10)
    yield _spec("square", lambda x: square(x, 20), MaskedInput(20, 4, bound=700), ref=lambda x: x * x)
    yield _spec("product", lambda x, y: polynomial(x * y, 18, 1 << 17 - 1), a, _bounded(b, 60), ref=_times)
    yield _spec("lifted product", lambda x, y: polynomial(x * y, 50), a, b, ref=_times)
    yield _spec("cubic", lambda x, y: polynomial(x * x * y - 3 * x + y - 5, 60), a, b, ref=_cubic)
    yield _spec("select", _select, a, b, ref=lambda x, y: np.where(x >= y, x, y))
    yield _spec("and", _and, MaskedInput(8), ref=lambda x: (x >= -40) & (x < 60) & (x != 0))
    yield _spec("sign correction", _corrected, MaskedInput(9, bound=120), ref=lambda x: _table(x) * x)
    yield _spec("two answers", _two_answers, MaskedInput(9), ref=lambda x: _table(x) ** 2)
    rows = MaskedInput(20, 4, 1 << 10, (3, 5)), MaskedInput(18, 3, 1 << 10, (3, 1))
    yield _spec("broadcast", lambda x, y: polynomial(x * y, 50), *rows, ref=_times)


def _bounded(wire: MaskedInput, bound: int) -> MaskedInput:
    return MaskedInput(wire.ring, wire.scale, bound)


def _times(x: Real, y: Real) -> Real:
    return x * y


def _cubic(x: Real, y: Real) -> Real:
    return x * x * y - 3 * x + y - 5


def _select(x: Masked, y: Masked) -> Share:
    y = y.times(2, scale=4)
    wins = at_least((x - y).narrow(), 0).open()
    return polynomial(y + wins * (x.reduce(18) - y), 30, 1 << 11)


def _and(x: Masked) -> Share:
    return polynomial(at_least(x, -40).open() * below(x, 60).open() * (1 - equal(x, 0).open()), 3)


def _corrected(x: Masked) -> Share:
    return polynomial(lookup(x.narrow(), TABLE).open() * x, 40)


def _two_answers(x: Masked) -> Share:
    return polynomial(lookup(x, TABLE).open() * lookup(x, TABLE).open(), 40)


# ---------------------------------------------------------------------- products with matrices and weights
def _products() -> Iterator[GateSpec]:
    x, y = MaskedInput(40, 6, 1 << 16, (3, 5)), MaskedInput(44, 5, 1 << 15, (5, 4))
    yield _spec("matmul secret", matmul, x, y, ref=np.matmul)
    for mine in (0, 1):
        given = MaskedInput(40, 6, 1 << 16, (3, 5), owner=mine)
        other = MaskedInput(44, 5, 1 << 15, (5, 4), owner=1 - mine)
        yield _spec(f"matmul of inputs of {mine} and {1 - mine}", matmul, given, other, ref=np.matmul)
        yield _spec(f"matmul of an input of {mine}", matmul, given, y, ref=np.matmul)
    for owner in OWNERS:
        label = owner if isinstance(owner, str) else f"owned by {owner}"
        matrix, vector = WeightInput((5, 4), 7, 3000, owner), WeightInput((5,), 7, 3000, owner)
        yield _spec(f"matmul {label}", matmul, x, matrix, ref=np.matmul)
        yield _spec(f"gain {label}", gain, x, vector, ref=_times)
        yield _spec(f"bias {label}", bias, x, WeightInput((5,), 6, 3000, owner), ref=lambda a, b: a + b)
        for mine in (0, 1):
            given = MaskedInput(40, 6, 1 << 16, (3, 5), owner=mine)
            yield _spec(f"matmul {label}, an input of {mine}", matmul, given, matrix, ref=np.matmul)
            yield _spec(f"gain {label}, an input of {mine}", gain, given, vector, ref=_times)


# ---------------------------------------------------------------------- activations and functions of one variable
def _activations() -> Iterator[GateSpec]:
    x = MaskedInput(40, 12, 31 << 12)
    yield _spec("relu", relu, x, ref=lambda v: np.maximum(v, 0))
    yield _spec("gelu", gelu, x, ref=_gelu, tol=2.5e-3)
    yield _spec("gelu_new", gelu_new, x, ref=_gelu_new, tol=2.5e-3)
    yield _spec("silu", silu, x, ref=lambda v: v / (1 + np.exp(-v)), tol=5e-3)
    yield _spec("sigmoid", sigmoid, x, ref=lambda v: 1 / (1 + np.exp(-v)), tol=1.5e-3)
    yield _spec("tanh", tanh, x, ref=np.tanh, tol=2.5e-3)
    z = MaskedInput(44, 16, 250 << 16, high=2 << 16)
    yield _spec("exp", lambda v: exp(v, top=2), z, ref=np.exp, tol=2.5e-4, rel=8e-4)
    v = MaskedInput(30, 11, 1023 << 11, low=1 << 8)
    yield _spec("reciprocal", lambda s: reciprocal(s, -3, 10), v, ref=lambda s: 1 / s, rel=8e-3)
    u = MaskedInput(40, 20, 1023 << 20, low=1 << 17)
    yield _spec("rsqrt", lambda s: rsqrt(s, -3, 10), u, ref=lambda s: s**-0.5, rel=4e-3)


def _gelu(x: Real) -> Real:
    return x * (1 + np.vectorize(erf, otypes=[float])(x / np.sqrt(2))) / 2


def _gelu_new(x: Real) -> Real:
    return x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2


# ---------------------------------------------------------------------- rows
def _rows() -> Iterator[GateSpec]:
    score = MaskedInput(34, 12, 40 << 12, (11,))
    yield _spec("maximum", maximum, score, ref=lambda v: v.max(-1, keepdims=True))
    yield _spec("maximum of one", maximum, MaskedInput(34, 12, 40 << 12, (1,)), ref=_same)
    yield _spec("argmax", argmax, score, ref=_tournament)
    nats = MaskedInput(34, 20, 60 << 20, (23,))
    yield _spec("stabiliser", lambda v: stabiliser(v, 1, 6), nats, ref=lambda v: v.max(-1, keepdims=True), tol=2.0)
    yield _spec("softmax", softmax, nats, ref=_softmax, tol=3e-2)
    yield _spec("softmax of one", softmax, MaskedInput(34, 20, 60 << 20, (1,)), ref=np.ones_like, tol=3e-2)
    square, values = MaskedInput(34, 20, 60 << 20, (2, 5, 5)), MaskedInput(52, 11, 7 << 11, (2, 5, 3))
    yield _spec(
        "causal softmax times v", lambda s, v: causal_softmax_times(s.as_share(), v, SoftmaxRange()), square, values,
        ref=_causal, tol=3e-2,
    )  # fmt: skip
    y = MaskedInput(50, 24, 8 << 24, (24,))
    at = NormRange(y=4, centred=4, low=-3, high=8, n=4)
    yield _spec("layer_norm", lambda v: layer_norm(v.as_share(), at, 1e-5), y, ref=_layer_norm, tol=1.5e-2)
    yield _spec("rms_norm", lambda v: rms_norm(v.as_share(), at, 1e-5), y, ref=_rms_norm, tol=1.5e-2)


def _tournament(x: Real) -> Real:
    """Slot i against slot i + ceil(n/2), the left one wins a tie."""
    place = np.broadcast_to(np.arange(x.shape[-1]), x.shape)
    while (n := x.shape[-1]) > 1:
        h, k = (n + 1) // 2, n // 2
        wins = x[..., :k] >= x[..., h:]
        x, place = (np.concatenate([np.where(wins, a[..., :k], a[..., h:]), a[..., k:h]], -1) for a in (x, place))
    return place


def _softmax(x: Real) -> Real:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _causal(score: Real, v: Real) -> Real:
    """Row i over the columns 0 .. i."""
    return _softmax(np.where(np.tri(score.shape[-1], dtype=bool), score, -np.inf)) @ v


def _rms_norm(y: Real) -> Real:
    """Rows whose mean square lies below what the range declares are not asked for."""
    square = (y * y).mean(-1, keepdims=True)
    return np.where(square >= 2**-3, y / np.sqrt(square + 1e-5), np.nan)


def _layer_norm(y: Real) -> Real:
    return _rms_norm(y - y.mean(-1, keepdims=True))


# ---------------------------------------------------------------------- variants
def _variants() -> Iterator[GateSpec]:
    """Every variant of a gate that is not the default; `engine.variants` says what they are."""
    x = MaskedInput(40, 12, 31 << 12)
    curves = (
        ("gelu", gelu, _gelu, 2.5e-3), ("gelu_new", gelu_new, _gelu_new, 2.5e-3),
        ("silu", silu, lambda v: v / (1 + np.exp(-v)), 5e-3),
        ("sigmoid", sigmoid, lambda v: 1 / (1 + np.exp(-v)), 1.5e-3), ("tanh", tanh, np.tanh, 4.5e-3),
    )  # fmt: skip
    for name, gate, ref, tol in curves:
        for how in ("plain", "leaf"):
            yield _spec(f"{name}, {how}", lambda v, g=gate, h=how: g(v, how=h), x, ref=ref, tol=tol)
    z = MaskedInput(44, 16, 250 << 16, high=2 << 16)
    yield _spec("exp, leaf", lambda v: exp_piece(v, top=2), z, ref=np.exp, tol=5e-5, rel=2.3e-3)
    nats = MaskedInput(34, 20, 60 << 20, (23,))
    for which, off in (("direct", 2.0), ("tournament", 1.3)):
        yield _spec(
            f"stabiliser, {which}", lambda v, h=which: stabiliser(v, 1, 6, h), nats,
            ref=lambda v: v.max(-1, keepdims=True), tol=off,
        )  # fmt: skip
    y = MaskedInput(50, 24, 8 << 24, (24,))
    at = NormRange(y=4, centred=4, low=-3, high=8, n=4)
    yield _spec(
        "layer_norm, opened", lambda v: layer_norm(v.as_share(), at, 1e-5, how="opened"), y, ref=_layer_norm, tol=1.5e-2
    )
    score, values = MaskedInput(34, 20, 60 << 20, (3, 9)), MaskedInput(52, 11, 7 << 11, (9, 2))
    for label, chosen in (
        ("", Variants()), (", leaves", Variants(maximum="direct", exp="leaf")),
        (", tournament, opened", Variants(maximum="tournament", scaling="opened")),
    ):  # fmt: skip
        yield _spec(
            f"softmax times v{label}", lambda s, v, c=chosen: softmax_times(s, v, SoftmaxRange(), how=c), score, values,
            ref=lambda s, v: _softmax(s) @ v, tol=6e-2 if chosen.exp == "leaf" else 3e-2,  # exp_piece: 2^-9 of |v| = 7
        )  # fmt: skip
