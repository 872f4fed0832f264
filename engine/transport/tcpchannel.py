"""A channel over a connected socket and the session keys of its handshake; the socket is read and written directly.

Sending: `Outgoing` seals records into one buffer, which goes to the kernel at once; when that is full, the rest follows
as it takes more. Receiving: the kernel fills one record's buffer, `Stream` decrypts from there into the message. When
the window is full of unread messages, the socket is not read, and TCP holds the peer back.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress

from engine.errors import LocalError, PeerError, RoundelayError
from engine.transport.channel import CLOSED_HERE, Buffer, Channel, ChannelOptions
from engine.transport.handshake import Session
from engine.transport.mailbox import MESSAGE_COST, Mailbox, Signal, fresh
from engine.transport.records import BATCH_BYTES, Outgoing, Stream
from engine.transport.sealed import Record

__all__ = ["TcpChannel"]

TURNS = 8
"""Batches of records that are written before others have the event loop."""
BEATS = 4
"""Heartbeats that a peer may miss."""
ABORT = struct.pack("ii", 1, 0)


class TcpChannel(Channel):
    """One peer behind a socket; `peer` is its authenticated public key. Belongs to the running event loop."""

    def __init__(self, sock: socket.socket, session: Session, options: ChannelOptions) -> None:
        super().__init__(session.peer, options)
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._window, self._linger, self._heartbeat = options.window, options.linger, options.heartbeat
        self._gone: RoundelayError | None = None
        self._unwritable: RoundelayError | None = None
        self._ended = Signal()

        self._outgoing = Outgoing(session.sealer)
        self._batch = memoryview(bytearray(BATCH_BYTES))
        self._unsent = self._batch[:0]
        self._room = Signal()
        self._awaits_writable = False
        self._spoke = False  # since the last beat

        self._incoming = Stream(session.opener, options.ceiling, session.peer)
        self._inbox = Mailbox()
        self._held = 0  # in the inbox
        self._reads = True
        self._silent = 0  # beats since the peer was last heard

        self._loop.add_reader(sock, self._readable)
        self._timer = self._loop.call_later(self._heartbeat, self._beat)

    def lower_ceiling(self, ceiling: int) -> None:
        super().lower_ceiling(ceiling)
        self._incoming.ceiling = ceiling

    async def _send_within(self, deadline: float, parts: Sequence[Buffer], size: int) -> None:
        await self._room.until(lambda: self._outgoing.held < self._window or self._unwritable is not None, deadline)
        if self._unwritable is not None:
            raise fresh(self._unwritable)
        self._outgoing.put(parts, size)
        if not self._awaits_writable:
            self._writable()

    async def _send(self, message: memoryview) -> None:
        await self._send_within(self.deadline, (message,), message.nbytes)

    async def _recv_within(self, deadline: float) -> memoryview:
        message = await self._inbox.get(deadline)
        self._held -= message.nbytes + MESSAGE_COST
        if not self._reads and self._held < self._window:
            self._read(True)
        return message

    async def _recv(self) -> memoryview:
        return await self._recv_within(self.deadline)

    async def _close(self) -> None:
        here = LocalError(CLOSED_HERE)
        self._inbox.discard(here)
        try:
            if self._unwritable is None:
                self._outgoing.sign(Record.BYE)
                self._read(True)  # what still comes is dropped; the peer's end says that it has everything
                self._writable()
                with suppress(TimeoutError):
                    await self._ended.until(lambda: self._gone is not None, self._linger)
        finally:
            self._lose(here)

    async def vanish(self) -> None:
        """Closes without a word to the peer, as a crash would: for tests of what the other side makes of it."""
        if self._gone is None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        self._lose(LocalError(CLOSED_HERE))
        await self.aclose()

    def _writable(self) -> None:
        """Seals and writes until nothing waits or the kernel takes no more."""
        try:
            for _ in range(TURNS):
                self._unsent = self._unsent or self._batch[: self._outgoing.fill(self._batch)]
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
                if not self._unsent and not self._outgoing.held:
                    break
        except BlockingIOError:
            pass
        except OSError:
            return self._give_up_writing(self._vanished())
        self._spoke = True
        self._await_writable(bool(self._unsent) or self._outgoing.held > 0)
        self._room.notify()

    def _give_up_writing(self, error: RoundelayError) -> None:
        """Nothing can be sent any more; what the peer sent before can still be read, and reading finds the end."""
        self._unwritable = error
        self._outgoing.clear()
        self._unsent = self._batch[:0]
        self._await_writable(False)
        self._room.notify()

    def _await_writable(self, wanted: bool) -> None:
        if wanted and not self._awaits_writable:
            self._loop.add_writer(self._socket, self._writable)
        elif not wanted and self._awaits_writable:
            self._loop.remove_writer(self._socket)
        self._awaits_writable = wanted

    def _readable(self) -> None:
        """Reads what is there, up to a record and its overhead, and decrypts it. More comes at the next turn of the
        loop: what this side has to send meanwhile does not wait for all that it receives."""
        try:
            count = self._socket.recv_into(self._incoming.space())
        except BlockingIOError:
            return
        except OSError:
            count = 0
        self._arrived(count)

    def _arrived(self, count: int) -> None:
        self._silent = 0
        try:
            for message in self._incoming.received(count):
                self._held += message.nbytes + MESSAGE_COST
                self._inbox.put(message)
        except PeerError as error:
            return self._lose(error)
        if self._incoming.ended:
            self._lose(PeerError(f"{self.peer} closed the channel"))
        elif not count:
            self._lose(self._vanished())
        elif self._held >= self._window and not self._closed:
            self._read(False)

    def _read(self, wanted: bool) -> None:
        """Whether the socket is read; a peer that is held back is not counted as silent."""
        if wanted and not self._reads and self._gone is None:
            self._loop.add_reader(self._socket, self._readable)
        elif not wanted and self._reads:
            self._loop.remove_reader(self._socket)
        self._reads, self._silent = wanted, 0

    def _beat(self) -> None:
        """Says that this side is there if it said nothing lately, and gives up a peer that was silent for too long."""
        self._timer = self._loop.call_later(self._heartbeat, self._beat)
        if not self._spoke and not self._unsent and self._unwritable is None:
            self._outgoing.sign(Record.BEAT)
            self._writable()
        self._spoke = False
        if not self._reads:
            return
        self._silent += 1
        if self._silent > BEATS:
            self._readable()  # this side's own loop may have been the one that was busy
        if self._silent > BEATS:
            self._lose(PeerError(f"{self.peer} vanished: silent for {BEATS * self._heartbeat:g} s"))

    def _vanished(self) -> PeerError:
        return PeerError(f"{self.peer} vanished: the connection broke")

    def _lose(self, error: RoundelayError) -> None:
        """The channel is over: what has arrived can still be received, then comes the error. The first error stays."""
        if self._gone is not None:
            return
        self._gone = error
        self._inbox.close(error)
        self._give_up_writing(error)
        self._read(False)
        self._timer.cancel()
        self._socket.close()
        self._ended.notify()
