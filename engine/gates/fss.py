"""Gate `fss`: questions to one DPF on a masked wire (docs/protocols.md, section 3).

All intervals, equalities and range lookups on the same wire share one key; all pieces of row-wise tables on the same
wire and rest share one key with arithmetic leaves. Nothing here costs a round: opening the answer does.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.graph import Attr, WireType
from engine.wires import AnswerShare, BitShare, Masked, Rest, Share, fail

__all__ = ["LEAF_POINTS", "Table", "at_least", "below", "comparable", "counts", "equal", "interval", "lookup", "piece"]

LEAF_POINTS = 3
"""Arithmetic leaves hold 2^3 points: a leaf correction word of 128 B, against one AES more for every 8 points."""

BLOCK_BITS = 7
"""Bit leaves hold 2^7 points: a domain of so many bits is a single leaf, and a second threshold in it costs nothing."""


@dataclass(frozen=True, slots=True)
class Table:
    """A public function on [first, first + len(values)), integers at `scale`; zero elsewhere.

    `slopes`, where given, are per unit of the rest at the rest's scale, so that value + slope d is at `scale`."""

    name: str
    first: int
    scale: int
    values: tuple[int, ...]
    slopes: tuple[int, ...] | None = None

    @property
    def bound(self) -> int:
        return max(map(abs, self.values))

    def __repr__(self) -> str:
        return f"Table({self.name}, {self.first}:{self.first + len(self.values)}, scale {self.scale})"


def _key(x: Masked) -> int:
    if x.ring > 64:
        raise fail(f"a DPF domain has at most 64 bits, not {x.ring}")
    return x.graph.add("dpf", (x.index,), WireType("key", x.shape, x.ring))


def _check_domain(x: Masked, table: Table) -> None:
    """Every |x| <= bound meets its own entry of the table or none: no entry is congruent to another value of x."""
    m, size = x.ring, len(table.values)
    if not 0 < size <= 1 << m:
        raise fail(f"table {table.name} has {size} entries, its {m}-bit domain has 1 to 2^{m}")
    if table.slopes is not None and len(table.slopes) != size:
        raise fail(f"table {table.name} has {size} values and {len(table.slopes)} slopes")
    if max(map(abs, (*table.values, *(table.slopes or ())))) >= 1 << 62:
        raise fail(f"table {table.name} has entries beyond 62 bits")
    if x.bound.bit_length() > m - 1:
        raise fail(f"|x| <= {x.bound} leaves the {m}-bit domain of table {table.name}: far values would alias into it")
    if table.first + size - 1 - (1 << m) >= -x.bound or table.first + (1 << m) <= x.bound:
        raise fail(f"{table} in a {m}-bit domain: its ends would alias into |x| <= {x.bound}: take a wider domain")


def interval(x: Masked, lo: int, hi: int) -> BitShare:
    """Shares of [lo <= x < hi], lo and hi integers at the scale of x; 0 < hi - lo < 2^m."""
    m = x.ring
    if not 0 < hi - lo < 1 << m or lo < -(1 << m - 1) or hi > 1 << m - 1:
        raise fail(f"interval [{lo}, {hi}) is not inside the {m}-bit domain")
    kind = WireType("bit share", x.shape, 1, 0, 1)
    return BitShare(x.graph, x.graph.add("interval", (_key(x), x.index), kind, lo=lo, hi=hi))


def at_least(x: Masked, lo: int) -> BitShare:
    """Shares of [x >= lo]: one walk where |x| < 2^(m-2), two otherwise."""
    return _half_line(x, lo, 1) if _one_walk(x, lo) else interval(x, lo, 1 << x.ring - 1)


def below(x: Masked, hi: int) -> BitShare:
    """Shares of [x < hi]: one walk where |x| < 2^(m-2), two otherwise."""
    return _half_line(x, hi, 0) if _one_walk(x, hi) else interval(x, -(1 << x.ring - 1), hi)


def comparable(x: Masked) -> Masked:
    """x in the domain in which a threshold costs least: one bit above the sign for a single walk, none in one leaf."""
    return x.narrow() if x.bound.bit_length() < BLOCK_BITS else x.narrow(1)


def _one_walk(x: Masked, lo: int) -> bool:
    """Whether the halves of the domain tell which thresholds wrapped (`engine.kernels.interface.HalfLine`)."""
    return x.ring > BLOCK_BITS and x.bound < 1 << x.ring - 2 and abs(lo) <= x.bound


def _half_line(x: Masked, lo: int, above: int) -> BitShare:
    kind = WireType("bit share", x.shape, 1, 0, 1)
    return BitShare(x.graph, x.graph.add("half_line", (_key(x), x.index), kind, lo=lo, above=above))


def equal(x: Masked, value: int) -> BitShare:
    """Shares of [x = value], value taken mod 2^m."""
    kind = WireType("bit share", x.shape, 1, 0, 1)
    return BitShare(x.graph, x.graph.add("equal", (_key(x), x.index), kind, value=value))


def lookup(x: Masked, table: Table, spare: int = 1) -> AnswerShare:
    """Shares of sigma T[x]; zero outside the table, x taken modulo the domain, which must hold the bound of x.

    The ring k leaves |T| < 2^(k-2), so that the opened answer can be lifted: sigma T and -sigma T both fit.
    """
    _check_domain(x, table)
    k = table.bound.bit_length() + 1 + spare
    kind = WireType("answer share", x.shape, k, table.scale, table.bound)
    attrs: dict[str, Attr] = {"table": table.name, "first": table.first, "values": table.values}
    return AnswerShare(x.graph, x.graph.add("lookup", (_key(x), x.index), kind, **attrs))


def piece(index: Masked, rest: Rest | None, table: Table, ring: int = 64) -> Share:
    """Share of T[index] + slope[index] d, zero outside the table: arithmetic leaves, any precision, no sign, no
    opening."""
    if (rest is None) != (table.slopes is None):
        raise fail(f"table {table.name}: slopes and a rest go together")
    _check_domain(index, table)
    m, points = index.ring, min(LEAF_POINTS, index.ring)
    inputs = (index.index,) if rest is None else (index.index, rest.wire.index)
    bits = 0 if rest is None else rest.bits
    key = index.graph.add("leaf", inputs, WireType("key", index.shape, m), points=points, rest=bits)
    bound = table.bound if table.slopes is None else table.bound + max(map(abs, table.slopes)) * ((1 << bits) - 1)
    kind = WireType("share", index.shape, ring, table.scale, bound)
    entries: dict[str, Attr] = {
        "table": table.name,
        "first": table.first,
        "values": table.values,
        "slopes": table.slopes,
    }
    return Share(index.graph, index.graph.add("piece", (key, *inputs), kind, **entries))


def counts(x: Masked, ring: int) -> Share:
    """Histogram of each row: shares, mod 2^ring, of how many x of the row equal k - B/2, for k = 0 .. B-1, B = 2^m."""
    if not x.shape:
        raise fail("a histogram is taken along the last axis, and this wire has none")
    *rows, length = x.shape
    if ring not in (8, 16):
        raise fail(f"counters have 8 or 16 bits, not {ring}")
    if length >= 1 << ring:
        raise fail(f"a row of {length} overflows counters of {ring} bits")
    if x.ring > 10:
        raise fail(f"a histogram of 2^{x.ring} buckets is too large: truncate first")
    buckets = 1 << x.ring
    key = x.graph.add("onehot", (x.index,), WireType("key", x.shape, ring), buckets=buckets)
    kind = WireType("share", (*rows, buckets), ring, 0, (1 << ring) - 1)
    return Share(x.graph, x.graph.add("counts", (key, x.index), kind))
