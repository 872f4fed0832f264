"""Tapes: whatever happened to one is said in a sentence, and nothing of it is used."""

import io
from pathlib import Path

import numpy as np
import pytest

from engine.errors import LocalError, TapeError
from engine.tape import HEADER_BYTES, TRAILER_BYTES, FileTapeWriter, MemoryTape, TapeHeader, TapeReader

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
    assert tape.stat().st_size == HEADER_BYTES + 1000 + TRAILER_BYTES
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


@pytest.mark.parametrize("missing", [1, TRAILER_BYTES])
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
    refused(tape, "has tape format 2, this program reads 1: deal a new tape")
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
    """The reader has hashed the whole source before its constructor returns."""
    data = tape.read_bytes()

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            end.append(self.tell())
            return super().read(size)

    end: list[int] = []
    TapeReader(Watched(data), "watched", 1, PLAN)
    assert max(end) >= HEADER_BYTES + 1000


def test_memory_tape_reads_what_was_written() -> None:
    tape = MemoryTape(TapeHeader(0, PLAN, ID, SEED, 10))
    tape.write(BODY[:4])
    tape.write(BODY[4:10])
    assert tape.size == 10 and np.array_equal(tape.read(6), BODY[:6])
    with pytest.raises(TapeError, match="ends before its plan does"):
        tape.read(5)
