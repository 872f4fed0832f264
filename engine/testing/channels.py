"""The conformance suite for channels: a transport that passes it can carry a session.

Subclass `ChannelConformance` in a test module, under a name that pytest collects, and say how a pair is made:

    class TestPigeon(ChannelConformance):
        @asynccontextmanager
        async def pair(self, options):
            a, b = await hatch(options)
            async with a, b:
                yield a, b

Every test makes its own pair and its own event loop, waits no longer than `patience` seconds, and needs nothing but
plain test methods, so that any runner will do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

from engine.errors import InputError, LocalError, PeerError, PeerTimeout, RoundelayError
from engine.transport.channel import Channel, ChannelOptions, Traffic

__all__ = ["ChannelConformance"]

KIB, MIB = 1 << 10, 1 << 20
SILENCE = 0.05
"""Seconds; the deadline of the tests in which nothing comes."""

Body = Callable[["ChannelConformance", Channel, Channel], Awaitable[None]]


def on_pair(**options: Any) -> Callable[[Body], Callable[[ChannelConformance], None]]:
    """Makes a plain test method of a coroutine that takes both ends of a fresh pair with these options."""

    def wrap(body: Body) -> Callable[[ChannelConformance], None]:
        def test(self: ChannelConformance) -> None:
            self.run(self.within_patience(body, ChannelOptions(**options)))

        test.__name__, test.__doc__ = body.__name__, body.__doc__
        return test

    return wrap


class ChannelConformance:
    """Override `pair`; `run`, `vanish` and `patience` where the transport needs it."""

    patience = 60.0

    def pair(self, options: ChannelOptions) -> AbstractAsyncContextManager[tuple[Channel, Channel]]:
        """Two connected ends with these options (a transport adds its own keys), closed when the context is left."""
        raise NotImplementedError("a conformance class says how its pair is made")

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Runs a test on the loop that suits the transport."""
        asyncio.run(coroutine)

    async def vanish(self, channel: Channel) -> None:
        """Makes one end go away, if possible without a word."""
        await channel.aclose()

    async def within_patience(self, body: Body, options: ChannelOptions) -> None:
        """One test on a fresh pair."""
        async with asyncio.timeout(self.patience), self.pair(options) as (a, b):
            await body(self, a, b)

    @on_pair()
    async def test_messages_arrive_whole_and_in_order(self, a: Channel, b: Channel) -> None:
        messages = [bytes([i % 251]) * (i * 37 % 2000) for i in range(300)]
        await together(send_all(a, messages), expect_all(b, messages))

    @on_pair()
    async def test_parts_become_one_message(self, a: Channel, b: Channel) -> None:
        await a.send(b"head", bytearray(b"er "), memoryview(b"and payload"))
        await a.send(b"", b"x", b"")
        await a.send(b"single")
        await expect_all(b, [b"header and payload", b"x", b"single"])

    @on_pair()
    async def test_empty_messages_arrive(self, a: Channel, b: Channel) -> None:
        await a.send()
        await a.send(b"")
        await a.send(b"", b"")
        await a.send(b"end")
        await expect_all(b, [b"", b"", b"", b"end"])

    @on_pair()
    async def test_words_arrive_as_their_bytes(self, a: Channel, b: Channel) -> None:
        await a.send(memoryview(bytes(range(16))).cast("Q"))
        got = await b.recv()
        assert bytes(got) == bytes(range(16)), "a buffer of words is sent as its bytes"
        assert got.readonly and got.format == "B", "a message is read-only bytes"

    @on_pair(limit=16 * MIB)
    async def test_large_messages_arrive(self, a: Channel, b: Channel) -> None:
        messages = [pattern(size) for size in (5 * MIB + 3, 1, 9 * MIB, 64 * KIB)]
        await together(send_all(a, messages), expect_all(b, messages))

    @on_pair(window=64 * KIB)
    async def test_a_message_larger_than_the_window_arrives(self, a: Channel, b: Channel) -> None:
        messages = [pattern(MIB), pattern(MIB - 1), b"", pattern(200 * KIB)]
        await together(send_all(a, messages), expect_all(b, messages))

    @on_pair(window=256 * KIB)
    async def test_both_ways_at_once(self, a: Channel, b: Channel) -> None:
        there = [pattern(64 * KIB + i) for i in range(100)]
        back = [pattern(1000 + i) for i in range(100)]
        await together(send_all(a, there), send_all(b, back), expect_all(a, back), expect_all(b, there))

    @on_pair()
    async def test_request_and_reply(self, a: Channel, b: Channel) -> None:
        for i in range(50):
            await a.send(bytes([i]))
            await b.send(await b.recv(), b"!")
            await expect_all(a, [bytes([i]) + b"!"])

    @on_pair()
    async def test_counters_count_payload(self, a: Channel, b: Channel) -> None:
        await send_all(a, [b"four", b"", b"two"])
        await expect_all(b, [b"four", b"", b"two"])
        await b.send(b"back", b"!")
        await expect_all(a, [b"back!"])
        assert (a.sent, a.received) == (Traffic(3, 7), Traffic(1, 5)), "counters of the first end"
        assert (b.sent, b.received) == (Traffic(1, 5), Traffic(3, 7)), "counters of the second end"

    @on_pair(limit=100)
    async def test_own_message_beyond_the_limit_is_a_local_error(self, a: Channel, b: Channel) -> None:
        await fails(LocalError, a.send(bytes(60), bytes(41)))
        assert a.sent == Traffic(), "a refused message is not counted"
        await a.send(bytes(100))
        await expect_all(b, [bytes(100)])

    @on_pair(limit=100)
    async def test_peers_message_beyond_the_limit_is_a_peer_error(self, a: Channel, b: Channel) -> None:
        a.limit = 101
        await a.send(bytes(100))
        await a.send(bytes(101))
        await expect_all(b, [bytes(100)])
        await fails(PeerError, b.recv())
        await fails(PeerError, b.send(b"on a channel whose peer misbehaved"))

    @on_pair(limit=100, ceiling=1000)
    async def test_the_limit_can_be_raised_to_the_ceiling(self, a: Channel, b: Channel) -> None:
        a.limit = 1000
        await a.send(bytes(1000))  # under way before the other side raises its limit
        b.limit = 1000
        await expect_all(b, [bytes(1000)])
        for wrong in (0, 1001):
            try:
                a.limit = wrong
            except InputError:
                continue
            raise AssertionError(f"a limit of {wrong} was accepted")

    @on_pair(limit=100, ceiling=4 * MIB)
    async def test_the_ceiling_can_be_lowered(self, a: Channel, b: Channel) -> None:
        a.limit = 4 * MIB
        b.lower_ceiling(1000)
        assert (b.ceiling, b.limit) == (1000, 100), "the limit stays where it is below the ceiling"
        b.limit = 1000
        await a.send(bytes(1000))
        await expect_all(b, [bytes(1000)])
        for wrong in (0, 1001):
            try:
                b.lower_ceiling(wrong)
            except InputError:
                continue
            raise AssertionError(f"a ceiling of {wrong} was accepted")
        await a.send(bytes(2 * MIB))
        await fails(PeerError, b.recv())

    @on_pair(deadline=SILENCE)
    async def test_silence_ends_at_the_deadline(self, a: Channel, b: Channel) -> None:
        error = await fails(PeerTimeout, b.recv("the first opening"))
        assert "the first opening" in str(error) and f"{SILENCE:g} s" in str(error), (
            "the error names what, and how long"
        )
        await a.send(b"late")
        await expect_all(b, [b"late"])

    @on_pair(window=256 * KIB)
    async def test_a_peer_that_does_not_read_blocks_the_sender(self, a: Channel, b: Channel) -> None:
        blocked = await self.fill(a)
        assert isinstance(blocked, PeerTimeout), "a blocked send ends at the deadline"
        await expect_all(b, [pattern(64 * KIB)] * a.sent.messages)
        await a.send(b"room again")
        await expect_all(b, [b"room again"])

    @on_pair(window=256 * KIB)
    async def test_a_cancelled_send_sends_nothing(self, a: Channel, b: Channel) -> None:
        await self.fill(a)
        while not await cancelled_after(a.send(pattern(64 * KIB)), yields=3):
            await self.fill(a)
        count = a.sent.messages
        await together(a.send(b"after"), expect_all(b, [pattern(64 * KIB)] * count + [b"after"]))

    @on_pair()
    async def test_a_cancelled_receive_loses_nothing(self, a: Channel, b: Channel) -> None:
        got: list[bytes] = []
        for i in range(60):
            receiving = asyncio.ensure_future(b.recv())
            await asyncio.sleep(0)
            await a.send(bytes([i]))
            for _ in range(i % 6):
                await asyncio.sleep(0)
            receiving.cancel()
            (result,) = await asyncio.gather(receiving, return_exceptions=True)
            if isinstance(result, memoryview):
                got.append(bytes(result))
        while len(got) < 60:
            got.append(bytes(await b.recv()))
        assert got == [bytes([i]) for i in range(60)], "each message exactly once, in order"

    @on_pair()
    async def test_closing_delivers_what_was_sent(self, a: Channel, b: Channel) -> None:
        messages = [b"one", pattern(512 * KIB), b"last"]
        await together(send_and_close(a, messages), expect_all(b, messages))
        await fails(PeerError, b.recv())
        await fails(PeerError, b.send(b"to nobody"))

    @on_pair()
    async def test_closing_wakes_the_peer(self, a: Channel, b: Channel) -> None:
        waiting = asyncio.ensure_future(fails(PeerError, b.recv()))
        await asyncio.sleep(0)
        await a.aclose()
        assert not isinstance(await waiting, PeerTimeout), "told of the close, not of a deadline"

    @on_pair()
    async def test_closing_wakes_this_sides_receiver(self, a: Channel, b: Channel) -> None:
        waiting = asyncio.ensure_future(fails(LocalError, a.recv()))
        await asyncio.sleep(0)
        await a.aclose()
        await waiting

    @on_pair()
    async def test_a_closed_channel_refuses_use(self, a: Channel, b: Channel) -> None:
        await a.aclose()
        await a.aclose()
        await fails(LocalError, a.send(b"x"))
        await fails(LocalError, a.recv())

    @on_pair()
    async def test_a_peer_that_vanishes_is_noticed(self, a: Channel, b: Channel) -> None:
        await a.send(b"before")
        await expect_all(b, [b"before"])
        waiting = asyncio.ensure_future(fails(PeerError, b.recv()))
        await asyncio.sleep(0)
        await self.vanish(a)
        assert not isinstance(await waiting, PeerTimeout), "noticed before the deadline"

    @on_pair()
    async def test_each_direction_has_one_owner(self, a: Channel, b: Channel) -> None:
        first = asyncio.ensure_future(b.recv())
        await asyncio.sleep(0)
        await fails(LocalError, b.recv())
        await a.send(b"for the first")
        assert bytes(await first) == b"for the first"

    async def fill(self, channel: Channel) -> RoundelayError:
        """Sends until the peer, who does not read, blocks the channel; the error of the send that waited in vain.

        Of a channel in stages, the later ones may take more afterwards: the next send need not wait.
        """
        patient, channel.deadline = channel.deadline, SILENCE
        for _ in range(256):
            try:
                await channel.send(pattern(64 * KIB))
            except RoundelayError as error:
                channel.deadline = patient
                return error
        raise AssertionError("16 MiB went to a peer that does not read, through a window of 256 KiB")


