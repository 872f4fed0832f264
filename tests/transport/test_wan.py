"""A delayed channel keeps exactly the times of the link model, and the order under random delays."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import PeerError
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.linkmodel import Link, LinkModel
from engine.transport.memory import memory_pair
from engine.transport.wan import WanChannel
from simulators import clock

OPTIONS = ChannelOptions(limit=10**8, window=10**9)


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def joined_by(there: Link, back: Link) -> AsyncIterator[tuple[Channel, Channel]]:
    first, second = memory_pair(OPTIONS)
    async with WanChannel(first, there, options=OPTIONS) as a, WanChannel(second, back, options=OPTIONS) as b:
        yield a, b


def test_times_by_hand() -> None:
    """1 MB at 8 Mb/s is a second on the wire, then 0.25 s of delay; the second message queues for the wire."""

    async def main() -> None:
        async with joined_by(Link(0.25, 8e6), Link(0.5)) as (a, b):
            await a.send(bytes(10**6))
            await a.send(bytes(2 * 10**6))
            await b.send(b"back")
            assert now() == 0.0
            await a.recv()
            assert now() == 0.5
            await b.recv()
            assert now() == 1.25
            await b.recv()
            assert now() == 3.25
            await a.send(b"")
            await b.recv()
            assert now() == 3.5

    clock.run(main())


@given(
    st.lists(st.tuples(st.floats(0, 0.1), st.integers(0, 5000)), min_size=1, max_size=30),
    st.floats(0, 0.1),
    st.floats(1e5, 1e9),
    st.floats(0, 0.2),
    st.integers(0, 99),
)
def test_random_delays_keep_order_and_the_models_times(
    messages: list[tuple[float, int]], delay: float, bandwidth: float, jitter: float, seed: int
) -> None:
    link = Link(delay, bandwidth, jitter, seed)
    model = LinkModel(link)
    expected: list[float] = []

    async def send(channel: Channel) -> None:
        for number, (pause, size) in enumerate(messages):
            await asyncio.sleep(pause)
            expected.append(model.arrival(now(), size + 1))
            await channel.send(bytes([number]), bytes(size))

    async def main() -> None:
        async with joined_by(link, Link()) as (a, b):
            sending = asyncio.create_task(send(a))
            for number, (_, size) in enumerate(messages):
                message = await b.recv()
                assert (message[0], len(message)) == (number, size + 1)
                assert math.isclose(now(), expected[number], rel_tol=1e-12)
            await sending

    clock.run(main())


def test_the_news_of_a_close_takes_the_link_too() -> None:
    async def main() -> None:
        first, second = memory_pair(OPTIONS)
        async with WanChannel(first, Link(), Link(delay=2.0), OPTIONS) as a:
            await second.send(b"last")
            await second.aclose()
            assert bytes(await a.recv()) == b"last"
            with pytest.raises(PeerError):
                await a.recv()
            assert now() == 2.0
            with pytest.raises(PeerError):
                await a.send(b"x")

    clock.run(main())


def test_closing_waits_for_what_is_under_way_but_not_for_ever() -> None:
    async def close_after(delay: float) -> float:
        first, _ = memory_pair(OPTIONS)
        a = WanChannel(first, Link(delay), options=OPTIONS)
        await a.send(b"x")
        started = now()
        await a.aclose()
        return now() - started

    assert clock.run(close_after(2.0)) == 2.0
    assert clock.run(close_after(1000.0)) == OPTIONS.linger


def test_an_injected_clock_is_asked() -> None:
    async def main() -> None:
        first, second = memory_pair(OPTIONS)
        asked: list[float] = []

        def time() -> float:
            asked.append(now())
            return 100.0 + now()

        async with WanChannel(first, Link(delay=1.0), options=OPTIONS, clock=time) as a:
            await a.send(b"x")
            await second.recv()
            assert now() == 1.0 and asked

    clock.run(main())
