"""softmax(score) v for rows of scores: the division comes after the product with v, on its columns (PROTOCOLS.md section 6).

    M (3 rounds)   A of exp (1)   e, row sums S (1)   O = e v and 1/S together (1)   o = O (1/S), a share

Six rounds from the opened scores to the share of o, which its consumer opens. SIGMA: 30 to 35 for softmax alone."""

from __future__ import annotations

from dataclasses import dataclass

from engine.gates.exp import exp
from engine.gates.matmul import matmul
from engine.gates.maximum import stabiliser
from engine.gates.polynomial import polynomial
from engine.gates.reciprocal import reciprocal
from engine.wires import Masked, Share

__all__ = ["SoftmaxRange", "softmax", "softmax_times"]

E_SCALE, E_OPEN = 11, 28
TOP = 2
"""M lies within one bucket of 2 nats of the maximum, so exponents reach 2 at most (and a rounding)."""


@dataclass(frozen=True, slots=True)
class SoftmaxRange:
    """Scores in (-2^(bits) nats, 2^(bits) nats) with buckets of 2 nats, 2^bits of them; ring: the width of e in linear
    maps; o: |o| < 2^o."""

    bits: int = 6
    ring: int = 37
    o: int = 6

    @property
    def bucket(self) -> int:
        return 1


def _exponentials(score: Masked, at: SoftmaxRange) -> Masked:
    """e = exp(score - M) at scale 11, in a ring of `at.ring` bits."""
    m = stabiliser(score, at.bucket, at.bits)
    z = score - m.broadcast_to(*score.shape)
    return exp(z, min(64, at.ring + E_OPEN - E_SCALE), top=TOP).open().truncate(E_SCALE)


def _inverse_sum(e: Masked) -> Masked:
    """1/S of each row, S in [2^-3, 2^ceil(log2 length) + 3): wire at scale 14."""
    length = e.shape[-1]
    hi = (length - 1).bit_length() + 3
    s = e.sum().bounded((1 << hi + E_SCALE) - 1)
    inverse = reciprocal(s, -3, hi)
    return inverse.open(inverse.bound.bit_length() + 3).truncate(14)


def softmax_times(score: Masked, v: Masked, at: SoftmaxRange, ring: int = 64) -> Share:
    """Shares of softmax(score) v at scale 14 + 12, in Z_(2^ring). score (..., S, T); v (..., T, d)."""
    e = _exponentials(score, at)
    inverse = _inverse_sum(e)
    product = matmul(e, v, bound=e.shape[-1] * v.bound * 8 << E_SCALE)
    o = product.open().truncate(12)
    return polynomial(o * inverse, ring, 1 << at.o + 26)


def softmax(score: Masked, at: SoftmaxRange = SoftmaxRange(), ring: int = 64) -> Share:  # noqa: B008
    """Shares of softmax(score) along the last axis, at scale 25: seven rounds with the opening of 1/S."""
    e = _exponentials(score, at)
    return polynomial(e * _inverse_sum(e), ring, 1 << 26)
