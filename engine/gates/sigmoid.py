"""sigmoid(x) = 1 / (1 + exp(-x)): interpolated at 2^-step on [-16, 16), 1 beyond, 0 below. Two rounds from x_hat."""

from __future__ import annotations

from decimal import Decimal

from engine.gates import tables
from engine.gates.activation import Curve, between_lines
from engine.wires import Masked, Share

__all__ = ["sigmoid"]


def _slope(x: Decimal) -> Decimal:
    s = tables.sigmoid(x)
    return s * (1 - s)


CURVE = Curve("sigmoid", tables.sigmoid, _slope, -16, 16, right=1)


def sigmoid(
    x: Masked, ring: int = 64, *, step: int = 3, fine: int = 12, scale: int = 12, bound: int | None = None,
    how: str = "interpolated",
) -> Share:  # fmt: skip
    """Shares of sigmoid(x) at scale fine + scale in Z_(2^ring); error 8e-4 at step 3."""
    return between_lines(x, CURVE, ring, bound, step=step, fine=fine, scale=scale, how=how)
