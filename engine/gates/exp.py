"""exp(z) for z <= `top`: one lookup with T (1 + d), zero below -16. Two rounds from z_hat, or one (`exp_piece`).

The table's own slope is its value, so one answer serves both; the error is d^2 / 2 <= 2^-(2 step + 1) of the value."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from engine.gates.fss import Table, lookup, piece
from engine.gates.polynomial import polynomial
from engine.gates.tables import fixed
from engine.wires import Masked, Share

__all__ = ["FINE", "STEP", "exp", "exp_piece"]

STEP, FINE = 5, 16
"""The index has steps of 2^-5; the rest is kept at scale 16, where it has 11 bits."""


@lru_cache(maxsize=64)
def table(top: int, scale: int) -> Table:
    """exp at multiples of 2^-STEP on [-16, top + 2^-STEP)."""
    first, last = -16 << STEP, (top << STEP) + 1
    values = tuple(fixed((Decimal(i) / (1 << STEP)).exp(), scale) for i in range(first, last + 1))
    return Table(f"exp to {top}", first, scale, values)


def exp(z: Masked, ring: int = 60, *, top: int = 0, scale: int = 12) -> Share:
    """Shares of exp(z) at scale `scale` + 16; z <= top. z: scale >= 5; its bound sets the domain of the key."""
    fine = min(FINE, z.scale)
    index, rest = z.truncate(fine).split(STEP)
    entries = table(top, scale)
    m = max(index.bound.bit_length() + 1, (len(entries.values) - 1).bit_length())
    answer = lookup(index.reduce(min(m, index.ring)), entries).open()
    return polynomial(answer * (1 + rest.operand()), ring, (entries.bound << fine) + entries.bound * (1 << fine - STEP))


LEAF_STEP, LEAF_FINE = 4, 12
"""The same for arithmetic leaves, where every entry is an AES call: half as many, and a rest of 8 bits."""


@lru_cache(maxsize=64)
def _sloped(top: int, scale: int) -> Table:
    """exp at multiples of 2^-LEAF_STEP on [-16, top], with its slope, per unit of the rest."""
    first, last = -16 << LEAF_STEP, (top << LEAF_STEP) + 1
    points = [(Decimal(i) / (1 << LEAF_STEP)).exp() for i in range(first, last + 1)]
    values = tuple(fixed(p, scale) for p in points)
    slopes = tuple(fixed(p, scale - LEAF_FINE) for p in points)
    return Table(f"exp to {top}, sloped", first, scale, values, slopes)


def exp_piece(z: Masked, ring: int = 60, *, top: int = 0, scale: int = 20) -> Share:
    """As `exp`, shares at scale `scale` >= 16, with arithmetic leaves: no opening before the consumer's, one round
    less. The error is d^2 / 2 <= 2^-9 of the value, a third of that beside its mean."""
    index, rest = z.truncate(LEAF_FINE).split(LEAF_STEP)
    entries = _sloped(top, scale)
    m = max(index.bound.bit_length() + 1, (len(entries.values) - 1 + index.bound).bit_length())
    return piece(index.reduce(min(m, index.ring)), rest, entries, ring).bounded(entries.bound + (entries.bound >> 4))
