"""Tapes: whatever happened to one is said in a sentence, and nothing of it is used."""

import contextlib
import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.buffers import Buffers
from engine.errors import LocalError, TapeError
from engine.tape import CHUNK, HEADER_BYTES, VERSION, FileTapeWriter, MemoryTape, TapeHeader, TapeReader, file_bytes

PLAN, OTHER, ID, SEED = bytes(range(32)), bytes(32), b"t" * 16, b"\xabsecret seed 16!"
BODY = np.random.default_rng(1).integers(0, 256, 1000, np.uint8)


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return written(tmp_path / "run.p1", BODY)


def written(path: Path, body: "np.ndarray[tuple[int], np.dtype[np.uint8]]", party: int = 1) -> Path:
    writer = FileTapeWriter(path, TapeHeader(party, PLAN, ID, SEED, body.size))
    writer.write(body[:300])
    writer.write(body[300:])
    return writer.finish()


def refused(path: Path, sentence: str, party: int = 1, plan: bytes | None = PLAN) -> None:
    with pytest.raises(TapeError, match=sentence) as caught:
        TapeReader.open(path, party, plan)
    assert str(path.name) in str(caught.value) and caught.value.exit_code == 4


def test_round_trip(tape: Path) -> None:
    reader = TapeReader.open(tape, 1, PLAN)
    assert reader.header == TapeHeader(1, PLAN, ID, SEED, 1000)
    parts = [reader.read(n) for n in (0, 1, 299, 700)]
    assert np.array_equal(np.concatenate(parts), BODY)
    with pytest.raises(TapeError, match="ends before its plan does"):
        reader.read(1)
    reader.close()
    assert tape.stat().st_size == file_bytes(1000) == HEADER_BYTES + 1000 + 32
    assert tape.stat().st_mode & 0o777 == 0o600
    assert list(tape.parent.iterdir()) == [tape]


@pytest.mark.parametrize("left", [0, 7, HEADER_BYTES - 1])
def test_no_tape_at_all(tape: Path, left: int) -> None:
    tape.write_bytes(tape.read_bytes()[:left])
    refused(tape, "is not a Roundelay tape")


@pytest.mark.parametrize("left", [HEADER_BYTES, HEADER_BYTES + 1, HEADER_BYTES + 999])
def test_truncated_body(tape: Path, left: int) -> None:
    tape.write_bytes(tape.read_bytes()[:left])
    refused(tape, f"is truncated: {HEADER_BYTES + 1000 - left} bytes of its body are missing")


@pytest.mark.parametrize("missing", [1, 16, 17, 32])
def test_truncated_checksum(tape: Path, missing: int) -> None:
    tape.write_bytes(tape.read_bytes()[:-missing])
    refused(tape, "is truncated: its checksum is missing")


def test_every_altered_byte_is_noticed(tape: Path) -> None:
    data = tape.read_bytes()
    for at in [*range(HEADER_BYTES + 1), HEADER_BYTES + 500, len(data) - 33, len(data) - 32, len(data) - 1]:
        tape.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        refused(tape, "altered|truncated|not a Roundelay tape|tape format|tape of party|another plan")
    tape.write_bytes(data + b"\0")
    refused(tape, "was altered")


def test_altered_seed_and_body_are_altered_tapes(tape: Path) -> None:
    data = tape.read_bytes()
    for at in (data.index(SEED), data.index(ID), HEADER_BYTES + 10):
        tape.write_bytes(data[:at] + bytes([data[at] ^ 128]) + data[at + 1 :])
        refused(tape, "was altered: its checksum does not match")


def test_foreign_tapes(tape: Path) -> None:
    refused(tape, "is the tape of party 1, this is party 0", party=0)
    refused(tape, f"was dealt for another plan \\({PLAN.hex()[:12]}, not {OTHER.hex()[:12]}\\)", plan=OTHER)
    assert TapeReader.open(tape, 1, None).header.plan == PLAN


def test_other_formats(tape: Path) -> None:
    data = bytearray(tape.read_bytes())
    data[8] += 1
    tape.write_bytes(data)
    refused(tape, f"has tape format {VERSION + 1}, this program reads {VERSION}: deal a new tape")
    tape.write_bytes(b"PK\3\4" + bytes(200))
    refused(tape, "is not a Roundelay tape")
    refused(tape.with_name("missing.p1"), "cannot read tape .*No such file")


def test_no_error_and_no_repr_shows_the_seed(tape: Path) -> None:
    header = TapeHeader(1, PLAN, ID, SEED, 1000)
    texts = [repr(header), str(header), repr(MemoryTape(header)), repr(TapeReader.open(tape, 1))]
    for party, plan in ((0, PLAN), (1, OTHER)):
        with pytest.raises(TapeError) as caught:
            TapeReader.open(tape, party, plan)
        texts.append(repr(caught.value))
    for text in texts:
        assert "secret" not in text and SEED.hex() not in text and repr(SEED)[2:-1] not in text


