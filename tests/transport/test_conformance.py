"""Every transport of our own passes the suite that third parties are given."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.testing.channels import ChannelConformance
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.identity import create
from engine.transport.linkmodel import Link
from engine.transport.memory import MemoryChannel, MemoryTransport, memory_pair
from engine.transport.wan import WanChannel
from engine.transport.zeromq import ZeromqTransport
from engine.transport.zmqchannel import ZeromqChannel
from simulators import clock

Pair = AsyncIterator[tuple[Channel, Channel]]


class TestMemory(ChannelConformance):
    @asynccontextmanager
    async def pair(self, options: ChannelOptions) -> Pair:
        a, b = memory_pair(options)
        async with a, b:
            yield a, b

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        clock.run(coroutine)

    async def vanish(self, channel: Channel) -> None:
        assert isinstance(channel, MemoryChannel)
        channel.vanish()


class TestMemoryByName(TestMemory):
    @asynccontextmanager
    async def pair(self, options: ChannelOptions) -> Pair:
        transport = MemoryTransport()
        listener = await transport.listen("here", options)
        async with listener, await transport.connect("here", options) as a, await listener.accept(1.0) as b:
            yield a, b


class TestWanOverMemory(TestMemory):
    @asynccontextmanager
    async def pair(self, options: ChannelOptions) -> Pair:
        first, second = memory_pair(options)
        link = Link(delay=0.02, bandwidth=100e6, jitter=0.004, seed=5)
        async with WanChannel(first, link, options=options) as a, WanChannel(second, link, options=options) as b:
            yield a, b

    async def vanish(self, channel: Channel) -> None:
        assert isinstance(channel, WanChannel)
        await super().vanish(channel.inner)


class TestWanOnOneEnd(TestWanOverMemory):
    @asynccontextmanager
    async def pair(self, options: ChannelOptions) -> Pair:
        first, second = memory_pair(options)
        there, back = Link(0.01, 50e6, 0.003, seed=1), Link(0.03, 400e6, 0.003, seed=2)
        async with WanChannel(first, there, back, options) as a, second:
            yield a, second


@asynccontextmanager
async def zeromq_pair(address: str, options: ChannelOptions) -> Pair:
    with tempfile.TemporaryDirectory() as folder:
        client, server = (create(Path(folder, role)) for role in ("client", "server"))
    transport = ZeromqTransport()
    listener = await transport.listen(address, replace(options, identity=server, peers=(client.public,)))
    patient = replace(options, deadline=10.0, identity=client, peers=(server.public,))
    async with listener, await transport.connect(listener.address, patient) as a, await listener.accept(10.0) as b:
        await listener.aclose()
        a.deadline = options.deadline
        yield a, b


class TestZeromqTcp(ChannelConformance):
    def pair(self, options: ChannelOptions) -> Any:
        return zeromq_pair("tcp://127.0.0.1:*", options)

    async def vanish(self, channel: Channel) -> None:
        assert isinstance(channel, ZeromqChannel)
        await channel.vanish()


class TestZeromqIpc(TestZeromqTcp):
    @asynccontextmanager
    async def pair(self, options: ChannelOptions) -> Pair:
        with tempfile.TemporaryDirectory() as folder:
            async with zeromq_pair(f"ipc://{folder}/socket", options) as ends:
                yield ends


class TestZeromqListeningSide(TestZeromqTcp):
    """The same pair with the roles exchanged."""

    @asynccontextmanager
    async def pair(self, options: ChannelOptions) -> Pair:
        async with zeromq_pair("tcp://127.0.0.1:*", options) as (a, b):
            yield b, a


class TestWanOverZeromq(TestZeromqTcp):
    @asynccontextmanager
    async def pair(self, options: ChannelOptions) -> Pair:
        link = Link(delay=0.001, bandwidth=1e9, jitter=0.001, seed=3)
        async with (
            zeromq_pair("tcp://127.0.0.1:*", options) as (first, second),
            WanChannel(first, link, options=options) as a,
            WanChannel(second, link, options=options) as b,
        ):
            yield a, b

    async def vanish(self, channel: Channel) -> None:
        assert isinstance(channel, WanChannel)
        await super().vanish(channel.inner)
