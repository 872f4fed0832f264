"""The basis values of the polynomial gate: public ones read from x_hat, secret ones as words of the dealer's masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.kernels.interface import Kernels, Operand
from engine.ring import U64, Words

__all__ = ["Formula", "Shaped", "Symbol", "compute", "evaluate", "formula", "public_value", "secret_value"]

Symbol = tuple[str, int, int]
Terms = Sequence[tuple[int, tuple[Symbol, ...]]]
Shaped = tuple[Operand, tuple[int, ...]]
"""An operand and the shape that its elements have."""


def public_value(symbol: Symbol, x_hat: NDArray[Any]) -> Shaped:
    """x: x_hat; h, u: the lift of a ring of `bits`; d: x_hat mod 2^bits; b: the masked bit."""
    kind, _, bits = symbol
    source = np.ascontiguousarray(x_hat).reshape(-1)
    match kind:
        case "h":
            x = Operand(source, bits, add=1 << (bits - 2))
        case "u":
            x = Operand(source, bits, add=1 << (bits - 2), drop=bits - 1, flip=1)
        case "b":
            x = Operand(source, 1)
        case "d":
            x = Operand(source, bits)
        case _:
            x = Operand(source)
    return x, x_hat.shape


def secret_value(symbol: Symbol, r: NDArray[Any], ring: int) -> Shaped:
    """r: the mask; m: its top bit; l: r mod 2^bits; rho: the mask of a bit; s: the sign, as the word 1 or -1."""
    kind, _, bits = symbol
    source = np.ascontiguousarray(r).reshape(-1)
    match kind:
        case "m":
            x = Operand(source, drop=ring - 1)
        case "l":
            x = Operand(source, bits)
        case "rho":
            x = Operand(source, 1)
        case _:
            x = Operand(source)
    return x, r.shape


@dataclass(frozen=True, slots=True)
class Formula:
    """A sum of products, made once: the symbols that it takes, and terms (coefficient mod 2^64, places of the factors)
    among those symbols and, behind them, what is dealt."""

    symbols: tuple[Symbol, ...]
    terms: tuple[tuple[int, tuple[int, ...]], ...]


def formula(terms: Terms, dealt: Sequence[tuple[Symbol, ...]] = ()) -> Formula:
    """sum c prod(symbols) + sum dealt[i] prod(symbols of i). What is dealt comes last in its product, so that monomials
    with a common beginning share it."""
    products = [*(symbols for _, symbols in terms), *dealt]
    symbols = tuple(dict.fromkeys(s for product in products for s in product))
    places = {s: i for i, s in enumerate(symbols)}
    known = [(c % (1 << 64), tuple(places[s] for s in product)) for c, product in terms]
    last = [(1, (*(places[s] for s in product), len(symbols) + i)) for i, product in enumerate(dealt)]
    return Formula(symbols, (*known, *last))


def compute(f: Formula, shaped: Sequence[Shaped], shape: tuple[int, ...], ring: int, kernels: Kernels) -> Words:
    """The formula mod 2^ring, each of its operands broadcast to `shape`."""
    out = np.empty(prod(shape), U64)
    kernels.poly([_spread(*operand, shape, kernels) for operand in shaped], f.terms, ring, out)
    return out.reshape(shape)


def evaluate(
    terms: Terms, value: Callable[[Symbol], Shaped], shape: tuple[int, ...], ring: int, kernels: Kernels
) -> Words:
    """sum c prod(symbols) mod 2^ring, broadcast to `shape`."""
    f = formula(terms)
    return compute(f, [value(s) for s in f.symbols], shape, ring, kernels)


def _spread(operand: Operand, own: tuple[int, ...], shape: tuple[int, ...], kernels: Kernels) -> Operand:
    """The operand broadcast to `shape`: read over and over where its axes of size 1 are the first or the last ones."""
    if own == shape:
        return operand
    own = (1,) * (len(shape) - len(own)) + own
    stop = max((i + 1 for i, k in enumerate(own) if k > 1), default=0)
    start = min((i for i, k in enumerate(own) if k > 1), default=stop)
    if own[start:stop] == shape[start:stop]:
        return replace(operand, repeat=prod(shape[stop:]))
    words = np.empty(prod(own), U64)
    kernels.poly([operand], [(1, (0,))], 64, words)
    return Operand(np.ascontiguousarray(np.broadcast_to(words.reshape(own), shape)).reshape(-1))
