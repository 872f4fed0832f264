"""One direction of a simulated link: the window of a channel, the link model, and what is under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from engine.scheduler.frames import FrameSpec
from engine.transport.framing import HEADER_BYTES
from engine.transport.linkmodel import LinkModel
from simulators.events import Events, Signal
from simulators.path import Span

__all__ = ["Message", "Wire"]

WINDOW = 16 << 20
MESSAGE_COST = 64
"""Of a channel: bytes under way before `send` waits, and what a message counts for besides its own."""


@dataclass(frozen=True, slots=True)
class Message:
    """A frame, or without one the word that its sender is prepared; and how it came to its place."""

    spec: FrameSpec | None
    size: int
    span: Span


class Wire:
    """As engine/transport/wan.py: messages queue for the wire, and come out when the model says that they have arrived,
    `late` seconds after it where they had to be waited for."""

    def __init__(self, events: Events, model: LinkModel, late: float, deliver: Callable[[Message], None]) -> None:
        self.model, self.changed = model, Signal()
        self.held, self.occupied = 0, 0.0
        self._events, self._late, self._deliver = events, late, deliver
        self._belt: deque[tuple[float, Message]] = deque()
        self._moving = False
        self._transmitted: Span | None = None

    @property
    def full(self) -> bool:
        return self.held >= WINDOW

    def put(self, message: Message) -> None:
        """Take a message that has room."""
        self.held += message.size + HEADER_BYTES + MESSAGE_COST
        arrival, span = self._travel(message)
        self._belt.append((arrival, Message(message.spec, message.size, span)))
        self._next()

    def _travel(self, message: Message) -> tuple[float, Span]:
        now, free = self._events.time(), self.model.free
        arrival = self.model.arrival(now, message.size + HEADER_BYTES)
        sent, begin = message.span, max(now, free)
        self.occupied += self.model.free - begin
        cause = self._transmitted if free > now else sent
        on_wire = Span("transmit", sent.call, sent.gate, sent.party, begin, self.model.free, cause)
        self._transmitted = on_wire
        return arrival, Span("delay", sent.call, sent.gate, sent.party, self.model.free, arrival, on_wire)

    def _next(self) -> None:
        """The first message leaves the window as soon as nothing is before it."""
        if self._moving or not self._belt:
            return
        self._moving = True
        arrival, message = self._belt.popleft()
        self.held -= message.size + HEADER_BYTES + MESSAGE_COST
        self.changed.notify()
        wait = arrival > self._events.time()
        self._events.call_at(arrival + self._late * wait, self._arrived, message)

    def _arrived(self, message: Message) -> None:
        self._moving = False
        self._deliver(message)
        self._next()
