"""Messages as sealed records, without any I/O: `Outgoing` fills buffers, `Incoming` takes in what arrives in them.

Messages are cut into records so that encryption, the wire and decryption overlap and work within the cache. A receiver
holds one record at most that is not authenticated yet, and makes room for a message only when its first record, length
included, is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from engine.errors import PeerError
from engine.transport.channel import Buffer
from engine.transport.mailbox import MESSAGE_COST
from engine.transport.sealed import HEADER, OVERHEAD, RECORD_BYTES, Opener, Record, Sealer

__all__ = ["BATCH_BYTES", "Incoming", "Outgoing", "Stream"]

BATCH_BYTES = RECORD_BYTES + OVERHEAD
"""Room for any record."""


def cut(parts: Sequence[Buffer], size: int) -> Iterator[tuple[Record, int, Buffer]]:
    """The records of a message longer than one: kind, length field and body, copied only where it spans parts."""
    views = [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes]
    yield Record.MESSAGE, size, _take(views, RECORD_BYTES)
    for start in range(RECORD_BYTES, size, RECORD_BYTES):
        body = _take(views, min(RECORD_BYTES, size - start))
        yield Record.MORE, len(body), body


def _take(views: list[memoryview], count: int) -> Buffer:
    """The first `count` bytes, which `views` then no longer have."""
    pieces = []
    while count:
        piece = views[0][:count]
        pieces.append(piece)
        count -= piece.nbytes
        views[0] = views[0][piece.nbytes :]
        if not views[0]:
            del views[0]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Outgoing:
    """Messages in order, sealed as late as a socket takes them. `held` is what waits, with a fixed cost a record."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._waiting: deque[tuple[Record, int, Buffer, int]] = deque()
        self.held = 0

    def put(self, parts: Sequence[Buffer], size: int) -> None:
        """Appends a message of `size` bytes; what is longer than a record is not copied."""
        if size <= RECORD_BYTES:
            return self._append(Record.MESSAGE, size, b"".join(parts))
        for record in cut(parts, size):
            self._append(*record)

    def sign(self, kind: Record) -> None:
        """Appends a record without a body."""
        self._append(kind, 0, b"")

    def _append(self, kind: Record, length: int, body: Buffer) -> None:
        cost = len(body) + MESSAGE_COST
        self._waiting.append((kind, length, body, cost))
        self.held += cost

    def fill(self, out: memoryview) -> int:
        """Seals as many records as fit into `out`, which has room for the first (`due`); the bytes used, 0 if nothing
        waits."""
        used, waiting = 0, self._waiting
        while waiting:
            kind, length, body, cost = waiting[0]
            if used + cost + OVERHEAD - MESSAGE_COST > out.nbytes:
                break
            used += self._sealer.seal(kind, length, body, out[used:] if used else out)
            waiting.popleft()
            self.held -= cost
        return used

    @property
    def due(self) -> int:
        """Room that is enough for what waits, but at most BATCH_BYTES, which is enough for any record."""
        return min(self.held, BATCH_BYTES)

    def clear(self) -> None:
        """Forgets what waits."""
        self._waiting.clear()
        self.held = 0


class Incoming:
    """Records in, whole messages out. `ended` says that the peer said BYE; `ceiling` may go down between messages."""

    def __init__(self, opener: Opener, ceiling: int, peer: str) -> None:
        self.ended = False
        self.ceiling = ceiling
        self._opener = opener
        self._peer = peer
        self._message: memoryview | None = None  # the one that is arriving, if it has several records
        self._done = 0  # bytes of it that have arrived

    def messages(self, data: memoryview) -> Iterator[memoryview]:
        """The messages that these records complete, read-only. Raises PeerError, after those before the fault."""
        start, have = 0, data.nbytes
        while have - start >= HEADER.size:
            kind, length = HEADER.unpack_from(data, start)
            end = start + OVERHEAD + self._body_bytes(kind, length)
            if have < end:
                break
            if (message := self._record(kind, length, data[start + HEADER.size : end])) is not None:
                yield message
            start = end
        self._rest(data, start)

    def _rest(self, data: memoryview, start: int) -> None:
        """What follows the last whole record."""
        if start != data.nbytes:
            raise PeerError(f"{self._peer} sent a record that is cut short")

    def _body_bytes(self, kind: int, length: int) -> int:
        """How long the record's body must be; checked before anything of it is awaited."""
        if kind == Record.MESSAGE and self._message is None and not self.ended:
            if length > self.ceiling:
                raise PeerError(f"{self._peer} announces {length} bytes where at most {self.ceiling} are allowed")
            return min(length, RECORD_BYTES)
        due = 0 if self._message is None else min(self._message.nbytes - self._done, RECORD_BYTES)
        if not self.ended and length == due and kind in ((Record.MORE,) if due else (Record.BEAT, Record.BYE)):
            return length
        raise PeerError(f"{self._peer} sent a record that is not part of the channel's protocol")

    def _record(self, kind: int, length: int, sealed: memoryview) -> memoryview | None:
        """Opens a record; the message that it completes, if any."""
        if kind == Record.MORE:
            return self._more(length, sealed)
        body = self._opener.open(kind, length, sealed)
        if kind != Record.MESSAGE:
            self.ended = kind == Record.BYE
            return None
        if length <= RECORD_BYTES:
            return memoryview(body)
        self._message = np.empty(length, np.uint8).data  # huge pages, and not zeroed first
        self._message[:RECORD_BYTES] = body
        self._done = RECORD_BYTES
        return None

    def _more(self, length: int, sealed: memoryview) -> memoryview | None:
        message = self._message
        assert message is not None
        self._opener.open_into(Record.MORE, length, sealed, message[self._done : self._done + length])
        self._done += length
        if self._done < message.nbytes:
            return None
        self._message = None
        return message.toreadonly()


class Stream(Incoming):
    """Bytes of a stream in: whoever reads a socket reads into `space()` and then calls `received`."""

    def __init__(self, opener: Opener, ceiling: int, peer: str) -> None:
        super().__init__(opener, ceiling, peer)
        self._buffer = memoryview(bytearray(BATCH_BYTES))
        self._have = 0

    def space(self) -> memoryview:
        """Where the next bytes go; never empty."""
        return self._buffer[self._have :]

    def received(self, count: int) -> Iterator[memoryview]:
        """As `messages`, for `count` more bytes; a record that is not complete yet waits for the rest."""
        return self.messages(self._buffer[: self._have + count])

    def _rest(self, data: memoryview, start: int) -> None:
        self._have = data.nbytes - start
        if start and self._have:
            self._buffer[: self._have] = bytes(data[start:])
