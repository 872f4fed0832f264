"""A channel behind a slow link: delays whatever another channel carries, in either direction.

Time is the event loop's unless another clock is given, so on a virtual-time loop a second of delay costs nothing.
A real loop rounds its timers up to a millisecond, which a `real_time` channel avoids: it is late by what it takes to
wake a process, 0.1 to 0.5 ms.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from engine.errors import LocalError, PeerError, RoundelayError
from engine.transport.channel import CLOSED_HERE, FOREVER, Channel, ChannelOptions
from engine.transport.linkmodel import Link, LinkModel
from engine.transport.mailbox import Lane
from engine.transport.sleep import precise_sleep

__all__ = ["WanChannel", "real_time"]

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


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
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        options = options or ChannelOptions(limit=inner.limit, ceiling=inner.ceiling, deadline=inner.deadline)
        super().__init__(inner.peer, options)
        inner.limit = inner.ceiling  # messages are read ahead; `limit` is checked when they are taken, here
        inner.deadline = FOREVER  # it is read ahead while nobody waits
        clock = clock or asyncio.get_running_loop().time
        self.inner = inner
        self._linger = options.linger
        self._outward = _Belt(LinkModel(outward), options.window, clock, sleep)
        self._inward = _Belt(LinkModel(inward or Link()), options.window, clock, sleep)
        self._sender = asyncio.create_task(self._forward(), name=f"wan outward to {inner.peer}")
        self._reader = asyncio.create_task(self._read_ahead(), name=f"wan inward from {inner.peer}")

    def lower_ceiling(self, ceiling: int) -> None:
        super().lower_ceiling(ceiling)
        self.inner.lower_ceiling(ceiling)
        self.inner.limit = ceiling

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


def real_time(inner: Channel, outward: Link, inward: Link | None = None) -> WanChannel:
    """A channel behind a slow link in real time, as exact as this machine can."""
    return WanChannel(inner, outward, inward, clock=time.monotonic, sleep=precise_sleep)


class _Belt:
    """One direction of the link: messages come out in order, each when the model says that it has arrived."""

    def __init__(self, model: LinkModel, window: int, clock: Clock, sleep: Sleep) -> None:
        self._model = model
        self._clock, self._sleep = clock, sleep
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
            await self._sleep(wait)

    def end(self, error: RoundelayError) -> None:
        """No more messages; the news of it takes the link too."""
        self._ended = self._model.arrival(self._clock(), 0)
        self._lane.end(reader=error, writer=error)

    def drop(self, error: RoundelayError) -> None:
        """Ends at once, for both sides."""
        self._lane.drop(reader=error, writer=error)
