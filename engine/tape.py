"""Tapes: what the dealer hands to one party for one run, in the order in which the run reads it.

    magic 8 | version u32 | party u32 | plan 32 | tape id 16 | seed 16 | body length u64 | body | tags | tag of all

The seed stretches into everything uniform; the body holds only DPF correction words and P1's corrections of shares. The
tape id is public, the same on both tapes of a pair, and keys the hash of the DPF. Spending a tape once is the business
of `engine.ledger`.

Each 256 KiB of the body have a tag of 16 bytes; a last tag covers header and tags. A tag is GMAC (NIST SP 800-38D),
twenty times as fast as SHA-256, under a key that the seed stretches into: it finds damage, not the malice of one who
can read the tape. A reader verifies the whole file before it gives out a byte, so that a damaged tape is found before
it is spent, and then each piece again, in the memory that it hands out: what is used is what was verified, whatever
happened to the file meanwhile. The file is read, not mapped, since a mapped file that shrinks kills the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from dataclasses import dataclass, field
from io import BytesIO, FileIO
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from engine.buffers import Buffers
from engine.errors import LocalError, TapeError

__all__ = [
    "CHUNK",
    "HEADER_BYTES",
    "FileTapeWriter",
    "MemoryTape",
    "TapeHeader",
    "TapeReader",
    "TapeSink",
    "file_bytes",
]

MAGIC, VERSION = b"RNDLTAPE", 5
_HEADER = struct.Struct("<8sII32s16s16sQ")
HEADER_BYTES, TAG_BYTES = _HEADER.size, 16
CHUNK = 1 << 18
"""Bytes of the body that one tag covers: few enough to be still in the cache when they are used."""
KEEP_BYTES = 48 << 20
"""Memory that a reader keeps for its next pieces."""

Bytes = NDArray[np.uint8]


def file_bytes(body: int) -> int:
    """Size of the file of a tape."""
    return HEADER_BYTES + body + TAG_BYTES * (_chunks(body) + 1)


def _chunks(body: int) -> int:
    return -(-body // CHUNK)


@dataclass(frozen=True, slots=True)
class TapeHeader:
    """What a tape is bound to. The seed is the party's secret: it never shows in a repr."""

    party: int
    plan: bytes
    tape: bytes
    seed: bytes = field(repr=False)
    body: int

    def encode(self) -> bytes:
        return _HEADER.pack(MAGIC, VERSION, self.party, self.plan, self.tape, self.seed, self.body)

    @staticmethod
    def decode(data: bytes, where: str) -> TapeHeader:
        if len(data) < HEADER_BYTES or data[:8] != MAGIC:
            raise TapeError(f"{where} is not a Roundelay tape")
        _, version, party, plan, tape, seed, body = _HEADER.unpack(data[:HEADER_BYTES])
        if version != VERSION:
            raise TapeError(f"{where} has tape format {version}, this program reads {VERSION}: deal a new tape")
        return TapeHeader(party, plan, tape, seed, body)


class TapeSink(Protocol):
    """Where a dealer writes one party's body, in order."""

    def write(self, data: Bytes) -> None: ...


class _Tags:
    """GMAC of chunks, by their number, and of the whole. A seed belongs to one tape, so a nonce is never used twice for
    different bytes."""

    def __init__(self, seed: bytes) -> None:
        key = hashlib.blake2b(seed, digest_size=16, person=b"roundelay tape").digest()
        self._gmac = AESGCM(key)

    def chunk(self, index: int, data: Bytes) -> bytes:
        return self._gmac.encrypt(struct.pack("<QI", index, 0), b"", data.data)

    def whole(self, header: TapeHeader, tags: bytes) -> bytes:
        return self._gmac.encrypt(struct.pack("<QI", 0, 1), b"", header.encode() + tags)


