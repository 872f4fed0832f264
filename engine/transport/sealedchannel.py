"""Sealed records over any channel: whatever carries messages in order carries a session that nobody on the way can read
or change.

`shake` carries out the handshake in messages of the inner channel; `SealedChannel` then sends records through it, one
or more in each message, at most BATCH_BYTES long. They are sealed when the inner channel has room for them, so what
waits is bounded on both sides by the inner window, and a receiver holds one record at most that is not authenticated.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import numpy as np

from engine.errors import LocalError, PeerError, PeerRefused, RoundelayError
from engine.transport.channel import CLOSED_HERE, FOREVER, Buffer, Channel, ChannelOptions
from engine.transport.handshake import Handshake, Session
from engine.transport.mailbox import Signal, fresh
from engine.transport.records import BATCH_BYTES, Incoming, Outgoing
from engine.transport.sealed import Record

__all__ = ["SealedChannel", "feed", "shake"]

QUEUE = 4 * BATCH_BYTES
"""Bytes that may wait here for room in the inner channel before `send` waits too (one message may exceed it)."""


def feed(handshake: Handshake, message: Buffer) -> None:
    """Feeds one message. Raises PeerRefused also if it is longer than all that was due."""
    data = bytes(message)
    while data:
        if not (count := min(handshake.needed, len(data))):
            raise PeerRefused("the other side said more than the handshake has")
        handshake.feed(data[:count])
        data = data[count:]


async def shake(channel: Channel, handshake: Handshake) -> Session:
    """Carries out a handshake, or what is left of it, over a channel that is not sealed.

    Raises PeerRefused and PeerMismatch, and what the channel raises.
    """
    while True:
        if data := handshake.outgoing():
            await channel.send(data)
        if handshake.session is not None:
            return handshake.session
        message = await channel.recv(handshake.state.value)
        try:
            feed(handshake, message)
        except PeerError:
            if data := handshake.outgoing():
                await channel.send(data)
            raise


class SealedChannel(Channel):
    """Wraps `inner`, which it owns, with the session that `shake` gave. Must be made on a running loop.

    Beyond what any channel raises, a record that was altered, repeated, left out, moved, reflected or cut short is a
    PeerError, after everything that came before it, and the channel ends; so is an end without a sealed goodbye.
    """

    def __init__(self, inner: Channel, session: Session, options: ChannelOptions) -> None:
        super().__init__(session.peer, options)
        inner.limit, inner.deadline, inner.peer = BATCH_BYTES, FOREVER, session.peer
        self.inner = inner
        self._linger = options.linger
        self._queue = min(options.window, QUEUE)
        self._outgoing = Outgoing(session.sealer)
        self._incoming = Incoming(session.opener, options.ceiling, session.peer)
        self._arrived: deque[memoryview] = deque()
        self._end: RoundelayError | None = None  # what the reader meets after the last message
        self._unwritable: RoundelayError | None = None
        self._room, self._work = Signal(), Signal()
        self._sender = asyncio.create_task(self._forward(), name=f"sealed to {session.peer}")
        self._leaving: asyncio.Task[None] | None = None

    def lower_ceiling(self, ceiling: int) -> None:
        super().lower_ceiling(ceiling)
        self._incoming.ceiling = ceiling

    async def _send_within(self, deadline: float, parts: Sequence[Buffer], size: int) -> None:
        await self._room.until(lambda: self._outgoing.held < self._queue or self._unwritable is not None, deadline)
        if self._unwritable is not None:
            raise fresh(self._unwritable)
        self._outgoing.put(parts, size)
        self._work.notify()

    async def _send(self, message: memoryview) -> None:
        await self._send_within(self.deadline, (message,), message.nbytes)

    async def _forward(self) -> None:
        """Seals what waits and hands it to the inner channel, until this side has closed and nothing waits."""
        try:
            while True:
                await self._work.until(lambda: self._outgoing.held > 0 or self._closed)
                if not self._outgoing.held:
                    return
                batch = np.empty(self._outgoing.due, np.uint8).data  # the inner channel keeps it until it is sent
                used = self._outgoing.fill(batch)
                self._room.notify()
                await self.inner.send(batch[:used])
        except RoundelayError as error:
            self._give_up_writing(error)

    async def _recv(self) -> memoryview:
        while not self._arrived:
            if self._end is not None:
                raise fresh(self._end)
            try:
                batch = await self.inner.recv()
            except PeerError as error:
                self._lose(PeerError(f"{error}, without a sealed goodbye"))
            else:
                self._take_in(batch)
        return self._arrived.popleft()

    def _take_in(self, batch: memoryview) -> None:
        try:
            self._arrived.extend(self._incoming.messages(batch))
        except PeerError as error:
            return self._lose(error)
        if self._incoming.ended:
            self._lose(PeerError(f"{self.peer} closed the channel"))

    def _lose(self, error: PeerError) -> None:
        """The channel is over: what has arrived can still be received, then comes the error."""
        self._end = self._end or error
        self._give_up_writing(error)
        self._leaving = asyncio.create_task(self.inner.aclose(), name=f"leaving {self.peer}")

    def _give_up_writing(self, error: RoundelayError) -> None:
        self._unwritable = self._unwritable or error
        self._outgoing.clear()
        self._room.notify()

    async def _close(self) -> None:
        here = LocalError(CLOSED_HERE)
        self._end = here
        self._arrived.clear()
        if self._unwritable is None:
            self._outgoing.sign(Record.BYE)
        self._work.notify()
        await asyncio.wait([self._sender], timeout=self._linger)
        self._sender.cancel()
        self._give_up_writing(here)
        await asyncio.gather(self._sender, self._leaving or self.inner.aclose(), return_exceptions=True)
