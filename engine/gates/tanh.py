"""tanh(x): interpolated at 2^-step on [-8, 8), 1 beyond, -1 below. Two rounds from x_hat."""

from __future__ import annotations

from decimal import Decimal

from engine.gates import tables
from engine.gates.activation import Curve, between_lines
from engine.wires import Masked, Share

__all__ = ["tanh"]


def _tanh(x: Decimal) -> Decimal:
    return 2 * tables.sigmoid(2 * x) - 1


def _slope(x: Decimal) -> Decimal:
    return 1 - _tanh(x) ** 2


CURVE = Curve("tanh", _tanh, _slope, -8, 8, left=-1, right=1)


def tanh(
    x: Masked, ring: int = 64, *, step: int = 4, fine: int = 12, scale: int = 12, bound: int | None = None,
    how: str = "interpolated",
) -> Share:  # fmt: skip
    """Shares of tanh(x) at scale fine + scale in Z_(2^ring); error 1.6e-3 at step 4."""
    return between_lines(x, CURVE, ring, bound, step=step, fine=fine, scale=scale, how=how)