class FileTapeWriter:
    """Writes a tape beside its final place and renames it when complete, so that no half tape is ever found."""

    def __init__(self, path: Path, header: TapeHeader) -> None:
        self.path, self._header, self._left = path, header, header.body
        self._part = path.with_name(path.name + ".part")
        self._tag, self._tags = _Tags(header.seed), bytearray()
        self._open, self._filled = np.empty(CHUNK, np.uint8), 0  # the chunk that the next bytes complete
        try:
            self._file: BinaryIO = open(os.open(self._part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb")  # noqa: SIM115
            self._file.write(header.encode())
        except OSError as e:
            self._part.unlink(missing_ok=True)
            raise _disk(path, e) from e

    def write(self, data: Bytes) -> None:
        flat = np.ascontiguousarray(data).view(np.uint8).reshape(-1)
        self._left -= flat.size
        try:
            self._file.write(flat.data)
        except OSError as e:
            self.abort()
            raise _disk(self.path, e) from e
        self._cover(flat)

    def _cover(self, data: Bytes) -> None:
        """Tags of all chunks that `data` completes."""
        at = 0
        if self._filled:
            at = min(CHUNK - self._filled, data.size)
            self._keep(data[:at])
        while data.size - at >= CHUNK:
            self._seal(data[at : at + CHUNK])
            at += CHUNK
        self._keep(data[at:])

    def _keep(self, data: Bytes) -> None:
        self._open[self._filled : self._filled + data.size] = data
        self._filled += data.size
        if self._filled == CHUNK:
            self._seal(self._open)
            self._filled = 0

    def _seal(self, chunk: Bytes) -> None:
        self._tags += self._tag.chunk(len(self._tags) // TAG_BYTES, chunk)

    def sync(self) -> None:
        """What is written so far goes to disk now, so that `finish` has less to wait for."""
        try:
            self._file.flush()
            os.fdatasync(self._file.fileno())
        except OSError as e:
            self.abort()
            raise _disk(self.path, e) from e

    def finish(self) -> Path:
        """Seal, flush to disk, and move to the final name."""
        if self._left:
            self.abort()
            raise LocalError(f"tape {self.path.name} differs from its plan by {-self._left} bytes: a bug in the dealer")
        if self._filled:
            self._seal(self._open[: self._filled])
        try:
            self._file.write(self._tags + self._tag.whole(self._header, bytes(self._tags)))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._part, self.path)
        except OSError as e:
            self.abort()
            raise _disk(self.path, e) from e
        return self.path

    def abort(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)


class TapeReader:
    """A verified tape, read front to back. Memory does not grow with the tape."""

    def __init__(self, source: FileIO | BytesIO, where: str, party: int, plan: bytes | None) -> None:
        self._source, self.where = source, where
        head = np.zeros(HEADER_BYTES, np.uint8)
        self.header = TapeHeader.decode(head[: self._fill(head)].tobytes(), where)
        self._check(party, plan)
        self._tag = _Tags(self.header.seed)
        self._tags = self._trailer()
        self._chunk, self._rest, self._buffers = 0, _NOTHING, Buffers(KEEP_BYTES)
        self._left = self.header.body
        self._verify()

    @staticmethod
    def open(path: Path, party: int, plan: bytes | None = None) -> TapeReader:
        """Open and verify a tape file; `plan` None leaves the digest to be compared later. Raises TapeError."""
        try:
            source = open(path, "rb", buffering=0)  # noqa: SIM115
        except OSError as e:
            raise TapeError(f"cannot read tape {path}: {e.strerror}") from e
        try:
            return TapeReader(source, str(path), party, plan)
        except BaseException:
            source.close()
            raise

    def _check(self, party: int, plan: bytes | None) -> None:
        if self.header.party != party:
            raise TapeError(f"{self.where} is the tape of party {self.header.party}, this is party {party}")
        if plan is not None and self.header.plan != plan:
            raise TapeError(
                f"{self.where} was dealt for another plan ({self.header.plan.hex()[:12]}, not {plan.hex()[:12]})"
            )

    def _trailer(self) -> bytes:
        """The tags of the chunks, after a look at sizes and at the last tag."""
        size, whole, body = self._source.seek(0, os.SEEK_END), file_bytes(self.header.body), self.header.body
        if size < HEADER_BYTES + body:
            raise TapeError(f"{self.where} is truncated: {HEADER_BYTES + body - size} bytes of its body are missing")
        if size < whole:
            raise TapeError(f"{self.where} is truncated: its checksum is missing")
        trailer = np.empty(whole - HEADER_BYTES - body, np.uint8)
        self._source.seek(HEADER_BYTES + body)
        self._fill(trailer)
        tags, last = trailer[:-TAG_BYTES].tobytes(), trailer[-TAG_BYTES:].tobytes()
        if size > whole or last != self._tag.whole(self.header, tags):
            raise self._altered()
        return tags

    def _verify(self) -> None:
        """Every chunk, once through."""
        self._source.seek(HEADER_BYTES)
        memory = self._buffers.take(CHUNK)
        for left in range(self.header.body, 0, -CHUNK):
            self._next_chunk(memory[: min(left, CHUNK)])
        self._source.seek(HEADER_BYTES)
        self._chunk = 0

    def read(self, count: int) -> Bytes:
        """The next `count` bytes, in memory that is used again when no view of it is left."""
        if count > self._left:
            raise TapeError(f"{self.where} ends before its plan does")
        out = self._buffers.take(count)
        at = min(self._rest.size, count)
        out[:at], self._rest = self._rest[:at], self._rest[at:]
        while at < count:
            size = min(CHUNK, self._left - at)
            if count - at >= size:
                self._next_chunk(out[at : at + size])
            else:
                self._rest = self._buffers.take(size)
                self._next_chunk(self._rest)
                size = count - at
                out[at:], self._rest = self._rest[:size], self._rest[size:]
            at += size
        self._left -= count
        return out

    def _next_chunk(self, out: Bytes) -> None:
        """Read a chunk and verify what was read."""
        if self._fill(out) != out.size:
            raise TapeError(f"{self.where} is truncated: it became shorter while it was read")
        at = TAG_BYTES * self._chunk
        if self._tag.chunk(self._chunk, out) != self._tags[at : at + TAG_BYTES]:
            raise self._altered()
        self._chunk += 1

    def _fill(self, out: Bytes) -> int:
        """Bytes that there were."""
        done = 0
        try:
            while done < out.size and (got := self._source.readinto(out.data[done:])):
                done += got
        except OSError as e:
            raise TapeError(f"cannot read tape {self.where}: {e.strerror}") from e
        return done

    def _altered(self) -> TapeError:
        return TapeError(f"{self.where} was altered: its checksum does not match")

    def close(self) -> None:
        self._source.close()


class MemoryTape:
    """A tape that lives in memory: what tests and in-process runs use. Writes first, then reads."""

    def __init__(self, header: TapeHeader) -> None:
        self.header, self.where = header, "tape in memory"
        self._parts: list[Bytes] = []
        self._body: Bytes | None = None
        self._at = 0

    def write(self, data: Bytes) -> None:
        self._parts.append(np.array(data, copy=True).view(np.uint8).reshape(-1))

    @property
    def size(self) -> int:
        return sum(p.size for p in self._parts)

    def read(self, count: int) -> Bytes:
        if self._body is None:
            self._body = np.concatenate([*self._parts, np.empty(0, np.uint8)])
        if self._at + count > self._body.size:
            raise TapeError(f"{self.where} ends before its plan does")
        self._at += count
        return self._body[self._at - count : self._at].copy()

    def close(self) -> None:
        self._parts, self._body = [], None


_NOTHING: Bytes = np.empty(0, np.uint8)


def _disk(path: Path, e: OSError) -> LocalError:
    return LocalError(f"cannot write {path}: {e.strerror}")
