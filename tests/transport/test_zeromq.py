"""ZeroMQ beyond what all transports share: the gate before libzmq takes a message, and peers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import zmq
import zmq.asyncio

from engine.errors import PeerError, PeerRefused, PeerTimeout
from engine.transport import zmqgate
from engine.transport.channel import ChannelOptions
from engine.transport.handshake import Handshake, client_handshake
from engine.transport.records import BATCH_BYTES
from engine.transport.sealed import HEADER, OVERHEAD, Record
from engine.transport.sealedchannel import SealedChannel, feed
from engine.transport.zeromq import ZeromqListener, ZeromqTransport
from engine.transport.zmqchannel import AMOUNT, BYE, FIRST_WINDOW, GRANT, GREETING, HELLO, READY, VERSION, ZeromqChannel
from tests.transport.pairs import ANYWHERE, CLIENT, LISTENER, OTHER, PATIENT, SHORT

transport = ZeromqTransport()
THERE = ChannelOptions(identity=LISTENER, peers=(CLIENT.public,), deadline=PATIENT, linger=0.1)
HERE = ChannelOptions(identity=CLIENT, peers=(LISTENER.public,), deadline=PATIENT, linger=1.0)
GREET = [HELLO, GREETING.pack(VERSION, 1 << 20)]


@pytest.fixture
async def listener() -> AsyncIterator[ZeromqListener]:
    async with await transport.listen(ANYWHERE, THERE) as listener:
        yield listener


@contextlib.asynccontextmanager
async def connected(listener: ZeromqListener) -> AsyncIterator[tuple[SealedChannel, SealedChannel]]:
    """The client's end and the listener's."""
    async with await transport.connect(listener.address, HERE) as a, await listener.accept(PATIENT) as b:
        assert isinstance(b, SealedChannel)
        yield a, b


@contextlib.contextmanager
def dealer(listener: ZeromqListener, hello: bytes | None, name: bytes = zmqgate.NAME) -> Iterator[zmq.asyncio.Socket]:
    """A bare ZeroMQ socket that shows this hello, or none, and may then say what it likes."""
    context = zmq.asyncio.Context()
    socket = context.socket(zmq.DEALER)
    if hello is not None:
        socket.plain_username, socket.plain_password = name, hello
    socket.connect(listener.address)
    try:
        yield socket
    finally:
        context.destroy(linger=0)


async def answer(socket: zmq.asyncio.Socket) -> list[bytes]:
    """The next message, which must come."""
    async with asyncio.timeout(PATIENT):
        return list(await socket.recv_multipart())


async def nothing(socket: zmq.asyncio.Socket) -> bool:
    """Whether no message comes."""
    return not await socket.poll(int(SHORT * 1000))


async def admitted(socket: zmq.asyncio.Socket, handshake: Handshake) -> None:
    """A listed client's handshake, up to the confirmation."""
    await socket.send_multipart(GREET)
    assert (await answer(socket))[0] == READY
    feed(handshake, (await answer(socket))[0])
    assert handshake.session is not None


