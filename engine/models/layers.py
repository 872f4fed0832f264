"""What the models share: chains of calls, bands of rows, linear layers and their parameters, the scales of a norm, and
products with its n, had from the row y before its scale is known (variants `up=before`, `scores=before`).

    n = (y - mean) k r,   r: 1/std / k of each row     so     n W = k r (y W)   where the columns of W add up to 0

`quantise` sees to the columns, so that y needs no centring. y W is opened beside the sum of squares, r one round later,
and k r (y W) together with n: the product costs no round of its own, and one opening more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

from engine.gates.matmul import bias, matmul, weight
from engine.gates.norm import NormRange, Rows
from engine.gates.polynomial import polynomial
from engine.graph import Graph, WireType
from engine.scheduler.plan import Call, Program, Segment, segment
from engine.variants import Variants
from engine.wires import Masked, Share, Weight, magnitude

__all__ = [
    "BIAS", "EMBED", "V_SCALE", "WEIGHT", "F", "Rectangle", "Step", "W",
    "band_wires", "biased", "chain", "linear", "linear_before", "norm_range", "parameter", "pieces", "rescaled",
    "row_bands", "texts", "unscaled", "y_ring",
]  # fmt: skip

F, W = 12, 12  # scales of activations and of weights
V_SCALE = 11
EMBED = 16  # scale of embeddings
WEIGHT, BIAS = 1 << 24, 1 << 40  # bounds of the integers; what flows on is bounded by calibration
BAND_ROWS = 16  # rows that a band has at least
WORD = 64

Step = tuple[Any, Callable[[], Graph], str, str]
"""What a segment depends on, what traces it, and the call's name and prefix."""
Rectangle = tuple[tuple[int, int], tuple[int, int]]


def chain(steps: Iterable[Step], variants: Variants) -> Program:
    """Calls one after another, each with the outputs of the one before it; those of one key share a segment."""
    segments: list[Segment] = []
    calls: list[Call] = []
    index: dict[Any, int] = {}
    for key, trace, name, prefix in steps:
        if key not in index:
            index[key] = len(segments)
            segments.append(segment(trace()))
        before = segments[calls[-1].segment].graph.outputs if calls else ()
        inputs = tuple((len(calls) - 1, k) for k in range(len(before)))
        calls.append(Call(index[key], name, prefix, inputs))
    return Program(tuple(segments), tuple(calls), variants)


# ---------------------------------------------------------------------- rows
def texts(lengths: Sequence[int], x: Any) -> list[Any]:
    """The rows of each sequence."""
    ends = list(accumulate(lengths))
    return [x.slice(0, end - length, end) for end, length in zip(ends, lengths, strict=True)]