def test_half_a_tape_is_never_found(tmp_path: Path) -> None:
    path = tmp_path / "run.p0"
    writer = FileTapeWriter(path, TapeHeader(0, PLAN, ID, SEED, 1000))
    writer.write(BODY[:999])
    assert not path.exists()
    with pytest.raises(LocalError, match="differs from its plan by -1 bytes"):
        writer.finish()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LocalError, match="cannot write"):
        FileTapeWriter(tmp_path / "no such folder" / "run.p0", TapeHeader(0, PLAN, ID, SEED, 0))


def test_reading_gives_no_byte_before_all_is_verified(tape: Path) -> None:
    """The reader has read the whole source before its constructor returns."""

    class Watched(io.BytesIO):
        def readinto(self, buffer: Any, /) -> int:
            read = super().readinto(buffer)
            seen.update(range(self.tell() - read, self.tell()))
            return read

    seen: set[int] = set()
    data = tape.read_bytes()
    TapeReader(Watched(data), "watched", 1, PLAN)
    assert seen == set(range(len(data)))


SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 5 * CHUNK + 77]


@pytest.mark.parametrize("size", SIZES)
def test_any_pieces_written_and_any_pieces_read(size: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(size)
    body = rng.integers(0, 256, size, np.uint8)
    writer = FileTapeWriter(tmp_path / "run.p0", TapeHeader(0, PLAN, ID, SEED, size))
    for part in np.split(body, np.sort(rng.integers(0, size + 1, 6))):
        writer.write(part)
    path = writer.finish()
    assert path.stat().st_size == file_bytes(size)
    for cuts in ([], [size // 2], np.sort(rng.integers(0, size + 1, 9))):
        with contextlib.closing(TapeReader.open(path, 0, PLAN)) as reader:
            parts = [reader.read(part.size) for part in np.split(body, cuts)]
            assert np.array_equal(np.concatenate(parts), body), "pieces that are still held keep their bytes"
            with pytest.raises(TapeError, match="ends before its plan does"):
                reader.read(1)


def test_exchanged_chunks_are_noticed(tmp_path: Path) -> None:
    body = np.random.default_rng(2).integers(0, 256, 3 * CHUNK, np.uint8)
    path = written(tmp_path / "run.p1", body)
    data = np.fromfile(path, np.uint8)
    for part in (data[HEADER_BYTES : HEADER_BYTES + 2 * CHUNK], data[-64:-32]):  # two chunks, and two of the tags
        part[:] = np.roll(part, part.size // 2)
        data.tofile(path)
        refused(path, "was altered: its checksum does not match")


@pytest.mark.parametrize("at", [0, CHUNK - 1, CHUNK, 2 * CHUNK + 5])
def test_what_changes_after_it_was_verified_is_not_used(at: int, tmp_path: Path) -> None:
    body = np.random.default_rng(3).integers(0, 256, 3 * CHUNK, np.uint8)
    path = written(tmp_path / "run.p1", body)
    reader = TapeReader.open(path, 1, PLAN)
    with open(path, "r+b") as f:
        f.seek(HEADER_BYTES + at)
        f.write(bytes([body[at] ^ 1]))
    assert np.array_equal(reader.read(at // CHUNK * CHUNK), body[: at // CHUNK * CHUNK])
    with pytest.raises(TapeError, match="was altered: its checksum does not match"):
        reader.read(1)


def test_a_tape_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    body = np.random.default_rng(4).integers(0, 256, 3 * CHUNK, np.uint8)
    path = written(tmp_path / "run.p1", body)
    reader = TapeReader.open(path, 1, PLAN)
    os.truncate(path, HEADER_BYTES + 2 * CHUNK + 10)
    reader.read(2 * CHUNK)
    with pytest.raises(TapeError, match="is truncated: it became shorter while it was read"):
        reader.read(1)


def test_a_disk_that_fails_is_a_sentence(tape: Path) -> None:
    class Failing(io.BytesIO):
        def readinto(self, buffer: Any, /) -> int:
            if self.tell() > HEADER_BYTES:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().readinto(buffer)

    with pytest.raises(TapeError, match="cannot read tape failing: Input/output error"):
        TapeReader(Failing(tape.read_bytes()), "failing", 1, PLAN)


def test_memory_is_used_again_and_never_while_a_view_is_left() -> None:
    buffers = Buffers(keep=8 << 20)
    first = buffers.take(1 << 20)
    part, address = first[4096:8192].view(np.uint64).reshape(2, -1), first.ctypes.data
    del first
    second = buffers.take(1 << 20)
    assert second.ctypes.data != address and not np.shares_memory(second, part)
    del part
    assert buffers.take(1000).ctypes.data == address
    assert buffers.take(0).size == 0


def test_memory_tape_reads_what_was_written() -> None:
    tape = MemoryTape(TapeHeader(0, PLAN, ID, SEED, 10))
    tape.write(BODY[:4])
    tape.write(BODY[4:10])
    assert tape.size == 10 and np.array_equal(tape.read(6), BODY[:6])
    with pytest.raises(TapeError, match="ends before its plan does"):
        tape.read(5)
