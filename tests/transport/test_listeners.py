"""What every transport of ours between processes promises beyond the conformance suite: who is let in, several clients,
absent and late peers, bad addresses, and processes that die or stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError, LocalError, PeerError, PeerRefused, PeerTimeout
from engine.transport import door
from engine.transport.channel import Channel, ChannelOptions, Listener, Transport
from engine.transport.identity import Identity, create
from engine.transport.registry import open_transport
from tests.transport.pairs import ANYWHERE, CLIENT, LISTENER, OTHER, PATIENT, SHORT, identity

SECOND, THIRD = identity(4), identity(5)


@pytest.fixture(params=["tcp", "zeromq"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def transport(name: str) -> Transport:
    return open_transport(name)


def options(identity: Identity, *peers: Identity, **changes: Any) -> ChannelOptions:
    keys = tuple(p.public for p in peers)
    return replace(ChannelOptions(identity=identity, peers=keys, deadline=PATIENT, linger=1.0), **changes)


@pytest.fixture
async def listener(transport: Transport) -> AsyncIterator[Listener]:
    async with await transport.listen(ANYWHERE, options(LISTENER, CLIENT, SECOND, THIRD)) as listener:
        yield listener


@contextlib.asynccontextmanager
async def connected(
    transport: Transport, listener: Listener, client: ChannelOptions
) -> AsyncIterator[tuple[Channel, Channel]]:
    """The client's end and the listener's."""
    async with await transport.connect(listener.address, client) as a, await listener.accept(PATIENT) as b:
        yield a, b


# ---------------------------------------------------------------------- who is let in
async def test_an_unlisted_client_is_refused(transport: Transport, listener: Listener) -> None:
    accepting = asyncio.create_task(listener.accept(SHORT))
    refusal = f"{re.escape(listener.address)} refused .* does not list this side's public key"
    with pytest.raises(PeerRefused, match=refusal):
        await transport.connect(listener.address, options(OTHER, LISTENER))
    with pytest.raises(PeerRefused, match="1 connections failed the handshake"):
        await accepting


async def test_a_server_with_another_key_is_refused(transport: Transport, listener: Listener) -> None:
    refusal = f"{re.escape(listener.address)} refused .* its public key is another one"
    with pytest.raises(PeerRefused, match=refusal):
        await transport.connect(listener.address, options(CLIENT, OTHER))


async def test_a_refused_client_does_not_disturb_a_listed_one(transport: Transport, listener: Listener) -> None:
    async with connected(transport, listener, options(CLIENT, LISTENER)) as (a, b):
        with pytest.raises(PeerRefused):
            await transport.connect(listener.address, options(OTHER, LISTENER))
        await a.send(b"still here")
        assert bytes(await b.recv()) == b"still here"


async def test_several_clients_at_once_and_one_after_another(transport: Transport, listener: Listener) -> None:
    async def client(identity: Identity) -> None:
        for visit in range(3):
            async with await transport.connect(listener.address, options(identity, LISTENER)) as channel:
                assert channel.peer == LISTENER.public
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
        for identity in (CLIENT, SECOND, THIRD):
            group.create_task(client(identity))
        for _ in range(9):
            await serve_one()


async def test_a_slow_reader_does_not_stall_its_neighbours(transport: Transport, listener: Listener) -> None:
    hasty = options(CLIENT, LISTENER, linger=0.1)
    async with (
        connected(transport, listener, hasty) as (slow, unread),
        connected(transport, listener, options(SECOND, LISTENER)) as (fast, read),
    ):
        slow.deadline = SHORT
        with pytest.raises(PeerTimeout):
            for _ in range(1000):
                await slow.send(bytes(1 << 20))
        for i in range(20):
            await fast.send(bytes([i]))
            assert bytes(await read.recv()) == bytes([i])
        assert unread.received.messages == 0


async def test_a_silent_peer_with_a_heartbeat_stays(transport: Transport) -> None:
    """Nothing is said for many beats; both sides stay, and no beat is counted as a message."""
    async with (
        await transport.listen(ANYWHERE, options(LISTENER, CLIENT, heartbeat=0.02)) as listener,
        connected(transport, listener, options(CLIENT, LISTENER, heartbeat=0.02)) as (a, b),
    ):
        a.deadline = b.deadline = SHORT
        for channel in (a, b):
            with pytest.raises(PeerTimeout):
                await channel.recv()
        await a.send(b"still here")
        assert bytes(await b.recv()) == b"still here" and b.received.messages == 1


# ---------------------------------------------------------------------- strangers
@contextlib.contextmanager
def dialled(listener: Listener) -> Iterator[socket.socket]:
    """A bare connection to the listener."""
    host, port = re.fullmatch(r"tcp://(.*):(\d+)", listener.address).groups()  # type: ignore[union-attr]
    with socket.create_connection((host, int(port))) as sock:
        sock.setblocking(False)
        yield sock


async def hung_up(sock: socket.socket) -> bool:
    """Whether the other side closes the connection; what it says before is dropped."""
    with contextlib.suppress(ConnectionResetError):
        while await asyncio.get_running_loop().sock_recv(sock, 1000):
            pass
    return True


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n" * 10, bytes(104), b"rndlay\x01\x00" + bytes(96)])
async def test_garbage_is_hung_up_on(listener: Listener, garbage: bytes) -> None:
    with dialled(listener) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, garbage)
        assert await hung_up(sock)
    with pytest.raises(PeerTimeout):
        await listener.accept(0.01)


async def test_a_silent_stranger_has_a_deadline(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "HANDSHAKE_SECONDS", 0.05)
    async with await transport.listen(ANYWHERE, options(LISTENER, CLIENT)) as listener:
        with dialled(listener) as sock:
            assert await hung_up(sock)


# ---------------------------------------------------------------------- absent and late peers, addresses
def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_an_absent_peer_is_named_at_the_deadline(transport: Transport) -> None:
    address = f"tcp://127.0.0.1:{unused_port()}"
    with pytest.raises(PeerTimeout, match=f"waited {SHORT:g} s for an answer from {address}"):
        await transport.connect(address, options(CLIENT, LISTENER, deadline=SHORT))


async def test_a_peer_that_never_answers_is_named_at_the_deadline(transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(PeerTimeout, match=f"waited {SHORT:g} s for an answer from {address}"):
            await transport.connect(address, options(CLIENT, LISTENER, deadline=SHORT))


async def test_a_peer_that_comes_later_is_reached(transport: Transport) -> None:
    address = f"tcp://127.0.0.1:{unused_port()}"
    connecting = asyncio.create_task(transport.connect(address, options(CLIENT, LISTENER)))
    await asyncio.sleep(0)
    listener = await transport.listen(address, options(LISTENER, CLIENT))
    async with listener, await connecting as a, await listener.accept(PATIENT) as b:
        await b.send(b"hello")
        assert bytes(await a.recv()) == b"hello"


async def test_accept_ends_at_its_deadline_or_with_the_listener(listener: Listener) -> None:
    with pytest.raises(PeerTimeout, match="listed peer"):
        await listener.accept(0.01)
    accepting = asyncio.create_task(listener.accept())
    await asyncio.sleep(0)
    await listener.aclose()
    with pytest.raises(LocalError, match="listener was closed"):
        await accepting


async def test_channels_outlive_their_listener(transport: Transport, listener: Listener) -> None:
    async with connected(transport, listener, options(CLIENT, LISTENER)) as (a, b):
        await listener.aclose()
        await a.send(b"after the listener")
        assert bytes(await b.recv()) == b"after the listener"
        with pytest.raises(PeerError):
            await transport.connect(listener.address, options(SECOND, LISTENER, deadline=SHORT))


async def test_bad_addresses_and_missing_keys(transport: Transport, listener: Listener) -> None:
    good = options(LISTENER, LISTENER)
    for address in ("udp://127.0.0.1:1", "tcp://", "tcp://127.0.0.1:99999"):
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


# ---------------------------------------------------------------------- two processes
ECHO = """
import sys
from pathlib import Path
from engine.errors import PeerError
from engine.transport.channel import ChannelOptions
from engine.transport.identity import load
from engine.transport.loop import run
from engine.transport.registry import open_transport

