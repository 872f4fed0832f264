"""LayerNorm and RMSNorm without gain and bias, which fold into the next linear layer (docs/protocols.md, section 6).

    D = d 2^l, d odd:  c = (d y - floor(s / 2^l)) / 2^ceil(log2 d)       s = sum of y
    V = sum of c^2                                                      n = c sqrt(D) / sqrt(V + k^2 D eps)

c is the centred row times k = d / 2^ceil(log2 d), which the table absorbs. The sum is opened apart, so that it, and not
y, has the l bits that D y - s would be longer.

Four rounds: y and s, V, rsqrt, n. SIGMA takes 15 to 16."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

from engine.gates.polynomial import polynomial
from engine.gates.reciprocal import rsqrt
from engine.wires import Masked, Share, magnitude

__all__ = ["NormRange", "Rows", "centred", "centred_rows", "layer_norm", "rms_norm", "rows_of_mean_zero"]


@dataclass(frozen=True, slots=True)
class NormRange:
    """What calibration says of one norm. Real magnitudes as powers of two: |y| < 2^y, |y - mean| < 2^centred,
    2^low <= mean square of the centred row < 2^high, |n| < 2^n; rings: `wire` for the sum
    of a row of y, which is itself opened in about log2 D bits less, `out` for n before truncation."""

    y: int
    centred: int
    low: int
    high: int
    n: int
    wire: int = 50
    out: int = 64
    c_scale: int = 11
    r_scale: int = 14


@dataclass(frozen=True, slots=True)
class Rows:
    """What a norm knows of its rows two rounds after y: n = c r, and (y - mean) / std = y_centred times
    r * numerator / 2^bits.

    c: masked, centred; r: masked, one a row. What is linear in n can be had from y before r is known."""

    c: Masked
    r: Masked
    numerator: int
    bits: int

    def normalised(self, at: NormRange, scale: int = 12, how: str = "merged") -> Masked:
        """n at `scale`, one round after r, or two where r is `opened` in the ring of n first."""
        r = self.r if how == "merged" else polynomial(self.r, at.out).open()
        n = polynomial(self.c * r, at.out, magnitude(at.n + at.c_scale + at.r_scale)).open()
        return n.truncate(scale)


def centred_rows(y: Share | Masked, at: NormRange, eps: float) -> Rows:
    """c and r of the rows of y. Three rounds from a share, two from an opened y."""
    odd, _, bits = _parts(y.shape[-1])
    return _rows(centred(y, at), at, y.shape[-1], Decimal(odd) / (1 << bits), eps, (odd, bits))


def rows_of_mean_zero(y: Masked, at: NormRange, eps: float) -> Rows:
    """c = y and r of the rows of an opened y. Two rounds."""
    c = y.bounded(magnitude(at.centred + y.scale)).truncate(at.c_scale)
    return _rows(c, at, y.shape[-1], Decimal(1), eps, (1, 0))


def layer_norm(y: Share | Masked, at: NormRange, eps: float, scale: int = 12, how: str = "merged") -> Masked:
    """n at `scale`, in a ring of at.out - (c_scale + r_scale - scale) bits. y: (rows, D), any scale >= c_scale. how:
    of scaling, as `engine.variants` has it."""
    return centred_rows(y, at, eps).normalised(at, scale, how)


def centred(y: Share | Masked, at: NormRange) -> Masked:
    """c = (d y - s / 2^low) / 2^bits of each row at at.c_scale, for D = d 2^low, d odd, bits = ceil(log2 d). One round
    from a share: s is opened in at.wire bits, y in `low` bits less. Of s exactly these low bits fall off."""
    odd, low, bits = _parts(y.shape[-1])
    size, scale = at.y + y.scale, y.scale + bits
    opened = y.open(at.wire - low, magnitude(size)).times(odd, scale)
    total = y.sum().open(at.wire, magnitude(size + low + bits)).times(1, scale + low).truncate(scale)
    c: Masked = (opened - total).bounded(magnitude(at.centred + scale)).truncate(at.c_scale)
    return c


def _parts(d: int) -> tuple[int, int, int]:
    """D = odd 2^low, and the bits of the power of two that odd is divided by."""
    low = (d & -d).bit_length() - 1
    return d >> low, low, (d - 1).bit_length() - low


def rms_norm(y: Share | Masked, at: NormRange, eps: float, scale: int = 12) -> Masked:
    """y / sqrt(mean y^2 + eps), as `layer_norm` without centring."""
    opened = y.open(at.wire, magnitude(at.centred + y.scale))
    return rows_of_mean_zero(opened, at, eps).normalised(at, scale)


def _rows(c: Masked, at: NormRange, d: int, k: Decimal, eps: float, ratio: tuple[int, int]) -> Rows:
    """r = sqrt(D) / sqrt(sum c^2 + k^2 D eps); ratio: k as numerator and bits of the denominator."""
    with localcontext() as context:
        context.prec = 50
        spread, shift = k * k * d, k * k * d * Decimal(repr(eps))
    low, high = at.low + _log2(spread) - 1, at.high + _log2(spread) + 1
    v_scale = 2 * at.c_scale
    squares: Any = polynomial(c * c, 62, c.bound**2).sum()
    v = squares.bounded(magnitude(high + v_scale)).open(min(62, high + v_scale + 2))
    scale_r = 40
    inverse = rsqrt(v, low, high, numerator=d, eps=shift, scale=scale_r)
    bound = inverse.bound
    r = inverse.open(bound.bit_length() + 3).truncate(at.r_scale)
    return Rows(c, r, *ratio)


def _log2(x: Decimal) -> int:
    """floor(log2 x) for x > 0."""
    e = 0
    while x >= 2:
        x, e = x / 2, e + 1
    while x < 1:
        x, e = x * 2, e - 1
    return e
