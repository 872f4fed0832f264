"""What the activations share: a function between two lines. One key; two rounds from x_hat, or one.

    interpolated   f = [x >= hi] right(x) + left [x < lo] + T0[index] + T1[index] d, index = x >> g, d = x - index 2^g
    plain          f = left + [x >= 0] (right(x) - left) + T[index], at a finer step
    leaf           f = T0[index] + T1[index] d over the whole range of x, in arithmetic leaves: one round

Pieces are decided on the same index wire, so they cannot overlap (docs/protocols.md, section 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache

from engine.expr import Expr
from engine.gates.fss import Table, at_least, below, lookup, piece
from engine.gates.polynomial import polynomial
from engine.gates.tables import DIGITS, Function, fixed, interpolated
from engine.wires import Masked, Share, fail

__all__ = ["PLAIN_STEP", "Curve", "between_lines"]

PLAIN_STEP = 8
"""A table without slopes has steps of 2^-8: as good as slopes at 2^-4."""


@dataclass(frozen=True, slots=True)
class Curve:
    """f and its slope on [lo, hi); below it is `left`, beyond `right`: constants, or "x" for the identity."""

    name: str
    f: Function
    slope: Function
    lo: int
    hi: int
    left: int = 0
    right: int | str = "x"

    def beyond(self, x: Decimal) -> Decimal:
        """The line on the right."""
        return x if self.right == "x" else Decimal(self.right)


def between_lines(
    x: Masked, curve: Curve, ring: int, bound: int | None, *, step: int, fine: int, scale: int, how: str
) -> Share:
    """Shares of the curve at scale fine + scale in Z_(2^ring). how: as `engine.variants` has it.

    x: any scale >= `fine`, which is >= `step`. The domain of the key is as narrow as the bound of x allows, and never
    narrower than the table."""
    if how == "leaf":
        return _leaf(x, curve, ring, bound, step, fine, scale)
    if how == "plain":
        return polynomial(_plain(x, curve, fine, scale), ring, bound)
    if how != "interpolated":
        raise fail(f"an activation is interpolated, plain or leaf, not {how}")
    return polynomial(_interpolated(x, curve, step, fine, scale), ring, bound)


def _interpolated(x: Masked, curve: Curve, step: int, fine: int, scale: int) -> Expr:
    value, slope = interpolated(curve.name, curve.f, curve.slope, curve.lo, curve.hi, step, scale)
    x_fine = x.truncate(fine)
    index, rest = x_fine.split(step)
    t = _domain(index, value)
    last = value.first + len(value.values)
    total: Expr = lookup(t, value).open() + rest * lookup(t, slope).open()
    if index.bound >= last and curve.right:
        beyond = at_least(t, last).open()
        total = total + (beyond * x_fine if curve.right == "x" else beyond * int(curve.right))
    if index.bound > -value.first and curve.left:
        total = total + below(t, value.first).open() * curve.left
    return total


def _domain(index: Masked, table: Table) -> Masked:
    last = table.first + len(table.values)
    m = max(index.bound.bit_length() + 1, (len(table.values) - 1).bit_length(), last.bit_length() + 1)
    return index.reduce(min(m, index.ring))


# ---------------------------------------------------------------------- one table of values
@lru_cache(maxsize=64)
def _residual(curve: Curve, scale: int) -> Table:
    """f less its steps of lines, at multiples of 2^-PLAIN_STEP."""
    with localcontext() as c:
        c.prec = DIGITS
        points = [Decimal(i) / (1 << PLAIN_STEP) for i in range(curve.lo << PLAIN_STEP, curve.hi << PLAIN_STEP)]
        values = tuple(fixed(curve.f(p) - (curve.beyond(p) if p >= 0 else curve.left), scale) for p in points)
    return Table(f"{curve.name} less lines", curve.lo << PLAIN_STEP, scale, values)


def _plain(x: Masked, curve: Curve, fine: int, scale: int) -> Expr:
    x_fine, table = x.truncate(fine), _residual(curve, scale)
    t = _domain(x_fine.truncate(PLAIN_STEP), table)
    right = at_least(t, 0).open()
    line = right * x_fine if curve.right == "x" else right * int(curve.right)
    left = (1 - right) * curve.left if curve.left else None
    total: Expr = line + lookup(t, table).open()
    total = total if left is None else total + left
    return total.shifted(max(fine + scale, total.scale))


# ---------------------------------------------------------------------- arithmetic leaves
@lru_cache(maxsize=64)
def _whole(curve: Curve, reach: int, step: int, fine: int, scale: int) -> Table:
    """Values at scale fine + scale and slopes at `scale` for |index| <= reach, where f is not zero."""
    lo, hi = curve.lo << step, curve.hi << step
    first, last = -reach if curve.left else max(lo, -reach), reach if curve.right else min(hi - 1, reach)
    values, slopes = [], []
    with localcontext() as c:
        c.prec = DIGITS
        for i in range(first, last + 1):
            p = Decimal(i) / (1 << step)
            if lo <= i < hi:
                value, slope = curve.f(p), curve.slope(p)
            else:
                value = curve.beyond(p) if i >= hi else Decimal(curve.left)
                slope = Decimal(int(i >= hi and curve.right == "x"))
            values.append(fixed(value, fine + scale))
            slopes.append(fixed(slope, scale))
    return Table(f"{curve.name} to {reach}", first, fine + scale, tuple(values), tuple(slopes))


def _leaf(x: Masked, curve: Curve, ring: int, bound: int | None, step: int, fine: int, scale: int) -> Share:
    index, rest = x.truncate(fine).split(step)
    table = _whole(curve, index.bound, step, fine, scale)
    y = piece(_domain(index, table), rest, table, ring)
    return y if bound is None else y.bounded(bound)
