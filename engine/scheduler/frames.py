"""Frames: the units of transport. Large openings are cut, small ones that are ready together travel together; both
sides know the cut.

A frame holds whole or partial messages of openings of one round, in the order of evaluation, so that packing, sealing
and the wire overlap with the evaluation of what comes after. Openings that wait for different ones are not held up for
one another: those of a band of rows leave while the next band is evaluated.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from engine.scheduler.plan import Opening, Plan, PlannedCall, Segment

__all__ = ["FrameSpec", "Part", "frames", "leaving"]

GATHER_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes [start, stop) of the message of an opening."""

    node: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """One frame: its round in the run, its number within that round, direction and phase, and what it holds."""

    call: int
    round: int
    index: int
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        return sum(p.stop - p.start for p in self.parts)


def frames(plan: Plan, sender: int, static: bool) -> Iterator[FrameSpec]:
    """All frames of one direction and phase, in the order in which they are sent."""
    for call in plan.calls:
        yield from _call_frames(call, sender, static, plan.program.variants.frame)


def _call_frames(call: PlannedCall, sender: int, static: bool, most: int) -> Iterator[FrameSpec]:
    rounds: dict[int, list[Opening]] = {}
    for o in call.segment.openings:
        if sender in (o.static if static else o.senders):
            rounds.setdefault(o.round, []).append(o)
    sources = _sources(call.segment)
    for number in sorted(rounds):
        together = groupby(rounds[number], lambda o: None if static else sources[o.node])
        for index, parts in enumerate(parts for _, group in together for parts in _cut(group, most)):
            yield FrameSpec(call.index, call.first_round + number, index, tuple(parts))


@lru_cache(maxsize=64)
def _sources(segment: Segment) -> dict[int, frozenset[int]]:
    """Of every opening, the wires that it waits for: the segment's own, and the openings before it."""
    waits: dict[int, frozenset[int]] = {}
    reached: list[frozenset[int]] = []
    for node in segment.graph:
        above = frozenset[int]().union(*(reached[i] for i in node.inputs))
        if node.opening:
            waits[node.index] = above
        reached.append(frozenset((node.index,)) if node.opening or node.op == "wire" else above)
    return waits


def _cut(openings: Iterable[Opening], most: int) -> Iterator[list[Part]]:
    """Openings of at most GATHER_BYTES together in a frame, larger ones in frames of `most` bytes."""
    gathered: list[Part] = []
    size = 0
    for o in openings:
        if size and size + o.bytes > GATHER_BYTES:
            yield gathered
            gathered, size = [], 0
        if o.bytes <= GATHER_BYTES:
            gathered.append(Part(o.node, 0, o.bytes))
            size += o.bytes
            continue
        for start in range(0, o.bytes, most):
            yield [Part(o.node, start, min(start + most, o.bytes))]
    if gathered:
        yield gathered


def leaving(specs: Iterable[FrameSpec], ready: Container[tuple[int, int]], barrier: bool) -> int:
    """How many of the next frames may leave now that these messages, (call, node), are ready: those that are whole,
    in order. With a barrier none of a round leaves before all of it can."""
    whole = in_round = number = 0
    for spec in specs:
        if spec.round != number:
            number, in_round = spec.round, 0
        if not all((spec.call, part.node) in ready for part in spec.parts):
            return whole - in_round if barrier else whole
        whole, in_round = whole + 1, in_round + 1
    return whole