def pattern(size: int) -> bytes:
    """`size` bytes in which a shift or a lost piece shows."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


async def together(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Runs all; the first failure ends the others."""
    async with asyncio.TaskGroup() as group:
        for coroutine in coroutines:
            group.create_task(coroutine)


async def send_all(channel: Channel, messages: list[bytes]) -> None:
    for message in messages:
        await channel.send(message)


async def send_and_close(channel: Channel, messages: list[bytes]) -> None:
    await send_all(channel, messages)
    await channel.aclose()


async def expect_all(channel: Channel, messages: list[bytes]) -> None:
    """Receives as many messages and compares them."""
    for number, message in enumerate(messages):
        got = await channel.recv()
        if bytes(got) != message:
            raise AssertionError(f"message {number} has {got.nbytes} bytes and differs from the {len(message)} sent")


async def fails(kind: type[RoundelayError], coroutine: Coroutine[Any, Any, object]) -> RoundelayError:
    """The error of that kind that the coroutine must raise."""
    try:
        await coroutine
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected, and nothing was raised")


async def cancelled_after(coroutine: Coroutine[Any, Any, None], yields: int) -> bool:
    """Starts the coroutine and cancels it after some turns of the loop; whether that was before its end."""
    task = asyncio.ensure_future(coroutine)
    for _ in range(yields):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        await task
    return task.cancelled()
