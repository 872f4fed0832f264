"""How an author declares what his gate takes, so that it can be checked and fuzzed.

@declare(MaskedInput(ring=20, scale=8, bound=4 << 8), reference=lambda x: x**3, tolerance=2**-6)
def cube(x: Masked) -> Share: ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from engine.errors import InputError
from engine.graph import Shape

__all__ = ["GateSpec", "Input", "MaskedInput", "WeightInput", "declare", "spec_of"]

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__roundelay_gate__"


@dataclass(frozen=True, slots=True)
class MaskedInput:
    """A masked wire: integers |x| <= bound at `scale` in Z_(2^ring); bound None is all that the ring holds.

    shape: of one example; the checks put an axis of examples before it. low, high: the domain on which the gate is
    meant to work, if narrower than the bound. near: integers of interest beside those that the checks find themselves.
    owner: whose input it is; None for a wire whose mask neither party knows, as after an opening."""

    ring: int
    scale: int = 0
    bound: int | None = None
    shape: Shape = ()
    low: int | None = None
    high: int | None = None
    near: tuple[int, ...] = ()
    owner: int | None = None

    @property
    def limit(self) -> int:
        return (1 << self.ring - 1) - 1 if self.bound is None else self.bound

    @property
    def domain(self) -> tuple[int, int]:
        """Both ends included."""
        low, high = -self.limit if self.low is None else self.low, self.limit if self.high is None else self.high
        if not -self.limit <= low <= high <= self.limit:
            raise InputError(f"the domain [{low}, {high}] is not inside the bound {self.limit} of its wire")
        return low, high


@dataclass(frozen=True, slots=True)
class WeightInput:
    """A parameter: integers |W| <= bound at `scale`, owned by 0 or 1, 'public' or 'shared'; no axis of examples."""

    shape: Shape
    scale: int = 0
    bound: int = 127
    owner: int | str = 1
    ring: int = 52


Input = MaskedInput | WeightInput


@dataclass(frozen=True, slots=True)
class GateSpec:
    """A gate and what it takes. `function` maps handles to a Share, Masked, BitShare, Bit, Answer, or a tuple of them.

    reference maps real arrays, examples first, to real arrays; the result may be off by
    tolerance + relative |reference|.
    """

    name: str
    function: Callable[..., Any] = field(repr=False)
    inputs: tuple[Input, ...]
    reference: Callable[..., Any] | None = field(default=None, repr=False)
    tolerance: float = 0.0
    relative: float = 0.0


def declare(
    *inputs: Input, reference: Callable[..., Any] | None = None, tolerance: float = 0.0, relative: float = 0.0
) -> Callable[[F], F]:
    """Decorator: attach a `GateSpec` to a gate, which stays the function that it is."""

    def mark(function: F) -> F:
        setattr(function, _MARK, GateSpec(function.__name__, function, inputs, reference, tolerance, relative))
        return function

    return mark


def spec_of(function: Any, name: str) -> GateSpec:
    """What `declare` attached. Raises InputError where it did not."""
    spec = getattr(function, _MARK, None)
    if not isinstance(spec, GateSpec):
        raise InputError(f"{name} does not say what it takes: put @declare(MaskedInput(...), ...) before it")
    return spec
