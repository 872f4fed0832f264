"""GELU(x) = x Phi(x): value and slope of GELU itself at 2^-step on [-4, 4), the line x beyond, 0 below.

Error 1.6e-3 at step 4. Two rounds from x_hat, one key (SIGMA, PETS 2024, figure 9 takes 6 to 7 exchanges)."""

from __future__ import annotations

from engine.gates import tables
from engine.gates.activation import Curve, between_lines
from engine.wires import Masked, Share

__all__ = ["gelu"]


CURVE = Curve("gelu", tables.gelu, tables.gelu_slope, -4, 4)


def gelu(
    x: Masked, ring: int = 64, *, step: int = 4, fine: int = 12, scale: int = 12, bound: int | None = None,
    how: str = "interpolated",
) -> Share:  # fmt: skip
    """Shares of GELU(x) at scale fine + scale in Z_(2^ring)."""
    return between_lines(x, CURVE, ring, bound, step=step, fine=fine, scale=scale, how=how)
