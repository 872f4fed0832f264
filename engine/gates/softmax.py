"""softmax(score) v for rows of scores: the division comes after the product with v, on its columns (docs/protocols.md
section 6).

    M (3 rounds)   A of exp (1)   e, row sums S (1)   O = e v and 1/S together (1)   o = O (1/S), a share

Six rounds from the opened scores to the share of o, which its consumer opens. SIGMA: 30 to 35 for softmax alone."""

from __future__ import annotations

from dataclasses import dataclass

from engine.gates.exp import exp, exp_piece
from engine.gates.matmul import matmul
from engine.gates.maximum import stabiliser
from engine.gates.polynomial import polynomial
from engine.gates.reciprocal import reciprocal
from engine.variants import DEFAULT, Variants
from engine.wires import Masked, Share, Wire, magnitude

__all__ = ["Q_SCALE", "SoftmaxRange", "exponentials", "softmax", "softmax_times", "weight_ring", "weighted_mean"]

Q_SCALE = 10
"""Scale of q and of k; scores come out at twice that."""


@dataclass(frozen=True, slots=True)
class SoftmaxRange:
    """What calibration says of one attention: powers of two. |score| < 2^score - 2^bucket nats, max - min of a row
    < 2^spread nats, sum of exp(score - max) v below 2^product, |o| < 2^o. Everything else follows."""

    score: int = 6
    spread: int = 7
    product: int = 9
    o: int = 5

    @property
    def bucket(self) -> int:
        """log2 of a bucket's width in nats: 2 nats, or 4 where the histogram would have more than 256 buckets."""
        return max(1, self.score - 7)

    @property
    def bits(self) -> int:
        """log2 of the number of buckets: they reach one step beyond the bound of the scores."""
        return self.score + 1 - self.bucket

    @property
    def score_bound(self) -> int:
        """The bound of a score at scale 2 Q_SCALE."""
        return (1 << self.score) - (1 << self.bucket) << 2 * Q_SCALE

    @property
    def top(self) -> int:
        """exp(score - M) <= exp(top): M lies within one bucket of the maximum."""
        return 1 << self.bucket

    @property
    def top_bits(self) -> int:
        """log2 exp(top), rounded up."""
        return 3 if self.bucket == 1 else -(-self.top * 1443 // 1000)

    @property
    def e_scale(self) -> int:
        """e = exp(score - M) is at least exp(-top) in a row: that must keep its precision."""
        return 8 + self.top_bits

    @property
    def score_ring(self) -> int:
        return max(self.score + 1, self.spread) + 2 * Q_SCALE + 2

    def product_ring(self, v_scale: int) -> int:
        """Ring of O = e v, which is lifted after truncation."""
        return self.product + self.top_bits + self.e_scale + v_scale + 2


def exponentials(z: Masked, at: SoftmaxRange, ring: int, how: str = "lookup") -> Masked:
    """e = exp(z) at scale e_scale, in `ring` bits; z: score - M. how: as `engine.variants` has it."""
    z = z.bounded(magnitude(at.spread + z.scale))
    share = exp_piece(z, 64, top=at.top, scale=at.e_scale + 9) if how == "leaf" else exp(z, 64, top=at.top)
    return share.open(min(64, ring + share.scale - at.e_scale)).truncate(at.e_scale)


def _stabilised(score: Masked, at: SoftmaxRange, how: str = "histogram") -> Masked:
    difference: Masked = score - stabiliser(score, at.bucket, at.bits, how).broadcast_to(*score.shape)
    return difference


def _inverse_sum(e: Masked, at: SoftmaxRange) -> Masked:
    """1/S of each row, S in [2^-top_bits, length 2^top_bits): wire at scale 14."""
    hi = (e.shape[-1] - 1).bit_length() + at.top_bits
    s = e.sum().bounded(magnitude(hi + at.e_scale))
    inverse = reciprocal(s, -at.top_bits, hi)
    return inverse.open(inverse.bound.bit_length() + 3).truncate(14)


def softmax_times(score: Masked, v: Masked, at: SoftmaxRange, ring: int = 64, how: Variants = DEFAULT) -> Share:
    """Shares of softmax(score) v at scale 14 + 12, in Z_(2^ring). score (..., S, T); v (..., T, d)."""
    z = _stabilised(score, at, how.maximum)
    return weighted_mean(exponentials(z, at, weight_ring(at, score, v), how.exp), v, at, ring, how.scaling)


def weighted_mean(e: Masked, v: Masked, at: SoftmaxRange, ring: int, how: str = "merged") -> Share:
    """Shares of e v / (sum of the row of e), e in `weight_ring` bits, zero where a row does not reach."""
    wide = at.product_ring(v.scale)
    inverse = _inverse_sum(e, at)
    inverse = inverse if how == "merged" else polynomial(inverse, ring).open()
    product = matmul(e, v.reduce(min(v.ring, wide)), bound=magnitude(wide - 2))
    o = product.open().truncate(12)
    return polynomial(o * inverse, ring, magnitude(at.o + 26))


def weight_ring(at: SoftmaxRange, score: Wire, v: Masked) -> int:
    """The ring of e that holds its product with v and the sum of a row."""
    return max(at.product_ring(v.scale), e_ring(at, score.shape[-1]))


def softmax(score: Masked, at: SoftmaxRange = SoftmaxRange(), ring: int = 64) -> Share:
    """Shares of softmax(score) along the last axis, at scale e_scale + 14. Seven rounds from the opened scores."""
    e = exponentials(_stabilised(score, at), at, e_ring(at, score.shape[-1]))
    return polynomial(e * _inverse_sum(e, at), ring, 1 << at.e_scale + 15)


def e_ring(at: SoftmaxRange, length: int) -> int:
    """The ring that holds the sum of a row of e."""
    return (length - 1).bit_length() + at.top_bits + at.e_scale + 2
