"""ReLU(x) = [x >= 0] x. Two rounds from x_hat, one key."""

from __future__ import annotations

from engine.gates.fss import at_least, comparable
from engine.gates.polynomial import polynomial
from engine.wires import Masked, Share

__all__ = ["relu"]


def relu(x: Masked, ring: int | None = None, bound: int | None = None) -> Share:
    """Shares of max(x, 0) at the scale of x, in its own ring unless a wider one is asked for."""
    positive = at_least(comparable(x), 0).open()
    return polynomial(positive * x, ring or x.ring, x.bound if bound is None else bound)
