"""A channel behind a slow link: delays whatever another channel carries, in either direction.

Time is the event loop's unless another clock is given, so on a virtual-time loop a second of delay costs nothing.
On a real loop timers round to about a millisecond: for round trips below 2 ms shape the real network instead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from engine.errors import LocalError, PeerError, RoundelayError
from engine.transport.channel import CLOSED_HERE, Channel, ChannelOptions
from engine.transport.linkmodel import Link, LinkModel
from engine.transport.mailbox import Lane

__all__ = ["WanChannel"]

Clock = Callable[[], float]

FOREVER = 1e9
"""Seconds; deadline of the inner channel, which is read ahead while nobody waits. The wrapper has its own deadline."""


class WanChannel(Channel):
    """Wraps `inner`, which it owns: outgoing messages take `outward`, incoming ones `inward` (default: no delay).

    Wrap one end with both links, or both ends with their own outward link. Must be made on a running loop.
    """

    def __init__(
        self,
        inner: Channel,
        outward: Link,
        inward: Link | None = None,
        options: ChannelOptions | None = None,
        clock: Clock | None = None,
    ) -> None:
        options = options or ChannelOptions(limit=inner.limit, ceiling=inner.ceiling, deadline=inner.deadline)
        super().__init__(inner.peer, options)
        inner.limit = inner.ceiling  # messages are read ahead; `limit` is checked when they are taken, here
        inner.deadline = FOREVER
        clock = clock or asyncio.get_running_loop().time
        self.inner = inner
        self._linger = options.linger
        self._outward = _Belt(LinkModel(outward), options.window, clock)
        self._inward = _Belt(LinkModel(inward or Link()), options.window, clock)
        self._sender = asyncio.create_task(self._forward(), name=f"wan outward to {inner.peer}")
        self._reader = asyncio.create_task(self._read_ahead(), name=f"wan inward from {inner.peer}")

    async def _send(self, message: memoryview) -> None:
        await self._outward.put(message)

    async def _recv(self) -> memoryview:
        try:
            return await self._inward.get()
        except PeerError as error:
            self._outward.drop(error)  # nobody is left to send to
            raise

    async def _close(self) -> None:
        here = LocalError(CLOSED_HERE)
        self._outward.end(here)
        self._inward.drop(here)
        await asyncio.wait([self._sender], timeout=self._linger)
        for task in (self._sender, self._reader):
            task.cancel()
        await asyncio.gather(self._sender, self._reader, return_exceptions=True)
        await self.inner.aclose()

    async def _forward(self) -> None:
        try:
            while True:
                await self.inner.send(await self._outward.get())
        except RoundelayError as error:
            self._outward.drop(error)

    async def _read_ahead(self) -> None:
        try:
            while True:
                await self._inward.put(await self.inner.recv())
        except RoundelayError as error:
            self._inward.end(error)


class _Belt:
    """One direction of the link: messages come out in order, each when the model says that it has arrived."""

    def __init__(self, model: LinkModel, window: int, clock: Clock) -> None:
        self._model = model
        self._clock = clock
        self._lane = Lane(window)
        self._arrivals: deque[float] = deque()
        self._due: tuple[float, memoryview] | None = None  # taken off the lane, still on its way
        self._ended = 0.0

    async def put(self, message: memoryview) -> None:
        await self._lane.put(message)
        self._arrivals.append(self._model.arrival(self._clock(), message.nbytes))

    async def get(self) -> memoryview:
        try:
            time, message = self._due = self._due or await self._next()
        except RoundelayError:
            await self._until(self._ended)
            raise
        await self._until(time)
        self._due = None
        return message

    async def _next(self) -> tuple[float, memoryview]:
        message = await self._lane.get()
        return self._arrivals.popleft(), message

    async def _until(self, time: float) -> None:
        if (wait := time - self._clock()) > 0:
            await asyncio.sleep(wait)

    def end(self, error: RoundelayError) -> None:
        """No more messages; the news of it takes the link too."""
        self._ended = self._model.arrival(self._clock(), 0)
        self._lane.end(reader=error, writer=error)

    def drop(self, error: RoundelayError) -> None:
        """Ends at once, for both sides."""
        self._lane.drop(reader=error, writer=error)
