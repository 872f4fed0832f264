"""Every transport of our own passes the suite that third parties are given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from engine.testing.channels import ChannelConformance
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.linkmodel import Link
from engine.transport.memory import MemoryChannel, MemoryTransport, memory_pair
from engine.transport.wan import WanChannel
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
