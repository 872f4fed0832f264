"""Workloads of one gate: the client's input comes in masked (a call of its own), the gate runs, its result is revealed.

Counted is the gate alone, from a masked wire to opened results, as it stands between other gates. Inputs are seeded and
spread like activations of a trained model; widths are those that calibrated encoders use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.bench.workload import Array, Workload
from engine.errors import InputError
from engine.gates.fss import at_least
from engine.gates.gelu import gelu
from engine.gates.matmul import matmul, weight
from engine.gates.norm import layer_norm
from engine.gates.polynomial import polynomial
from engine.gates.relu import relu
from engine.gates.softmax import SoftmaxRange, softmax
from engine.graph import Graph, WireType
from engine.models.activations import activation
from engine.models.layers import norm_range, row_bands
from engine.parameters import Small, small_integers
from engine.scheduler.plan import Call, Program, segment
from engine.variants import DEFAULT, Variants
from engine.wires import Bit, Masked, magnitude

__all__ = ["compare_load", "gelu_load", "layer_norm_load", "matmul_load", "relu_load", "softmax_load"]

Gate = Callable[[Masked], Masked | Bit]
Number = TypeVar("Number", np.int64, np.float64)
WIDE = 44
"""Ring of an activation on its way into a linear layer: a residual of 2^6 at scale 24, D = 768."""


def gate_program(kind: WireType, gate: Gate, variants: Variants = DEFAULT) -> Program:
    """Calls input, gate and reveal, on as many bands of rows as the variants say, a wire each. Raises InputError for
    any other variant than bands and frames: they are those of models."""
    if variants != Variants(frame=variants.frame, bands=variants.bands):
        raise InputError(f"a gate alone has bands=N and frame=N as its variants, not {variants}")
    bands = row_bands(kind.shape[0], variants.bands, 1)
    kinds = [replace(kind, shape=(b - a, *kind.shape[1:])) for a, b in bands]
    first, middle = Graph("input"), Graph("gate")
    names = _names("x", len(bands))
    first.outputs = tuple(first.add("input", (), k, owner=0, name=n) for k, n in zip(kinds, names, strict=True))
    out = [gate(Masked(middle, middle.add("wire", (), k))) for k in kinds]
    middle.outputs = tuple(y.index for y in out)
    wires = [tuple((call, k) for k in range(len(bands))) for call in (0, 1)]
    calls = (Call(0, "input"), Call(1, "gate", "", wires[0]), Call(2, "reveal", "", wires[1]))
    return Program(tuple(segment(g) for g in (first, middle, _reveal(out))), calls, variants)


def _names(name: str, bands: int) -> list[str]:
    """Of the bands of an input or an output."""
    return [name] if bands == 1 else [f"{name} {i}" for i in range(bands)]


def _reveal(bands: Sequence[Masked | Bit]) -> Graph:
    g = Graph("reveal")
    for y, name in zip(bands, _names("y", len(bands)), strict=True):
        wire = g.add("wire", (), y.type)
        share = polynomial(Bit(g, wire), 2) if isinstance(y, Bit) else Masked(g, wire).as_share()
        share.reveal(0, name)
    return g


def gate_load(
    name: str, what: str, kind: WireType, gate: Gate, x: Array, reference: Callable[[Array], Array],
    weights: Mapping[str, Small] | None = None, variants: Variants = DEFAULT,
) -> Workload:  # fmt: skip
    """A workload on real inputs x, which are rounded to the wire's scale first; the reference sees them rounded."""
    integers = np.rint(np.asarray(x) * 2.0**kind.scale).astype(np.int64)
    y = np.asarray(reference(integers / 2.0**kind.scale), np.float64)
    program = gate_program(kind, gate, variants)
    return Workload(name, what, program, ("gate",), _parts("x", integers, variants), dict(weights or {}),
                    _parts("y", y, variants))  # fmt: skip


def _parts(name: str, rows: NDArray[Number], variants: Variants) -> dict[str, NDArray[Number]]:
    """An input or an output in bands."""
    bands = row_bands(len(rows), variants.bands, 1)
    return {n: rows[a:b] for n, (a, b) in zip(_names(name, len(bands)), bands, strict=True)}


def _rng(size: int) -> np.random.Generator:
    return np.random.default_rng(size)


