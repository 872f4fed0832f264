"""Maxima of rows: a histogram where a stabiliser near the maximum will do, a tournament where the maximum itself is
meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.expr import Expr
from engine.gates.fss import Table, at_least, comparable, counts, equal, piece
from engine.gates.polynomial import polynomial
from engine.wires import Masked, Share, concat, fail

__all__ = ["argmax", "buckets", "highest", "highest_direct", "maximum", "stabiliser"]

COARSE = 2
"""Scale at which a tournament of scores compares: a stabiliser that is off by a quarter is as good."""


def stabiliser(x: Masked, bucket: int, bits: int, how: str = "histogram") -> Masked:
    """M of each row near its maximum, shape (..., 1), at the scale of x. how: as `engine.variants` has it.

    histogram, direct: in (max - 2^bucket, max + 2^bucket], 3 or 2 rounds, any length; tournament: within 1/4 of the
    maximum for each of its ceil(log2 n) levels, two rounds each."""
    if how == "tournament":
        return _tournament(x)
    if how == "direct":
        ring = 8 if x.shape[-1] <= 254 else 16
        return highest_direct(counts(buckets(x, bucket, bits), ring), x, bucket, x.shape[-1])
    return _by_histogram(x, bucket, bits)


def _by_histogram(x: Masked, bucket: int, bits: int) -> Masked:
    """Three rounds.

    x falls into buckets of 2^bucket, of which there are 2^bits, by free truncation. Counts per bucket (round 1), which
    suffix counts are non-zero (round 2), and M = base + step * how many (round 3). docs/protocols.md, section 6.
    Rows longer than a counter of 8 bits are counted in up to three blocks, longer ones with 16-bit counters.
    """
    t = buckets(x, bucket, bits)
    length = x.shape[-1]
    ring = 8 if length <= 3 * 255 else 16
    size = (1 << ring) - 1
    return highest([counts(t.slice(-1, a, min(a + size, length)), ring) for a in range(0, length, size)], x, bucket)


def buckets(x: Masked, bucket: int, bits: int) -> Masked:
    """The bucket of every x: which of 2^bits buckets of 2^bucket."""
    t = x.truncate(-bucket)
    if t.bound >= 1 << bits - 1:
        raise fail(
            f"|x| <= {t.bound} buckets of 2^{bucket} leaves the range of {1 << bits} buckets: more or wider buckets"
        )
    return t.reduce(bits)


def highest(histograms: Sequence[Share], x: Masked, bucket: int) -> Masked:
    """M of each row from its histograms, each of as many values as its counters hold: a multiple of 2^bucket at the
    scale and in the ring of x, just above the highest bucket that is not empty in all of them."""
    empty = [equal(h.suffix_sum().bounded((1 << h.ring) - 1).open(), 0).open() for h in histograms]
    zero: Expr = empty[0].operand()
    for e in empty[1:]:
        zero = zero * e
    # Suffix k is non-empty up to the maximum's bucket b: b + B/2 + 1 of them are. Powers of two shorten the
    # coefficients.
    half, unit = histograms[0].shape[-1] // 2, x.scale + bucket
    filled = polynomial(replace((1 - zero).shifted(unit), scale=x.scale), x.ring).sum()
    return filled.plus(-(half + 1) << unit).bounded(half + 1 << unit).open()


def highest_direct(histogram: Share, x: Masked, bucket: int, length: int) -> Masked:
    """As `highest`, of one histogram of at most `length` values: two rounds.

    The suffix counts are opened in the bits that they need, centred, and each test for zero is a piece with one entry:
    shares of [count = 0] that add up to M at once, where `highest` opens bits to make them numbers."""
    m = max((length + 1).bit_length(), 4)
    centre = (1 << m - 1) - 1
    opened = histogram.suffix_sum().bounded(length).plus(-centre).bounded(centre).open(m)
    half, unit = histogram.shape[-1] // 2, x.scale + bucket
    empty = piece(opened, None, Table("zero", -centre, 0, (1,)), x.ring).sum()
    m_share = empty.times(-(1 << unit), x.scale).plus(half - 1 << unit)
    return m_share.bounded(half + 1 << unit).open()


def _tournament(x: Masked) -> Masked:
    """The maximum of each row to COARSE bits after the point, at the scale and in the ring of x."""
    if x.shape[-1] == 1:
        return x
    t = x.truncate(COARSE) if x.scale > COARSE else x
    while t.shape[-1] > 1:
        left, right, rest = _pairs(t)
        wins = at_least(_difference(left, right), 0).open()
        winner = right + wins * (left - right)
        if t.shape[-1] == 2:
            return polynomial(winner.shifted(x.scale), x.ring, t.bound << x.scale - t.scale).open()
        value = polynomial(winner, t.ring, t.bound).open()
        t = value if rest is None else concat([value, rest], -1)
    return t


def maximum(x: Masked) -> Masked:
    """The maximum of each row exactly, shape (..., 1): a tournament, 2 ceil(log2 n) rounds. x keeps two bits of
    head-room."""
    while x.shape[-1] > 1:
        left, right, rest = _pairs(x)
        wins = at_least(_difference(left, right), 0).open()
        winner = polynomial(right + wins * (left - right), x.ring, x.bound).open()
        x = winner if rest is None else concat([winner, rest], -1)
    return x


def argmax(x: Masked, ring: int = 32) -> Masked:
    """The index of the maximum of each row (of the first one in a tie of pairs), shape (..., 1): 2 ceil(log2 n) rounds.

    A slot's winner is kept as an offset to the slot's own position, so that no constant depends on the position."""
    offset = x.times(0, scale=0).reduce(min(ring, x.ring))
    while x.shape[-1] > 1:
        (left, right, rest), (a, b, c) = _pairs(x), _pairs(offset)
        half = left.shape[-1] if rest is None else left.shape[-1] + 1
        wins = at_least(_difference(left, right), 0).open()
        value = polynomial(right + wins * (left - right), x.ring, x.bound).open()
        moved = b.operand() + half
        place = polynomial(moved + wins * (a.operand() - moved), offset.ring, offset.bound + half).open()
        x = value if rest is None else concat([value, rest], -1)
        offset = place if c is None else concat([place, c], -1)
    return offset


def _difference(a: Masked, b: Masked) -> Masked:
    """a - b in the domain in which its sign costs least."""
    difference: Masked = a - b
    return comparable(difference)


def _pairs(x: Masked) -> tuple[Masked, Masked, Masked | None]:
    """Slots (i, i + h), h = ceil(n/2), and the middle one that has no partner."""
    n = x.shape[-1]
    h, k = (n + 1) // 2, n // 2
    return x.slice(-1, 0, k), x.slice(-1, h, n), x.slice(-1, k, h) if h > k else None
