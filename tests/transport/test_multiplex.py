"""Streams over one channel: each passes the channels' suite, none disturbs another, and bundles are checked."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine.errors import LocalError, PeerError, PeerTimeout
from engine.testing.channels import ChannelConformance, expect_all, fails, pattern, together
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.linkmodel import Link
from engine.transport.memory import MemoryChannel, memory_pair
from engine.transport.multiplex import MOST_STREAMS, Multiplexer
from engine.transport.wan import WanChannel
from simulators import clock
from tests.transport.pairs import Pair


@asynccontextmanager
async def multiplexers(options: ChannelOptions | None = None) -> Any:
    first, second = memory_pair(options and ChannelOptions(window=options.window))
    async with Multiplexer(first, True, options) as a, Multiplexer(second, False, options) as b:
        yield a, b


class TestStream(ChannelConformance):
    @asynccontextmanager
    async def pair(self, options: ChannelOptions) -> Pair:
        async with multiplexers(options) as (one, two):
            yield await one.open(), await two.accept()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        clock.run(coroutine)

    async def vanish(self, channel: Channel) -> None:
        inner = channel._owner.inner  # type: ignore[attr-defined]
        assert isinstance(inner, MemoryChannel)
        inner.vanish()


class TestLaterStreamOfTheListener(TestStream):
    @asynccontextmanager
    async def pair(self, options: ChannelOptions) -> Pair:
        async with multiplexers(options) as (one, two):
            early = await two.open()
            met = await one.accept()
            await early.aclose()
            yield await two.open(), await one.accept()
            await met.aclose()


def virtual(body: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def test() -> None:
        clock.run(body())  # type: ignore[arg-type]

    test.__name__ = body.__name__
    return test


@virtual
async def test_streams_of_both_sides_stay_apart() -> None:
    async with multiplexers() as (one, two):
        mine = [await one.open() for _ in range(5)]
        theirs = [await two.open() for _ in range(5)]
        far = [await two.accept() for _ in mine]
        near = [await one.accept() for _ in theirs]
        for i, stream in enumerate(mine + theirs):
            await stream.send(bytes([i]))
        for i, stream in enumerate(far + near):
            await expect_all(stream, [bytes([i])])


@virtual
async def test_what_is_ready_together_shares_a_message() -> None:
    async with multiplexers() as (one, two):
        streams = [await one.open() for _ in range(8)]
        far = [await two.accept() for _ in streams]
        before = one.bundles
        for stream in streams:
            await stream.send(b"an opening")
        for stream in far:
            await expect_all(stream, [b"an opening"])
        assert (one.bundles - before, one.entries) == (1, 16), "eight openings of streams, eight messages"


@virtual
async def test_eight_streams_take_the_round_trips_of_one() -> None:
    async def rounds(a: Channel, b: Channel) -> None:
        for _ in range(10):
            await together(a.send(b"x"), b.send(b"y"), expect_all(a, [b"y"]), expect_all(b, [b"x"]))

    first, second = memory_pair()
    link = Link(delay=0.03, bandwidth=305e6)
    async with Multiplexer(WanChannel(first, link), True) as one, Multiplexer(WanChannel(second, link), False) as two:
        pairs = [(await one.open(), await two.accept()) for _ in range(8)]
        start = asyncio.get_running_loop().time()
        await together(*(rounds(a, b) for a, b in pairs))
        assert asyncio.get_running_loop().time() - start == pytest.approx(10 * 0.03, rel=0.01)


@virtual
async def test_a_closed_stream_leaves_its_neighbours_alone() -> None:
    async with multiplexers() as (one, two):
        a, b = await one.open(), await one.open()
        far_a, far_b = await two.accept(), await two.accept()
        await a.send(b"last words")
        await a.aclose()
        await expect_all(far_a, [b"last words"])
        await fails(PeerError, far_a.recv())
        await fails(PeerError, far_a.send(b"to nobody"))
        await far_b.send(b"still here")
        await expect_all(b, [b"still here"])


@virtual
async def test_what_comes_for_a_closed_stream_takes_no_room() -> None:
    async with multiplexers(ChannelOptions(window=4096)) as (one, two):
        a, b = await one.open(), await one.open()
        far_a, far_b = await two.accept(), await two.accept()
        await a.send(pattern(5000))
        await asyncio.sleep(0.01)
        await far_a.aclose()
        await b.send(b"behind it")
        await expect_all(far_b, [b"behind it"])


@virtual
async def test_a_stream_that_nobody_reads_ends_its_neighbours_wait_at_the_deadline() -> None:
    async with multiplexers(ChannelOptions(window=4096, deadline=0.5)) as (one, two):
        a, b = await one.open(), await one.open()
        await two.accept()
        far_b = await two.accept()
        await a.send(pattern(5000))
        await asyncio.sleep(0.01)  # else both travel together
        await b.send(b"stuck")
        await fails(PeerTimeout, far_b.recv())


@virtual
async def test_too_many_streams_are_refused_here() -> None:
    async with multiplexers() as (one, _):
        for _ in range(MOST_STREAMS):
            await one.open()
        await fails(LocalError, one.open())


@virtual
async def test_the_end_of_the_channel_ends_accepting() -> None:
    async with multiplexers() as (one, two):
        await one.aclose()
        await fails(PeerError, two.accept())
        await fails(PeerError, two.open())


@virtual
async def test_accepting_has_a_deadline() -> None:
    async with multiplexers() as (_, two):
        await fails(PeerTimeout, two.accept(0.2))


E = struct.Struct("<III").pack


@pytest.mark.parametrize(
    "message",
    [
        b"short",
        E(0, 1, 0) + b"rest",
        E(0, 1, 0) + E(0, 2, 9) + b"8 bytes.",
        E(0, 1, 0) + E(0, 7, 0),
        E(0, 1, 3) + b"abc",
        E(1, 1, 0),
        E(4, 1, 0),
        E(0, 1, 0) + E(0, 1, 0),
    ],
    ids=["cut", "trailing", "overlong", "kind", "payload of OPEN", "our parity", "skipped", "twice"],
)
def test_a_peer_that_sends_no_bundle_ends_the_channel(message: bytes) -> None:
    async def body() -> None:
        raw, inner = memory_pair()
        async with raw, Multiplexer(inner, False) as two:
            mine = await two.open()
            await raw.send(message)
            await fails(PeerError, mine.recv())
            await fails(PeerError, two.open())

    clock.run(body())


@virtual
async def test_entries_for_unknown_streams_are_dropped() -> None:
    raw, inner = memory_pair()
    async with raw, Multiplexer(inner, False) as two:
        await raw.send(E(8, 2, 1), b"x", E(8, 3, 0), E(0, 1, 0), E(0, 2, 2), b"ok")
        await expect_all(await two.accept(), [b"ok"])
