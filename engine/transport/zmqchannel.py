"""What two ends of a ZeroMQ channel say to each other, and the channel that says it; nothing here is secret or sealed.

A message of one frame is one message of the channel. All else has two, a tag and a body:

    HELLO  version, window    the connecting side's first message
    READY  version, window    the answer
    GRANT  bytes              the reader has taken so much, or has more room
    BYE    nothing            the channel is closed; a peer that has not closed answers with the same

ZeroMQ's high-water marks count messages and would let one slow reader stall its neighbours, so each side grants the
other a window in bytes instead: a small one first, enough for a handshake, and the whole once that has succeeded. A
sender may send while less than the window is under way; a reader returns what it has taken when that is half a window,
so an idle reader never leaves its sender without room.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import zmq

from engine.errors import LocalError, PeerError, PeerMismatch, RoundelayError
from engine.transport.channel import CLOSED_HERE, Buffer, Channel, ChannelOptions, joined
from engine.transport.mailbox import MESSAGE_COST, Mailbox, Signal, Window

__all__ = ["BYE", "HELLO", "READY", "ZeromqChannel"]

VERSION = 2
FIRST_WINDOW = 1024
HELLO, READY, GRANT, BYE = (bytes([tag]) for tag in range(1, 5))
GREETING, AMOUNT = struct.Struct("<HQ"), struct.Struct("<Q")


class ZeromqChannel(Channel):
    """One peer behind a ZeroMQ socket.

    `post` queues frames for the peer, `leave` gives up this channel's share of the socket.
    """

    def __init__(
        self,
        peer: str,
        options: ChannelOptions,
        post: Callable[[list[Buffer]], None],
        leave: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(peer, options)
        self._post = post
        self._leave = leave
        self._linger = options.linger
        self._room = options.window
        self._granted = min(FIRST_WINDOW, options.window)
        self._inbox = Mailbox()
        self._held = 0  # in the inbox
        self._owed = 0  # taken from it and not granted again yet
        self._window: Window | None = None  # what the peer grants, once it has greeted
        self._gone: RoundelayError | None = None
        self._changed = Signal()

    def greet(self, tag: bytes) -> None:
        """Tells the peer the version and the window that this side grants."""
        self._post([tag, GREETING.pack(VERSION, self._granted)])

    def widen(self) -> None:
        """Grants the whole window: the peer is who it should be."""
        self._post([GRANT, AMOUNT.pack(self._room - self._granted)])
        self._granted = self._room

    async def greeted(self) -> None:
        """Waits for the peer's greeting. Raises the error that came instead."""
        await self._changed.until(lambda: self._window is not None or self._gone is not None)
        if self._gone is not None:
            raise self._gone

    def deliver(self, frames: list[zmq.Frame]) -> None:
        """Takes in a message from the peer; one that makes no sense ends the channel."""
        try:
            if len(frames) == 1:
                self._arrived(frames[0])
            else:
                self._control(*(frame.bytes for frame in frames))
        except (TypeError, ValueError, struct.error):
            self.lose(PeerError(f"{self.peer} sent a message that is not part of the channel's protocol"))

    def _control(self, tag: bytes, body: bytes) -> None:
        if tag == GRANT and self._window is not None:
            self._window.give(*AMOUNT.unpack(body))
        elif tag in (HELLO, READY) and self._window is None:
            self._greeting(*GREETING.unpack(body))
        elif tag == BYE and not body:
            if not self._closed and self._gone is None:
                self._post([BYE, b""])  # says that all before it has arrived
            self.lose(PeerError(f"{self.peer} closed the channel"))
        else:
            raise ValueError

    def lose(self, error: RoundelayError) -> None:
        """The peer is gone: what has arrived can still be received, then comes the error. The first error stays."""
        self._gone = self._gone or error
        self._inbox.close(self._gone)
        if self._window is not None:
            self._window.close(self._gone)
        self._changed.notify()

    def _greeting(self, version: int, window: int) -> None:
        if version != VERSION:
            self.lose(PeerMismatch(f"{self.peer} speaks version {version} of the channel, this side version {VERSION}"))
        self._window = Window(window)
        self._changed.notify()

    def _arrived(self, body: zmq.Frame) -> None:
        if self._closed:
            return
        if self._held >= self._granted:
            self.lose(PeerError(f"{self.peer} sent more than the granted window of {self._granted} bytes"))
            return
        message = body.buffer.toreadonly()
        self._held += message.nbytes + MESSAGE_COST
        self._inbox.put(message)

    async def _send_within(self, deadline: float, parts: Sequence[Buffer], size: int) -> None:
        assert self._window is not None, "a channel is used once it is greeted"
        await self._window.take(size, deadline)
        self._post([joined(parts)])

    async def _send(self, message: memoryview) -> None:
        await self._send_within(self.deadline, (message,), message.nbytes)

    async def _recv(self) -> memoryview:
        return await self._recv_within(self.deadline)

    async def _recv_within(self, deadline: float) -> memoryview:
        message = await self._inbox.get(deadline)
        self._held -= message.nbytes + MESSAGE_COST
        self._owed += message.nbytes + MESSAGE_COST
        if self._owed >= self._granted // 2 and self._gone is None:
            self._post([GRANT, AMOUNT.pack(self._owed)])
            self._owed = 0
        return message

    async def _close(self) -> None:
        here = LocalError(CLOSED_HERE)
        self._inbox.discard(here)
        if self._window is not None:
            self._window.close(here)
        if self._gone is None:
            self._post([BYE, b""])
            with suppress(TimeoutError):
                await self._changed.until(lambda: self._gone is not None, self._linger)
        self.lose(here)
        await self._leave()

    async def vanish(self) -> None:
        """Closes without a word to the peer, as a crash would."""
        self.lose(LocalError(CLOSED_HERE))
        await self.aclose()
