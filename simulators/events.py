"""Discrete events: a queue of timers, processes written as generators, and processors that running jobs share.

A process yields what it waits for: a function that is given the process's continuation and calls it once, when the
wait is over. Events of one instant happen in the order in which they were asked for, so that a simulation is the same
every time.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

__all__ = ["Answer", "Clock", "Events", "Process", "Processors", "Signal"]

Resume = Callable[[], None]
Wait = Callable[[Resume], None]
Process = Generator[Wait, None, None]
T = TypeVar("T")
Answer = Generator[Wait, None, T]
"""A part of a process that gives its caller a value."""


class Clock(Protocol):
    """What an asyncio event loop and `Events` have in common."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> object: ...


class Events:
    """A clock that jumps from event to event."""

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._soon: deque[Resume] = deque()
        self._count = 0

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> None:
        self._count += 1
        heapq.heappush(self._timers, (max(when, self._now), self._count, callback, args))

    def start(self, process: Process) -> None:
        """Run a process up to its first wait, once what runs now has waited."""

        def go_on() -> None:
            wait = next(process, None)
            if wait is not None:
                wait(resume)

        def resume() -> None:
            self._soon.append(go_on)

        resume()

    def until(self, when: float) -> Wait:
        """A wait for an instant."""
        return lambda resume: self.call_at(when, resume)

    def run(self) -> None:
        """Until nothing is left to happen."""
        while self._soon or self._timers:
            while self._soon:
                self._soon.popleft()()
            if self._timers:
                self._now, _, callback, args = heapq.heappop(self._timers)
                callback(*args)


class Signal:
    """Processes wait until something changes, then look again."""

    def __init__(self) -> None:
        self._waiting: list[Resume] = []

    def wait(self, resume: Resume) -> None:
        self._waiting.append(resume)

    def notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume()


class Processors:
    """`cores` that running jobs share evenly, none of them getting more than one: processor sharing.

    A job of s seconds alone ends after s; k > cores jobs together each run at cores / k of that speed. `weight` cores
    are taken by a job that itself runs on several threads.
    """

    def __init__(self, clock: Clock, cores: float) -> None:
        self.clock, self.cores = clock, cores
        self._busy = 0.0
        self._jobs: list[tuple[float, int, float, Resume]] = []  # progress at which it ends, number, weight, then
        self._load, self._progress, self._since, self._version = 0.0, 0.0, 0.0, 0
        self._count = 0

    def job(self, seconds: float, weight: float = 1.0) -> Wait:
        """A wait for the end of a job that begins now."""
        return lambda resume: self.begin(seconds, resume, weight)

    def begin(self, seconds: float, resume: Resume, weight: float = 1.0) -> None:
        """Begin a job; `resume` is called at its end."""
        self._advance()
        self._count += 1
        heapq.heappush(self._jobs, (self._progress + seconds, self._count, weight, resume))
        self._load += weight
        self._arrange()

    def used(self) -> float:
        """Processor seconds that jobs have taken until now."""
        self._advance()
        return self._busy

    def _rate(self) -> float:
        return min(1.0, self.cores / self._load) if self._load else 1.0

    def _advance(self) -> None:
        now = self.clock.time()
        passed = now - self._since
        self._progress += passed * self._rate()
        self._busy += passed * min(self.cores, self._load)
        self._since = now

    def _arrange(self) -> None:
        self._version += 1
        if self._jobs:
            when = self.clock.time() + (self._jobs[0][0] - self._progress) / self._rate()
            self.clock.call_at(when, self._ended, self._version)

    def _ended(self, version: int) -> None:
        if version != self._version:
            return  # another job has begun or ended meanwhile
        self._advance()
        first, _, weight, resume = heapq.heappop(self._jobs)
        self._progress = max(self._progress, first)
        self._load = self._load - weight if self._jobs else 0.0
        self._arrange()
        resume()
