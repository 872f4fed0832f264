"""The basis values of the polynomial gate as words: public ones from x_hat, secret ones from the dealer's masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from engine.kernels.interface import Kernels
from engine.ring import U64, Words, reduce, ring_mask

__all__ = ["evaluate", "public_value", "secret_value"]

Symbol = tuple[str, int, int]
Terms = Sequence[tuple[int, tuple[Symbol, ...]]]


def public_value(symbol: Symbol, x_hat: Words) -> Words:
    """x: x_hat; h, u: the lift of a ring of `bits`; d: x_hat mod 2^bits; b: the masked bit."""
    kind, _, bits = symbol
    match kind:
        case "h":
            return reduce(x_hat + U64(1 << (bits - 2)), bits)
        case "u":
            return U64(1) ^ (reduce(x_hat + U64(1 << (bits - 2)), bits) >> U64(bits - 1))
        case "d":
            return x_hat & ring_mask(bits)
        case "b":
            return x_hat.astype(U64)
    return x_hat


def secret_value(symbol: Symbol, r: Words, ring: int) -> Words:
    """r: the mask; m: its top bit; l: r mod 2^bits; rho: the mask of a bit; s: the sign, from sigma as 0/1."""
    kind, _, bits = symbol
    match kind:
        case "m":
            return r >> U64(ring - 1)
        case "l":
            return r & ring_mask(bits)
        case "rho":
            return r.astype(U64)
        case "s":
            return (r.astype(np.int64) * 2 - 1).view(U64)
    return r


def evaluate(
    terms: Terms,
    value: Callable[[Symbol], Words],
    shape: tuple[int, ...],
    ring: int,
    kernels: Kernels,
    dealt: Sequence[tuple[Words, int, tuple[Symbol, ...]]] = (),
) -> Words:
    """sum c prod(symbols) + sum 2^shift dealt prod(symbols) mod 2^ring, broadcast to `shape`."""
    slots: dict[Symbol, int] = {}
    arrays: list[Words] = []
    program: list[tuple[int, tuple[int, ...]]] = []

    def slot(symbol: Symbol) -> int:
        if symbol not in slots:
            slots[symbol] = len(arrays)
            arrays.append(_full(value(symbol), shape))
        return slots[symbol]

    for c, symbols in terms:
        program.append((c % (1 << 64), tuple(slot(s) for s in symbols)))
    for coefficient, shift, symbols in dealt:
        factors = tuple(slot(s) for s in symbols)
        arrays.append(_full(coefficient, shape))
        program.append((1 << shift, (len(arrays) - 1, *factors)))
    out = np.empty(int(np.prod(shape, dtype=np.int64)), U64)
    kernels.poly(arrays, program, ring, out)
    return out.reshape(shape)


def _full(a: Words, shape: tuple[int, ...]) -> Words:
    return np.ascontiguousarray(np.broadcast_to(a, shape)).reshape(-1)
