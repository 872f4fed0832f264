"""Frames: whole and byte by byte, hostile headers, order, and whose fault it is."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import LocalError, PeerError
from engine.transport.framing import HEADER_BYTES, Frame, FrameReader, FrameWriter, Kind


def whole(parts: tuple[bytes | bytearray | memoryview, ...]) -> memoryview:
    return memoryview(b"".join(parts))


def header(kind: int = 2, flags: int = 0, sequence: int = 0, length: int = 0) -> bytes:
    return struct.pack("<BBHIII", kind, flags, sequence, 7, 9, length)


def same(a: Frame, b: Frame) -> bool:
    return (a.kind, a.round, a.index, bytes(a.payload)) == (b.kind, b.round, b.index, bytes(b.payload))


def test_the_header_has_its_documented_layout() -> None:
    writer = FrameWriter()
    writer.control({})
    message = whole(writer.data(3, 0x01020304, b"ab", b"c"))
    assert bytes(message) == bytes([2, 0, 1, 0, 3, 0, 0, 0, 4, 3, 2, 1, 3, 0, 0, 0]) + b"abc"
    assert HEADER_BYTES == 16


def test_payloads_are_not_copied() -> None:
    payload = bytearray(100)
    parts = FrameWriter().data(0, 0, payload)
    assert parts[1] is payload
    message = memoryview(bytearray(whole(parts)))
    frame = FrameReader(100).message(message)
    message[HEADER_BYTES] = 5
    assert frame.payload[0] == 5


payloads = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=40))


@given(st.lists(payloads, max_size=12), st.data())
def test_any_cut_of_the_stream_gives_the_same_frames(items: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    writer = FrameWriter()
    messages = [whole(writer.data(*item)) for item in items] + [whole(writer.bye())]
    by_message = FrameReader(40)
    expected = [by_message.message(message) for message in messages]
    stream = b"".join(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    reader = FrameReader(40)
    got = [f for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) for f in reader.feed(stream[a:b])]
    reader.close()
    assert [f.kind for f in got] == [Kind.DATA] * len(items) + [Kind.BYE]
    assert len(got) == len(expected) and all(map(same, got, expected))


def test_byte_by_byte() -> None:
    writer = FrameWriter()
    stream = b"".join(
        whole(p) for p in (writer.control({"b": 1, "a": [2]}), writer.data(1, 2, b""), writer.error("no"))
    )
    reader = FrameReader(100)
    frames = [frame for byte in stream for frame in reader.feed(bytes([byte]))]
    assert [f.kind for f in frames] == [Kind.CONTROL, Kind.DATA, Kind.ERROR]
    assert frames[0].control() == {"a": [2], "b": 1} and bytes(frames[0].payload) == b'{"a":[2],"b":1}'
    assert frames[2].sentence() == "no"


def test_an_oversize_length_is_refused_before_it_is_buffered() -> None:
    reader = FrameReader(1000)
    tracemalloc.start()
    try:
        with pytest.raises(PeerError, match="4294967295 bytes where at most 1000"):
            reader.feed(header(length=2**32 - 1))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_limit_is_inclusive_and_can_be_raised() -> None:
    reader = FrameReader(4)
    assert len(reader.feed(header(length=4) + b"four")) == 1
    reader.limit = 5
    assert len(reader.feed(header(sequence=1, length=5) + b"fives")) == 1


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"short", "too short"),
        (header(kind=0), "unknown kind 0"),
        (header(kind=5), "unknown kind 5"),
        (header(flags=1), "flags 1"),
        (header(sequence=1), "frame 1 where frame 0"),
        (header(length=3) + b"ab", "announces 3 bytes and has 2"),
        (header(length=1) + b"ab", "announces 1 bytes and has 2"),
    ],
)
def test_wrong_messages_are_the_peers_fault(message: bytes, says: str) -> None:
    with pytest.raises(PeerError, match=says):
        FrameReader(10).message(memoryview(message))


@pytest.mark.parametrize("end", ["bye", "error"])
def test_nothing_follows_the_end(end: str) -> None:
    writer, other = FrameWriter(), FrameWriter()
    last = writer.bye() if end == "bye" else writer.error("tape spent")
    with pytest.raises(LocalError, match="cannot be sent"):
        writer.data(0, 0, b"")
    reader = FrameReader(100)
    reader.feed(whole(last))
    other.control({})
    with pytest.raises(PeerError, match=f"ended by an? {end.upper()} frame"):
        reader.feed(whole(other.data(0, 0, b"")))


def test_a_stream_must_end_with_bye_between_frames() -> None:
    reader = FrameReader(10)
    with pytest.raises(PeerError, match="without a BYE"):
        reader.close()
    reader.feed(header(length=4) + b"x")
    with pytest.raises(PeerError, match="after 17 bytes"):
        reader.close()


def test_sequence_numbers_wrap() -> None:
    writer, reader = FrameWriter(), FrameReader(0)
    for i in range(2**16 + 2):
        assert reader.message(whole(writer.data(i, 0))).round == i


@pytest.mark.parametrize("payload", [b"", b"[1]", b'{"a":', b"\xff", b"[" * 100_000])
def test_a_control_frame_must_hold_an_object(payload: bytes) -> None:
    with pytest.raises(PeerError):
        Frame(Kind.CONTROL, memoryview(payload)).control()


def test_control_of_a_data_frame_is_refused() -> None:
    with pytest.raises(PeerError):
        Frame(Kind.DATA, memoryview(b"{}")).control()


@pytest.mark.parametrize("arguments", [(2**32, 0), (0, -1)])
def test_what_does_not_fit_a_header_is_our_fault(arguments: tuple[int, int]) -> None:
    with pytest.raises(LocalError):
        FrameWriter().data(*arguments, b"")


@pytest.mark.parametrize("message", [{"x": float("nan")}, {"x": b""}])
def test_control_messages_are_plain_json(message: dict[str, object]) -> None:
    with pytest.raises(LocalError):
        FrameWriter().control(message)


def test_a_sentence_is_short_and_printable() -> None:
    hostile = Frame(Kind.ERROR, memoryview(b"\x1b[2Jgone\n" + b"x" * 10_000 + b"\xff"))
    assert hostile.sentence().startswith(" [2Jgone x") and len(hostile.sentence()) == 1000
