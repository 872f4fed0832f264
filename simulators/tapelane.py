"""A party's tape in simulated time: read ahead in blocks within a budget, and used by the steps of the evaluation,
each going on as soon as the block that it needs next is there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from engine.scheduler.timeline import Event
from simulators.events import Answer, Clock, Process, Processors, Signal
from simulators.path import Span, latest
from simulators.pricing import Priced, Pricing

__all__ = ["TapeLane"]

PREFETCH_BYTES = 24 << 20
"""Tape held in memory ahead of its use."""


class TapeLane:
    """`prefetch` and `work` are processes, of the task that reads the tape and of the one that evaluates. What was read
    goes to `note` as events."""

    def __init__(
        self, clock: Clock, processors: Processors, pricing: Pricing, party: int, note: Callable[[Event], object]
    ) -> None:
        self._clock, self._processors, self._pricing, self._party, self._note = clock, processors, pricing, party, note
        self._room, self._left = PREFETCH_BYTES, 0
        self._blocks: deque[tuple[int, Span]] = deque()
        self._changed = Signal()
        self._used: Span | None = None  # what made room last

    def prefetch(self) -> Process:
        """Read the whole tape, block by block, as there is room."""
        before: Span | None = None
        for call, size in self._pricing.blocks(self._party):
            cause = before
            while self._room < min(size, PREFETCH_BYTES):
                yield self._changed.wait
                cause = latest(before, self._used)
            self._room -= size
            start, name = self._clock.time(), self._pricing.plan.calls[call].call.name
            yield self._processors.job(self._pricing.device.chunk(size))
            before = Span("prefetch", name, "", self._party, start, self._clock.time(), cause)
            self._note(Event("prefetch", name, start, before.stop, 0, size))
            self._blocks.append((size, before))
            self._changed.notify()

    def work(self, priced: Priced, call: str, cause: Span | None) -> Answer[Span]:
        """A step: the work between two blocks takes its share of the step's seconds. Gives the last span."""
        device, tape = self._pricing.device, priced.tape
        start, seconds = self._clock.time(), 0.0
        while tape:
            if not self._left:
                if seconds:
                    yield self._processors.job(seconds, device.workers)
                    seconds = 0.0
                if not self._blocks:
                    cause = Span("evaluate", call, priced.gate, self._party, start, self._clock.time(), cause)
                    while not self._blocks:
                        yield self._changed.wait
                    cause, start = latest(cause, self._blocks[0][1]), self._clock.time()
                self._take()
            used = min(self._left, tape)
            self._left, tape = self._left - used, tape - used
            seconds += priced.seconds * used / priced.tape
        yield self._processors.job(seconds if priced.tape else priced.seconds, device.workers)
        self._used = Span("evaluate", call, priced.gate, self._party, start, self._clock.time(), cause)
        return self._used

    def _take(self) -> None:
        size, _ = self._blocks.popleft()
        self._left, self._room = size, self._room + size
        self._changed.notify()