def compare_load(name: str, n: int, variants: Variants = DEFAULT) -> Workload:
    """[x >= 0] of n values of 64 bits, to an opened (masked) bit."""
    x = _rng(n).integers(-(1 << 62) + 1, 1 << 62, n)
    kind = WireType("masked", (n,), 64, 0, (1 << 62) - 1)
    program = gate_program(kind, lambda v: at_least(v, 0).open(), variants)
    what = f"{n:,} comparisons of 64-bit values, to an opened bit"
    y = (x >= 0).astype(np.float64)
    return Workload(name, what, program, ("gate",), _parts("x", x, variants), {}, _parts("y", y, variants))


def relu_load(name: str, n: int, variants: Variants = DEFAULT) -> Workload:
    kind = WireType("masked", (n,), 19, 12, magnitude(5 + 12))
    what = f"ReLU of {n:,} values of scale 12 in 19 bits, opened in {WIDE}"
    return gate_load(
        name,
        what,
        kind,
        lambda x: relu(x, WIDE).open(),
        _rng(n).normal(0, 1.5, n),
        activation("relu"),
        variants=variants,
    )


def gelu_load(name: str, n: int, variants: Variants = DEFAULT) -> Workload:
    kind = WireType("masked", (n,), 31, 24, magnitude(5 + 24))
    what = f"GELU of {n:,} values of scale 24 in 31 bits, opened in {WIDE + 12}"
    x = np.clip(_rng(n).normal(0, 1.5, n), -20, 20)
    return gate_load(
        name, what, kind, lambda v: gelu(v, WIDE + 12).open().truncate(12), x, activation("gelu"), variants=variants
    )


def softmax_load(name: str, rows: int, length: int, variants: Variants = DEFAULT) -> Workload:
    """Scores spread over some 12 nats in a row."""
    at = SoftmaxRange(score=5, spread=6)
    kind = WireType("masked", (rows, length), at.score_ring, 20, at.score_bound)
    what = f"softmax of {rows} rows of {length} scores in {at.score_ring} bits, opened"
    x = np.clip(_rng(rows * length).normal(0, 2.2, (rows, length)), -14, 14)
    return gate_load(name, what, kind, lambda v: softmax(v, at, 44).open(), x, _softmax, variants=variants)


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    y: Array = e / e.sum(-1, keepdims=True)
    return y


def layer_norm_load(name: str, rows: int, width: int, variants: Variants = DEFAULT) -> Workload:
    """From a share of the residual, whose opening is the first of the gate's rounds, to the opened n."""
    ring = 4 + 24 + (width - 1).bit_length() + 2
    at = norm_range((4, -4, 5), width, WIDE, ring, 12)
    kind = WireType("masked", (rows, width), ring, 24, magnitude(4 + 24))
    what = f"LayerNorm of {rows} rows of {width}, residuals at scale 24 in {ring} bits, n in {WIDE}"
    rng = _rng(rows * width)
    x = rng.normal(0, 1, (rows, width)) * rng.uniform(0.5, 2, (rows, 1))
    return gate_load(name, what, kind, lambda v: layer_norm(v.as_share(), at, 1e-12), x, _layer_norm, variants=variants)


def _layer_norm(y: Array) -> Array:
    c = y - y.mean(-1, keepdims=True)
    n: Array = c / np.sqrt(np.square(c).mean(-1, keepdims=True) + 1e-12)
    return n


def matmul_load(name: str, rows: int, inner: int, columns: int, variants: Variants = DEFAULT) -> Workload:
    """Weights of the owner, of 12 fractional bits."""
    rng = _rng(rows * inner)
    w = np.rint(rng.normal(0, inner**-0.5, (inner, columns)) * 2**12).astype(np.int64)
    kind = WireType("masked", (rows, inner), 31, 12, magnitude(4 + 12))
    what = f"product of {rows} x {inner} with the owner's {inner} x {columns}, opened in 31 bits"

    def gate(x: Masked) -> Masked:
        y = weight(x.graph, "w", (inner, columns), owner=1, scale=12, bound=1 << 15, ring=31)
        return matmul(x, y, magnitude(5 + 24)).open()

    x = rng.normal(0, 1, (rows, inner))
    return gate_load(name, what, kind, gate, x, lambda v: v @ (w / 2.0**12), {"w": small_integers(w)}, variants)
