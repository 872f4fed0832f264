"""TCP: the conformance suite on both kinds of loop and in both roles, and beyond it who is let in, strangers, several
clients, two processes, sizes, absent and silent peers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError, LocalError, PeerError, PeerRefused, PeerTimeout
from engine.testing.channels import ChannelConformance
from engine.transport import tcp
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.handshake import Session, client_handshake
from engine.transport.identity import Identity, create
from engine.transport.linkmodel import Link
from engine.transport.loop import run
from engine.transport.registry import open_transport
from engine.transport.sealed import HEADER, OVERHEAD, Record
from engine.transport.tcp import TcpListener, TcpTransport, shake
from engine.transport.tcpchannel import TcpChannel
from engine.transport.wan import WanChannel

ANYWHERE = "tcp://127.0.0.1:*"
PATIENT, SHORT = 20.0, 0.3
transport = TcpTransport()
Pair = AsyncIterator[tuple[Channel, Channel]]


@contextlib.asynccontextmanager
async def tcp_pair(options: ChannelOptions) -> Pair:
    with tempfile.TemporaryDirectory() as folder:
        client, server = (create(Path(folder, role)) for role in ("client", "server"))
    listener = await transport.listen(ANYWHERE, replace(options, identity=server, peers=(client.public,)))
    patient = replace(options, deadline=10.0, identity=client, peers=(server.public,))
    async with listener, await transport.connect(listener.address, patient) as a, await listener.accept(10.0) as b:
        await listener.aclose()
        a.deadline = options.deadline
        yield a, b


class TestTcp(ChannelConformance):
    def pair(self, options: ChannelOptions) -> Any:
        return tcp_pair(options)

    async def vanish(self, channel: Channel) -> None:
        assert isinstance(channel, TcpChannel)
        await channel.vanish()


class TestTcpListeningSide(TestTcp):
    """The same pair with the roles exchanged."""

    @contextlib.asynccontextmanager
    async def pair(self, options: ChannelOptions) -> Pair:
        async with tcp_pair(options) as (a, b):
            yield b, a


class TestTcpOnUvloop(TestTcp):
    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        run(coroutine)


class TestTcpListeningSideOnUvloop(TestTcpListeningSide, TestTcpOnUvloop):
    pass


class TestWanOverTcp(TestTcp):
    @contextlib.asynccontextmanager
    async def pair(self, options: ChannelOptions) -> Pair:
        link = Link(delay=0.001, bandwidth=1e9, jitter=0.001, seed=3)
        async with (
            tcp_pair(options) as (first, second),
            WanChannel(first, link, options=options) as a,
            WanChannel(second, link, options=options) as b,
        ):
            yield a, b

    async def vanish(self, channel: Channel) -> None:
        assert isinstance(channel, WanChannel)
        await super().vanish(channel.inner)


@pytest.fixture
def server(tmp_path: Path) -> Identity:
    return create(tmp_path / "server")


@pytest.fixture
def clients(tmp_path: Path) -> list[Identity]:
    return [create(tmp_path / f"client{i}") for i in range(4)]


def options(identity: Identity, *peers: Identity, deadline: float = PATIENT) -> ChannelOptions:
    return ChannelOptions(identity=identity, peers=tuple(p.public for p in peers), deadline=deadline, linger=1.0)


@pytest.fixture
async def listener(server: Identity, clients: list[Identity]) -> AsyncIterator[TcpListener]:
    async with await transport.listen(ANYWHERE, options(server, *clients[:3])) as listener:
        yield listener


@contextlib.asynccontextmanager
async def connected(listener: TcpListener, client: ChannelOptions) -> AsyncIterator[tuple[TcpChannel, TcpChannel]]:
    """The client's end and the listener's."""
    async with await transport.connect(listener.address, client) as a, await listener.accept(PATIENT) as b:
        assert isinstance(b, TcpChannel)
        yield a, b


def test_it_is_found_by_name() -> None:
    assert isinstance(open_transport("tcp"), TcpTransport)


def test_it_needs_no_zeromq() -> None:
    code = "import sys; sys.modules['zmq'] = None; from engine.transport.registry import open_transport; "
    code += "from pathlib import Path; from engine.transport.identity import create; "
    code += "open_transport('tcp'); create(Path(sys.argv[1]))"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", code, folder], check=True)


# ---------------------------------------------------------------------- who is let in
async def test_an_unlisted_client_is_refused(listener: TcpListener, server: Identity, clients: list[Identity]) -> None:
    accepting = asyncio.create_task(listener.accept(SHORT))
    with pytest.raises(PeerRefused, match="does not list this side's public key"):
        await transport.connect(listener.address, options(clients[3], server))
    with pytest.raises(PeerRefused, match="1 connections failed the handshake"):
        await accepting


async def test_a_server_with_another_key_is_refused(listener: TcpListener, clients: list[Identity]) -> None:
    with pytest.raises(PeerRefused, match=f"{listener.address} refused .* its public key is another one"):
        await transport.connect(listener.address, options(clients[0], clients[1]))


async def test_a_refused_client_does_not_disturb_a_listed_one(
    listener: TcpListener, server: Identity, clients: list[Identity]
) -> None:
    async with connected(listener, options(clients[0], server)) as (a, b):
        with pytest.raises(PeerRefused):
            await transport.connect(listener.address, options(clients[3], server))
        await a.send(b"still here")
        assert bytes(await b.recv()) == b"still here"


async def test_several_clients_at_once_and_one_after_another(
    listener: TcpListener, server: Identity, clients: list[Identity]
) -> None:
    async def client(identity: Identity) -> None:
        for visit in range(3):
            async with await transport.connect(listener.address, options(identity, server)) as channel:
                assert channel.peer == server.public
                await channel.send(f"{identity.public} {visit}".encode())
                assert bytes(await channel.recv()) == f"welcome {identity.public} {visit}".encode()

    async def serve_one() -> None:
        async with await listener.accept(PATIENT) as channel:
            message = bytes(await channel.recv())
            assert message.startswith(channel.peer.encode()), "the channel knows who it is"
            await channel.send(b"welcome ", message)
            with pytest.raises(PeerError, match="closed the channel"):
                await channel.recv()

    async with asyncio.TaskGroup() as group:
        for identity in clients[:3]:
            group.create_task(client(identity))
        for _ in range(9):
            await serve_one()


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


async def test_strangers_keep_nobody_waiting(
    listener: TcpListener, server: Identity, clients: list[Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far more silent ones than there are places; the oldest go."""
    monkeypatch.setattr(tcp, "STRANGERS", 8)
    strangers = [await dial(listener) for _ in range(30)]
    async with connected(listener, options(clients[0], server)) as (a, b):
        await a.send(b"through")
        assert bytes(await b.recv()) == b"through"
        assert len(listener._strangers) <= 8 and await hung_up(strangers[0])
    for sock in strangers:
        sock.close()