async def main(transport, folder, client):
    options = ChannelOptions(identity=load(Path(folder)), peers=(client,), limit=1 << 23, deadline=20.0)
    async with await open_transport(transport).listen("tcp://127.0.0.1:*", options) as listener:
        print(listener.address, flush=True)
        async with await listener.accept(20.0) as channel:
            try:
                while True:
                    await channel.send(await channel.recv(), b"!")
            except PeerError:
                print(channel.received.bytes, flush=True)

run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def echo(name: str, tmp_path: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, Identity]]:
    """A listener in a process of its own, its address and its identity."""
    server = create(tmp_path / "server")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ECHO, name, str(tmp_path / "server"), CLIENT.public, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process, (await process.stdout.readline()).decode().strip(), server
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


Echo = tuple[asyncio.subprocess.Process, str, Identity]


async def test_two_processes(transport: Transport, echo: Echo) -> None:
    process, address, server = echo
    large = os.urandom(5 << 20)
    async with await transport.connect(address, options(CLIENT, server, limit=1 << 23)) as channel:
        for message in (b"one", b"", large):
            await channel.send(message)
            assert bytes(await channel.recv()) == message + b"!"
    assert process.stdout is not None
    assert int(await process.stdout.readline()) == len(large) + 3
    assert await process.wait() == 0


async def test_a_killed_process_is_noticed_at_once(transport: Transport, echo: Echo) -> None:
    process, address, server = echo
    async with await transport.connect(address, options(CLIENT, server)) as channel:
        await channel.send(b"x")
        await channel.recv()
        process.send_signal(signal.SIGKILL)
        with pytest.raises(PeerError, match="vanished"):
            await channel.recv()


async def test_a_stopped_process_is_noticed_by_heartbeat(transport: Transport, echo: Echo) -> None:
    process, address, server = echo
    watchful = options(CLIENT, server, heartbeat=0.1, linger=0.1)
    async with await transport.connect(address, watchful) as channel:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(PeerError, match="vanished"):
            await channel.recv()
