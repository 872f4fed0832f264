"""What two ends of a ZeroMQ channel say to each other, and the channel that says it.

A message is a tag and at most one more frame:

    HELLO  version, window    the connecting side's first message
    READY  version, window    the answer
    DATA   payload            one message of the channel
    GRANT  bytes              the reader has taken so much
    BYE                       the channel is closed

ZeroMQ's high-water marks count messages and would let one slow reader stall its neighbours, so they are off: each side
grants the other a window in bytes instead. A sender may send while less than the window is under way; a reader returns
what it has taken when that is half a window, so an idle reader never leaves its sender without room.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable

import zmq

from engine.errors import LocalError, PeerError, PeerMismatch, RoundelayError
from engine.transport.channel import CLOSED_HERE, Buffer, Channel, ChannelOptions
from engine.transport.mailbox import MESSAGE_COST, Mailbox, Signal, Window

__all__ = ["BYE", "HELLO", "READY", "ZeromqChannel"]

VERSION = 1
HELLO, READY, DATA, GRANT, BYE = (bytes([tag]) for tag in range(1, 6))
GREETING, AMOUNT = struct.Struct("<HQ"), struct.Struct("<Q")


class ZeromqChannel(Channel):
    """One peer behind a ZeroMQ socket; `peer` is its authenticated public key.

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
        self._granted = options.window
        self._inbox = Mailbox()
        self._held = 0  # in the inbox
        self._owed = 0  # taken from it and not granted again yet
        self._window: Window | None = None  # what the peer grants, once it has greeted
        self._gone: RoundelayError | None = None
        self._changed = Signal()

    def greet(self, tag: bytes) -> None:
        """Tells the peer the version and the window that this side grants."""
        self._post([tag, GREETING.pack(VERSION, self._granted)])

    async def greeted(self) -> None:
        """Waits for the peer's greeting. Raises the error that came instead."""
        await self._changed.until(lambda: self._window is not None or self._gone is not None)
        if self._gone is not None:
            raise self._gone

    def deliver(self, tag: bytes, body: zmq.Frame | None) -> None:
        """Takes in a message from the peer; one that makes no sense ends the channel."""
        try:
            if tag == DATA and body is not None:
                self._arrived(body)
            elif tag == GRANT and body is not None and self._window is not None:
                self._window.give(*AMOUNT.unpack(body.bytes))
            elif tag in (HELLO, READY) and body is not None and self._window is None:
                self._greeting(*GREETING.unpack(body.bytes))
            elif tag == BYE:
                self.lose(PeerError(f"{self.peer} closed the channel"))
            else:
                raise ValueError
        except (ValueError, struct.error):
            self.lose(PeerError(f"{self.peer} sent a message that is not part of the channel's protocol"))

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
        if self._held >= self._granted:
            self.lose(PeerError(f"{self.peer} sent more than the granted window of {self._granted} bytes"))
            return
        message = body.buffer.toreadonly()
        self._held += message.nbytes + MESSAGE_COST
        self._inbox.put(message)

    async def _send(self, message: memoryview) -> None:
        await self.greeted()
        assert self._window is not None
        await self._window.take(message.nbytes)
        self._post([DATA, message])

    async def _recv(self) -> memoryview:
        message = await self._inbox.get()
        self._held -= message.nbytes + MESSAGE_COST
        self._owed += message.nbytes + MESSAGE_COST
        if self._owed >= self._granted // 2 and self._gone is None:
            self._post([GRANT, AMOUNT.pack(self._owed)])
            self._owed = 0
        return message

    async def _close(self) -> None:
        if self._gone is None:
            self._post([BYE])
        here = LocalError(CLOSED_HERE)
        self.lose(here)
        self._inbox.discard(here)
        await self._leave()

    async def vanish(self) -> None:
        """Closes without a word to the peer, as a crash would."""
        self.lose(LocalError(CLOSED_HERE))
        await self.aclose()
