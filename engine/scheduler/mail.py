"""What crosses between evaluation and link: messages of openings on their way out, cut into frames, and those that
come in, put together again. The evaluation runs on a thread of its own or on the loop, the link on the loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.scheduler.frames import FrameSpec, leaving
from engine.scheduler.plan import Opening
from engine.scheduler.shelf import EMPTY
from engine.transport.mailbox import Signal

__all__ = ["Inbox", "Outbox", "Place"]

Bytes = NDArray[np.uint8]
Place = tuple[int, int]  # call, node
Work = tuple[FrameSpec, list[memoryview]]


class Outbox:
    """Messages in, frames out, in plan order: each is queued as soon as it is whole, with a `barrier` as soon as all of
    its round are. `full` says that `most` frames or more wait for the sender: evaluation then waits too."""

    def __init__(self, specs: Iterable[FrameSpec], most: int, barrier: bool = False) -> None:
        self._specs, self._most, self._barrier = deque(specs), most, barrier
        self._ready: dict[Place, Bytes] = {}
        self._queue: deque[Work] = deque()
        self._work, self._room = Signal(), Signal()
        self.left = len(self._specs)
        """Frames that `take` has yet to give."""

    @property
    def full(self) -> bool:
        return len(self._queue) >= self._most

    def put(self, call: int, node: int, message: Bytes) -> None:
        """A message, from where steps are evaluated."""
        self._ready[call, node] = message
        for _ in range(leaving(self._specs, self._ready, self._barrier)):
            self._queue.append(self._cut(self._specs.popleft()))
        if self._queue:
            self._work.notify()

    def _cut(self, spec: FrameSpec) -> Work:
        views = [self._ready[spec.call, p.node].data[p.start : p.stop] for p in spec.parts]
        for p in spec.parts:
            if p.stop == self._ready[spec.call, p.node].size:
                del self._ready[spec.call, p.node]
        return spec, views

    async def room(self) -> None:
        """Until it is not full."""
        await self._room.until(lambda: not self.full)

    async def take(self) -> Work:
        """The next frame."""
        await self._work.until(lambda: bool(self._queue))
        self.left -= 1
        work = self._queue.popleft()
        self._room.notify()
        return work


@dataclass(slots=True)
class _Message:
    """The peer's message of one opening, as it fills."""

    missing: int
    data: Bytes = field(default_factory=lambda: EMPTY, repr=False)

    def take(self, piece: Bytes, start: int) -> None:
        """A message that comes in one piece is not copied."""
        if piece.size == self.missing and not self.data.size:
            self.data = piece
        else:
            if not self.data.size:
                self.data = np.empty(self.missing, np.uint8)
            self.data[start : start + piece.size] = piece
        self.missing -= piece.size


class Inbox:
    """Frames in, messages out."""

    def __init__(self) -> None:
        self._messages: dict[Place, _Message] = {}
        self._whole: set[Place] = set()
        self._changed = Signal()

    def put(self, spec: FrameSpec, payload: memoryview, openings: Mapping[int, Opening]) -> None:
        """A frame, from the loop; `openings` of its segment by node."""
        at, data = 0, np.frombuffer(payload, np.uint8)
        for part in spec.parts:
            place, size = (spec.call, part.node), part.stop - part.start
            if place not in self._messages:
                self._messages[place] = _Message(openings[part.node].bytes)
            message = self._messages[place]
            message.take(data[at : at + size], part.start)
            at += size
            if message.missing == 0:
                self._whole.add(place)
        self._changed.notify()

    def has(self, place: Place) -> bool:
        """Whether this message is in, or was and is taken."""
        return place in self._whole

    async def until(self, place: Place) -> None:
        """Until this message is in."""
        await self._changed.until(lambda: place in self._whole)

    def take(self, place: Place) -> Bytes | None:
        """A message that is in, where steps are evaluated; None if the peer sends none."""
        message = self._messages.pop(place, None)
        return None if message is None else message.data
