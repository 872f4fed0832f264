"""Functions over many octaves, row-wise: a sum of interpolated range lookups, each at its own resolution.

    f(v) = sum_i T0_i[index_i] + T1_i[index_i] d_i

The pieces are tapered to a partition of unity (`tables.tapered`) and read from arithmetic leaves, whose payload is
(1, r_d): the sum is a share at once, and only one value is opened. One round."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from engine.gates.fss import piece
from engine.gates.tables import Function, tapered
from engine.wires import Masked, Share, fail

__all__ = ["octaves", "reciprocal", "rsqrt"]


def octaves(v: Masked, name: str, f: Function, lo: int, hi: int, bits: int, scale: int, bound: int) -> Share:
    """Shares of f(v) at `scale`, v in [0, 2^hi), with relative step 2^-bits from 2^lo on; |f| <= bound there."""
    if v.scale < bits - lo:
        raise fail(f"{name} needs its argument at scale {bits - lo} or finer, not {v.scale}")
    total: Share | None = None
    for index_scale, table in tapered(name, f, lo, hi, bits, v.scale, scale):
        index, rest = v.split(index_scale)
        if table.first > index.bound:
            break  # v ends before this piece and those that follow
        last = table.first + len(table.values) - 1
        m = max(index.bound.bit_length() + 1, (last + index.bound).bit_length())
        part = piece(index.reduce(min(m, index.ring)), rest if index_scale < v.scale else None, table)
        total = part if total is None else total + part
    assert total is not None
    return total.bounded(bound)


@lru_cache(maxsize=64)
def _reciprocal(lo: int) -> Function:
    floor = Decimal(2) ** lo

    def f(v: Decimal) -> Decimal:
        return 1 / max(v, floor)

    return f


@lru_cache(maxsize=64)
def _rsqrt(lo: int, numerator: int, eps: Decimal) -> Function:
    floor = Decimal(2) ** lo

    def f(v: Decimal) -> Decimal:
        return (numerator / (max(v, floor) + eps)).sqrt()

    return f


def reciprocal(v: Masked, lo: int, hi: int, *, bits: int = 5, scale: int = 40) -> Share:
    """Shares of 1/v at `scale` for v in [2^lo, 2^hi); below, of 2^-lo. Relative error 6e-3 at most, 2e-4 in the
    mean."""
    return octaves(v, f"1/v from 2^{lo}", _reciprocal(lo), lo, hi, bits, scale, 1 << scale - lo + 1)


def rsqrt(
    v: Masked, lo: int, hi: int, *, numerator: int = 1, eps: Decimal = Decimal(0), bits: int = 6, scale: int = 40
) -> Share:
    """Shares of sqrt(numerator / (v + eps)) at `scale`, v in [2^lo, 2^hi). Relative error 5e-5 in
    the mean, 1.5e-3 at most, 3e-3 if every rounding coin of an overlap falls the same way."""
    f = _rsqrt(lo, numerator, eps)
    top = int(f(Decimal(0)) * (1 << scale)) * 2
    return octaves(v, f"sqrt({numerator}/(v+{eps})) from 2^{lo}", f, lo, hi, bits, scale, top)
