"""Control of what the seeds stretch into: masks of a test's choice, and a record of every word that was drawn.

The mask of an opening is r = z_0 + z_1 - offset. To make it a chosen r', the dealer's own array of masks is overwritten
while it deals (its observer is shown that array), and party 1's keystream is shifted by r' - r at the place where z_1
lies; an input's mask is its owner's word itself. Only the kernels that a test hands in are scripted: neither dealer nor
party knows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from engine.errors import LocalError
from engine.kernels.interface import Kernels, Keystream, Operand
from engine.ring import U64, Words
from engine.scheduler.plan import Plan

__all__ = ["Drawn", "MaskScript", "ScriptedKernels", "scripted"]

Wanted = Callable[[int, int], Words | None]
Drawn = set[tuple[int, int]]
"""(offset, words) of the pieces of one seed's keystream that were used."""


class ScriptedKernels:
    """Another back end, whose keystreams are recorded by seed, and may be shifted or have bits flipped at an offset."""

    def __init__(self, inner: Kernels) -> None:
        self._inner = inner
        self.drawn: dict[bytes, Drawn] = {}
        self.shifts: dict[tuple[bytes, int], Words] = {}
        self.flips: dict[tuple[bytes, int], Words] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def poly(self, operands: Sequence[Words | Operand], *rest: Any) -> None:
        self._inner.poly([self._expanded(o) if isinstance(o, Operand) else o for o in operands], *rest)

    def _expanded(self, o: Operand) -> Operand:
        if not isinstance(o.source, Keystream):
            return o
        words = np.empty(o.source.size, U64)
        self.ctr(o.source.seed, o.source.offset, words)
        return replace(o, source=words)

    def mask(self, values: Words, seed: bytes, offset: int, w: int, out: NDArray[np.uint8]) -> None:
        words = np.empty(values.size, U64)
        self.ctr(seed, offset, words)
        self._inner.pack(values + words, w, out)

    def ctr(self, seed: bytes, offset: int, out: Words) -> None:
        self._inner.ctr(seed, offset, out)
        if out.size:
            self.drawn.setdefault(seed, set()).add((offset, out.size))
        if (seed, offset) in self.shifts:
            out += self.shifts[seed, offset]
        if (seed, offset) in self.flips:
            out ^= self.flips[seed, offset]


def scripted(inner: Kernels) -> tuple[Kernels, ScriptedKernels]:
    """The same object twice: as the back end that it is, and as the script."""
    script = ScriptedKernels(inner)
    return cast(Kernels, script), script


class MaskScript:
    """A dealer's observer that makes the masks of a run those that `wanted` holds, and the parties' keystream agree."""

    def __init__(self, plan: Plan, seeds: tuple[bytes, bytes], script: ScriptedKernels, wanted: Wanted) -> None:
        self._plan, self._seeds, self._script, self._wanted = plan, seeds, script, wanted
        self.masks: dict[tuple[int, int], NDArray[Any]] = {}

    def __call__(self, call: int, node: int, r: Words) -> None:
        want = self._wanted(call, node)
        if want is not None:
            self._force(call, node, r, want)
        self.masks[call, node] = r

    def _force(self, call: int, index: int, r: Words, want: Words) -> None:
        planned = self._plan.calls[call]
        node = planned.segment.graph[index]
        if not isinstance(r, np.ndarray):
            raise LocalError(f"{node.origin}: masks of a wire without dimensions cannot be chosen: give it shape (1,)")
        party = node.integer("owner") if node.op == "input" else 1
        place = self._seeds[party], planned.seed[party] + planned.segment.seed_offset[index][party]
        if node.type.kind == "bit":
            bits = np.packbits(r.astype(np.uint8).reshape(-1) ^ want.astype(np.uint8).reshape(-1), bitorder="little")
            flips = np.zeros(-(-node.type.size // 64) * 8, np.uint8)
            flips[: bits.size] = bits
            self._script.flips[place] = flips.view(U64)
        else:
            self._script.shifts[place] = (want - r).reshape(-1)
        r[...] = want
