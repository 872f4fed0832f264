"""Tapes: what the dealer hands to one party for one run, in the order in which the run reads it.

    magic 8 | version u32 | party u32 | plan 32 | tape id 16 | seed 16 | body length u64 | body | SHA-256 of it all

The seed stretches into everything uniform; the body holds only DPF correction words and P1's corrections of shares. The
tape id is public, the same on both tapes of a pair, and keys the hash of the DPF. A reader verifies the whole file
before it gives out a byte. Spending a tape once is the business of `engine.ledger`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import LocalError, TapeError

__all__ = ["HEADER_BYTES", "TRAILER_BYTES", "FileTapeWriter", "MemoryTape", "TapeHeader", "TapeReader", "TapeSink"]

MAGIC, VERSION = b"RNDLTAPE", 1
_HEADER = struct.Struct("<8sII32s16s16sQ")
HEADER_BYTES, TRAILER_BYTES = _HEADER.size, 32
_CHUNK = 1 << 22

Bytes = NDArray[np.uint8]


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


class FileTapeWriter:
    """Writes a tape beside its final place and renames it when complete, so that no half tape is ever found."""

    def __init__(self, path: Path, header: TapeHeader) -> None:
        self.path, self._left = path, header.body
        self._part = path.with_name(path.name + ".part")
        self._hash = hashlib.sha256()
        try:
            self._file: BinaryIO = open(os.open(self._part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb")  # noqa: SIM115
            self._put(header.encode())
        except OSError as e:
            self._part.unlink(missing_ok=True)
            raise _disk(path, e) from e

    def _put(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._file.write(data)

    def write(self, data: Bytes) -> None:
        view = np.ascontiguousarray(data).view(np.uint8).reshape(-1).data
        self._left -= len(view)
        try:
            self._put(view)
        except OSError as e:
            self.abort()
            raise _disk(self.path, e) from e

    def finish(self) -> Path:
        """Seal, flush to disk, and move to the final name."""
        if self._left:
            self.abort()
            raise LocalError(f"tape {self.path.name} differs from its plan by {-self._left} bytes: a bug in the dealer")
        try:
            self._file.write(self._hash.digest())
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

    def __init__(self, source: BufferedReader, where: str, party: int, plan: bytes | None) -> None:
        self._source, self.where = source, where
        self.header = TapeHeader.decode(source.read(HEADER_BYTES), where)
        self._check(party, plan)
        self._verify()
        source.seek(HEADER_BYTES)
        self._left = self.header.body

    @staticmethod
    def open(path: Path, party: int, plan: bytes | None = None) -> TapeReader:
        """Open and verify a tape file; `plan` None leaves the digest to be compared later."""
        try:
            source = open(path, "rb")  # noqa: SIM115
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

    def _verify(self) -> None:
        h = hashlib.sha256(self.header.encode())
        left = self.header.body
        while left:
            chunk = self._source.read(min(left, _CHUNK))
            if not chunk:
                raise TapeError(f"{self.where} is truncated: {left} bytes of its body are missing")
            h.update(chunk)
            left -= len(chunk)
        trailer = self._source.read(TRAILER_BYTES + 1)
        if len(trailer) < TRAILER_BYTES:
            raise TapeError(f"{self.where} is truncated: its checksum is missing")
        if trailer != h.digest():
            raise TapeError(f"{self.where} was altered: its checksum does not match")

    def read(self, count: int) -> Bytes:
        """The next `count` bytes."""
        out = np.empty(count, np.uint8)
        if count > self._left or self._source.readinto(out.data) != count:
            raise TapeError(f"{self.where} ends before its plan does")
        self._left -= count
        return out

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


def _disk(path: Path, e: OSError) -> LocalError:
    return LocalError(f"cannot write {path}: {e.strerror}")
