"""Runs side by side on one channel: the same results and counters, a tape each, shared round trips, failures apart."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
import pytest

from engine.cost import plan_cost
from engine.errors import LocalError, PeerError, TapeError
from engine.owner import OwnerService
from engine.result import RunResult
from engine.session import ClientSession
from engine.transport.channel import Channel
from engine.transport.multiplex import Multiplexer
from engine.transport.wan import WanChannel
from simulators.profiles import Network
from tests.session.stage import OWNER, Broken, Stage, ids
from tests.session.test_runs import TEXTS, close

LONG = ["cat cat cat dog dog red blue a the", "blue"]


async def each(session: ClientSession, texts: list[str]) -> list[RunResult]:
    await session.side_by_side()
    return list(await asyncio.gather(*(session.embed([text]) for text in texts)))


async def test_runs_side_by_side_give_the_same_and_count_alone(stage: Stage) -> None:
    async with stage.session() as session:
        results = await each(session, TEXTS + LONG)
    for text, result in zip(TEXTS + LONG, results, strict=True):
        close(result, [text])
        cost = plan_cost(stage.model.public.plan([len(ids(text)[0])]))
        assert result.rounds == cost.rounds
        assert (tuple(result.bytes_sent), tuple(result.tape_bytes)) == (cost.online, cost.tape)
    assert len({result.tape for result in results}) == len(results)


async def test_every_run_takes_a_tape_of_its_own_from_files(stage: Stage) -> None:
    dealt = {stage.deal((len(ids("blue")[0]),)).hex() for _ in range(4)}
    async with stage.session(from_files=True) as session:
        results = await each(session, ["blue"] * 4)
        assert {result.tape for result in results} == dealt
        with pytest.raises(TapeError, match="no unspent tape"):
            await session.embed(["blue"])


async def test_a_run_may_begin_while_others_are_under_way(stage: Stage) -> None:
    async with stage.session(owner=far_owner(stage)) as session:
        await session.side_by_side()
        first = asyncio.create_task(session.embed(["the dog ran"]))
        await asyncio.sleep(0.5)
        assert not first.done()
        second = await session.embed(["blue"])
        close(await first, ["the dog ran"])
        close(second, ["blue"])


def far_owner(stage: Stage) -> OwnerService:
    links = Network("far", 1e9, 0.06).links()
    return stage.owner_service(stage.dealing(OWNER), behind=lambda channel: WanChannel(channel, *links))


async def test_eight_runs_take_little_longer_than_one(stage: Stage) -> None:
    """In virtual time, where computing takes none: what is left are round trips, and these are shared."""
    loop = asyncio.get_running_loop()
    await stage.pair()
    times = []
    for count in (1, 8):
        async with stage.session(owner=far_owner(stage)) as session:
            await session.side_by_side()
            start = loop.time()
            for result in await asyncio.gather(*(session.embed(["the dog ran"]) for _ in range(count))):
                close(result, ["the dog ran"])
            times.append(loop.time() - start)
            streams = session._streams
            assert isinstance(streams, Multiplexer)
            assert streams.entries > streams.bundles or count == 1, "frames that are ready together share a message"
    assert times[1] < 1.2 * times[0]


async def test_a_failed_run_ends_no_other(stage: Stage) -> None:
    async with stage.session() as session:
        await session.side_by_side()
        broken = dataclasses.replace(session, kernels=Broken(stage.kernels, "dpf_eval", ValueError("x")))  # type: ignore[arg-type]
        sound, failed, later = await asyncio.gather(
            session.embed(["blue"]), broken.embed(["the dog ran"]), session.embed([""]), return_exceptions=True
        )
        assert isinstance(failed, LocalError)
        assert isinstance(sound, RunResult) and isinstance(later, RunResult)
        close(sound, ["blue"])
        close(await session.embed(["the dog ran"]), ["the dog ran"])


async def test_a_failure_of_the_owner_ends_its_run_alone(stage: Stage) -> None:
    class Once:
        """Kernels of which one fails the first time."""

        def __init__(self) -> None:
            self.failed = False

        def __getattr__(self, name: str) -> object:
            if name == "onehot_counts" and not self.failed:
                self.failed = True
                raise ValueError("x")
            return getattr(stage.kernels, name)

    await stage.pair()
    owner = stage.owner_service(stage.dealing(OWNER))
    owner.kernels = Once()  # type: ignore[assignment]
    async with stage.session(owner=owner) as session:
        await session.side_by_side()
        runs = await asyncio.gather(*(session.embed(["blue"]) for _ in range(3)), return_exceptions=True)
    assert sorted(isinstance(r, PeerError) for r in runs) == [False, False, True]
    assert sum(isinstance(r, RunResult) for r in runs) == 2


async def test_an_owner_that_leaves_ends_every_run_in_an_error_of_the_peer(stage: Stage) -> None:
    await stage.pair()
    theirs: list[Channel] = []

    def seen(channel: Channel) -> Channel:
        theirs.append(channel)
        return channel

    async with stage.session(owner=stage.owner_service(stage.dealing(OWNER), behind=seen)) as session:
        await session.side_by_side()
        runs = [asyncio.create_task(session.embed(["the dog ran"])) for _ in range(3)]
        await asyncio.sleep(0)
        theirs[0].vanish()  # type: ignore[attr-defined]
        outcomes = await asyncio.gather(*runs, return_exceptions=True)
    assert all(isinstance(o, PeerError) for o in outcomes)


async def test_the_outputs_of_a_batch_and_of_runs_side_by_side_agree(stage: Stage) -> None:
    async with stage.session() as session:
        batch = await session.embed(TEXTS)
        beside = await each(session, TEXTS)
    for i, run in enumerate(beside):
        assert np.abs(batch.outputs[i] - run.outputs[0]).max() < 2e-2
