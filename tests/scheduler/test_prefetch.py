"""The tape is read ahead within a budget of bytes: memory does not grow with the tape."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import LocalError, TapeError
from engine.handshake import deliberate
from engine.kernels import get_kernels
from engine.models.calibrate import default_ranges, quantise
from engine.models.checkpoint import random_checkpoint
from engine.models.compiled import PublicModel
from engine.party import PartyCall
from engine.scheduler import executor as module
from engine.scheduler import pieces as module_pieces
from engine.scheduler.pieces import LEAST_KEYS, SLICE_BYTES, UNEVEN, tape_blocks, tape_pieces, tape_slices
from engine.scheduler.plan import Plan
from engine.scheduler.shelf import EMPTY, Shelf
from engine.scheduler.steps import working_bytes
from engine.tape import MemoryTape
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


async def read_while_waiting(parties: Parties, party: int, ahead: int = module.PREPARE_BYTES) -> int:
    """Bytes of tape that a party has taken while its peer, prepared, says nothing more."""
    tapes, ends = parties.tapes(), memory_pair(ChannelOptions(deadline=DEADLINE))
    executors = [parties.executor(p, ends[p], tapes[p]) for p in (0, 1)]
    executors[party].ahead = ahead
    await asyncio.gather(*(e.prepare() for e in executors))
    with pytest.raises(ExceptionGroup, match=r"unhandled errors"):
        await executors[party].online()
    return tapes[party]._at


@pytest.mark.parametrize("party", [0, 1])
async def test_what_is_read_ahead_does_not_grow_with_the_tape(party: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shallow, longer = deep(1), deep(8)
    budget = shallow.plan.tape_bytes[party] // 10
    monkeypatch.setattr(module, "PREFETCH_BYTES", budget)
    monkeypatch.setattr(module_pieces, "BLOCK_BYTES", budget // 10)
    taken = [await read_while_waiting(parties, party, budget) for parties in (shallow, longer)]
    assert longer.plan.tape_bytes[party] > 5 * shallow.plan.tape_bytes[party]
    assert taken[0] == taken[1]
    embedding = shallow.plan.calls[0].segment
    largest = max(size for call in shallow.plan.calls for size, _ in tape_pieces(call.segment, party))
    assert 0 < taken[0] <= max(budget, largest) + embedding.tape[party]


async def test_a_tape_within_the_budget_is_read_in_the_prepare_phase() -> None:
    parties = deep(1)
    tapes, ends = parties.tapes(), memory_pair(ChannelOptions(deadline=DEADLINE))
    await asyncio.gather(*(parties.executor(p, ends[p], tapes[p]).prepare() for p in (0, 1)))
    assert [tape._at for tape in tapes] == list(parties.plan.tape_bytes)


async def test_a_tape_within_the_budget_is_read_ahead_whole() -> None:
    parties = deep(1)
    assert parties.plan.tape_bytes[1] < module.PREPARE_BYTES
    assert await read_while_waiting(parties, 1) == parties.plan.tape_bytes[1]


@pytest.mark.parametrize("seed", range(5))
async def test_the_shelf_holds_no_more_than_its_budget_and_keeps_the_order(seed: int) -> None:
    random = Random(seed)
    sizes = [random.choice([1, 10, 60, 99, 100, 250]) for _ in range(200)]
    budget, ahead = 100, 0

    def read(number: int, size: int) -> NDArray[np.uint8]:
        held = sum(block.size for block in shelf._ready)
        assert held == 0 or held + size <= budget, "a block beyond the budget may stand there alone"
        return np.full(size, number % 256, np.uint8)

    shelf = Shelf(iter(enumerate(sizes)), read)

    async def fill() -> None:
        nonlocal ahead
        while await shelf.room(budget):
            await asyncio.to_thread(shelf.fetch)
            ahead += 1
            await asyncio.sleep(random.choice([0, 1]))

    async def drain() -> None:
        for number, size in enumerate(sizes):
            await asyncio.sleep(random.choice([0, 1, 2]))
            cut = random.randint(0, size - 1)
            for count in (size - cut, cut):
                piece = await asyncio.to_thread(shelf.take, count) if count else EMPTY
                assert piece.size == count and (piece == number % 256).all()

    await asyncio.gather(fill(), drain())
    assert ahead > 20
    with pytest.raises(LocalError, match="in other pieces than planned"):
        shelf.take(1)


async def test_a_block_that_is_not_there_yet_is_read_by_who_needs_it() -> None:
    shelf = Shelf(iter([(0, 10), (1, 20)]), lambda call, size: np.full(size, call, np.uint8))
    assert (await asyncio.to_thread(shelf.take, 6)).tolist() == [0] * 6
    with pytest.raises(LocalError, match="in other pieces than planned"):
        shelf.take(5)
    assert shelf.take(4).tolist() == [0] * 4
    shelf.fetch(if_empty=True)
    shelf.fetch(if_empty=True)
    assert shelf.take(20).tolist() == [1] * 20 and not await shelf.room(100)


@pytest.mark.parametrize("party", [0, 1])
async def test_a_tape_that_fails_in_the_middle_ends_the_run_in_its_error(
    party: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_pieces, "BLOCK_BYTES", 1 << 12)
    parties = deep(1)
    tapes, ends = parties.tapes(), memory_pair(ChannelOptions(deadline=DEADLINE))
    executors = [parties.executor(p, ends[p], tapes[p]) for p in (0, 1)]
    executors[party].ahead = 1
    executors[party].tape = Failing(tapes[party])
    await asyncio.gather(*(e.prepare() for e in executors))
    beside = asyncio.create_task(executors[1 - party].online())
    with pytest.raises(ExceptionGroup) as caught:
        await executors[party].online()
    assert isinstance(deliberate(caught.value), TapeError)
    beside.cancel()
    await asyncio.gather(beside, return_exceptions=True)


class Failing:
    """A tape of which the first block alone can be read."""

    def __init__(self, tape: MemoryTape) -> None:
        self.header, self._tape, self._calls = tape.header, tape, 0

    def read(self, count: int) -> NDArray[np.uint8]:
        self._calls += 1
        if self._calls > 1:
            raise TapeError("the tape was altered")
        return self._tape.read(count)


@pytest.mark.parametrize("party", [0, 1])
def test_pieces_and_blocks_are_the_plan(party: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_pieces, "BLOCK_BYTES", 20000)
    parties = deep(2)
    for call in parties.plan.calls:
        assert sum(size for size, _ in tape_pieces(call.segment, party)) == call.segment.tape[party]
    blocks = list(tape_blocks(parties.plan, party))
    assert sum(size for _, size in blocks) == parties.plan.tape_bytes[party]
    assert [call for call, _ in blocks] == sorted(call for call, _ in blocks)
    whole = {size for call in parties.plan.calls for size, _ in tape_pieces(call.segment, party)}
    assert all(size <= 20000 or size in whole for _, size in blocks)
    words = [at % 16 for at, size, is_words in _placed(parties.plan, party, [s for _, s in blocks]) if is_words]
    assert words and not any(words)


def _placed(plan: Plan, party: int, blocks: list[int]) -> Iterator[tuple[int, int, bool]]:
    """Where in its block each piece begins."""
    at, left = 0, iter(blocks)
    block = next(left)
    for call in plan.calls:
        for size, is_words in tape_pieces(call.segment, party):
            if at == block:
                at, block = 0, next(left)
            assert at + size <= block
            yield at, size, is_words
            at += size


@pytest.mark.parametrize("n", [1, 255, 65536, 65537, 200000])
@pytest.mark.parametrize("key", [16, 64, 928, 4096, 1 << 21])
def test_slices_cover_all_keys_in_bounded_memory(n: int, key: int) -> None:
    slices = tape_slices(n, key)
    assert [a for a, _ in slices] == [0, *(b for _, b in slices[:-1])] and slices[-1][1] == n
    assert all((b - a) * key <= max(SLICE_BYTES, LEAST_KEYS * key) + UNEVEN * key for a, b in slices)


def test_levels_of_a_slice_do_not_share_sets_of_a_cache() -> None:
    """Where there are several slices, so that a slice is large."""
    for key in range(16, 1040, 16):
        slices = tape_slices(1 << 20, key)
        assert {(b - a) * 16 % (1 << 12) for a, b in slices[:-1]} == {1 << 10}


async def test_memory_made_ready_is_about_what_values_take(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {0: 0, 1: 0}
    forget = PartyCall.forget

    def counted(self: PartyCall, index: int) -> None:
        arrays = {id(v): v.nbytes for v in self.values.values() if isinstance(v, np.ndarray)}
        held[self.party] = max(held[self.party], sum(arrays.values()))
        forget(self, index)

    monkeypatch.setattr(PartyCall, "forget", counted)
    parties = deep(1)
    ends = memory_pair(ChannelOptions(deadline=DEADLINE))
    executors = [parties.executor(p, ends[p], tape) for p, tape in enumerate(parties.tapes())]
    await asyncio.gather(*(e.prepare() for e in executors))
    await asyncio.gather(*(e.online() for e in executors))
    for party in (0, 1):
        ready = max(working_bytes(call.segment, party) for call in parties.plan.calls)
        assert 0.5 * held[party] <= ready <= 2 * held[party], (ready, held)
