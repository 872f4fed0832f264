"""What the models share: the scales of a norm, and products with its n, had from the row y before its scale is known
(variants `up=before`, `scores=before`).

    n = (y - mean) k r,   r: 1/std / k of each row     so     n W = k r (y W)   where the columns of W add up to 0

`quantise` sees to the columns, so that y needs no centring. y W is opened beside the sum of squares, r one round later,
and k r (y W) together with n: the product costs no round of its own, and one opening more.
"""

from __future__ import annotations

from dataclasses import replace

from engine.gates.matmul import bias, matmul
from engine.gates.norm import NormRange, Rows
from engine.gates.polynomial import polynomial
from engine.wires import Masked, Share, Weight, magnitude

__all__ = ["biased", "norm_range", "rescaled", "unscaled", "y_ring"]

WORD = 64


def norm_range(at: tuple[int, int, int], hidden: int, ring: int, wire: int, scale: int) -> NormRange:
    """The norm of rows of `hidden` entries with the calibrated magnitudes (y, low, high); y is opened in `wire` bits, n
    is at `scale` and has `ring` bits after truncation.

    Scales keep nine bits of the smallest row and ten of the smallest 1/std, or as many as 64 bits allow."""
    y, low, high = at
    n = ((hidden - 1).bit_length() + 1) // 2  # |n| <= sqrt(D)
    c_scale, r_scale = max(9 - low // 2, 8), max(10 + (high + 1) // 2, 8)
    excess = max(0, ring + c_scale + r_scale - scale - WORD)
    c_scale, r_scale = c_scale - excess // 2, r_scale - (excess - excess // 2)
    return NormRange(y, y, low, high, n, wire, ring + c_scale + r_scale - scale, c_scale, r_scale)


def y_ring(bits: int, high: int, y_scale: int, w_scale: int) -> int:
    """The ring that y is opened in, so that y W is known; |n W| < 2^bits, the mean square of a row below 2^high."""
    return bits + (high + 1) // 2 + y_scale + w_scale + 2


def unscaled(x: Masked, w: Weight, at: NormRange, bits: int, precision: int) -> Masked:
    """x W, one round after x, fine enough that k r x W has `precision` bits after the point. x: y at at.c_scale;
    |n W| < 2^bits."""
    size = bits + (at.high + 1) // 2 + x.scale + w.scale
    product = matmul(x, w, magnitude(size))
    return product.open(size + 2).truncate(min(max(precision - at.low // 2, 4), product.scale))


def rescaled(product: Masked, rows: Rows, bits: int, room: int, least: int) -> Share:
    """k r (y W) at scale `least` or finer, in a ring that leaves `room` bits above the point; |result| < 2^bits."""
    excess = max(0, room + product.scale + rows.r.scale + rows.bits - WORD)
    r = rows.r.truncate(rows.r.scale - excess)
    e = product * r * rows.numerator
    e = replace(e, scale=e.scale + rows.bits)
    e = e.shifted(max(e.scale, least))
    return polynomial(e, room + e.scale, magnitude(bits + e.scale))


def biased(y: Share, w: Weight) -> Share:
    """y plus a bias of coarser or equal scale, which broadcasts along the rows."""
    b = bias(y.slice(0, 0, 1).times(0, w.scale), w)
    assert isinstance(b, Share)
    return y + b.times(1 << y.scale - w.scale, y.scale)
