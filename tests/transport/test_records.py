"""Messages as records without sockets: all lengths, in pieces of any size, what is refused before it is buffered."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import PeerError
from engine.transport.records import BATCH_BYTES, Incoming, Outgoing, Stream
from engine.transport.sealed import HEADER, OVERHEAD, RECORD_BYTES, Record
from tests.transport.pairs import sealed_record, sessions

MIB = 1 << 20


def stream(outgoing: Outgoing) -> bytes:
    out, data = memoryview(bytearray(BATCH_BYTES)), b""
    while count := outgoing.fill(out):
        data += bytes(out[:count])
    assert outgoing.held == 0
    return data


def push(incoming: Stream, data: bytes, pieces: list[int]) -> list[bytes]:
    """Feeds the data in pieces of these sizes, over and over; the messages."""
    got, at, turn = [], 0, 0
    while at < len(data):
        space = incoming.space()
        count = min(pieces[turn % len(pieces)], len(data) - at, space.nbytes)
        space[:count] = data[at : at + count]
        got += [bytes(message) for message in incoming.received(count)]
        at, turn = at + count, turn + 1
    return got


def line(ceiling: int = 4 * MIB) -> tuple[Outgoing, Stream]:
    a, b = sessions()
    return Outgoing(a.sealer), Stream(b.opener, ceiling, "the client")


EDGES = [0, 1, 100, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1, 2 * RECORD_BYTES, 3 * RECORD_BYTES + 5]


@pytest.mark.parametrize("pieces", [[1 << 30], [1000, 7, 60_000], [RECORD_BYTES + OVERHEAD - 1]])
def test_messages_of_all_lengths(pieces: list[int]) -> None:
    outgoing, incoming = line()
    messages = [os.urandom(size) for size in [*EDGES, *reversed(EDGES)]]
    for message in messages:
        outgoing.put((message[:16], memoryview(message)[16:]), len(message))
    outgoing.sign(Record.BEAT)
    outgoing.sign(Record.BYE)
    assert push(incoming, stream(outgoing), pieces) == messages and incoming.ended


def test_small_messages_byte_by_byte() -> None:
    outgoing, incoming = line()
    messages = [b"", b"a", b"bc" * 50]
    for message in messages:
        outgoing.put((message,), len(message))
    assert push(incoming, stream(outgoing), [1]) == messages


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3 * RECORD_BYTES), max_size=6), st.integers(0, 2**32))
def test_any_parts_make_the_same_message(sizes: list[int], seed: int) -> None:
    parts = [bytes([(seed + i) % 256]) * size for i, size in enumerate(sizes)]
    outgoing, incoming = line()
    outgoing.put(parts, sum(sizes))
    assert push(incoming, stream(outgoing), [100_000]) == [b"".join(parts)]


def test_long_parts_are_sealed_where_they_lie() -> None:
    outgoing, _ = line()
    part = bytearray(4 * RECORD_BYTES)
    outgoing.put((part,), len(part))
    held = [body.obj for _, _, body, _ in outgoing._waiting]
    assert all(owner is part for owner in held) and len(held) == 4


def header(kind: int, length: int) -> bytes:
    return HEADER.pack(kind, length)


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (header(Record.MESSAGE, 2**32 - 1), "announces 4294967295 bytes"),
        (header(Record.MESSAGE, 4 * MIB + 1), "announces 4194305 bytes"),
        (header(Record.MORE, 5), "not part of"),
        (header(Record.CONFIRM, 0), "not part of"),
        (header(Record.BEAT, 1), "not part of"),
        (header(Record.BYE, 9), "not part of"),
        (header(0, 0), "not part of"),
        (header(6, 0), "not part of"),
    ],
)
def test_wrong_headers_are_refused_before_anything_follows(first: bytes, says: str) -> None:
    _, incoming = line()
    with pytest.raises(PeerError, match=says):
        push(incoming, first, [8])
    assert incoming._message is None


def test_a_length_that_nobody_sealed_makes_no_room() -> None:
    """Within the ceiling the announcement is believed only when the first record has been opened."""
    _, incoming = line()
    push(incoming, header(Record.MESSAGE, 4 * MIB) + bytes(RECORD_BYTES), [1 << 30])
    assert incoming._message is None and incoming.space().nbytes == 16
    with pytest.raises(PeerError, match="altered"):
        push(incoming, bytes(16), [16])
    assert incoming._message is None


def test_nothing_comes_between_the_records_of_a_message_or_after_the_end() -> None:
    a, b = sessions()
    incoming = Stream(b.opener, MIB, "the client")
    push(incoming, sealed_record(a.sealer, Record.MESSAGE, RECORD_BYTES + 1, bytes(RECORD_BYTES)), [1 << 30])
    with pytest.raises(PeerError, match="not part of"):
        push(incoming, sealed_record(a.sealer, Record.BEAT, 0, b""), [1 << 30])
    outgoing, incoming = line()
    outgoing.sign(Record.BYE)
    outgoing.put((b"late",), 4)
    with pytest.raises(PeerError, match="not part of"):
        push(incoming, stream(outgoing), [1 << 30])


def test_what_came_before_a_fault_is_delivered() -> None:
    outgoing, incoming = line()
    for message in (b"one", b"two"):
        outgoing.put((message,), 3)
    data = bytearray(stream(outgoing))
    data[-1] ^= 1
    incoming.space()[: len(data)] = data
    got = incoming.received(len(data))
    assert bytes(next(got)) == b"one"
    with pytest.raises(PeerError, match="altered"):
        next(got)


def test_whole_records_need_no_stream() -> None:
    outgoing, _ = line()
    a, b = sessions()
    outgoing, incoming = Outgoing(a.sealer), Incoming(b.opener, 4 * MIB, "the client")
    messages = [os.urandom(size) for size in EDGES]
    got = []
    for message in messages:
        outgoing.put((message,), len(message))
        while outgoing.held:
            out = memoryview(bytearray(outgoing.due))
            got += [bytes(message) for message in incoming.messages(out[: outgoing.fill(out)])]
    assert got == messages


@pytest.mark.parametrize("lost", [1, 16, 17, 24])
def test_a_record_that_is_cut_short_is_refused(lost: int) -> None:
    a, b = sessions()
    incoming = Incoming(b.opener, MIB, "the client")
    record = memoryview(sealed_record(a.sealer, Record.MESSAGE, 3, b"abc"))
    with pytest.raises(PeerError, match="cut short"):
        list(incoming.messages(record[:-lost]))
