"""Every transport of our own passes the suite that third parties are given."""

from __future__ import annotations

import tempfile
from collections.abc import Coroutine
from contextlib import asynccontextmanager
from typing import Any

from engine.testing.channels import ChannelConformance
from engine.transport.channel import Channel, ChannelOptions, Transport
from engine.transport.linkmodel import Link
from engine.transport.loop import run
from engine.transport.memory import MemoryChannel, MemoryTransport, memory_pair
from engine.transport.sealedchannel import SealedChannel
from engine.transport.tcp import TcpTransport
from engine.transport.tcpchannel import TcpChannel
from engine.transport.wan import WanChannel
from engine.transport.zeromq import ZeromqTransport
from engine.transport.zmqchannel import ZeromqChannel
from simulators import clock
from tests.transport.pairs import ANYWHERE, Pair, connected_pair, sealed_pair


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


class TestSealedOverMemory(TestMemory):
    @asynccontextmanager
    async def pair(self, options: ChannelOptions) -> Pair:
        async with sealed_pair(*memory_pair(ChannelOptions(window=options.window)), options) as ends:
            yield ends

    async def vanish(self, channel: Channel) -> None:
        assert isinstance(channel, SealedChannel)
        await super().vanish(channel.inner)


class TestTcp(ChannelConformance):
    transport: Transport = TcpTransport()

    def pair(self, options: ChannelOptions) -> Any:
        return connected_pair(self.transport, ANYWHERE, options)

    async def vanish(self, channel: Channel) -> None:
        assert isinstance(channel, TcpChannel)
        await channel.vanish()


class Reversed(ChannelConformance):
    """The same pair with the roles exchanged."""

    @asynccontextmanager
    async def pair(self, options: ChannelOptions) -> Pair:
        async with super().pair(options) as (a, b):
            yield b, a


class Distant(ChannelConformance):
    """The same pair with a slow link before each end."""

    @asynccontextmanager
    async def pair(self, options: ChannelOptions) -> Pair:
        link = Link(delay=0.001, bandwidth=1e9, jitter=0.001, seed=3)
        async with (
            super().pair(options) as (first, second),
            WanChannel(first, link, options=options) as a,
            WanChannel(second, link, options=options) as b,
        ):
            yield a, b

    async def vanish(self, channel: Channel) -> None:
        assert isinstance(channel, WanChannel)
        await super().vanish(channel.inner)


class OnUvloop(ChannelConformance):
    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        run(coroutine)


class TestTcpListeningSide(Reversed, TestTcp): ...


class TestTcpOnUvloop(OnUvloop, TestTcp): ...


class TestTcpListeningSideOnUvloop(OnUvloop, Reversed, TestTcp): ...


class TestWanOverTcp(Distant, TestTcp): ...


class TestZeromqTcp(ChannelConformance):
    transport: Transport = ZeromqTransport()

    def pair(self, options: ChannelOptions) -> Any:
        return connected_pair(self.transport, ANYWHERE, options)

    async def vanish(self, channel: Channel) -> None:
        assert isinstance(channel, SealedChannel) and isinstance(channel.inner, ZeromqChannel)
        await channel.inner.vanish()


class TestZeromqIpc(TestZeromqTcp):
    @asynccontextmanager
    async def pair(self, options: ChannelOptions) -> Pair:
        with tempfile.TemporaryDirectory() as folder:
            async with connected_pair(self.transport, f"ipc://{folder}/socket", options) as ends:
                yield ends


class TestZeromqListeningSide(Reversed, TestZeromqTcp): ...


class TestZeromqOnUvloop(OnUvloop, TestZeromqTcp): ...


class TestWanOverZeromq(Distant, TestZeromqTcp): ...
