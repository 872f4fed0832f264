"""TCP beyond what all transports share: strangers, peers that misbehave after the handshake, copies, IPv6."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.errors import InputError, PeerError, PeerTimeout
from engine.transport import door
from engine.transport.channel import ChannelOptions
from engine.transport.handshake import Session, client_handshake
from engine.transport.sealed import HEADER, OVERHEAD, Record
from engine.transport.tcp import TcpListener, TcpTransport, shake
from engine.transport.tcpchannel import TcpChannel
from tests.transport.pairs import ANYWHERE, CLIENT, LISTENER, PATIENT

transport = TcpTransport()
THERE = ChannelOptions(identity=LISTENER, peers=(CLIENT.public,), deadline=PATIENT, linger=1.0)
HERE = ChannelOptions(identity=CLIENT, peers=(LISTENER.public,), deadline=PATIENT, linger=1.0)


@pytest.fixture
async def listener() -> AsyncIterator[TcpListener]:
    async with await transport.listen(ANYWHERE, THERE) as listener:
        yield listener


@contextlib.asynccontextmanager
async def connected(listener: TcpListener) -> AsyncIterator[tuple[TcpChannel, TcpChannel]]:
    """The client's end and the listener's."""
    async with await transport.connect(listener.address, HERE) as a, await listener.accept(PATIENT) as b:
        assert isinstance(b, TcpChannel)
        yield a, b


def test_it_needs_no_zeromq(tmp_path: Path) -> None:
    code = "import sys; sys.modules['zmq'] = None; from engine.transport.registry import open_transport; "
    code += "from pathlib import Path; from engine.transport.identity import create; "
    code += "open_transport('tcp'); create(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "keys")], check=True)


# ---------------------------------------------------------------------- strangers
async def dial(listener: TcpListener) -> socket.socket:
    """A bare connection to the listener."""
    host, port = re.fullmatch(r"tcp://(.*):(\d+)", listener.address).groups()  # type: ignore[union-attr]
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    return sock


async def hung_up(sock: socket.socket) -> bool:
    """Whether the other side closes the connection; what it says before is dropped."""
    with contextlib.suppress(ConnectionResetError):
        while await asyncio.get_running_loop().sock_recv(sock, 1000):
            pass
    return True


async def test_strangers_keep_nobody_waiting(listener: TcpListener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more silent ones than there are places; the oldest go."""
    monkeypatch.setattr(door, "STRANGERS", 8)
    strangers = [await dial(listener) for _ in range(30)]
    async with connected(listener) as (a, b):
        await a.send(b"through")
        assert bytes(await b.recv()) == b"through"
        assert len(listener._strangers) <= 8 and await hung_up(strangers[0])
    for sock in strangers:
        sock.close()


async def test_a_replayed_hello_lets_nobody_in(listener: TcpListener) -> None:
    hello = client_handshake(CLIENT, LISTENER.public).outgoing()
    with await dial(listener) as sock:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, hello)
        assert len(await loop.sock_recv(sock, 1000)) == 50
        await loop.sock_sendall(sock, HEADER.pack(Record.CONFIRM, 0) + bytes(16))
        assert await hung_up(sock) and listener._refusals == 1
    with pytest.raises(PeerTimeout):
        await listener.accept(0.01)


# ---------------------------------------------------------------------- sizes, and peers that misbehave
@contextlib.asynccontextmanager
async def raw_client(listener: TcpListener) -> AsyncIterator[tuple[socket.socket, Session, TcpChannel]]:
    """A listed client that may then say what it likes, and the listener's end."""
    with await dial(listener) as sock:
        session = await shake(sock, client_handshake(CLIENT, LISTENER.public))
        async with await listener.accept(PATIENT) as channel:
            assert isinstance(channel, TcpChannel)
            yield sock, session, channel


async def test_an_oversize_message_is_refused_before_it_is_buffered(listener: TcpListener) -> None:
    async with raw_client(listener) as (sock, _, channel):
        await asyncio.get_running_loop().sock_sendall(sock, HEADER.pack(Record.MESSAGE, 2**32 - 1))
        with pytest.raises(PeerError, match="announces 4294967295 bytes where at most 268435456"):
            await channel.recv()
        with pytest.raises(PeerError, match="announces"):
            await channel.send(b"to a peer that misbehaved")
        assert await hung_up(sock)


async def test_an_altered_record_ends_the_channel_after_what_came_before(listener: TcpListener) -> None:
    async with raw_client(listener) as (sock, session, channel):
        data = memoryview(bytearray(2 * (OVERHEAD + 4)))
        used = session.sealer.seal(Record.MESSAGE, 4, b"good", data)
        session.sealer.seal(Record.MESSAGE, 4, b"evil", data[used:])
        data[used + HEADER.size] ^= 1
        await asyncio.get_running_loop().sock_sendall(sock, data)
        assert bytes(await channel.recv()) == b"good"
        with pytest.raises(PeerError, match="altered"):
            await channel.recv()


async def test_an_end_without_a_goodbye_is_no_orderly_end(listener: TcpListener) -> None:
    """Whoever cuts the connection on its way cannot pass that off as the peer's own close."""
    async with raw_client(listener) as (sock, _, channel):
        sock.shutdown(socket.SHUT_WR)
        with pytest.raises(PeerError, match="vanished"):
            await channel.recv()


async def test_no_more_than_the_window_and_a_message_wait_unread(listener: TcpListener) -> None:
    async with connected(listener) as (slow, unread):
        slow.deadline, slow._linger = 0.3, 0.1
        with pytest.raises(PeerTimeout):
            for _ in range(1000):
                await slow.send(bytes(1 << 20))
        assert unread._held <= 17 << 20


async def test_a_large_message_is_not_copied_before_it_is_sealed(listener: TcpListener) -> None:
    async with connected(listener) as (a, b):
        a.limit = b.limit = 64 << 20
        payload = bytearray(40 << 20)
        await a.send(b"header", payload)
        waiting = [body.obj for _, _, body, _ in a._outgoing._waiting if isinstance(body, memoryview)]
        assert waiting and all(owner is payload for owner in waiting)
        assert (await b.recv()).nbytes == 6 + (40 << 20)


async def test_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        listener = await transport.listen("tcp://[::1]:*", THERE)
    except InputError:
        pytest.skip("no IPv6 loopback here")
    assert re.fullmatch(r"tcp://\[::1\]:\d+", listener.address)
    async with listener, connected(listener) as (a, b):
        await a.send(b"six")
        assert bytes(await b.recv()) == b"six"


@pytest.mark.parametrize("address", ["tcp://a b:1", "tcp://x.invalid:1"])
async def test_bad_hosts(address: str) -> None:
    with pytest.raises(InputError, match=re.escape(repr(address))):
        await transport.listen(address, THERE)
    with pytest.raises(InputError, match=re.escape(repr(address))):
        await transport.connect(address, HERE)
