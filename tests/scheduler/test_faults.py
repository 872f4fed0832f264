"""A peer that dies, lies or gives up in the middle of a run: the right error, in time, and no task left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from engine.errors import LocalError, PeerError, PeerTimeout, TapeError
from engine.handshake import deliberate
from engine.scheduler.executor import Executor
from engine.scheduler.link import Link
from engine.transport.channel import Buffer, ChannelOptions
from engine.transport.memory import MemoryChannel, memory_pair
from tests.scheduler.parties import Parties
from tests.session.stage import Broken

DEADLINE = 30.0
Send = Callable[..., Awaitable[None]]


@pytest.fixture(scope="module")
def parties() -> Parties:
    return Parties.small("the dog ran")


class Faulty(Link):
    """A link whose n-th DATA frame of a phase is sent by `fault` instead."""

    def __init__(self, channel: MemoryChannel, phase: str, at: int, fault: Fault) -> None:
        super().__init__(channel)
        self.phase, self.left, self.fault = phase, at, fault

    async def data(self, phase: str, round: int, index: int, *payload: Buffer) -> None:
        if phase == self.phase:
            self.left -= 1
        if phase == self.phase and self.left == -1:
            await self.fault(self, phase, round, index, b"".join(bytes(p) for p in payload))
        else:
            await super().data(phase, round, index, *payload)

    async def honest(self, phase: str, round: int, index: int, payload: bytes) -> None:
        await super().data(phase, round, index, payload)


Fault = Callable[[Faulty, str, int, int, bytes], Awaitable[None]]


async def vanish(link: Faulty, *_: Any) -> None:
    assert isinstance(link.channel, MemoryChannel)
    link.channel.vanish()
    await asyncio.Event().wait()


async def silence(link: Faulty, *_: Any) -> None:
    await asyncio.Event().wait()


async def bye(link: Faulty, *_: Any) -> None:
    await link.bye()
    await asyncio.Event().wait()


async def error(link: Faulty, *_: Any) -> None:
    await link.error("the disk is full\x1b[31m")
    await asyncio.Event().wait()


async def control(link: Faulty, *_: Any) -> None:
    await link.control({"phase": "tea"})
    await asyncio.Event().wait()


async def wrong_round(link: Faulty, phase: str, round: int, index: int, payload: bytes) -> None:
    await link.honest(phase, round + 1, index, payload)


async def wrong_index(link: Faulty, phase: str, round: int, index: int, payload: bytes) -> None:
    await link.honest(phase, round, index + 1, payload)


async def too_short(link: Faulty, phase: str, round: int, index: int, payload: bytes) -> None:
    await link.honest(phase, round, index, payload[:-1])


async def too_long(link: Faulty, phase: str, round: int, index: int, payload: bytes) -> None:
    await link.honest(phase, round, index, payload + b"\0")


async def huge(link: Faulty, phase: str, round: int, index: int, payload: bytes) -> None:
    link.allow(10 << 20)
    await link.honest(phase, round, index, payload + bytes(5 << 20))


async def twice(link: Faulty, phase: str, round: int, index: int, payload: bytes) -> None:
    await link.honest(phase, round, index, payload)
    await link.honest(phase, round, index, payload)


async def garbage(link: Faulty, *_: Any) -> None:
    await link.channel.send(b"\xff" * 40)


@dataclass(frozen=True)
class Case:
    fault: Fault
    kind: type[Exception]
    sentence: str


CASES = [
    Case(vanish, PeerError, "vanished"),
    Case(silence, PeerTimeout, "waited 30 s for the openings of round|waited 30 s for word"),
    Case(bye, PeerError, "the other side ended the session while this side waited for the openings of round"),
    Case(error, PeerError, r"the other side gave up: the disk is full \[31m$"),
    Case(control, PeerError, "sent a CONTROL frame instead of the openings of round"),
    Case(wrong_round, PeerError, r"sent frame 0 of round \d+ with \d+ bytes where the plan expects frame 0 of round"),
    Case(wrong_index, PeerError, r"sent frame 1 of round \d+ .* where the plan expects frame 0"),
    Case(too_short, PeerError, r"with \d+ bytes where the plan expects frame 0 of round \d+ with"),
    Case(too_long, PeerError, r"with \d+ bytes where the plan expects|bytes where at most"),
    Case(huge, PeerError, "bytes where at most"),
    Case(twice, PeerError, "where the plan expects|instead of"),
    Case(garbage, PeerError, "unknown kind 255"),
]


async def meet(parties: Parties, honest: int, fault: Fault, phase: str, at: int) -> BaseException:
    """What an honest party ends with, beside a peer with that fault; virtual seconds are within the deadline."""
    tapes, ends = parties.tapes(), memory_pair(ChannelOptions(deadline=DEADLINE))
    executor = parties.executor(honest, ends[honest], tapes[honest])
    peer = parties.executor(1 - honest, ends[1 - honest], tapes[1 - honest])
    peer.link = Faulty(ends[1 - honest], phase, at, fault)
    beside = asyncio.create_task(parties.side(peer))
    try:
        async with asyncio.timeout(2 * DEADLINE):
            with pytest.raises(Exception) as caught:
                await parties.side(executor)
    finally:
        beside.cancel()
        await asyncio.gather(beside, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}, "no task outlives its run"
    return caught.value


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.fault.__name__)
@pytest.mark.parametrize("honest", [0, 1])
async def test_a_faulty_peer_online(parties: Parties, case: Case, honest: int) -> None:
    failure = deliberate(await meet(parties, honest, case.fault, "online", 7))
    assert isinstance(failure, case.kind)
    with pytest.raises(case.kind, match=case.sentence):
        raise failure


@pytest.mark.parametrize("case", [c for c in CASES if c.fault not in (twice,)], ids=lambda c: c.fault.__name__)
async def test_a_faulty_client_in_prepare(parties: Parties, case: Case) -> None:
    failure = deliberate(await meet(parties, 1, case.fault, "prepare", 2))
    assert isinstance(failure, case.kind)


@pytest.mark.parametrize("at", [0, 1, 20])
@pytest.mark.parametrize("honest", [0, 1])
async def test_a_peer_that_vanishes_at_any_time(parties: Parties, at: int, honest: int) -> None:
    failure = deliberate(await meet(parties, honest, vanish, "online", at))
    assert isinstance(failure, PeerError)


@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("kernel", ["dpf_eval", "mask", "onehot_counts"])
async def test_a_failure_of_this_side_is_raised_here_at_once(parties: Parties, party: int, kernel: str) -> None:
    tapes, ends = parties.tapes(), memory_pair(ChannelOptions(deadline=DEADLINE))
    executors = [parties.executor(p, ends[p], tapes[p]) for p in (0, 1)]
    executors[party].kernels = Broken(parties.kernels, kernel, MemoryError())  # type: ignore[assignment]
    beside = asyncio.create_task(parties.side(executors[1 - party]))
    start = asyncio.get_running_loop().time()
    with pytest.raises((ExceptionGroup, MemoryError)) as caught:
        await parties.side(executors[party])
    assert asyncio.get_running_loop().time() == start, "it waits for nobody"
    assert isinstance(deliberate(caught.value), LocalError)
    beside.cancel()
    await asyncio.gather(beside, return_exceptions=True)


async def test_a_tape_that_ends_too_early(parties: Parties) -> None:
    """Verification would have found it; the reader notices all the same."""
    tapes, ends = parties.tapes(), memory_pair(ChannelOptions(deadline=DEADLINE))
    tapes[0].read(100)
    executors = [parties.executor(p, ends[p], tapes[p]) for p in (0, 1)]
    beside = asyncio.create_task(executors[1].prepare())
    with pytest.raises(ExceptionGroup) as caught:
        await executors[0].prepare()
    assert isinstance(deliberate(caught.value), TapeError)
    beside.cancel()
    await asyncio.gather(beside, return_exceptions=True)


async def test_a_cancelled_run_leaves_no_task(parties: Parties) -> None:
    tapes, ends = parties.tapes(), memory_pair(ChannelOptions(deadline=DEADLINE))
    executors: list[Executor] = [parties.executor(p, ends[p], tapes[p]) for p in (0, 1)]
    executors[1].link = Faulty(ends[1], "online", 5, silence)
    running = [asyncio.create_task(parties.side(e)) for e in executors]
    await asyncio.sleep(DEADLINE / 2)  # virtual: until both wait
    for task in running:
        task.cancel()
    results = await asyncio.gather(*running, return_exceptions=True)
    assert all(isinstance(r, asyncio.CancelledError) for r in results)
    assert asyncio.all_tasks() == {asyncio.current_task()}
