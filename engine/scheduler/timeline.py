"""What ran when: one event for everything that a party did, from an injected clock. Names and sizes only, never
values."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["LANES", "Event", "Stretch", "Timeline"]

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

    @contextmanager
    def span(self, lane: str, what: str, round: int = 0, size: int = 0, gate: str = "") -> Iterator[None]:
        start = self._begin(lane, what, round)
        try:
            yield
        finally:
            self._end(Event(lane, what, start, self.clock(), round, size, gate))

    @contextmanager
    def stretch(self, lane: str, what: str, round: int) -> Iterator[Stretch]:
        """A span that is cut where the work passes from one gate to another: an event for each."""
        stretch = Stretch(self, lane, what, round, self._begin(lane, what, round))
        try:
            yield stretch
        finally:
            stretch.close()

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

    def _begin(self, lane: str, what: str, round: int) -> float:
        self.active[lane] = what, round
        return self.clock()

    def _end(self, event: Event) -> None:
        self.events.append(event)
        self.active.pop(event.lane, None)


@dataclass(slots=True)
class Stretch:
    """What `Timeline.stretch` gives: tell it whose work comes next."""

    timeline: Timeline
    lane: str
    what: str
    round: int
    start: float
    gate: str = ""

    def next(self, gate: str) -> None:
        """From now on the work is this gate's."""
        if gate != self.gate:
            if self.gate:
                self._cut()
            self.gate = gate

    def close(self) -> None:
        self._cut()
        self.timeline.active.pop(self.lane, None)

    def _cut(self) -> None:
        now = self.timeline.clock()
        self.timeline.events.append(Event(self.lane, self.what, self.start, now, self.round, 0, self.gate))
        self.start = now