async def test_a_silent_stranger_has_a_deadline(
    listener: TcpListener, server: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "HANDSHAKE_SECONDS", 0.05)
    with await dial(listener) as sock:
        assert await hung_up(sock) and not listener._strangers


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n" * 10, bytes(104), b"rndlay\x01\x00" + bytes(96)])
async def test_garbage_is_hung_up_on(listener: TcpListener, garbage: bytes) -> None:
    with await dial(listener) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, garbage)
        assert await hung_up(sock) and listener._refusals == 1


async def test_a_replayed_hello_lets_nobody_in(
    listener: TcpListener, server: Identity, clients: list[Identity]
) -> None:
    hello = client_handshake(clients[0], server.public).outgoing()
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
async def raw_client(
    listener: TcpListener, client: Identity, server: Identity
) -> AsyncIterator[tuple[socket.socket, Session, TcpChannel]]:
    """A listed client that may then say what it likes, and the listener's end."""
    with await dial(listener) as sock:
        session = await shake(sock, client_handshake(client, server.public))
        async with await listener.accept(PATIENT) as channel:
            assert isinstance(channel, TcpChannel)
            yield sock, session, channel


async def test_an_oversize_message_is_refused_before_it_is_buffered(
    listener: TcpListener, server: Identity, clients: list[Identity]
) -> None:
    async with raw_client(listener, clients[0], server) as (sock, _, channel):
        await asyncio.get_running_loop().sock_sendall(sock, HEADER.pack(Record.MESSAGE, 2**32 - 1))
        with pytest.raises(PeerError, match="announces 4294967295 bytes where at most 268435456"):
            await channel.recv()
        with pytest.raises(PeerError, match="announces"):
            await channel.send(b"to a peer that misbehaved")
        assert await hung_up(sock)


