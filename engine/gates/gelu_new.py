"""GELU as GPT-2 has it, x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2: value and slope at 2^-step on [-4, 4), the
line x beyond, 0 below. Error 1.6e-3 at step 4. Two rounds from x_hat, one key."""

from __future__ import annotations

from decimal import Decimal, localcontext

from engine.gates import tables
from engine.gates.activation import Curve, between_lines
from engine.wires import Masked, Share

__all__ = ["gelu_new"]

_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
_CUBIC = Decimal("0.044715")


def _twice(x: Decimal) -> tuple[Decimal, Decimal]:
    """u = 2 sqrt(2/pi) (x + 0.044715 x^3), so that (1 + tanh(u/2)) / 2 = sigmoid(u), and its slope."""
    factor = 2 * (2 / _PI).sqrt()
    return factor * (x + _CUBIC * x**3), factor * (1 + 3 * _CUBIC * x * x)


def _gelu_new(x: Decimal) -> Decimal:
    with localcontext() as c:
        c.prec = tables.DIGITS
        return x * tables.sigmoid(_twice(x)[0])


def _slope(x: Decimal) -> Decimal:
    with localcontext() as c:
        c.prec = tables.DIGITS
        u, slope = _twice(x)
        s = tables.sigmoid(u)
        return s + x * s * (1 - s) * slope


CURVE = Curve("gelu_new", _gelu_new, _slope, -4, 4)


def gelu_new(
    x: Masked, ring: int = 64, *, step: int = 4, fine: int = 12, scale: int = 12, bound: int | None = None,
    how: str = "interpolated",
) -> Share:  # fmt: skip
    """Shares of gelu_new(x) at scale fine + scale in Z_(2^ring)."""
    return between_lines(x, CURVE, ring, bound, step=step, fine=fine, scale=scale, how=how)
