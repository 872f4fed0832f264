"""One party of a replay: the tasks of engine/scheduler/executor.py as processes, each waiting for what its own waits
for."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from engine.scheduler.frames import FrameSpec, frames, leaving
from engine.scheduler.plan import Opening, PlannedCall
from engine.scheduler.steps import before
from engine.scheduler.timeline import Event, Timeline
from engine.scheduler.walk import walk
from simulators.events import Answer, Events, Process, Processors, Signal
from simulators.path import Span, latest
from simulators.pricing import Priced, Pricing
from simulators.tapelane import TapeLane
from simulators.wire import Message, Wire

__all__ = ["Actor", "Side"]

QUEUED = {"prepare": 8, "online": 64}
"""Frames that wait for the sender before evaluation waits for it."""
AGREED = len('{"phase":"online"}')
"""Bytes with which a party says that it is prepared."""
PHASES = ("prepare", "online")

Place = tuple[int, int]  # call, node


@dataclass(slots=True)
class Side:
    """What one party leaves behind: online seconds of evaluation, rounds, by phase payload bytes and frames sent; at
    the beginning and end of its online phase, how long its direction and the processors had been in use."""

    timeline: Timeline
    evaluated: float = 0.0
    rounds: set[int] = field(default_factory=set)
    sent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))
    frames: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))
    used: list[tuple[float, float]] = field(default_factory=list)
    last: Span | None = None


class Actor:
    """`run` is the party's process. `outward` is its direction of the link; `deliver` takes what arrives."""

    def __init__(self, events: Events, processors: Processors, pricing: Pricing, party: int, overlap: bool) -> None:
        self.side, self.party, self.overlap = Side(Timeline(events.time)), party, overlap
        self.outward: Wire
        self._events, self._processors, self._pricing = events, processors, pricing
        self._plan = pricing.plan
        self._changed = Signal()
        self._queue: deque[tuple[FrameSpec, Span]] = deque()
        self._inbox: deque[Message] = deque()
        self._missing: dict[Place, int] = {}
        self._arrived: dict[Place, Span] = {}
        self._tape = TapeLane(events, processors, pricing, party, self._event)
        self._done: dict[str, Span | None] = {}  # the last span of each lane

    def deliver(self, message: Message) -> None:
        self._inbox.append(message)
        self._changed.notify()

    def run(self) -> Process:
        """Prepare, agree that the online phase begins, and go online."""
        with self.side.timeline.phase("prepare"):
            yield from self._together(self._prepare(), self._tape.fill(), self._send("prepare"), self._receive(True))
            yield from self._agree()
        self._mark()
        with self.side.timeline.phase("online"):
            yield from self._together(
                self._tape.prefetch(), self._evaluate(), self._send("online"), self._receive(False)
            )
        self._mark()
        self.side.last = latest(*self._done.values())

    def _mark(self) -> None:
        self.side.used.append((self.outward.occupied, self._processors.used()))

    def _together(self, *processes: Process) -> Process:
        """Until all of them have ended."""
        left = [len(processes)]

        def counted(process: Process) -> Process:
            yield from process
            left[0] -= 1
            self._changed.notify()

        for process in processes:
            self._events.start(counted(process))
        while left[0]:
            yield self._changed.wait

    def _agree(self) -> Process:
        """Exchange the word that this side is prepared."""
        start = self._events.time()
        yield self._processors.job(self._pricing.frame(AGREED))
        yield from self._put(Message(None, AGREED, self._span("send", "prepared", "", start, self._done.get("send"))))
        while not self._inbox:
            yield self._changed.wait
        self._inbox.popleft()
        yield self._processors.job(self._pricing.frame(AGREED))

    # ------------------------------------------------------------------ what takes time
    def _span(self, lane: str, call: str, gate: str, start: float, cause: Span | None) -> Span:
        span = Span(lane, call, gate, self.party, start, self._events.time(), cause)
        self._done[lane] = span
        return span

    def _note(self, span: Span, round: int = 0, size: int = 0) -> None:
        self._event(Event(span.lane, span.call, span.start, span.stop, round, size))

    def _event(self, event: Event) -> None:
        self.side.timeline.events.append(event)

    # ------------------------------------------------------------------ tasks
    def _prepare(self) -> Process:
        specs, ready = deque(frames(self._plan, self.party, True)), {}
        for call in self._plan.calls:
            for opening, seconds in self._pricing.static(call.segment, self.party):
                start = self._events.time()
                yield self._processors.job(seconds, self._pricing.device.workers)
                gate = call.segment.graph[opening].gate
                span = self._span("prepare", call.call.name, gate, start, self._done.get("prepare"))
                self._note(span)
                ready[call.index, opening] = span
                self._frames(specs, ready)
                yield from self._room("prepare")

    def _evaluate(self) -> Process:
        specs: deque[FrameSpec] = deque(frames(self._plan, self.party, False))
        ready: dict[Place, Span] = {}
        for due in walk(self._plan, self.party, self.overlap):
            priced = self._pricing.steps(due.call.segment, self.party)[due.number]
            span = yield from self._step(due.call, priced)
            if due.step.opening >= 0:
                ready[due.call.index, due.step.opening] = span
                self._frames(specs, ready, barrier=not self.overlap)

    def _step(self, call: PlannedCall, priced: Priced) -> Answer[Span]:
        s, step, cause = call.segment, priced.step, self._done.get("evaluate")
        needed = [s.opening_of[index] for index in (*step.waits, *step.outputs)]
        for o in needed if self.overlap else (*before(s, step), *needed):
            cause = latest(cause, (yield from self._await(call, o)))
        yield from self._room("online")
        start = self._events.time()
        span = yield from self._tape.work(priced, call.call.name, cause)
        self._done["evaluate"] = span
        number = s.opening_of[step.opening].round if step.opening >= 0 else s.rounds
        for event in priced.events(call.call.name, call.first_round + number, start, span.stop):
            self._event(event)
        self.side.evaluated += priced.seconds
        return span

    def _await(self, call: PlannedCall, o: Opening) -> Answer[Span | None]:
        """Until the peer's message of an opening is in; gives its span."""
        place = (call.index, o.node)
        if 1 - self.party not in (*o.senders, *o.static):
            return None
        if place not in self._arrived:
            start = self._events.time()
            while place not in self._arrived:
                yield self._changed.wait
            number, gate = call.first_round + o.round, call.segment.graph[o.node].gate
            self._event(Event("wait", call.call.name, start, self._events.time(), number, o.bytes, gate))
        return self._arrived[place]

    # ------------------------------------------------------------------ the wire
    def _frames(self, specs: deque[FrameSpec], ready: dict[Place, Span], barrier: bool = False) -> None:
        """Queue the frames that may leave, in plan order."""
        for _ in range(leaving(specs, ready, barrier)):
            spec = specs.popleft()
            made = latest(*(ready[spec.call, p.node] for p in spec.parts))
            assert made is not None
            self._queue.append((spec, made))
        self._changed.notify()

    def _room(self, phase: str) -> Process:
        """Until few enough frames wait for the sender."""
        while len(self._queue) >= QUEUED[phase]:
            yield self._changed.wait

    def _send(self, phase: str) -> Process:
        for _ in frames(self._plan, self.party, phase == "prepare"):
            while not self._queue:
                yield self._changed.wait
            spec, made = self._queue.popleft()
            self._changed.notify()
            start, cause = self._events.time(), latest(made, self._done.get("send"))
            yield self._processors.job(self._pricing.frame(spec.size))
            span = self._span("send", made.call, made.gate, start, cause)
            yield from self._put(Message(spec, spec.size, span))
            self._note(span, round=spec.round, size=spec.size)
            self.side.sent[phase] += spec.size
            self.side.frames[phase] += 1
            if phase == "online":
                self.side.rounds.add(spec.round)

    def _put(self, message: Message) -> Process:
        while self.outward.full:
            yield self.outward.changed.wait
        self.outward.put(message)

    def _receive(self, static: bool) -> Process:
        for spec in frames(self._plan, 1 - self.party, static):
            while not self._inbox:
                yield self._changed.wait
            message = self._inbox.popleft()
            assert message.spec == spec, "a frame came out of order"
            start = self._events.time()
            yield self._processors.job(self._pricing.frame(spec.size))
            cause = latest(message.span, self._done.get("receive"))
            span = self._span("receive", message.span.call, message.span.gate, start, cause)
            self._note(span, round=spec.round, size=spec.size)
            self._distribute(spec, span)
            if not static:
                self.side.rounds.add(spec.round)

    def _distribute(self, spec: FrameSpec, span: Span) -> None:
        s = self._plan.calls[spec.call].segment
        for part in spec.parts:
            place = (spec.call, part.node)
            left = self._missing.get(place, s.opening_of[part.node].bytes) - (part.stop - part.start)
            self._missing[place] = left
            if left == 0:
                self._arrived[place] = span
        self._changed.notify()
