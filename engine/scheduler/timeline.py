"""What ran when: one event for everything that a party did, from an injected clock. Names and sizes only, never
values."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

__all__ = ["LANES", "Event", "Span", "Stretch", "Timeline"]

LANES = ("prepare", "prefetch", "evaluate", "wait", "send", "receive")
"""What a party does at the same time. One lane is one task: its events follow one another."""


@dataclass(frozen=True, slots=True)
class Event:
    """lane: one of LANES; start and stop in seconds of the timeline's clock; `what`: the call; `gate`: the file of
    gates whose work it was, where it was a gate's."""

    lane: str
    what: str
    start: float
    stop: float
    round: int = 0
    bytes: int = 0
    gate: str = ""


@dataclass(slots=True)
class Timeline:
    """Events in order of completion; when each phase began and ended; `active`: what each lane is doing now.

    Appending is safe from worker threads."""

    clock: Callable[[], float] = time.perf_counter
    events: list[Event] = field(default_factory=list)
    phases: dict[str, tuple[float, float]] = field(default_factory=dict)
    active: dict[str, tuple[str, int]] = field(default_factory=dict)

    def span(self, lane: str, what: str, round: int = 0, size: int = 0, gate: str = "") -> Span:
        """A context: one event, also if it fails."""
        return Span(self, lane, what, round, size, gate)

    def stretch(self, lane: str, what: str, round: int) -> Stretch:
        """A span that is cut where the work passes from one gate to another: an event for each."""
        return Stretch(self, lane, what, round)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """`prepare` or `online`, as a whole."""
        start = self.clock()
        try:
            yield
        finally:
            self.phases[name] = start, self.clock()

    def seconds(self, lane: str) -> float:
        """Time that a lane was busy."""
        return sum(e.stop - e.start for e in self.events if e.lane == lane)


@dataclass(slots=True)
class Span:
    """What `Timeline.span` gives."""

    timeline: Timeline
    lane: str
    what: str
    round: int
    size: int = 0
    gate: str = ""
    start: float = 0.0

    def __enter__(self) -> Self:
        self.timeline.active[self.lane] = self.what, self.round
        self.start = self.timeline.clock()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self.cut()
        self.timeline.active.pop(self.lane, None)

    def cut(self) -> None:
        """An event up to now."""
        now = self.timeline.clock()
        self.timeline.events.append(Event(self.lane, self.what, self.start, now, self.round, self.size, self.gate))
        self.start = now


class Stretch(Span):
    """What `Timeline.stretch` gives: tell it whose work comes next."""

    __slots__ = ()

    def next(self, gate: str) -> None:
        """From now on the work is this gate's."""
        if gate != self.gate:
            if self.gate:
                self.cut()
            self.gate = gate
