"""Identities and connected pairs for tests of transports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from nacl.bindings import crypto_scalarmult_base

from engine.transport.channel import Channel, ChannelOptions, Transport
from engine.transport.handshake import Handshake, Session, client_handshake, listener_handshake
from engine.transport.identity import Identity
from engine.transport.sealed import OVERHEAD, Record, Sealer
from engine.transport.sealedchannel import SealedChannel, shake

ANYWHERE = "tcp://127.0.0.1:*"
PATIENT, SHORT = 20.0, 0.3

Pair = AsyncIterator[tuple[Channel, Channel]]


def identity(seed: int) -> Identity:
    """A key pair that is always the same, checked against another library."""
    secret = bytes([seed]) * 32
    return Identity(crypto_scalarmult_base(secret).hex(), secret)


CLIENT, LISTENER, OTHER = identity(1), identity(2), identity(3)


@asynccontextmanager
async def connected_pair(transport: Transport, address: str, options: ChannelOptions) -> Pair:
    """The client's end and the listener's, after the listener has closed."""
    listener = await transport.listen(address, replace(options, identity=LISTENER, peers=(CLIENT.public,)))
    patient = replace(options, deadline=PATIENT, identity=CLIENT, peers=(LISTENER.public,))
    async with listener, await transport.connect(listener.address, patient) as a, await listener.accept(PATIENT) as b:
        await listener.aclose()
        a.deadline = options.deadline
        yield a, b


@asynccontextmanager
async def sealed_pair(client: Channel, listener: Channel, options: ChannelOptions) -> Pair:
    """Both ends sealed, over the two ends of a channel that is not."""
    one, two = client_handshake(CLIENT, LISTENER.public), listener_handshake(LISTENER, [CLIENT.public])
    there, back = await asyncio.gather(shake(client, one), shake(listener, two))
    async with SealedChannel(client, there, options) as a, SealedChannel(listener, back, options) as b:
        yield a, b


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


def sealed_record(sealer: Sealer, kind: Record, length: int, body: bytes) -> bytes:
    """One record, as it goes on the wire."""
    out = memoryview(bytearray(len(body) + OVERHEAD))
    assert sealer.seal(kind, length, body, out) == len(out)
    return bytes(out)
