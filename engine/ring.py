"""Arithmetic in Z_(2^w), 1 <= w <= 64, on uint64 arrays: the one place where words become ring elements.

A ring element is kept reduced in the low w bits of a uint64. Signed values are two's complement in w bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["U64", "Words", "byte_width", "packed_bytes", "reduce", "reduce_into", "ring_mask", "to_ring", "to_signed"]

U64 = np.uint64
Words = NDArray[np.uint64]


def ring_mask(w: int) -> np.uint64:
    """2^w - 1 as a word."""
    return U64((1 << w) - 1)


def reduce(x: Words, w: int) -> Words:
    """x mod 2^w (the array itself when w = 64)."""
    return x if w == 64 else x & ring_mask(w)


def reduce_into(x: Words, w: int) -> Words:
    """As `reduce`, in the array itself, for one that nobody else holds: a fresh array costs more than the operation."""
    if w < 64:
        np.bitwise_and(x, ring_mask(w), out=x)
    return x


def to_ring(x: ArrayLike, w: int) -> Words:
    """Signed integers to ring elements: x mod 2^w."""
    return reduce(np.ascontiguousarray(x, dtype=np.int64).view(U64), w)


def to_signed(x: Words, w: int) -> NDArray[np.int64]:
    """Ring elements to the signed representative in [-2^(w-1), 2^(w-1))."""
    shift = U64(64 - w)
    return (x << shift).view(np.int64) >> np.int64(64 - w)


def packed_bytes(count: int, w: int) -> int:
    """Bytes that `count` elements of w bits take on the wire."""
    return (count * w + 7) // 8


def byte_width(w: int) -> int:
    """Bytes that one element of w bits takes on a tape."""
    return (w + 7) // 8
