"""Causal attention: row i has the scores 0 .. i and no others. There is no mask and no large negative score.

The triangle is cut into squares, like a ruler: the lower left quarter, then the two smaller triangles on the diagonal
side by side in one batch, and so on down to single entries. That makes log2 S + 1 pieces with S (S + 1) / 2 entries
together, so that every opening, key and table is dealt for the triangle alone, and no piece has an entry to throw away.

What costs neither a key nor an opening is done on the whole square: the product q k^T is a share that is cut before it
is opened, and e is put together with zeros above the diagonal before its product with v. That doubles the
multiplications of those two and the shares of e's mask, which are in P1's tape. (Bands of 16 rows would have 12 % of
their entries above the diagonal at S = 128, bands of 32 24 %; exact rows take S nodes where this takes log2 S.)

Rows from the middle of a sequence have one piece more, the columns before the first of them; the rest is a triangle.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.gates.fss import counts
from engine.gates.maximum import buckets, highest, highest_direct
from engine.gates.softmax import SoftmaxRange, exponentials, weight_ring, weighted_mean
from engine.variants import DEFAULT, Variants
from engine.wires import Masked, Share, concat, fail

__all__ = ["causal_softmax_times", "cut", "join", "join_rows"]


def causal_softmax_times(
    score: Share | Masked, v: Masked, at: SoftmaxRange, ring: int = 64, how: Variants = DEFAULT
) -> Share:
    """Shares of softmax(score) v at scale 14 + 12, in Z_(2^ring), row i over the columns 0 .. T - S + i. Seven rounds.

    score (H, S, T), S <= T: shares, of which those alone are opened; v (H, T, d)."""
    rows, length = score.shape[-2:]
    parts = _cut(score, length - rows)
    flat = _flat(parts).open(at.score_ring)
    m = _stabiliser(flat, parts, rows, length, at, how.maximum)
    above = [r.broadcast_to(*p.shape) for r, p in zip(_cut(m, length - rows), parts, strict=True)]
    e = exponentials(flat - _flat(above), at, weight_ring(at, score, v), how.exp)
    return weighted_mean(_join(iter(_like(e, parts)), rows, length), v, at, ring, how.scaling)


def _stabiliser(flat: Masked, parts: list[Any], rows: int, length: int, at: SoftmaxRange, how: str) -> Masked:
    """M of every row, (H, S, 1): the histogram of a row is the sum of those of its pieces."""
    if how == "tournament":
        raise fail("rows of every length have no tournament: take maximum=histogram or maximum=direct")
    t = buckets(flat, at.bucket, at.bits)
    histograms = [counts(p, 8 if length < 255 + (how == "histogram") else 16) for p in _like(t, parts)]
    if how == "direct":
        joined = _join_rows(iter(histograms), rows, length)
        return highest_direct(joined, flat, at.bucket, length)
    return highest([_join_rows(iter(histograms), rows, length).bounded((1 << histograms[0].ring) - 1)], flat, at.bucket)


def _flat(parts: list[Any]) -> Any:
    return concat([p.reshape(p.type.size) for p in parts])


def _like(flat: Masked, parts: list[Any]) -> list[Masked]:
    """The entries of a flat wire in the shapes of the pieces."""
    out, at = [], 0
    for p in parts:
        out.append(flat.slice(0, at, at + p.type.size).reshape(*p.shape))
        at += p.type.size
    return out


# ---------------------------------------------------------------------- the ruler
def _half(n: int) -> int:
    """The largest power of two below n: a power of two is cut into equal halves, which go on as one batch."""
    return 1 << (n - 1).bit_length() - 1


def cut(x: Any, n: int) -> list[Any]:
    """The pieces of the triangles of (B, n, n), or the rows (B, n, 1) that each piece belongs to."""
    if n == 1:
        return [x]
    h, wide = _half(n), x.shape[-1] > 1
    upper, lower = x.slice(-2, 0, h), x.slice(-2, h, n)
    piece = lower.slice(-1, 0, h) if wide else lower
    if wide:
        upper, lower = upper.slice(-1, 0, h), lower.slice(-1, h, n)
    if 2 * h == n:
        return [piece, *cut(concat([upper, lower]), h)]
    return [piece, *cut(upper, h), *cut(lower, n - h)]


def join(parts: Iterator[Any], n: int) -> Any:
    """The square (B, n, n) of a triangle's pieces, zero above the diagonal."""
    piece = next(parts)
    if n == 1:
        return piece
    upper, lower = _triangles(join, parts, n)
    first = upper.slice(-2, 0, 1).slice(-1, 0, 1).times(0).broadcast_to(*upper.shape[:-1], lower.shape[-1])
    return concat([concat([upper, first], -1), concat([piece, lower], -1)], -2)


def join_rows(parts: Iterator[Any], n: int) -> Any:
    """(B, n, d): the sum of the rows of all pieces that a row has a part in."""
    piece = next(parts)
    if n == 1:
        return piece
    upper, lower = _triangles(join_rows, parts, n)
    return concat([upper, lower + piece], -2)


def _triangles(build: Any, parts: Iterator[Any], n: int) -> tuple[Any, Any]:
    """The two smaller triangles, from one batch where they are of one size."""
    h = _half(n)
    if 2 * h != n:
        return build(parts, h), build(parts, n - h)
    both = build(parts, h)
    middle = both.shape[0] // 2
    return both.slice(0, 0, middle), both.slice(0, middle, 2 * middle)


# ---------------------------------------------------------------------- rows from the middle
def _cut(x: Any, before: int) -> list[Any]:
    """The pieces of rows (B, S, before + S) that end on the diagonal, or the rows (B, S, 1) of each piece."""
    rows = x.shape[-2]
    if not before:
        return cut(x, rows)
    wide = x.shape[-1] > 1
    left, triangle = (x.slice(-1, 0, before), x.slice(-1, before, before + rows)) if wide else (x, x)
    return [left, *cut(triangle, rows)]


def _join(parts: Iterator[Any], rows: int, length: int) -> Any:
    """(B, S, T): `join`, with what stands before the triangle."""
    return join(parts, rows) if rows == length else concat([next(parts), join(parts, rows)], -1)


def _join_rows(parts: Iterator[Any], rows: int, length: int) -> Any:
    """(B, S, d): `join_rows`, with what stands before the triangle."""
    return join_rows(parts, rows) if rows == length else next(parts) + join_rows(parts, rows)