def row_bands(rows: int, most: int, least: int = BAND_ROWS) -> tuple[tuple[int, int], ...]:
    """Rows in up to `most` bands of like size, of `least` rows or more: while a party waits for one band's openings it
    evaluates another."""
    count = max(1, min(rows // least, most))
    cuts = [rows * j // count for j in range(count + 1)]
    return tuple(pairwise(cuts))


def band_wires(g: Graph, kind: WireType, bands: Iterable[tuple[int, int]]) -> list[Masked]:
    """What comes from the call before, each band on a wire of its own: it is worked on as soon as it is known."""
    return [Masked(g, g.add("wire", (), replace(kind, shape=(b - a, *kind.shape[1:])))) for a, b in bands]


def pieces(lengths: Sequence[int], band: tuple[int, int]) -> Iterator[Rectangle]:
    """(rows of the sequence, rows of the band within it) for every sequence that the band meets."""
    first = 0
    for length in lengths:
        last = first + length
        start, stop = max(first, band[0]), min(last, band[1])
        if start < stop:
            yield (first, last), (start, stop)
        first = last


# ---------------------------------------------------------------------- linear layers
def parameter(owner: int | str, g: Graph, name: str, shape: tuple[int, ...], scale: int, ring: int) -> Weight:
    """A weight or bias of a model, at the width of the wire that meets it."""
    bound = min(BIAS if len(shape) == 1 and scale > W else WEIGHT, (1 << ring - 1) - 1)
    return weight(g, name, shape, owner=owner, scale=scale, bound=bound, ring=ring)


def linear(owner: int | str, x: Masked, name: str, out: int, bound: int, shifted: bool = True) -> Share | Masked:
    """x W + b at scale F + W, or x W where it is not `shifted`; |result| < 2^bound."""
    limit = magnitude(bound + F + W)
    y = matmul(x, parameter(owner, x.graph, f"{name}.weight", (x.shape[-1], out), W, x.ring), limit)
    if shifted:
        y = bias(y, parameter(owner, x.graph, f"{name}.bias", (out,), F + W, x.ring), limit)
    return y


def linear_before(
    owner: int | str, y: Masked, rows: Rows, norm: NormRange, name: str, out: int, bound: int, room: int, precision: int
) -> Masked:
    """n W + b from y, opened together with n, `room` bits above the point; |result| < 2^bound."""
    x = y.truncate(norm.c_scale)
    w = parameter(owner, x.graph, f"{name}.weight", (x.shape[-1], out), W, x.ring)
    share = rescaled(unscaled(x, w, norm, bound, precision), rows, bound, room, F + W)
    share = biased(share, parameter(owner, x.graph, f"{name}.bias", (out,), F + W, share.ring))
    return share.bounded(magnitude(bound + share.scale)).open()


# ---------------------------------------------------------------------- norms


def norm_range(at: tuple[int, int, int], hidden: int, ring: int, wire: int, scale: int) -> NormRange:
    """The norm of rows of `hidden` entries with the calibrated magnitudes (y, low, high); y is opened in `wire` bits, n
    is at `scale` and has `ring` bits after truncation.

    Scales keep nine bits of the smallest row and ten of the smallest 1/std, or as many as 64 bits allow."""
    y, low, high = at
    n = ((hidden - 1).bit_length() + 1) // 2  # |n| <= sqrt(D)
    c_scale, r_scale = max(9 - low // 2, 8), max(10 + (high + 1) // 2, 8)
    excess = max(0, ring + c_scale + r_scale - scale - WORD)
    c_scale, r_scale = c_scale - excess // 2, r_scale - (excess - excess // 2)
    return NormRange(y, y, low, high, n, wire, ring + c_scale + r_scale - scale, c_scale, r_scale)


def y_ring(bits: int, high: int, y_scale: int, w_scale: int) -> int:
    """The ring that y is opened in, so that y W is known; |n W| < 2^bits, the mean square of a row below 2^high."""
    return bits + (high + 1) // 2 + y_scale + w_scale + 2


def unscaled(x: Masked, w: Weight, at: NormRange, bits: int, precision: int) -> Masked:
    """x W, one round after x, fine enough that k r x W has `precision` bits after the point. x: y at at.c_scale;
    |n W| < 2^bits."""
    size = bits + (at.high + 1) // 2 + x.scale + w.scale
    product = matmul(x, w, magnitude(size))
    return product.open(size + 2).truncate(min(max(precision - at.low // 2, 4), product.scale))


def rescaled(product: Masked, rows: Rows, bits: int, room: int, least: int) -> Share:
    """k r (y W) at scale `least` or finer, in a ring that leaves `room` bits above the point; |result| < 2^bits."""
    excess = max(0, room + product.scale + rows.r.scale + rows.bits - WORD)
    r = rows.r.truncate(rows.r.scale - excess)
    e = product * r * rows.numerator
    e = replace(e, scale=e.scale + rows.bits)
    e = e.shifted(max(e.scale, least))
    return polynomial(e, room + e.scale, magnitude(bits + e.scale))


def biased(y: Share, w: Weight) -> Share:
    """y plus a bias of coarser or equal scale, which broadcasts along the rows."""
    b = bias(y.slice(0, 0, 1).times(0, w.scale), w)
    assert isinstance(b, Share)
    return y + b.times(1 << y.scale - w.scale, y.scale)
