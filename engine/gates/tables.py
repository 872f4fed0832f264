"""Tables as integers, the same on every machine.

Two machines' floating-point `exp` differ in the last bit, and a table is part of a plan's digest; so tables are
computed in decimal arithmetic of 50 digits, whose exp, ln and sqrt are correctly rounded by specification, and rounded
once.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import lru_cache
from itertools import pairwise

from engine.gates.fss import Table

__all__ = ["DIGITS", "Function", "erf", "fixed", "gelu", "gelu_slope", "interpolated", "sigmoid", "tapered"]

Function = Callable[[Decimal], Decimal]
DIGITS = 50
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


def fixed(value: Decimal, scale: int) -> int:
    """round(value 2^scale), half to even."""
    with localcontext() as c:
        c.prec = DIGITS
        return int((value * (Decimal(2) ** scale)).to_integral_value())


def erf(x: Decimal) -> Decimal:
    """2/sqrt(pi) sum_k x (-1)^k x^(2k) / (k! (2k+1)); good to 30 digits for |x| <= 6."""
    with localcontext() as c:
        c.prec = DIGITS
        total = term = x
        k = 0
        while abs(term) > Decimal(10) ** -36:
            k += 1
            term = -term * x * x / k
            total += term / (2 * k + 1)
        return 2 * total / _PI.sqrt()


def gelu(x: Decimal) -> Decimal:
    """x Phi(x)."""
    with localcontext() as c:
        c.prec = DIGITS
        return x * (1 + erf(x / Decimal(2).sqrt())) / 2


def gelu_slope(x: Decimal) -> Decimal:
    """Phi(x) + x phi(x)."""
    with localcontext() as c:
        c.prec = DIGITS
        return (1 + erf(x / Decimal(2).sqrt())) / 2 + x * (-x * x / 2).exp() / (2 * _PI).sqrt()


def sigmoid(x: Decimal) -> Decimal:
    """1 / (1 + exp(-x))."""
    with localcontext() as c:
        c.prec = DIGITS
        return 1 / (1 + (-x).exp())


@lru_cache(maxsize=256)
def interpolated(
    name: str, f: Function, slope: Function, lo: int, hi: int, step: int, scale: int
) -> tuple[Table, Table]:
    """Values and slopes of f at multiples of 2^-step on [lo, hi), both at `scale`."""
    with localcontext() as c:
        c.prec = DIGITS
        points = [Decimal(i) / (1 << step) for i in range(lo << step, hi << step)]
        values = tuple(fixed(f(p), scale) for p in points)
        slopes = tuple(fixed(slope(p), scale) for p in points)
    return Table(name, lo << step, scale, values), Table(f"{name} slope", lo << step, scale, slopes)


@lru_cache(maxsize=256)
def tapered(
    name: str, f: Function, lo: int, hi: int, bits: int, x_scale: int, y_scale: int
) -> tuple[tuple[int, Table], ...]:
    """(index scale, table) of pieces that cover [0, 2^hi) with relative step 2^-bits from 2^lo on.

    Each piece spans a factor 16 and overlaps the next by 2, where smooth weights taper from one to the other and add up
    to 1 (a partition of unity), so that a value which rounds differently in two tables makes a rounding error only. The
    first piece reaches down to 0. Slopes are per unit of the rest at x_scale, chords between neighbours.
    """
    starts = list(range(lo, hi, 3))
    pieces = []
    for i, a in enumerate(starts):
        index_scale = bits - a
        if index_scale > x_scale:
            raise ValueError(
                f"piece {i} of {name} needs an index at scale {index_scale}, finer than its wire's {x_scale}"
            )
        first = 0 if i == 0 else 1 << bits
        last = min(16 << bits, (1 << hi + index_scale) + 1 if hi + index_scale >= 0 else 2)
        values = _piece(f, a, bits, range(first, last + 1), i > 0, i + 1 < len(starts))
        table = tuple(fixed(v, y_scale) for v in values[:-1])
        step = y_scale - (x_scale - index_scale)
        slopes = tuple(fixed(w - v, step) for v, w in pairwise(values))
        pieces.append((index_scale, Table(f"{name} {i}", first, y_scale, table, slopes)))
    return tuple(pieces)


def _piece(f: Function, a: int, bits: int, points: range, rises: bool, falls: bool) -> list[Decimal]:
    """Weighted values at 2^(a - bits) j for j in `points`, whose end is there for the last chord."""
    out = []
    with localcontext() as c:
        c.prec = DIGITS
        unit = Decimal(2) ** (a - bits)
        for j in points:
            octave = Decimal(j) / (1 << bits)
            weight = Decimal(1)
            if rises:
                weight = _smooth(octave - 1)
            if falls:
                weight *= 1 - _smooth((octave - 8) / 8)
            out.append(weight * f(unit * j) if weight else Decimal(0))
    return out


def _smooth(t: Decimal) -> Decimal:
    """0 below 0, 1 above 1, twice differentiable in between: t^3 (10 - 15 t + 6 t^2)."""
    t = min(max(t, Decimal(0)), Decimal(1))
    return t * t * t * (10 - 15 * t + 6 * t * t)
