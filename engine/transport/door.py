"""The listener's side of letting peers in: strangers shake hands, several at a time, and those that are listed arrive.

Each stranger has a deadline and a few bytes of memory; one that comes when too many are under way displaces the oldest.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable

from engine.errors import LocalError, PeerError, PeerMismatch, PeerRefused, PeerTimeout
from engine.transport.channel import Channel, ChannelOptions, Listener, patience
from engine.transport.mailbox import Signal

__all__ = ["STRANGERS", "Door", "handshake_seconds"]

STRANGERS = 64
"""Handshakes under way at a time."""
HANDSHAKE_SECONDS = 10.0
LISTENER_CLOSED = "the listener was closed by this side"


def handshake_seconds(options: ChannelOptions) -> float:
    """How long a stranger may take."""
    return min(options.deadline, HANDSHAKE_SECONDS)


class Door(Listener):
    """Accepts listed peers, one after another and at the same time. A transport says when somebody knocks and how the
    handshake goes (`_knock`), and how the place is given up (`_shut`)."""

    def __init__(self, address: str, options: ChannelOptions) -> None:
        self.address = address
        self._patience = handshake_seconds(options)
        self._strangers: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._arrived: deque[Channel] = deque()
        self._changed = Signal()
        self._refusals = 0
        self._open = True

    async def accept(self, deadline: float | None = None) -> Channel:
        if deadline is None:
            return await self._next()
        refusals = self._refusals
        try:
            async with patience(deadline, f"a listed peer at {self.address}"):
                return await self._next()
        except PeerTimeout as error:
            if refused := self._refusals - refusals:
                raise PeerRefused(f"{error}, while {refused} connections failed the handshake: wrong keys") from None
            raise

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            self._changed.notify()
            tasks = list(self._strangers)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._shut()
            while self._arrived:
                await self._arrived.popleft().aclose()

    async def _next(self) -> Channel:
        await self._changed.until(lambda: bool(self._arrived) or not self._open)
        if not self._open:
            raise LocalError(LISTENER_CLOSED)
        return self._arrived.popleft()

    def _knock(self, shake: Callable[[], Awaitable[Channel]]) -> None:
        """Somebody is there: `shake` carries out the handshake and gives the channel, or closes and raises."""
        if len(self._strangers) >= STRANGERS:
            next(iter(self._strangers)).cancel()
        task = asyncio.get_running_loop().create_task(self._admit(shake))
        self._strangers[task] = None
        task.add_done_callback(self._strangers.pop)

    async def _admit(self, shake: Callable[[], Awaitable[Channel]]) -> None:
        try:
            async with asyncio.timeout(self._patience):
                channel = await shake()
        except (PeerRefused, PeerMismatch):
            self._refusals += 1
        except (OSError, TimeoutError, PeerError):  # gone, or silent: that says nothing about keys
            pass
        else:
            self._arrived.append(channel)
            self._changed.notify()

    @abstractmethod
    async def _shut(self) -> None:
        """Lets nobody knock any more; accepted channels stay open."""
