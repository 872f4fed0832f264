"""ZeroMQ beyond the conformance suite: who is let in, several clients, two processes, sizes, absent peers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import InputError, LocalError, PeerError, PeerRefused, PeerTimeout
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.identity import Identity, create
from engine.transport.zeromq import ZeromqListener, ZeromqTransport
from engine.transport.zmqchannel import ZeromqChannel

ANYWHERE = "tcp://127.0.0.1:*"
PATIENT, SHORT = 20.0, 0.3
transport = ZeromqTransport()


@pytest.fixture
def server(tmp_path: Path) -> Identity:
    return create(tmp_path / "server")


@pytest.fixture
def clients(tmp_path: Path) -> list[Identity]:
    return [create(tmp_path / f"client{i}") for i in range(4)]


def options(identity: Identity, *peers: Identity, deadline: float = PATIENT) -> ChannelOptions:
    return ChannelOptions(identity=identity, peers=tuple(p.public for p in peers), deadline=deadline, linger=1.0)


@pytest.fixture
async def listener(server: Identity, clients: list[Identity]) -> AsyncIterator[ZeromqListener]:
    async with await transport.listen(ANYWHERE, options(server, *clients[:3])) as listener:
        yield listener


@contextlib.asynccontextmanager
async def connected(listener: ZeromqListener, client: ChannelOptions) -> AsyncIterator[tuple[ZeromqChannel, Channel]]:
    """The client's end and the listener's."""
    async with await transport.connect(listener.address, client) as a, await listener.accept(PATIENT) as b:
        yield a, b


async def test_an_unlisted_client_is_refused(
    listener: ZeromqListener, server: Identity, clients: list[Identity]
) -> None:
    accepting = asyncio.create_task(listener.accept(SHORT))
    with pytest.raises(PeerRefused, match="does not list this side's public key"):
        await transport.connect(listener.address, options(clients[3], server))
    with pytest.raises(PeerRefused, match="failed the handshake"):
        await accepting


async def test_a_server_with_another_key_is_refused(listener: ZeromqListener, clients: list[Identity]) -> None:
    with pytest.raises(PeerRefused, match="its public key is another one"):
        await transport.connect(listener.address, options(clients[0], clients[1]))


async def test_a_refused_client_does_not_disturb_a_listed_one(
    listener: ZeromqListener, server: Identity, clients: list[Identity]
) -> None:
    async with connected(listener, options(clients[0], server)) as (a, b):
        with pytest.raises(PeerRefused):
            await transport.connect(listener.address, options(clients[3], server))
        await a.send(b"still here")
        assert bytes(await b.recv()) == b"still here"


async def test_several_clients_at_once_and_one_after_another(
    listener: ZeromqListener, server: Identity, clients: list[Identity]
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


async def test_a_slow_reader_does_not_stall_its_neighbours(
    listener: ZeromqListener, server: Identity, clients: list[Identity]
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
        assert slow.sent.bytes <= 18 << 20 and unread.received.messages == 0


async def test_an_oversize_message_is_refused_before_it_is_buffered(
    listener: ZeromqListener, server: Identity, clients: list[Identity]
) -> None:
    """The transport itself breaks the connection on a frame beyond the ceiling: nothing reaches the inbox."""
    small = await transport.listen(ANYWHERE, replace(options(server, clients[0]), limit=1000, ceiling=1000))
    async with small, connected(small, options(clients[0], server)) as (a, b):
        await a.send(bytes(1000))
        assert (await b.recv()).nbytes == 1000
        await a.send(bytes(1 << 20))
        with pytest.raises(PeerError, match="vanished"):
            await b.recv()
        with pytest.raises(PeerError, match="vanished"):
            await a.recv()


async def test_an_absent_peer_is_named_at_the_deadline(
    server: Identity, clients: list[Identity], tmp_path: Path
) -> None:
    address = f"ipc://{tmp_path}/nobody"
    with pytest.raises(PeerTimeout, match=f"waited {SHORT:g} s for an answer from {address}"):
        await transport.connect(address, options(clients[0], server, deadline=SHORT))


async def test_a_peer_that_comes_later_is_reached(server: Identity, clients: list[Identity], tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/later"
    connecting = asyncio.create_task(transport.connect(address, options(clients[0], server)))
    await asyncio.sleep(0)
    listener = await transport.listen(address, options(server, clients[0]))
    async with listener, await connecting as a, await listener.accept(PATIENT) as b:
        await b.send(b"hello")
        assert bytes(await a.recv()) == b"hello"


async def test_accept_ends_at_its_deadline_or_with_the_listener(listener: ZeromqListener) -> None:
    with pytest.raises(PeerTimeout, match="listed peer"):
        await listener.accept(0.01)
    accepting = asyncio.create_task(listener.accept())
    await asyncio.sleep(0)
    await listener.aclose()
    with pytest.raises(LocalError, match="listener was closed"):
        await accepting


async def test_channels_outlive_their_listener(
    listener: ZeromqListener, server: Identity, clients: list[Identity]
) -> None:
    async with connected(listener, options(clients[0], server)) as (a, b):
        await listener.aclose()
        await a.send(b"after the listener")
        assert bytes(await b.recv()) == b"after the listener"
        with pytest.raises(PeerError):
            await transport.connect(listener.address, options(clients[1], server))


async def test_bad_addresses_and_missing_keys(listener: ZeromqListener, server: Identity) -> None:
    good = options(server, server)
    for address in ("udp://127.0.0.1:1", "tcp://", "tcp://127.0.0.1:99999"):
        with pytest.raises(InputError):
            await transport.listen(address, good)
        with pytest.raises(InputError):
            await transport.connect(address, good)
    with pytest.raises(InputError, match="in use"):
        await transport.listen(listener.address, good)
    with pytest.raises(InputError, match="identity"):
        await transport.connect(listener.address, replace(good, identity=None))
    with pytest.raises(InputError, match="exactly one public key"):
        await transport.connect(listener.address, replace(good, peers=()))


ECHO = """
import sys
from pathlib import Path
from engine.errors import PeerError
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.identity import load
from engine.transport.loop import run
from engine.transport.zeromq import ZeromqTransport

async def main(folder, client):
    options = ChannelOptions(identity=load(Path(folder)), peers=(client,), limit=1 << 23, deadline=20.0)
    async with await ZeromqTransport().listen("tcp://127.0.0.1:*", options) as listener:
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
        with pytest.raises(PeerError, match="vanished"):
            await channel.recv()


async def test_a_peer_that_ignores_the_window_is_cut_off(
    listener: ZeromqListener, server: Identity, clients: list[Identity]
) -> None:
    """What lay within the window is still received; the rest was dropped on arrival."""
    async with connected(listener, options(clients[0], server)) as (a, b):
        assert a._window is not None
        a._window.size = 1 << 40
        for _ in range(40):
            await a.send(bytes(1 << 20))
        assert isinstance(b, ZeromqChannel)
        await b._changed.until(lambda: b._gone is not None)
        with pytest.raises(PeerError, match="more than the granted window"):
            for _ in range(41):
                await b.recv()
        assert b.received.messages == 16
