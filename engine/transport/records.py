"""Messages as sealed records, without any I/O: `Outgoing` fills buffers for a socket, `Incoming` takes in its bytes.

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

__all__ = ["BATCH_BYTES", "Incoming", "Outgoing"]

BATCH_BYTES = RECORD_BYTES + OVERHEAD
"""Room for any record."""


class _Cut:
    """A message on its way out: records are cut off its front."""

    def __init__(self, kind: Record, parts: Sequence[Buffer], size: int) -> None:
        self.kind = kind
        self.size = self.left = size
        self._parts = deque(parts)
        self._offset = 0  # in the first part

    def record(self) -> tuple[Record, int, int]:
        """Kind, length field and body size of the next record."""
        body = min(self.left, RECORD_BYTES)
        return (self.kind, self.size, body) if self.left == self.size else (Record.MORE, body, body)

    def take(self, count: int) -> Buffer:
        """The next bytes, copied only where they span parts."""
        self.left -= count
        if len(self._parts) == 1:
            piece = memoryview(self._parts[0]).cast("B")[self._offset : self._offset + count]
            self._offset += count
            return piece
        return b"".join(self._pieces(count))

    def _pieces(self, count: int) -> Iterator[memoryview]:
        while count:
            part = memoryview(self._parts[0]).cast("B")
            piece = part[self._offset : self._offset + count]
            yield piece
            count -= piece.nbytes
            self._offset += piece.nbytes
            if self._offset == part.nbytes:
                self._parts.popleft()
                self._offset = 0


class Outgoing:
    """Messages in order, sealed as late as a socket takes them. `held` is what waits, fixed costs included."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._waiting: deque[_Cut] = deque()
        self.held = 0

    def put(self, parts: Sequence[Buffer], size: int, kind: Record = Record.MESSAGE) -> None:
        """Appends a message of `size` bytes, or a record of another kind; the parts are not copied."""
        self._waiting.append(_Cut(kind, parts, size))
        self.held += size + MESSAGE_COST

    def fill(self, out: memoryview) -> int:
        """Seals as many records as fit into `out`, of at least BATCH_BYTES; the bytes used, 0 if nothing waits."""
        used = 0
        while self._waiting:
            cut = self._waiting[0]
            kind, length, body = cut.record()
            if used + body + OVERHEAD > out.nbytes:
                break
            used += self._sealer.seal(kind, length, cut.take(body), out[used:])
            if not cut.left:
                self._waiting.popleft()
                self.held -= cut.size + MESSAGE_COST
        return used

    def clear(self) -> None:
        """Forgets what waits."""
        self._waiting.clear()
        self.held = 0


class Incoming:
    """Bytes of a stream in, whole messages out.

    Whoever reads a socket reads into `space()` and then calls `received`. `ended` says that the peer said BYE.
    """

    def __init__(self, opener: Opener, ceiling: int, peer: str) -> None:
        self._opener = opener
        self._ceiling = ceiling
        self._peer = peer
        self._buffer = memoryview(bytearray(BATCH_BYTES))
        self._have = 0
        self._message: memoryview | None = None  # the one that is arriving, if it has several records
        self._done = 0  # bytes of it that have arrived
        self.ended = False

    def space(self) -> memoryview:
        """Where the next bytes go; never empty."""
        return self._buffer[self._have :]

    def received(self, count: int) -> Iterator[memoryview]:
        """The messages that `count` more bytes complete, read-only. Raises PeerError, after those before the fault."""
        self._have += count
        start = 0
        while self._have - start >= HEADER.size:
            header = self._buffer[start : start + HEADER.size]
            kind, length = HEADER.unpack(header)
            body = start + HEADER.size
            end = body + self._body_bytes(kind, length) + OVERHEAD - HEADER.size
            if self._have < end:
                break
            if (message := self._record(kind, length, header, self._buffer[body:end])) is not None:
                yield message
            start = end
        if start:
            self._buffer[: self._have - start] = bytes(self._buffer[start : self._have])
            self._have -= start

    def _body_bytes(self, kind: int, length: int) -> int:
        """How long the record's body must be; checked before anything of it is awaited."""
        if not self.ended and kind == Record.MESSAGE and self._message is None:
            if length > self._ceiling:
                raise PeerError(f"{self._peer} announces {length} bytes where at most {self._ceiling} are allowed")
            return min(length, RECORD_BYTES)
        due = 0 if self._message is None else min(self._message.nbytes - self._done, RECORD_BYTES)
        if not self.ended and length == due and kind in ((Record.MORE,) if due else (Record.BEAT, Record.BYE)):
            return length
        raise PeerError(f"{self._peer} sent a record that is not part of the channel's protocol")

    def _record(self, kind: int, length: int, header: memoryview, sealed: memoryview) -> memoryview | None:
        """Opens a record; the message that it completes, if any."""
        if kind == Record.MORE:
            return self._more(header, sealed, length)
        if length > RECORD_BYTES:
            first = self._opener.open(header, sealed)
            self._message = np.empty(length, np.uint8).data  # huge pages, and not zeroed first
            self._message[:RECORD_BYTES] = first
            self._done = RECORD_BYTES
            return None
        message = memoryview(self._opener.open(header, sealed))
        self.ended = kind == Record.BYE
        return message if kind == Record.MESSAGE else None

    def _more(self, header: memoryview, sealed: memoryview, length: int) -> memoryview | None:
        message = self._message
        assert message is not None
        self._opener.open_into(header, sealed, message[self._done : self._done + length])
        self._done += length
        if self._done < message.nbytes:
            return None
        self._message = None
        return message.toreadonly()
