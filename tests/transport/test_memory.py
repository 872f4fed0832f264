"""Memory channels beyond the conformance suite: two loops in two threads, names, hand-over without copying."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from engine.errors import InputError, LocalError, PeerError, PeerTimeout
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.memory import MemoryTransport, memory_pair
from simulators import clock

Side = Callable[[], Coroutine[Any, Any, None]]
transport = MemoryTransport()


def in_two_threads(first: Side, second: Side) -> None:
    """Runs each on a real loop in a thread of its own; the first failure is raised here."""
    failures: list[BaseException] = []

    def body(side: Side) -> None:
        try:
            asyncio.run(side())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=body, args=(side,)) for side in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_two_loops_in_two_threads() -> None:
    a, b = memory_pair(ChannelOptions(window=1000))
    count = 500

    async def talk(channel: Channel, fill: int) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(send(channel, fill))
            group.create_task(receive(channel, 255 - fill))
        await channel.send(b"done")
        assert bytes(await channel.recv()) == b"done"

    async def send(channel: Channel, fill: int) -> None:
        for i in range(count):
            await channel.send(bytes([fill]) * (i % 100))

    async def receive(channel: Channel, fill: int) -> None:
        for i in range(count):
            assert bytes(await channel.recv()) == bytes([fill]) * (i % 100)

    in_two_threads(lambda: talk(a, 1), lambda: talk(b, 254))


def test_a_close_wakes_a_reader_on_another_loop() -> None:
    a, b = memory_pair()

    async def reader() -> None:
        await b.send(b"reading")
        with pytest.raises(PeerError, match="closed the channel"):
            await b.recv()

    async def closer() -> None:
        await a.recv()
        await a.aclose()

    in_two_threads(reader, closer)


def test_messages_are_handed_over_without_copying() -> None:
    async def main() -> None:
        a, b = memory_pair()
        payload = bytearray(b"before")
        await a.send(payload)
        payload[:] = b"after!"
        assert bytes(await b.recv()) == b"after!"

    clock.run(main())


def test_both_ends_have_their_own_options() -> None:
    async def main() -> None:
        async with await transport.listen("own options", ChannelOptions(limit=10)) as listener:
            a = await transport.connect("own options", ChannelOptions(limit=20))
            b = await listener.accept(1.0)
            assert (a.limit, b.limit, a.peer, b.peer) == (20, 10, "own options", "client")
            await a.send(bytes(11))
            with pytest.raises(PeerError, match="11 bytes where at most 10"):
                await b.recv()

    clock.run(main())


def test_connecting_waits_for_a_listener_until_the_deadline() -> None:
    async def main() -> None:
        options = ChannelOptions(deadline=3.0)
        with pytest.raises(PeerTimeout, match="waited 3 s for a listener at the memory address 'nobody'"):
            await transport.connect("nobody", options)
        connecting = asyncio.create_task(transport.connect("late", options))
        await asyncio.sleep(2.0)
        async with await transport.listen("late", options) as listener, await connecting, await listener.accept(1.0):
            pass
        assert asyncio.get_running_loop().time() == 5.0

    clock.run(main())


def test_a_name_is_taken_until_its_listener_closes() -> None:
    async def main() -> None:
        options = ChannelOptions()
        listener = await transport.listen("taken", options)
        with pytest.raises(InputError, match="another listener uses"):
            await transport.listen("taken", options)
        unaccepted = await transport.connect("taken", options)
        await listener.aclose()
        await listener.aclose()
        with pytest.raises(PeerError):
            await unaccepted.recv()
        with pytest.raises(LocalError):
            await listener.accept()
        await (await transport.listen("taken", options)).aclose()

    clock.run(main())


@pytest.mark.parametrize("wrong", [{"deadline": 0.0}, {"deadline": float("inf")}, {"window": 0}, {"limit": 2**40}])
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ChannelOptions(**wrong)
