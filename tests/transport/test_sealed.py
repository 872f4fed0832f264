"""Handshake and sealed records without sockets: published vectors, whole and byte by byte, and everything an attacker
on the path can do."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from hashlib import blake2b, sha256

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_scalarmult_base

from engine.errors import LocalError, PeerError, PeerMismatch, PeerRefused
from engine.transport import sealed
from engine.transport.handshake import NEXT, SIZES, Handshake, Session, State, client_handshake, listener_handshake
from engine.transport.identity import Identity
from engine.transport.noise import NoiseIK
from engine.transport.records import BATCH_BYTES, Incoming, Outgoing
from engine.transport.sealed import HEADER, OVERHEAD, RECORD_BYTES, Opener, Record, Sealer

MIB = 1 << 20
unhex = bytes.fromhex


def identity(seed: int) -> Identity:
    secret = bytes([seed]) * 32
    return Identity(crypto_scalarmult_base(secret).hex(), secret)


CLIENT, LISTENER, OTHER = identity(1), identity(2), identity(3)


# ---------------------------------------------------------------------- Noise
PROLOGUE = unhex("4a6f686e2047616c74")
NOISE_KEYS = {
    "initiator": "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
    "initiator ephemeral": "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
    "responder": "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
    "responder public": "31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62",
    "responder ephemeral": "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
}
"""The cacophony vectors for Noise_IK_25519_AESGCM_BLAKE2b, as are the messages below."""
NOISE_MESSAGES = [
    (
        "4c756477696720766f6e204d69736573",
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c794410ade309f400533fbc81fb0e8b55288091ab5fe35d8c3d"
        "5033dbec503bcfa06269d8692447295ef3f3f47a1d6e6048bc4889db4631c5f5d18d37edd34e113a664e2eb59ac55371831af42186f549"
        "15eb",
    ),
    (
        "4d757272617920526f746862617264",
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f14480884361923da61bbe936aa0e52e679c8a0341ab3e9ebca061b0"
        "423d0758f1c92d86",
    ),
]


def noise_pair(prologues: tuple[bytes, bytes] = (PROLOGUE, PROLOGUE)) -> tuple[NoiseIK, NoiseIK]:
    k = {name: unhex(text) for name, text in NOISE_KEYS.items()}
    return (
        NoiseIK(k["initiator"], k["responder public"], prologues[0], k["initiator ephemeral"]),
        NoiseIK(k["responder"], None, prologues[1], k["responder ephemeral"]),
    )


def test_noise_gives_the_published_messages() -> None:
    writer, reader = noise_pair()
    for payload, message in NOISE_MESSAGES:
        assert writer.write(unhex(payload)).hex() == message
        assert reader.read(unhex(message)) == unhex(payload)
        writer, reader = reader, writer
    assert writer.split() == reader.split()[::-1] and writer.hash == reader.hash
    first = AESGCM(writer.split()[0]).encrypt(bytes(12), unhex("462e20412e20486179656b"), b"")
    assert first.hex() == "76c378c26ad0616d8b5d12fb30069a3d2006f09c736d133b1b00e2"


def test_another_prologue_is_refused() -> None:
    writer, reader = noise_pair((PROLOGUE, PROLOGUE + b"!"))
    with pytest.raises(PeerRefused):
        reader.read(writer.write(b""))


def test_noise_messages_have_their_turn() -> None:
    writer, reader = noise_pair()
    for wrong in (lambda: reader.write(b""), lambda: writer.read(b""), writer.split):
        with pytest.raises(LocalError):
            wrong()
    reader.read(writer.write(b""))
    with pytest.raises(LocalError):
        writer.write(b"")


LOW_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    unhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    unhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 19 - 1).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 19 + 1).to_bytes(32, "little"),
]


@pytest.mark.parametrize("point", LOW_ORDER)
def test_points_of_low_order_are_refused(point: bytes) -> None:
    _, responder = noise_pair()
    with pytest.raises(PeerRefused):
        responder.read(point + unhex(NOISE_MESSAGES[0][1])[32:])
    with pytest.raises(PeerRefused):  # whoever pins such a key would agree with anybody
        client, listener = client_handshake(CLIENT, LISTENER.public), listener_handshake(LISTENER, [CLIENT.public])
        listener.feed(client.outgoing())
        answer = listener.outgoing()
        client.feed(answer[:1])
        client.feed(point + answer[33:])


# ---------------------------------------------------------------------- handshake
def fixed() -> tuple[Handshake, Handshake]:
    return (
        client_handshake(CLIENT, LISTENER.public, ephemeral=b"\x11" * 32),
        listener_handshake(LISTENER, [CLIENT.public], ephemeral=b"\x22" * 32),
    )


def feed(handshake: Handshake, data: bytes, piece: int) -> None:
    while data:
        count = min(piece, handshake.needed)
        handshake.feed(data[:count])
        data = data[count:]


def agree(client: Handshake, listener: Handshake, piece: int = 1000) -> list[bytes]:
    """Carries a handshake out; what crossed."""
    sides, crossed = [client, listener], []
    while data := sides[0].outgoing():
        crossed.append(data)
        feed(sides[1], data, piece)
        sides.reverse()
    return crossed


def sessions(client: Handshake | None = None, listener: Handshake | None = None) -> tuple[Session, Session]:
    client = client or client_handshake(CLIENT, LISTENER.public)
    listener = listener or listener_handshake(LISTENER, [CLIENT.public])
    agree(client, listener)
    assert client.session is not None and listener.session is not None
    return client.session, listener.session


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_whole_and_in_pieces(piece: int) -> None:
    whole, cut = agree(*fixed()), agree(*(pair := fixed()), piece)
    assert whole == cut and [len(m) for m in whole] == [104, 50, OVERHEAD]
    client, listener = (side.session for side in pair)
    assert client is not None and listener is not None
    assert (client.peer, listener.peer) == (LISTENER.public, CLIENT.public)


def test_the_transcript_is_fixed() -> None:
    """Any change here is a change of the protocol, and wants another version."""
    assert sha256(b"".join(agree(*fixed()))).hexdigest() == DIGEST


DIGEST = "c37ceefa19824ef32f1b486512b87ecf389ed3f7c5150f2c8d14155df5db1eb0"


def test_each_handshake_has_keys_of_its_own() -> None:
    out = memoryview(bytearray(100))
    records = []
    for _ in range(2):
        client, _ = sessions()
        client.sealer.seal(Record.MESSAGE, 5, b"hello", out)
        records.append(bytes(out))
    assert records[0] != records[1]


def test_every_state_has_a_successor_and_a_size() -> None:
    assert set(NEXT) == set(SIZES)
    assert set(NEXT.values()) | {State.HELLO, State.VERDICT, State.FAILED} == set(State)


def test_more_than_was_needed_is_our_fault() -> None:
    client, listener = fixed()
    with pytest.raises(LocalError):
        listener.feed(bytes(105))
    agree(client, listener)
    assert client.needed == listener.needed == 0
    with pytest.raises(LocalError):
        client.feed(b"x")


def refused(client: Handshake, listener: Handshake, at: type[PeerError] = PeerRefused) -> str:
    """Both sides end without a session; what the client says."""
    with pytest.raises(at):
        feed(listener, client.outgoing(), 1000)
    with pytest.raises(at) as caught:
        feed(client, listener.outgoing(), 1000)
    assert client.session is None and listener.session is None
    assert client.state is listener.state is State.FAILED and not client.outgoing() and not listener.outgoing()
    return str(caught.value)


def test_an_unlisted_client_is_refused() -> None:
    said = refused(client_handshake(OTHER, LISTENER.public), listener_handshake(LISTENER, [CLIENT.public]))
    assert "does not list this side's public key" in said


def test_a_client_that_pins_another_key_is_refused() -> None:
    said = refused(client_handshake(CLIENT, OTHER.public), listener_handshake(LISTENER, [CLIENT.public]))
    assert "its public key is another one" in said


def test_another_version_is_a_mismatch() -> None:
    client, listener = fixed()
    hello = bytearray(client.outgoing())
    hello[6] = 2
    with pytest.raises(PeerMismatch, match="version 2"):
        listener.feed(bytes(hello))
    with pytest.raises(PeerMismatch, match="version 1"):
        client.feed(listener.outgoing())


def test_an_impostor_without_the_pinned_secret_is_refused() -> None:
    """It relays a genuine verdict but cannot make the answer."""
    client, _ = fixed()
    hello = client.outgoing()
    with pytest.raises(PeerRefused):
        NoiseIK(OTHER.secret, None, hello[:8]).read(hello[8:])
    client.feed(b"\x01")
    with pytest.raises(PeerRefused):
        client.feed(OTHER.secret + bytes(17))


def test_a_replayed_hello_gives_no_session() -> None:
    first, listener = fixed()
    hello = first.outgoing()
    listener.feed(hello)
    again = listener_handshake(LISTENER, [CLIENT.public])
    again.feed(hello)
    assert again.session is None and again.state is State.CONFIRM
    confirm = agree(*fixed())[2]
    with pytest.raises(PeerRefused, match="did not confirm"):
        again.feed(confirm)


BITS = [(message, bit) for message, size in enumerate((104, 50, OVERHEAD)) for bit in range(0, 8 * size, 5)]


@pytest.mark.parametrize(("message", "bit"), BITS)
def test_any_changed_bit_is_refused(message: int, bit: int) -> None:
    client, listener = fixed()
    sides = [client, listener]
    with pytest.raises((PeerRefused, PeerMismatch)):
        for number in range(3):
            data = bytearray(sides[0].outgoing())
            if number == message:
                data[bit // 8] ^= 1 << bit % 8
            feed(sides[1], bytes(data), 1000)
            sides.reverse()
    assert sides[1].session is None, "the side that met the change lets nobody in"


def test_no_secret_in_any_repr_or_error() -> None:
    client, listener = fixed()
    shown = [repr(client), repr(listener), repr(NoiseIK(CLIENT.secret, None))]
    a, b = sessions(client, listener)
    shown += [repr(a), repr(b), repr(a.sealer), repr(b.opener), str(vars(a.sealer))]
    assert not any(secret.hex() in text or repr(secret) in text for text in shown for secret in (CLIENT.secret,))
    assert "sealer" not in repr(a)
    with pytest.raises(FrozenInstanceError):
        a.peer = OTHER.public  # type: ignore[misc]


# ---------------------------------------------------------------------- records
def sealed_record(sealer: Sealer, kind: Record, length: int, body: bytes) -> bytes:
    out = memoryview(bytearray(len(body) + OVERHEAD))
    assert sealer.seal(kind, length, body, out) == len(out)
    return bytes(out)


def opened(opener: Opener, record: bytes) -> bytes:
    return opener.open(*HEADER.unpack_from(record), record[HEADER.size :])


def test_a_record_has_its_documented_layout() -> None:
    a, b = sessions()
    record = sealed_record(a.sealer, Record.MESSAGE, 5, b"hello")
    assert record[:8] == struct.pack("<II", 2, 5) and len(record) == 8 + 5 + 16
    assert b"hello" not in record and opened(b.opener, record) == b"hello"


def test_a_record_by_the_library_alone() -> None:
    """Key, nonce and associated data written out once more, from the documentation."""
    key, session = os.urandom(32), os.urandom(64)
    sealer = Sealer(key, session, "client")
    binding = blake2b(session, digest_size=16, person=b"client").digest()
    for number in range(3):
        record = sealed_record(sealer, Record.MESSAGE, 3, b"abc")
        context = binding + struct.pack("<QII", number, 2, 3)
        assert AESGCM(key).decrypt(number.to_bytes(12, "big"), record[8:], context) == b"abc"


def both_ways() -> tuple[Session, Session, list[bytes], list[bytes]]:
    a, b = sessions()
    there = [sealed_record(a.sealer, Record.MESSAGE, 1, bytes([i])) for i in range(4)]
    back = [sealed_record(b.sealer, Record.MESSAGE, 1, bytes([i])) for i in range(4)]
    return a, b, there, back


def altered(record: bytes, at: int) -> bytes:
    return record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :]


ATTACKS: dict[str, Callable[[list[bytes], list[bytes]], list[bytes]]] = {
    "replayed": lambda there, back: [there[0], there[0]],
    "reordered": lambda there, back: [there[1], there[0]],
    "left out": lambda there, back: [there[0], there[2]],
    "truncated body": lambda there, back: [there[0][:8] + there[0][9:]],
    "truncated tag": lambda there, back: [there[0][:-1]],
    "empty": lambda there, back: [there[0][:8]],
    "reflected": lambda there, back: [back[0]],
    "kind changed": lambda there, back: [altered(there[0], 0)],
    "length changed": lambda there, back: [altered(there[0], 4)],
    "body changed": lambda there, back: [altered(there[0], 8)],
    "tag changed": lambda there, back: [altered(there[0], len(there[0]) - 1)],
    "of another session": lambda there, back: [both_ways()[2][0]],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_on_records_are_refused(name: str) -> None:
    _, b, there, back = both_ways()
    *good, bad = ATTACKS[name](there, back)
    for record in good if name != "reordered" else []:
        opened(b.opener, record)
    with pytest.raises(PeerError):
        opened(b.opener, bad if name != "reordered" else there[1])
    with pytest.raises(LocalError):
        opened(b.opener, there[1])


def test_numbers_are_never_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "RECORDS", 3)
    sealer = Sealer(bytes(32), b"", "client")
    assert len({sealed_record(sealer, Record.MESSAGE, 1, b"x") for _ in range(3)}) == 3
    with pytest.raises(LocalError, match="connect again"):
        sealed_record(sealer, Record.MESSAGE, 1, b"x")


# ---------------------------------------------------------------------- messages
def stream(outgoing: Outgoing) -> bytes:
    out, data = memoryview(bytearray(BATCH_BYTES)), b""
    while count := outgoing.fill(out):
        data += bytes(out[:count])
    assert outgoing.held == 0
    return data


def push(incoming: Incoming, data: bytes, pieces: list[int]) -> list[bytes]:
    """Feeds the data in pieces of these sizes, over and over; the messages."""
    got, at, turn = [], 0, 0
    while at < len(data):
        space = incoming.space()
        count = min(pieces[turn % len(pieces)], len(data) - at, space.nbytes)
        space[:count] = data[at : at + count]
        got += [bytes(message) for message in incoming.received(count)]
        at, turn = at + count, turn + 1
    return got


def line(ceiling: int = 4 * MIB) -> tuple[Outgoing, Incoming]:
    a, b = sessions()
    return Outgoing(a.sealer), Incoming(b.opener, ceiling, "the client")


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
    incoming = Incoming(b.opener, MIB, "the client")
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
