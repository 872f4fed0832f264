"""A party's tape in simulated time, as engine/scheduler/shelf.py has it: read ahead in blocks within a budget, and used
by the steps of the evaluation. A step that needs a block which is not there yet reads it itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from engine.scheduler.pieces import PREFETCH_BYTES, PREPARE_BYTES
from engine.scheduler.timeline import Event
from simulators.events import Answer, Clock, Process, Processors, Signal
from simulators.path import Span, latest
from simulators.pricing import Priced, Pricing

__all__ = ["TapeLane"]


class TapeLane:
    """`fill`, `prefetch` and `work` are processes: of the prepare phase, of the task that reads ahead, and of the one
    that evaluates. What was read goes to `note` as events."""

    def __init__(
        self, clock: Clock, processors: Processors, pricing: Pricing, party: int, note: Callable[[Event], object]
    ) -> None:
        self._clock, self._processors, self._pricing, self._party, self._note = clock, processors, pricing, party, note
        self._plan = deque(pricing.blocks(party))
        self._ready: deque[tuple[int, Span]] = deque()
        self._held, self._left = 0, 0
        self._reading = False
        self._changed = Signal()
        self._read: Span | None = None  # what was read last
        self._used: Span | None = None  # what was evaluated last, and so made room

    def fill(self) -> Process:
        """Read as much as the prepare phase may."""
        while self._fits(PREPARE_BYTES):
            yield from self._fetch(self._read)

    def prefetch(self) -> Process:
        """Read the rest, as there is room."""
        while self._plan:
            cause = self._read
            while self._plan and not self._fits(PREFETCH_BYTES):
                yield self._changed.wait
                cause = latest(self._read, self._used)
            yield from self._fetch(cause)

    def _fits(self, budget: int) -> bool:
        return bool(self._plan) and (self._held == 0 or self._held + self._plan[0][1] <= budget)

    def _fetch(self, cause: Span | None, if_empty: bool = False) -> Process:
        """Read the next block, if there is one; one at a time."""
        while self._reading:
            yield self._changed.wait
        if not self._plan or (if_empty and self._ready):
            return
        self._reading, (call, size) = True, self._plan[0]
        start, name = self._clock.time(), self._pricing.plan.calls[call].call.name
        yield self._processors.job(self._pricing.device.chunk(size))
        self._read = Span("prefetch", name, "", self._party, start, self._clock.time(), cause)
        self._note(Event("prefetch", name, start, self._read.stop, 0, size))
        self._plan.popleft()
        self._ready.append((size, self._read))
        self._held, self._reading = self._held + size, False
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
                if not self._ready:
                    cause = Span("evaluate", call, priced.gate, self._party, start, self._clock.time(), cause)
                    yield from self._fetch(cause, if_empty=True)
                    cause, start = latest(cause, self._ready[0][1]), self._clock.time()
                self._take()
            used = min(self._left, tape)
            self._left, tape = self._left - used, tape - used
            seconds += priced.seconds * used / priced.tape
        yield self._processors.job(seconds if priced.tape else priced.seconds, device.workers)
        self._used = Span("evaluate", call, priced.gate, self._party, start, self._clock.time(), cause)
        return self._used

    def _take(self) -> None:
        size, _ = self._ready.popleft()
        self._left, self._held = size, self._held - size
        self._changed.notify()
