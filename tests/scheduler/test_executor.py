"""Two executors give the bits of the reference run, whatever the link does; and their counters are the plan's."""

from __future__ import annotations

import asyncio
from random import Random

import numpy as np
import pytest

from engine import fuse
from engine.cost import plan_cost
from engine.scheduler import executor as module
from engine.scheduler.steps import steps
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.linkmodel import Link
from engine.transport.memory import memory_pair
from engine.transport.wan import WanChannel
from tests.scheduler.parties import Integers, Parties, Side

TEXTS = ("the dog ran", "a", "")


@pytest.fixture(scope="module")
def parties() -> Parties:
    return Parties.small(*TEXTS)


def same(a: Integers, b: Integers) -> None:
    assert a.keys() == b.keys() and len(a) == len(TEXTS)
    for name in a:
        assert np.array_equal(a[name], b[name]), name


def check(parties: Parties, sides: list[Side]) -> None:
    """Outputs equal the reference run's and clear's, and only the client has any; every counter equals the plan."""
    local = parties.local()
    same(sides[0].outputs, local.outputs)
    same(sides[0].outputs, local.predicted)
    assert sides[1].outputs == {}
    cost = plan_cost(parties.plan)
    for p, side in enumerate(sides):
        assert side.link.sent == {"online": cost.online[p], "prepare": cost.prepare[p], "bulk": 0}
        assert side.link.rounds == set(range(1, cost.rounds + 1))
        assert side.tape_read == parties.plan.tape_bytes[p] == cost.tape[p]
    assert [s.link.sent["online"] for s in sides] == local.bytes_sent
    assert [s.link.sent["prepare"] for s in sides] == local.prepare_bytes


@pytest.mark.parametrize("overlap", [True, False])
async def test_memory_channels_give_the_bits_of_the_reference_run(parties: Parties, overlap: bool) -> None:
    check(parties, await parties.run(memory_pair(), overlap))


def wan(ends: tuple[Channel, Channel], links: tuple[Link, Link]) -> list[Channel]:
    return [WanChannel(end, link) for end, link in zip(ends, links, strict=True)]


def random_link(random: Random) -> Link:
    return Link(
        delay=random.choice([0.0, 0.001, 0.03, 2.0]), bandwidth=random.choice([1e5, 1e7, 1e9]),
        jitter=random.choice([0.0, 0.05, 1.0]), seed=random.randrange(1000),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
async def test_random_delays_and_jitter_change_no_bit(parties: Parties, seed: int) -> None:
    random = Random(seed)
    links = random_link(random), random_link(random)
    channels = wan(memory_pair(ChannelOptions(deadline=3600)), links)
    check(parties, await parties.run(channels, overlap=bool(seed % 2)))
    for channel in channels:
        await channel.aclose()


async def test_small_windows_only_slow_it_down(parties: Parties) -> None:
    check(parties, await parties.run(memory_pair(ChannelOptions(window=1))))


@pytest.mark.parametrize("budget", [1, 1000, 100_000])
async def test_a_small_prefetch_budget_changes_no_bit(
    parties: Parties, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PREFETCH_BYTES", budget)
    check(parties, await parties.run(memory_pair()))


@pytest.mark.parametrize("overlap", [True, False])
async def test_a_round_takes_one_delay_and_no_more(parties: Parties, overlap: bool) -> None:
    """On a link with delay alone; rounds in which one side only sends may overlap with their neighbours."""
    delay = 0.25
    channels = wan(memory_pair(ChannelOptions(deadline=3600)), (Link(delay), Link(delay)))
    start = asyncio.get_running_loop().time()
    await parties.run(channels, overlap)
    spent = asyncio.get_running_loop().time() - start
    prepare = 2 * delay  # its messages, and the word that both are prepared
    assert spent <= parties.plan.rounds * delay + prepare + 1e-6


async def test_progress_counts_calls(parties: Parties) -> None:
    tapes, ends = parties.tapes(), memory_pair()
    seen: list[tuple[int, int]] = []
    executors = [parties.executor(p, ends[p], tapes[p]) for p in (0, 1)]
    executors[0].progress = lambda done, total: seen.append((done, total))
    await asyncio.gather(*(parties.side(e) for e in executors))
    calls = len(parties.plan.calls)
    assert seen == [(i + 1, calls) for i in range(calls)]


async def test_the_timeline_has_names_and_sizes_of_every_lane(parties: Parties) -> None:
    sides = await parties.run(memory_pair())
    cost = plan_cost(parties.plan)
    for p, side in enumerate(sides):
        events = side.timeline.events
        assert {e.lane for e in events} >= {"prefetch", "evaluate", "send", "receive"}
        assert sum(e.bytes for e in events if e.lane == "prefetch") == parties.plan.tape_bytes[p]
        assert sum(e.bytes for e in events if e.lane == "send") == cost.online[p] + cost.prepare[p]
        assert sum(e.bytes for e in events if e.lane == "receive") == cost.online[1 - p] + cost.prepare[1 - p]
        assert all(e.start <= e.stop for e in events)


async def test_chains_of_any_size_change_no_bit(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    steps.cache_clear()
    monkeypatch.setattr(fuse, "LEAST", 1)
    try:
        assert any(s.chains for call in parties.plan.calls for p in (0, 1) for s in steps(call.segment, p))
        check(parties, await parties.run(memory_pair()))
    finally:
        steps.cache_clear()
