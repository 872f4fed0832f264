"""Sealed records, without any I/O: one direction of a session under its own AES-256-GCM key.

A record is a header of 8 bytes, the encrypted body and a tag of 16:

    kind u32   length u32   |   body   |   tag      little-endian

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

HEADER = struct.Struct("<II")
TAG_BYTES = 16
OVERHEAD = HEADER.size + TAG_BYTES
RECORD_BYTES = 1 << 18
"""Longest body: it stays in a core's cache between encryption and the socket, and encrypts in about 30 us."""
BINDING_BYTES = 16
CONTEXT = struct.Struct("<QII")
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
    """A key and the number of the next record. `session` is the handshake's hash, `sender` the role of who seals."""

    def __init__(self, key: bytes, session: bytes, sender: str) -> None:
        self._aead = AESGCM(key)
        binding = blake2b(session, digest_size=BINDING_BYTES, person=sender.encode()).digest()
        self._context = bytearray(binding + bytes(CONTEXT.size))  # the associated data of the record at hand
        self._number = 0

    def _nonce(self, kind: int, length: int) -> bytes:
        """The next record's nonce; its associated data is then in `_context`."""
        number = self._number
        if number >= RECORDS:
            raise LocalError("the session has used up its record numbers: connect again for new keys")
        self._number = number + 1
        CONTEXT.pack_into(self._context, BINDING_BYTES, number, kind, length)
        return number.to_bytes(12, "big")


class Sealer(_Direction):
    """The sending direction."""

    def seal(self, kind: Record, length: int, body: Buffer, out: memoryview) -> int:
        """Writes one record into `out`, which has room for it; the number of bytes that it has. `body` is of bytes."""
        end = OVERHEAD + len(body)
        HEADER.pack_into(out, 0, kind, length)
        self._aead.encrypt_into(self._nonce(kind, length), body, self._context, out[HEADER.size : end])
        return end


class Opener(_Direction):
    """The receiving direction. The first record that does not open ends it."""

    def open(self, kind: int, length: int, sealed: Buffer) -> bytes:
        """The body of a record with that header. Raises PeerError if it is not the one that is due."""
        nonce = self._nonce(kind, length)
        try:
            return self._aead.decrypt(nonce, sealed, self._context)
        except InvalidTag:
            raise self._failed() from None

    def open_into(self, kind: int, length: int, sealed: Buffer, out: memoryview) -> None:
        """As `open`, with the body written to `out`, which is exactly as long."""
        nonce = self._nonce(kind, length)
        try:
            self._aead.decrypt_into(nonce, sealed, self._context, out)
        except InvalidTag:
            raise self._failed() from None

    def _failed(self) -> PeerError:
        self._number = RECORDS
        return PeerError("a record was altered, left out, repeated or moved on its way: the channel ends")
