"""The tape is read ahead within a budget of bytes: memory does not grow with the tape."""

from __future__ import annotations

import asyncio
import dataclasses
from random import Random

import numpy as np
import pytest

from engine.kernels import get_kernels
from engine.models.calibrate import default_ranges, quantise
from engine.models.checkpoint import random_checkpoint
from engine.models.compiled import PublicModel
from engine.scheduler import executor as module
from engine.scheduler.executor import _Shelf
from engine.testing.local import setup_weights
from engine.transport.channel import ChannelOptions
from engine.transport.memory import memory_pair
from tests.scheduler.parties import Parties
from tests.session.stage import SHAPE, ids

DEADLINE = 30.0


def deep(layers: int) -> Parties:
    """The small model with that many layers."""
    made = random_checkpoint(dataclasses.replace(SHAPE, layers=layers), 1, pooling="mean")
    public = PublicModel("deep", made.config, default_ranges(made.config), "mean", True, ())
    sequences = ids("the dog ran on the mat")
    plan = public.plan([len(s) for s in sequences])
    return Parties(plan, public.inputs(sequences), setup_weights(plan, quantise(made), get_kernels(), bytes(16)))


async def read_while_waiting(parties: Parties, party: int) -> int:
    """Bytes of tape that a party has taken while its peer, prepared, says nothing more."""
    tapes, ends = parties.tapes(), memory_pair(ChannelOptions(deadline=DEADLINE))
    executors = [parties.executor(p, ends[p], tapes[p]) for p in (0, 1)]
    await asyncio.gather(*(e.prepare() for e in executors))
    with pytest.raises(ExceptionGroup, match=r"unhandled errors"):
        await executors[party].online()
    return tapes[party]._at


@pytest.mark.parametrize("party", [0, 1])
async def test_what_is_read_ahead_does_not_grow_with_the_tape(party: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shallow, longer = deep(1), deep(8)
    budget = shallow.plan.tape_bytes[party] // 10
    monkeypatch.setattr(module, "PREFETCH_BYTES", budget)
    taken = [await read_while_waiting(parties, party) for parties in (shallow, longer)]
    assert longer.plan.tape_bytes[party] > 5 * shallow.plan.tape_bytes[party]
    assert taken[0] == taken[1]
    embedding = shallow.plan.calls[0].segment
    largest = max(need.tape[party] for call in shallow.plan.calls for need in call.segment.needs)
    assert 0 < taken[0] <= max(budget, largest) + embedding.tape[party]


async def test_a_tape_within_the_budget_is_read_ahead_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    parties = deep(1)
    assert parties.plan.tape_bytes[1] < module.PREFETCH_BYTES
    assert await read_while_waiting(parties, 1) == parties.plan.tape_bytes[1]


@pytest.mark.parametrize("seed", range(5))
async def test_the_shelf_holds_no_more_than_its_budget_and_keeps_the_order(seed: int) -> None:
    random = Random(seed)
    sizes = [random.choice([1, 10, 60, 99, 100, 250]) for _ in range(200)]
    budget, held, most = 100, 0, 0
    shelf = _Shelf(budget)

    async def fill() -> None:
        nonlocal held, most
        for size in sizes:
            await shelf.room(size)
            held += size
            most = max(most, held if held != size else 0)  # a chunk beyond the budget may stand there alone
            await asyncio.sleep(random.choice([0, 1]))
            shelf.put(np.empty(size, np.uint8))

    async def drain() -> list[int]:
        nonlocal held
        out = []
        for _ in sizes:
            await asyncio.sleep(random.choice([0, 1, 2]))
            out.append((await shelf.take()).size)
            held -= out[-1]
        return out

    filling = asyncio.create_task(fill())
    assert await drain() == sizes
    await filling
    assert held == 0 and most <= budget
