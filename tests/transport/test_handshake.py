"""The handshake without sockets: whole and byte by byte, and everything an attacker on the path can do to it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from hashlib import sha256

import pytest

from engine.errors import LocalError, PeerError, PeerMismatch, PeerRefused
from engine.transport.handshake import NEXT, SIZES, Handshake, State, client_handshake, listener_handshake
from engine.transport.noise import NoiseIK
from engine.transport.sealed import OVERHEAD, Record
from tests.transport.pairs import CLIENT, LISTENER, OTHER, agree, feed, sessions


def fixed() -> tuple[Handshake, Handshake]:
    return (
        client_handshake(CLIENT, LISTENER.public, ephemeral=b"\x11" * 32),
        listener_handshake(LISTENER, [CLIENT.public], ephemeral=b"\x22" * 32),
    )


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
