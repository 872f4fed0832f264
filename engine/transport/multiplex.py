"""Many conversations over one channel: each stream is a channel of its own, and what is ready at once travels together.

A message of the inner channel is a bundle of entries, each a header of 12 bytes and, for DATA, its payload:

    stream u32   kind u32   length u32      little-endian

OPEN begins a stream, DATA carries one of its messages, END says that its sender closed it. The side that connected
opens even streams, the other odd ones, in rising order. While the inner channel is busy, entries gather: requests that
run side by side share its round trips and its messages.

The streams share one window: a reader that leaves its messages lying holds up those of its neighbours, until its
deadline ends it. So every stream is to be read by a task of its own, as executors do.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from enum import IntEnum

from engine.errors import LocalError, PeerError, RoundelayError
from engine.transport.channel import CLOSED_HERE, FOREVER, Buffer, Channel, ChannelOptions, Listener, patience
from engine.transport.mailbox import MESSAGE_COST, Mailbox, Signal, Window, fresh

__all__ = ["MOST_STREAMS", "Multiplexer", "StreamChannel"]

HEADER = struct.Struct("<III")
BUNDLE_BYTES = 1 << 18
"""A bundle gathers no further entry once it has this many bytes."""
MOST_STREAMS = 64
"""Open at once, from either side."""
CLOSED_BY_PEER = "the other side closed this stream"


class Entry(IntEnum):
    """What an entry does to its stream."""

    OPEN = 1
    DATA = 2
    END = 3


class Multiplexer(Listener):
    """Streams over `inner`, which it owns. `open` begins one, `accept` gives those that the peer begins.

    `connector` says which side this is; the two sides must differ. Options are those of every stream; their ceiling
    goes down to `inner`, so that a message that no stream may have is refused before it is buffered. `bundles` and
    `entries` count what was sent: entries / bundles is how many messages shared one of the channel's. Must be made on
    a running loop.
    """

    def __init__(self, inner: Channel, connector: bool, options: ChannelOptions | None = None) -> None:
        options = options or ChannelOptions(limit=inner.limit, ceiling=inner.ceiling, deadline=inner.deadline)
        most = min(options.ceiling, inner.ceiling - HEADER.size)
        self._options = replace(options, limit=min(options.limit, most), ceiling=most)
        inner.lower_ceiling(min(max(most, BUNDLE_BYTES) + HEADER.size, inner.ceiling))
        inner.limit = inner.ceiling  # a stream's own limit is checked when its message is taken
        inner.deadline = FOREVER  # it is read ahead while nobody waits
        self.inner, self.address = inner, inner.peer
        self.bundles = self.entries = 0
        self._next, self._theirs = (0, 1) if connector else (1, 0)
        self._streams: dict[int, StreamChannel] = {}
        self._arrived: deque[StreamChannel] = deque()
        self._arrival, self._room, self._work = Signal(), Signal(), Signal()
        self._held = 0  # unread bytes of all streams
        self._waiting: deque[tuple[StreamChannel, Entry, Buffer]] = deque()
        self._gone: RoundelayError | None = None
        self._tasks = [
            asyncio.create_task(work, name=f"streams of {inner.peer}") for work in (self._send(), self._read())
        ]

    async def open(self) -> StreamChannel:
        """A new stream to the peer. Raises LocalError when too many are open, or what ended the channel."""
        if self._gone is not None:
            raise fresh(self._gone)
        if len(self._streams) >= MOST_STREAMS:
            raise LocalError(f"{MOST_STREAMS} streams are open on one channel: end one first")
        stream = self._stream(self._next)
        self._next += 2
        self.put(stream, Entry.OPEN)
        return stream

    async def accept(self, deadline: float | None = None) -> StreamChannel:
        async with patience(deadline or FOREVER, f"a stream from {self.inner.peer}"):
            await self._arrival.until(lambda: bool(self._arrived) or self._gone is not None)
        if not self._arrived:
            assert self._gone is not None
            raise fresh(self._gone)
        return self._arrived.popleft()

    async def aclose(self) -> None:
        """Closes every stream and then the channel."""
        for stream in list(self._streams.values()):
            await stream.aclose()
        self._end(LocalError(CLOSED_HERE))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.inner.aclose()

    # ------------------------------------------------------------------ for the streams
    def put(self, stream: StreamChannel, kind: Entry, payload: Buffer = b"") -> None:
        """Appends an entry to the next bundle."""
        self._waiting.append((stream, kind, payload))
        stream.unsent += 1
        self._work.notify()

    def taken(self, cost: int) -> None:
        """`cost` bytes that were held are read: there is room for more."""
        self._held -= cost
        self._room.notify()

    def forget(self, number: int) -> None:
        """The stream is closed on this side: what still comes for it is dropped."""
        self._streams.pop(number, None)

    # ------------------------------------------------------------------ the inner channel
    def _stream(self, number: int) -> StreamChannel:
        stream = self._streams[number] = StreamChannel(self, number, self._options)
        return stream

    async def _send(self) -> None:
        try:
            while True:
                await self._work.until(lambda: bool(self._waiting))
                bundle = list(self._bundle())
                headers = (HEADER.pack(stream.number, kind, len(payload)) for stream, kind, payload in bundle)
                await self.inner.send(*(part for h, (_, _, p) in zip(headers, bundle, strict=True) for part in (h, p)))
                self.bundles, self.entries = self.bundles + 1, self.entries + len(bundle)
                for stream, kind, payload in bundle:
                    stream.sent_on(len(payload) + MESSAGE_COST if kind is Entry.DATA else 0)
        except RoundelayError as error:
            self._end(error)

    def _bundle(self) -> Iterator[tuple[StreamChannel, Entry, Buffer]]:
        """What waits, up to BUNDLE_BYTES, one entry at least."""
        size = 0
        while self._waiting and (not size or size + len(self._waiting[0][2]) <= BUNDLE_BYTES):
            size += HEADER.size + len(self._waiting[0][2])
            yield self._waiting.popleft()

    async def _read(self) -> None:
        try:
            while True:
                await self._room.until(lambda: self._held < self._options.window)
                self._take(await self.inner.recv("a message of any stream"))
        except RoundelayError as error:
            self._end(error)

    def _take(self, bundle: memoryview) -> None:
        """Hands every entry to its stream. Raises PeerError for what is not a bundle."""
        at = 0
        while at < bundle.nbytes:
            if bundle.nbytes - at < HEADER.size:
                raise self._garbled()
            number, kind, length = HEADER.unpack_from(bundle, at)
            at += HEADER.size
            if length > bundle.nbytes - at or (length and kind != Entry.DATA):
                raise self._garbled()
            if length > self._options.ceiling:
                raise PeerError(f"{self.address} sent {length} bytes where at most {self._options.ceiling} are allowed")
            self._entry(number, kind, bundle[at : at + length])
            at += length

    def _entry(self, number: int, kind: int, payload: memoryview) -> None:
        if kind == Entry.OPEN:
            return self._opened(number)
        stream = self._streams.get(number)
        if kind == Entry.DATA:
            if stream is not None and not stream.closed:
                self._held += payload.nbytes + MESSAGE_COST
                stream.arrived(payload)
        elif kind == Entry.END:
            if stream is not None:
                stream.ended(PeerError(CLOSED_BY_PEER))
        else:
            raise self._garbled()

    def _opened(self, number: int) -> None:
        if number != self._theirs or len(self._streams) >= MOST_STREAMS:
            raise PeerError(f"{self.address} opens stream {number} where stream {self._theirs} is due, or too many")
        self._theirs += 2
        self._arrived.append(self._stream(number))
        self._arrival.notify()

    def _garbled(self) -> PeerError:
        return PeerError(f"{self.inner.peer} sent a message that is no bundle of streams")

    def _end(self, error: RoundelayError) -> None:
        """The channel is over: every stream ends with its error; the first one stays."""
        self._gone = self._gone or error
        for stream in list(self._streams.values()):
            stream.ended(error)
        self._arrival.notify()


class StreamChannel(Channel):
    """One stream of a multiplexer."""

    def __init__(self, owner: Multiplexer, number: int, options: ChannelOptions) -> None:
        super().__init__(owner.inner.peer, options)
        self.number = number
        self.unsent = 0
        """Entries that wait for the inner channel."""
        self._owner, self._linger = owner, options.linger
        self._inbox, self._window = Mailbox(), Window(options.window)
        self._unread, self._gone, self._left = 0, False, Signal()

    @property
    def closed(self) -> bool:
        """Whether this side closed it."""
        return self._closed

    async def _send(self, message: memoryview) -> None:
        await self._window.take(message.nbytes)
        self._owner.put(self, Entry.DATA, message)

    async def _recv(self) -> memoryview:
        message = await self._inbox.get()
        self._read(message.nbytes + MESSAGE_COST)
        return message

    def _read(self, cost: int) -> None:
        self._unread -= cost
        self._owner.taken(cost)

    async def _close(self) -> None:
        here = LocalError(CLOSED_HERE)
        self._window.close(here)
        self._inbox.discard(here)
        self._read(self._unread)
        self._owner.put(self, Entry.END)
        with suppress(TimeoutError):
            await self._left.until(lambda: not self.unsent or self._gone, self._linger)
        self._owner.forget(self.number)

    # ------------------------------------------------------------------ for the multiplexer
    def sent_on(self, cost: int) -> None:
        """An entry has left; `cost` bytes of it were under way."""
        self.unsent -= 1
        self._window.give(cost)
        self._left.notify()

    def arrived(self, message: memoryview) -> None:
        """A message for this stream."""
        self._unread += message.nbytes + MESSAGE_COST
        self._inbox.put(message)

    def ended(self, error: RoundelayError) -> None:
        """Nothing more will come, and nobody reads on."""
        self._gone = True
        self._inbox.close(error)
        self._window.close(error)
        self._left.notify()
