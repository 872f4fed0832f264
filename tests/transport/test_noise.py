"""The Noise handshake by itself: published vectors, turns, points of low order."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.errors import InputError, LocalError, PeerRefused
from engine.transport.handshake import client_handshake, listener_handshake
from engine.transport.noise import NoiseIK
from tests.transport.pairs import CLIENT, LISTENER

unhex = bytes.fromhex

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
def test_nobody_can_hold_a_pinned_key_of_low_order(point: bytes) -> None:
    with pytest.raises(InputError, match="none that anybody can hold"):
        client_handshake(CLIENT, point.hex())


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