async def test_an_altered_record_ends_the_channel_after_what_came_before(
    listener: TcpListener, server: Identity, clients: list[Identity]
) -> None:
    async with raw_client(listener, clients[0], server) as (sock, session, channel):
        data = memoryview(bytearray(2 * (OVERHEAD + 4)))
        used = session.sealer.seal(Record.MESSAGE, 4, b"good", data)
        session.sealer.seal(Record.MESSAGE, 4, b"evil", data[used:])
        data[used + HEADER.size] ^= 1
        await asyncio.get_running_loop().sock_sendall(sock, data)
        assert bytes(await channel.recv()) == b"good"
        with pytest.raises(PeerError, match="altered"):
            await channel.recv()


async def test_an_end_without_a_goodbye_is_no_orderly_end(
    listener: TcpListener, server: Identity, clients: list[Identity]
) -> None:
    """Whoever cuts the connection on its way cannot pass that off as the peer's own close."""
    async with raw_client(listener, clients[0], server) as (sock, _, channel):
        sock.shutdown(socket.SHUT_WR)
        with pytest.raises(PeerError, match="vanished"):
            await channel.recv()


async def test_a_slow_reader_does_not_stall_its_neighbours(
    listener: TcpListener, server: Identity, clients: list[Identity]
) -> None:
    async with (
        connected(listener, replace(options(clients[0], server), linger=0.1)) as (slow, unread),
        connected(listener, options(clients[1], server)) as (fast, read),
    ):
        slow.deadline = SHORT
        with pytest.raises(PeerTimeout):
            for _ in range(1000):
                await slow.send(bytes(1 << 20))
        for i in range(20):
            await fast.send(bytes([i]))
            assert bytes(await read.recv()) == bytes([i])
        assert unread._held <= 17 << 20, "no more than the window and one message wait unread"


async def test_a_large_message_is_not_copied_before_it_is_sealed(
    listener: TcpListener, server: Identity, clients: list[Identity]
) -> None:
    async with connected(listener, options(clients[0], server)) as (a, b):
        a.limit = b.limit = 64 << 20
        payload = bytearray(40 << 20)
        await a.send(b"header", payload)
        waiting = [body.obj for _, _, body, _ in a._outgoing._waiting if isinstance(body, memoryview)]
        assert waiting and all(owner is payload for owner in waiting)
        assert (await b.recv()).nbytes == 6 + (40 << 20)


# ---------------------------------------------------------------------- absent and late peers, addresses
def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_an_absent_peer_is_named_at_the_deadline(server: Identity, clients: list[Identity]) -> None:
    address = f"tcp://127.0.0.1:{unused_port()}"
    with pytest.raises(PeerTimeout, match=f"waited {SHORT:g} s for an answer from {address}"):
        await transport.connect(address, options(clients[0], server, deadline=SHORT))


