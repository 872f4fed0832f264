"""What ran when: one event for everything that a party did, from an injected clock. Names and sizes only, never
values."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Event", "Timeline"]


@dataclass(frozen=True, slots=True)
class Event:
    """lane: prefetch, prepare, evaluate, send, receive or wait; start and stop in seconds of the timeline's clock."""

    lane: str
    what: str
    start: float
    stop: float
    round: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Timeline:
    """Events in order of completion. Appending is safe from worker threads."""

    clock: Callable[[], float] = time.perf_counter
    events: list[Event] = field(default_factory=list)

    @contextmanager
    def span(self, lane: str, what: str, round: int = 0, size: int = 0) -> Iterator[None]:
        start = self.clock()
        try:
            yield
        finally:
            self.events.append(Event(lane, what, start, self.clock(), round, size))

    def seconds(self, lane: str) -> float:
        """Time that a lane was busy."""
        return sum(e.stop - e.start for e in self.events if e.lane == lane)