# ---------------------------------------------------------------------- the gate
STRANGERS = {
    "without a hello": (None, zmqgate.NAME),
    "with an empty hello": (b"\0", zmqgate.NAME),
    "with half a hello": (client_handshake(CLIENT, LISTENER.public).outgoing()[:50], zmqgate.NAME),
    "with too long a hello": (client_handshake(CLIENT, LISTENER.public).outgoing() + b"!", zmqgate.NAME),
    "with garbage": (b"rndlay\x01\x00" + bytes(96), zmqgate.NAME),
    "to another listener": (client_handshake(CLIENT, OTHER.public).outgoing(), zmqgate.NAME),
    "unlisted": (client_handshake(OTHER, LISTENER.public).outgoing(), zmqgate.NAME),
    "under another name": (client_handshake(CLIENT, LISTENER.public).outgoing(), b"someone"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_a_strangers_messages_are_never_taken(listener: ZeromqListener, stranger: str) -> None:
    """libzmq itself drops them: not even the hub sees one."""
    hello, name = STRANGERS[stranger]
    taken: list[object] = []
    listener._server.data._deliver = taken.append
    with dealer(listener, hello, name) as socket:
        with contextlib.suppress(TimeoutError):  # libzmq may have refused it before: then nothing can be sent
            async with asyncio.timeout(SHORT):
                await socket.send_multipart(GREET)
        assert await nothing(socket) and not taken
    assert listener._refusals >= 1, "and the refusal is counted"


async def test_a_hello_is_taken_once(listener: ZeromqListener) -> None:
    hello = client_handshake(CLIENT, LISTENER.public).outgoing()
    with dealer(listener, hello) as first:
        await first.send_multipart(GREET)
        assert (await answer(first))[0] == READY
        with dealer(listener, hello) as second:
            await second.send_multipart(GREET)
            assert await nothing(second)


async def test_what_is_remembered_is_bounded(listener: ZeromqListener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmqgate, "REMEMBERED", 5)
    gate = listener._server._gate
    for _ in range(80):
        assert gate._judge(client_handshake(CLIENT, LISTENER.public).outgoing())[0] == zmqgate.WELCOME
    assert len(gate._seen) == 5 and len(gate._waiting) == 64


async def test_a_hello_recorded_elsewhere_lets_nobody_in(listener: ZeromqListener) -> None:
    """Whoever replays it cannot confirm."""
    with dealer(listener, client_handshake(CLIENT, LISTENER.public).outgoing()) as socket:
        await socket.send_multipart(GREET)
        assert (await answer(socket))[0] == READY and len((await answer(socket))[0]) == 50
        await socket.send(HEADER.pack(Record.CONFIRM, 0) + bytes(16))
        with pytest.raises(PeerRefused, match="1 connections failed"):
            await listener.accept(SHORT)


async def test_no_flood_before_the_confirmation(listener: ZeromqListener) -> None:
    """The window is a handshake's until the handshake is over."""
    with dealer(listener, client_handshake(CLIENT, LISTENER.public).outgoing()) as socket:
        await socket.send_multipart(GREET)
        version, window = GREETING.unpack((await answer(socket))[1])
        assert (version, window) == (VERSION, FIRST_WINDOW)
        for _ in range(40):
            await socket.send(bytes(BATCH_BYTES))
        with pytest.raises((PeerRefused, PeerTimeout)):
            await listener.accept(SHORT)
        assert not listener._server.channels


async def test_another_version_is_told(listener: ZeromqListener) -> None:
    handshake = client_handshake(CLIENT, LISTENER.public)
    with dealer(listener, handshake.outgoing()) as socket:
        accepting = asyncio.create_task(listener.accept(SHORT))
        await socket.send_multipart([HELLO, GREETING.pack(VERSION + 1, 1 << 20)])
        assert (await answer(socket))[0] == READY, "in which the client finds this side's version"
        with pytest.raises(PeerRefused, match="1 connections failed"):
            await accepting


# ---------------------------------------------------------------------- listed peers that misbehave
async def test_an_oversize_frame_breaks_the_connection_before_it_is_buffered(listener: ZeromqListener) -> None:
    handshake = client_handshake(CLIENT, LISTENER.public)
    with dealer(listener, handshake.outgoing()) as socket:
        await admitted(socket, handshake)
        await socket.send(handshake.outgoing())
        async with await listener.accept(PATIENT) as channel:
            await socket.send(bytes(BATCH_BYTES + 1))
            with pytest.raises(PeerError, match="vanished"):
                await channel.recv()


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ([HEADER.pack(Record.MESSAGE, 2**32 - 1)], "announces 4294967295 bytes where at most 268435456"),
        ([HEADER.pack(Record.MESSAGE, 4) + bytes(20)], "altered"),
        ([HEADER.pack(Record.MESSAGE, 4) + bytes(19)], "cut short"),
        ([b"x"], "cut short"),
        ([b"\x09", b""], "not part of the channel's protocol"),
        ([GRANT, b"short"], "not part of the channel's protocol"),
        ([GRANT, AMOUNT.pack(1), b"more"], "not part of the channel's protocol"),
        ([HELLO, GREETING.pack(VERSION, 1)], "not part of the channel's protocol"),
        ([BYE, b""], "closed the channel, without a sealed goodbye"),
    ],
)
async def test_nonsense_ends_the_channel(listener: ZeromqListener, message: list[bytes], says: str) -> None:
    handshake = client_handshake(CLIENT, LISTENER.public)
    with dealer(listener, handshake.outgoing()) as socket:
        await admitted(socket, handshake)
        await socket.send(handshake.outgoing())
        async with await listener.accept(PATIENT) as channel:
            await socket.send_multipart(message)
            with pytest.raises(PeerError, match=says):
                await channel.recv()
            with pytest.raises(PeerError, match=says):
                await channel.send(b"to a peer that misbehaved")


async def test_a_peer_that_ignores_the_window_is_cut_off(listener: ZeromqListener) -> None:
    """What lay within the window is still received; the rest was dropped on arrival."""
    async with connected(listener) as (a, b):
        assert isinstance(a.inner, ZeromqChannel) and isinstance(b.inner, ZeromqChannel)
        await a.send(b"through")
        assert bytes(await b.recv()) == b"through"
        assert a.inner._window is not None
        a.inner._window.size = 1 << 40
        for _ in range(40):
            await a.send(bytes(1 << 20))
        with pytest.raises(PeerError, match="more than the granted window"):
            while b.inner._gone is None:
                await asyncio.sleep(0)
            for _ in range(41):
                await b.recv()
        assert 14 <= b.received.messages <= 17


async def test_what_a_record_holds_is_not_on_the_wire(listener: ZeromqListener) -> None:
    handshake = client_handshake(CLIENT, LISTENER.public)
    with dealer(listener, handshake.outgoing()) as socket:
        await admitted(socket, handshake)
        await socket.send(handshake.outgoing())
        async with await listener.accept(PATIENT) as channel:
            await channel.send(b"a secret of the owner's")
            message: list[bytes] = [GRANT]
            while message[0] == GRANT:
                message = await answer(socket)
            assert len(message) == 1 and len(message[0]) == OVERHEAD + 23 and b"secret" not in message[0]


async def test_options_reach_both_layers(listener: ZeromqListener) -> None:
    small = replace(THERE, limit=1000, ceiling=1000)
    async with await transport.listen(ANYWHERE, small) as strict, connected(strict) as (a, b):
        await a.send(bytes(1000))
        assert (await b.recv()).nbytes == 1000
        await a.send(bytes(1001))
        with pytest.raises(PeerError, match="announces 1001 bytes where at most 1000"):
            await b.recv()
