"""Frames, without any I/O: what the two parties' executors say to each other, one frame a message.

A frame is a header of 16 bytes and a payload:

    kind u8   flags u8 (0)   sequence u16   round u32   index u32   length u32      little-endian

`sequence` counts the frames of one direction modulo 2^16. `FrameWriter` makes frames and `FrameReader` takes them in,
as whole messages or from a byte stream in pieces of any size; each follows the same table of states. A writer's
violation is this side's fault (LocalError), a reader's is the peer's (PeerError). Lengths are checked before anything
is buffered.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

from engine.errors import LocalError, PeerError
from engine.transport.channel import Buffer

__all__ = ["HEADER_BYTES", "Frame", "FrameReader", "FrameWriter", "Kind"]

HEADER = struct.Struct("<BBHIII")
HEADER_BYTES = HEADER.size
LONGEST_SENTENCE = 1000


class Kind(IntEnum):
    """What a frame is: a JSON object, an opening, a sentence on why the sender gives up, or an orderly end."""

    CONTROL = 1
    DATA = 2
    ERROR = 3
    BYE = 4


CODES = frozenset(Kind)


class State(Enum):
    """Of one direction."""

    OPEN = "open"
    ENDED = "ended by a BYE frame"
    FAILED = "ended by an ERROR frame"


NEXT = {
    (State.OPEN, Kind.CONTROL): State.OPEN,
    (State.OPEN, Kind.DATA): State.OPEN,
    (State.OPEN, Kind.ERROR): State.FAILED,
    (State.OPEN, Kind.BYE): State.ENDED,
}
"""Every step that a direction may take; nothing follows BYE or ERROR."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as received. round and index mean what the sender and receiver of DATA agree on; otherwise they are 0."""

    kind: Kind
    payload: memoryview
    round: int = 0
    index: int = 0

    def control(self) -> dict[str, Any]:
        """The JSON object of a CONTROL frame. Raises PeerError if it is none."""
        try:
            message = json.loads(bytes(self.payload))
        except (ValueError, RecursionError):
            message = None
        if self.kind is not Kind.CONTROL or not isinstance(message, dict):
            raise PeerError("the peer sent something else where a control message was due")
        return message

    def sentence(self) -> str:
        """The text of an ERROR frame, cut and stripped of unprintable characters: it goes to a terminal."""
        text = bytes(self.payload[: 4 * LONGEST_SENTENCE]).decode("utf-8", "replace")[:LONGEST_SENTENCE]
        return "".join(c if c.isprintable() else " " for c in text)


class FrameWriter:
    """The sending direction. Each method gives the parts of one message, for `channel.send(*parts)`."""

    def __init__(self) -> None:
        self._state = State.OPEN
        self._sequence = 0

    def data(self, round: int, index: int, *payload: Buffer) -> tuple[Buffer, ...]:
        """An opening's frame; the payload is not copied."""
        return self._frame(Kind.DATA, payload, round, index)

    def control(self, message: Mapping[str, Any]) -> tuple[Buffer, ...]:
        """A JSON object, with sorted keys."""
        try:
            text = json.dumps(message, sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise LocalError(f"a control message must be plain JSON: {error}") from None
        return self._frame(Kind.CONTROL, (text.encode(),))

    def error(self, sentence: str) -> tuple[Buffer, ...]:
        """Why this side gives up. The peer sees it: no secrets."""
        return self._frame(Kind.ERROR, (sentence[:LONGEST_SENTENCE].encode(),))

    def bye(self) -> tuple[Buffer, ...]:
        """The orderly end of this direction."""
        return self._frame(Kind.BYE, ())

    def _frame(self, kind: Kind, payload: tuple[Buffer, ...], round: int = 0, index: int = 0) -> tuple[Buffer, ...]:
        if (self._state, kind) not in NEXT:
            raise LocalError(f"a {kind.name} frame cannot be sent: this side's frames were {self._state.value}")
        length = sum(memoryview(part).nbytes for part in payload)
        try:
            header = HEADER.pack(kind, 0, self._sequence, round, index, length)
        except struct.error:
            raise LocalError(f"round {round}, index {index}, {length} bytes do not fit a frame header") from None
        self._state = NEXT[self._state, kind]
        self._sequence = (self._sequence + 1) & 0xFFFF
        return header, *payload


class FrameReader:
    """The receiving direction. `limit` is the longest payload allowed; it can be raised between frames.

    Use `message` where the transport keeps messages apart, `feed` and `close` on a byte stream. After an error it is
    of no more use.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._state = State.OPEN
        self._sequence = 0
        self._header = bytearray()
        self._payload: bytearray | None = None
        self._fields: tuple[Kind, int, int, int] | None = None
        self._filled = 0

    def message(self, message: memoryview) -> Frame:
        """The frame that is exactly this message; its payload is a view into it. Raises PeerError."""
        if len(message) < HEADER_BYTES:
            raise PeerError(f"a message of {len(message)} bytes is too short for a frame header")
        kind, round, index, length = self._begin(message[:HEADER_BYTES])
        if len(message) != HEADER_BYTES + length:
            raise PeerError(f"a frame announces {length} bytes and has {len(message) - HEADER_BYTES}")
        return Frame(kind, message[HEADER_BYTES:], round, index)

    def feed(self, data: Buffer) -> list[Frame]:
        """The frames that this piece of the stream completes. Raises PeerError as soon as a header is wrong."""
        rest = memoryview(data).cast("B")
        frames: list[Frame] = []
        while rest:
            rest = rest[self._take(rest) :]
            if (frame := self._completed()) is not None:
                frames.append(frame)
        return frames

    def close(self) -> None:
        """The stream has ended. Raises PeerError unless it did so between frames after BYE or ERROR."""
        if self._header:
            raise PeerError(f"the stream ended within a frame, after {len(self._header) + self._filled} bytes of it")
        if self._state is State.OPEN:
            raise PeerError("the stream ended without a BYE frame")

    def _begin(self, header: Buffer) -> tuple[Kind, int, int, int]:
        """Checks a header and takes its step; gives kind, round, index and length."""
        code, flags, sequence, round, index, length = HEADER.unpack(header)
        if code not in CODES or flags:
            raise PeerError(f"the peer sent a frame of unknown kind {code} with flags {flags}")
        if length > self.limit:
            raise PeerError(f"the peer announces a frame of {length} bytes where at most {self.limit} are allowed")
        if sequence != self._sequence:
            raise PeerError(f"the peer sent frame {sequence} where frame {self._sequence} was due")
        kind = Kind(code)
        if (self._state, kind) not in NEXT:
            raise PeerError(f"the peer sent a {kind.name} frame after its frames were {self._state.value}")
        self._state = NEXT[self._state, kind]
        self._sequence = (self._sequence + 1) & 0xFFFF
        return kind, round, index, length

    def _take(self, data: memoryview) -> int:
        """Moves bytes into the header or the payload; gives their number."""
        if self._payload is None:
            used = min(HEADER_BYTES - len(self._header), len(data))
            self._header += data[:used]
            if len(self._header) == HEADER_BYTES:
                self._fields = self._begin(self._header)
                self._payload = bytearray(self._fields[3])
            return used
        used = min(len(self._payload) - self._filled, len(data))
        self._payload[self._filled : self._filled + used] = data[:used]
        self._filled += used
        return used

    def _completed(self) -> Frame | None:
        if self._payload is None or self._fields is None or self._filled < len(self._payload):
            return None
        kind, round, index, _ = self._fields
        frame = Frame(kind, memoryview(self._payload).toreadonly(), round, index)
        self._header, self._payload, self._fields, self._filled = bytearray(), None, None, 0
        return frame