async def test_a_peer_that_never_answers_is_named_at_the_deadline(server: Identity, clients: list[Identity]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(PeerTimeout, match=f"waited {SHORT:g} s for an answer from {address}"):
            await transport.connect(address, options(clients[0], server, deadline=SHORT))


async def test_a_peer_that_comes_later_is_reached(server: Identity, clients: list[Identity]) -> None:
    address = f"tcp://127.0.0.1:{unused_port()}"
    connecting = asyncio.create_task(transport.connect(address, options(clients[0], server)))
    await asyncio.sleep(0)
    listener = await transport.listen(address, options(server, clients[0]))
    async with listener, await connecting as a, await listener.accept(PATIENT) as b:
        await b.send(b"hello")
        assert bytes(await a.recv()) == b"hello"


async def test_accept_ends_at_its_deadline_or_with_the_listener(listener: TcpListener) -> None:
    with pytest.raises(PeerTimeout, match="listed peer"):
        await listener.accept(0.01)
    accepting = asyncio.create_task(listener.accept())
    await asyncio.sleep(0)
    await listener.aclose()
    with pytest.raises(LocalError, match="listener was closed"):
        await accepting


async def test_channels_outlive_their_listener(
    listener: TcpListener, server: Identity, clients: list[Identity]
) -> None:
    async with connected(listener, options(clients[0], server)) as (a, b):
        await listener.aclose()
        await a.send(b"after the listener")
        assert bytes(await b.recv()) == b"after the listener"
        with pytest.raises(PeerTimeout):
            await transport.connect(listener.address, options(clients[1], server, deadline=SHORT))


async def test_bad_addresses_and_missing_keys(listener: TcpListener, server: Identity) -> None:
    good = options(server, server)
    for address in ("udp://127.0.0.1:1", "tcp://", "tcp://127.0.0.1:99999", "tcp://a b:1", "tcp://x.invalid:1"):
        with pytest.raises(InputError, match=re.escape(repr(address))):
            await transport.listen(address, good)
        with pytest.raises(InputError, match=re.escape(repr(address))):
            await transport.connect(address, good)
    with pytest.raises(InputError, match="in use"):
        await transport.listen(listener.address, good)
    with pytest.raises(InputError, match="identity"):
        await transport.connect(listener.address, replace(good, identity=None))
    with pytest.raises(InputError, match="exactly one public key"):
        await transport.connect(listener.address, replace(good, peers=()))


async def test_ipv6(server: Identity, clients: list[Identity]) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        listener = await transport.listen("tcp://[::1]:*", options(server, clients[0]))
    except InputError:
        pytest.skip("no IPv6 loopback here")
    assert re.fullmatch(r"tcp://\[::1\]:\d+", listener.address)
    async with listener, connected(listener, options(clients[0], server)) as (a, b):
        await a.send(b"six")
        assert bytes(await b.recv()) == b"six"


# ---------------------------------------------------------------------- two processes
ECHO = """
import sys
from pathlib import Path
from engine.errors import PeerError
from engine.transport.channel import ChannelOptions
from engine.transport.identity import load
from engine.transport.loop import run
from engine.transport.tcp import TcpTransport

async def main(folder, client):
    options = ChannelOptions(identity=load(Path(folder)), peers=(client,), limit=1 << 23, deadline=20.0)
    async with await TcpTransport().listen("tcp://127.0.0.1:*", options) as listener:
        print(listener.address, flush=True)
        async with await listener.accept(20.0) as channel:
            try:
                while True:
                    await channel.send(await channel.recv(), b"!")
            except PeerError:
                print(channel.received.bytes, flush=True)

run(main(*sys.argv[1:]))
"""


@contextlib.asynccontextmanager
async def echo_process(tmp_path: Path, client: Identity) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A listener in a process of its own, and its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ECHO, str(tmp_path / "server"), client.public, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_two_processes(tmp_path: Path, server: Identity, clients: list[Identity]) -> None:
    async with echo_process(tmp_path, clients[0]) as (process, address):
        large = os.urandom(5 << 20)
        patient = replace(options(clients[0], server), limit=1 << 23)
        async with await transport.connect(address, patient) as channel:
            for message in (b"one", b"", large):
                await channel.send(message)
                assert bytes(await channel.recv()) == message + b"!"
        assert process.stdout is not None
        assert int(await process.stdout.readline()) == len(large) + 3
        assert await process.wait() == 0


async def test_a_killed_process_is_noticed_at_once(tmp_path: Path, server: Identity, clients: list[Identity]) -> None:
    async with (
        echo_process(tmp_path, clients[0]) as (process, address),
        await transport.connect(address, options(clients[0], server)) as channel,
    ):
        await channel.send(b"x")
        await channel.recv()
        process.send_signal(signal.SIGKILL)
        with pytest.raises(PeerError, match="vanished"):
            await channel.recv()


async def test_a_stopped_process_is_noticed_by_heartbeat(
    tmp_path: Path, server: Identity, clients: list[Identity]
) -> None:
    watchful = replace(options(clients[0], server), heartbeat=0.1, linger=0.1)
    async with (
        echo_process(tmp_path, clients[0]) as (process, address),
        await transport.connect(address, watchful) as channel,
    ):
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(PeerError, match=r"vanished: silent for 0\.4 s"):
            await channel.recv()


async def test_a_silent_peer_with_a_heartbeat_stays(server: Identity, clients: list[Identity]) -> None:
    """Nothing is said for many beats; both sides stay, and no beat is counted as a message."""
    beating = replace(options(server, clients[0]), heartbeat=0.02)
    async with (
        await transport.listen(ANYWHERE, beating) as listener,
        connected(listener, replace(options(clients[0], server), heartbeat=0.02)) as (a, b),
    ):
        a.deadline = b.deadline = SHORT
        for channel in (a, b):
            with pytest.raises(PeerTimeout):
                await channel.recv()
        await a.send(b"still here")
        assert bytes(await b.recv()) == b"still here" and b.received.messages == 1
