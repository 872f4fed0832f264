"""What the activations share: steps of lines, and one interpolated table between them. Two rounds from x_hat, one key.

    f(x) = [x >= hi] right(x) + left [x < lo] + T0[index] + T1[index] d,   index = x >> g,  d = x - index 2^g

Pieces are decided on the same index wire, so they cannot overlap (docs/protocols.md, section 6).
"""

from __future__ import annotations

from engine.expr import Expr
from engine.gates.fss import Table, at_least, below, lookup
from engine.gates.polynomial import polynomial
from engine.wires import Masked, Share

__all__ = ["between_lines"]


def between_lines(
    x: Masked,
    tables: tuple[Table, Table],
    step: int,
    fine: int,
    ring: int,
    bound: int | None,
    *,
    left: int = 0,
    right: int | str = "x",
) -> Share:
    """Shares of f at scale fine + table scale. `left` and `right` are constants, or "x" for the identity on the right.

    x: any scale >= `fine`, which is >= `step`. The domain of the key is as narrow as the bound of x allows, and never
    narrower than the table."""
    value, slope = tables
    x_fine = x.truncate(fine)
    index, rest = x_fine.split(step)
    first, last = value.first, value.first + len(value.values)
    m = max(index.bound.bit_length() + 1, (len(value.values) - 1).bit_length(), last.bit_length() + 1)
    t = index.reduce(min(m, index.ring))
    total: Expr = lookup(t, value).open() + rest * lookup(t, slope).open()
    if index.bound >= last and right:
        beyond = at_least(t, last).open()
        total = total + (beyond * x_fine if right == "x" else beyond * int(right))
    if index.bound > -first and left:
        total = total + below(t, first).open() * left
    return polynomial(total, ring, bound)
