"""sigmoid(x) = 1 / (1 + exp(-x)): interpolated at 2^-step on [-16, 16), 1 beyond, 0 below. Two rounds from x_hat."""

from __future__ import annotations

from decimal import Decimal

from engine.gates import tables
from engine.gates.activation import between_lines
from engine.wires import Masked, Share

__all__ = ["sigmoid"]


def _slope(x: Decimal) -> Decimal:
    s = tables.sigmoid(x)
    return s * (1 - s)


def sigmoid(
    x: Masked, ring: int = 64, *, step: int = 3, fine: int = 12, scale: int = 12, bound: int | None = None
) -> Share:
    """Shares of sigmoid(x) at scale fine + scale in Z_(2^ring); error 8e-4 at step 3."""
    pair = tables.interpolated("sigmoid", tables.sigmoid, _slope, -16, 16, step, scale)
    return between_lines(x, pair, step, fine, ring, bound, right=1)
