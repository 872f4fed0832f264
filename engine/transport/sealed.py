"""Sealed records, without any I/O: one direction of a session under its own AES-256-GCM key.

A record is a header of 8 bytes, the encrypted body and a tag of 16:

    kind u8   0 u8[3]   length u32   |   body   |   tag      little-endian

`length` is the body's, except in a MESSAGE record, which begins a message: there it is the whole message's, and the
body holds as much of it as fits RECORD_BYTES; MORE records carry the rest. The tag covers, beside the body, the
session, the direction, the record's number and the header; the nonce is that number. So a record that was altered,
repeated, left out, moved or sent back to its sender does not open, and the channel ends.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.errors import LocalError, PeerError
from engine.transport.channel import Buffer

__all__ = ["HEADER", "OVERHEAD", "RECORD_BYTES", "Opener", "Record", "Sealer"]

HEADER = struct.Struct("<B3xI")
TAG_BYTES = 16
OVERHEAD = HEADER.size + TAG_BYTES
RECORD_BYTES = 1 << 18
"""Longest body: it stays in a core's cache between encryption and the socket, and encrypts in about 30 us."""
CONTEXT = struct.Struct("<16sQ8s")
RECORDS = 1 << 32
"""Of a direction: together 2^46 blocks of AES, where GCM's bound is still 2^-36. A nonce is never used twice."""


class Record(IntEnum):
    """What a record is."""

    CONFIRM = 1  # the client's first: it holds the session keys
    MESSAGE = 2
    MORE = 3
    BEAT = 4  # nothing to say, and still there
    BYE = 5  # nothing will follow


class _Direction:
    """A key and the number of the next record."""

    def __init__(self, key: bytes, session: bytes, sender: str) -> None:
        self._aead = AESGCM(key)
        self._binding = blake2b(session, digest_size=16, person=sender.encode()).digest()
        self._context = bytearray(CONTEXT.size)
        self._number = 0

    def _next(self, header: Buffer) -> bytes:
        """The next record's nonce; its associated data is then in `_context`."""
        if self._number >= RECORDS:
            raise LocalError("the session has used up its record numbers: connect again for new keys")
        CONTEXT.pack_into(self._context, 0, self._binding, self._number, bytes(header))
        nonce = self._number.to_bytes(12, "big")
        self._number += 1
        return nonce


class Sealer(_Direction):
    """The sending direction. `session` is the handshake's hash, `sender` the role of this side."""

    def seal(self, kind: Record, length: int, body: Buffer, out: memoryview) -> int:
        """Writes one record into `out`, which has room for it; the number of bytes that it has."""
        header, size = HEADER.pack(kind, length), HEADER.size
        end = size + memoryview(body).nbytes + TAG_BYTES
        nonce = self._next(header)
        out[:size] = header
        self._aead.encrypt_into(nonce, body, self._context, out[size:end])
        return end


class Opener(_Direction):
    """The receiving direction. `sender` is the peer's role. The first record that does not open ends it."""

    def open(self, header: Buffer, sealed: Buffer) -> bytes:
        """The body of a record. Raises PeerError if the record is not the one that is due."""
        nonce = self._next(header)
        try:
            return self._aead.decrypt(nonce, sealed, self._context)
        except InvalidTag:
            raise self._failed() from None

    def open_into(self, header: Buffer, sealed: Buffer, out: memoryview) -> None:
        """As `open`, with the body written to `out`, which is exactly as long."""
        nonce = self._next(header)
        try:
            self._aead.decrypt_into(nonce, sealed, self._context, out)
        except InvalidTag:
            raise self._failed() from None

    def _failed(self) -> PeerError:
        self._number = RECORDS
        return PeerError("a record was altered, left out, repeated or moved on its way: the channel ends")
