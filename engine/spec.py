"""The spec of the representation: which kinds of values each operation takes and gives, and what every type must hold.

`Graph.add` asks here before it records a node: nothing ill-typed gets into a plan, whatever handle or gate made it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Kind", "Shape", "WireType", "violation"]

Shape = tuple[int, ...]
Kind = Literal["masked", "share", "bit share", "bit", "answer share", "answer", "weight", "key", "output"]


@dataclass(frozen=True, slots=True)
class WireType:
    """What is public about a value: x is a signed integer in Z_(2^ring), stands for x / 2^scale, and |x| <= bound.

    A bound of 2^ring - 1 means any residue: a counter whose value is only meant modulo 2^ring."""

    kind: Kind
    shape: Shape
    ring: int
    scale: int = 0
    bound: int = 0

    @property
    def size(self) -> int:
        n = 1
        for d in self.shape:
            n *= d
        return n

    @property
    def headroom(self) -> int:
        """Bits that the bound leaves free under the sign bit; negative if the value may wrap, 0 for any residue."""
        if self.bound == (1 << self.ring) - 1:
            return 0
        return self.ring - 1 - self.bound.bit_length()

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape)) or "scalar"
        return f"{self.kind} {shape} ring {self.ring} scale {self.scale} |x| <= {self.bound}"


_LINEAR = r"masked -> masked|share -> share"
_MOVED = rf"{_LINEAR}|bit -> bit"
_SUM = r"(masked )+-> masked|(share )+-> share"

# Kinds of the inputs, an arrow, the kind of the result; a space within a kind is a hyphen here.
SIGNATURES = {
    "input": r"-> masked", "wire": r"-> masked|-> bit", "weight": r"-> weight",
    "add": _SUM, "sub": _SUM, "concat": _SUM,
    "scale": _LINEAR, "transpose": _LINEAR, "broadcast": _LINEAR, "sum": _LINEAR, "suffix_sum": _LINEAR,
    "claim": _LINEAR, "add_const": _LINEAR, "reshape": _MOVED, "slice": _MOVED,
    "public_matmul": r"masked weight -> masked", "public_gain": r"masked weight -> masked",
    "add_public": r"masked weight -> masked|share weight -> share",
    "truncate": r"masked -> masked", "reduce": r"masked -> masked", "as_share": r"masked -> share",
    "mask_share": r"masked -> key", "dpf": r"masked -> key", "onehot": r"masked -> key",
    "leaf": r"masked (masked )?-> key",
    "interval": r"key masked -> bit-share", "half_line": r"key masked -> bit-share",
    "equal": r"key masked -> bit-share",
    "lookup": r"key masked -> answer-share",
    "piece": r"key masked (masked )?-> share", "counts": r"key masked -> share",
    "poly": r"((masked|bit|answer) )*-> share",
    "matmul": r"masked masked key key -> share",
    "weight_matmul": r"masked weight key -> share", "weight_gain": r"masked weight key -> share",
    "weight_share": r"weight -> share",
    "open": r"share -> masked|bit-share -> bit|answer-share -> answer", "reveal": r"share -> output",
}  # fmt: skip


def violation(op: str, inputs: Sequence[WireType], result: WireType, attrs: Sequence[tuple[str, object]]) -> str | None:
    """What is wrong with the operation, in one clause; None if it is well-typed."""
    signature = " ".join([*(t.kind.replace(" ", "-") for t in inputs), "->", result.kind.replace(" ", "-")])
    if re.fullmatch(SIGNATURES[op], signature) is None:
        kinds = ", ".join(t.kind for t in inputs) or "nothing"
        return f"'{op}' does not make a {result.kind} of {kinds}" + _hint(inputs)
    return _type(result) or next((f"'{name}' of '{op}' is no integer" for name, v in attrs if not _plain(v)), None)


def _hint(inputs: Sequence[WireType]) -> str:
    return ": open it first" if any(t.kind.endswith("share") for t in inputs) else ""


def _type(t: WireType) -> str | None:
    if not all(type(v) is int for v in (t.ring, t.scale, t.bound, *t.shape)):
        return f"ring, scale, bound and shape are integers, not those of '{t}'"
    if not all(d > 0 for d in t.shape):
        return f"the shape {t.shape} has an empty dimension"
    if not 1 <= t.ring <= 64:
        return f"a ring has 1 to 64 bits, not {t.ring}"
    if t.bound < 0:
        return f"a bound is not negative, {t.bound} is"
    if t.headroom < 0 and t.kind in ("masked", "output", "weight"):
        return f"|x| <= {t.bound} does not fit a ring of {t.ring} bits"
    return None


_ATOMS = {int, str, type(None)}


def _plain(value: object) -> bool:
    """Python's own integers and strings: those of other libraries print differently from version to version."""
    if type(value) is not tuple:
        return type(value) in _ATOMS
    odd = set(map(type, value)) - _ATOMS  # a table has thousands of integers: their types are compared at once
    return not odd or (odd == {tuple} and all(map(_plain, value)))
