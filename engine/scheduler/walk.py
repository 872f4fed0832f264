"""The steps of all calls of a plan in the order in which a party takes them.

A wire between two calls is known as soon as its own openings are in, and a step of the second call waits for the wires
that it uses only. So where a call hands over bands of rows on a wire each, the next call works on the first of them
while the others are under way. A step that completes a wire sends nothing, and takes no tape, since a wire is made of
opened values alone: it is taken when the wire is asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from engine.scheduler.plan import Plan, PlannedCall
from engine.scheduler.steps import Step, steps

__all__ = ["Due", "Wire", "walk"]

Wire = tuple[int, int]
"""A call, and which of its outputs."""


@dataclass(frozen=True, slots=True)
class Due:
    """Step `number` of a call. `takes`: inputs of the segment that it is the first to use, with the wires they are;
    `last`: the call is over after it."""

    call: PlannedCall
    number: int
    step: Step
    takes: tuple[tuple[int, Wire], ...]
    last: bool

    @property
    def gives(self) -> Wire | None:
        """The wire that is known after it."""
        return (self.call.index, self.step.wire) if self.step.wire >= 0 else None


def walk(plan: Plan, party: int, overlap: bool = True) -> Iterator[Due]:
    """All steps of a party. Without `overlap` a call is over, wires and all, before the next one begins; with it,
    wires that nobody asks for are not completed."""
    waiting: dict[int, deque[Due]] = {}

    def asked(wires: Iterator[Wire]) -> Iterator[Due]:
        for call, position in wires:
            later = waiting.get(call, ())
            while later and later[0].step.wire <= position:
                yield from taken(later.popleft())

    def taken(due: Due) -> Iterator[Due]:
        yield from asked(wire for _, wire in due.takes)
        yield due

    for call in plan.calls:
        for due in _call(call, party):
            if overlap and due.step.wire >= 0:
                waiting.setdefault(call.index, deque()).append(due)
            else:
                yield from taken(due)


def _call(call: PlannedCall, party: int) -> Iterator[Due]:
    sources = dict(zip((w.index for w in call.segment.graph.inputs()), call.call.inputs, strict=True))
    found = steps(call.segment, party)
    for number, step in enumerate(found):
        takes = tuple((w, sources[w]) for w in step.wires)
        yield Due(call, number, step, takes, number == len(found) - 1)
