"""Runs over a session: results, counters, batches, several runs, several clients, tapes from files or service."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from engine.cost import plan_cost
from engine.errors import InputError
from engine.models.reference import answer
from engine.owner import OwnerService
from engine.pairing import weight_list
from engine.result import RunResult
from engine.ring import packed_bytes
from engine.transport.wan import WanChannel
from simulators.profiles import Network
from tests.session.stage import CLIENT, OTHER, OWNER, SHAPE, Stage, checkpoint, compiled, ids

TEXTS = ["a red cat sat on the mat", "the dog ran", ""]
TOLERANCE = 6e-3


def expected(text: str) -> np.ndarray:
    return answer(checkpoint(), ids(text)[0])


def close(result: RunResult, texts: list[str]) -> None:
    for output, text in zip(result.outputs, texts, strict=True):
        assert np.abs(output - expected(text)).max() < TOLERANCE


async def test_embeddings_are_the_float_models_and_every_counter_equals_the_plan(stage: Stage) -> None:
    async with stage.session() as session:
        result = await session.embed(TEXTS)
    close(result, TEXTS)
    plan = stage.model.public.plan([len(s) for s in ids(*TEXTS)])
    cost = plan_cost(plan)
    assert result.rounds == plan.rounds == cost.rounds
    assert result.rounds_per_layer == [20, 20]
    assert tuple(result.bytes_sent) == cost.online
    assert tuple(result.prepare_bytes) == cost.prepare
    assert tuple(result.tape_bytes) == cost.tape == plan.tape_bytes


async def test_set_up_bytes_are_those_of_the_masked_weights(stage: Stage) -> None:
    _, count = await stage.pair()
    rings = weight_list(stage.model.public)
    assert count == sum(packed_bytes(int(np.prod(shape)), ring) for _, shape, ring in rings)


async def test_a_batch_equals_its_texts_one_by_one_and_shares_their_rounds(stage: Stage) -> None:
    async with stage.session() as session:
        batch = await session.embed(TEXTS)
        alone = [await session.embed([text]) for text in TEXTS]
    for together, single in zip(batch.outputs, alone, strict=True):
        assert np.abs(together - single.outputs[0]).max() < 2 * TOLERANCE
    assert {run.rounds for run in alone} == {batch.rounds}


async def test_tapes_from_files_are_taken_one_by_one(stage: Stage) -> None:
    lengths = tuple(len(s) for s in ids(*TEXTS))
    dealt = {stage.deal(lengths) for _ in range(2)}
    async with stage.session(from_files=True) as session:
        for _ in dealt:
            result = await session.embed(TEXTS)
            close(result, TEXTS)
            assert result.seconds["deal"] == 0.0
    assert not list(stage.client().tapes.iterdir()) and not list(stage.owner.tapes.iterdir())
    assert all(stage.client().ledger.spent(t, 0) and stage.owner.ledger.spent(t, 1) for t in dealt)


async def test_an_owner_offers_the_tape_that_both_hold(stage: Stage) -> None:
    """A crash of one side between the two spendings leaves half a pair: it must not block the whole ones."""
    halves, whole = [stage.deal((5,)) for _ in range(3)], stage.deal((5,))
    for half in halves:
        stage.owner.tape(half, 1).unlink()
    async with stage.session(from_files=True) as session:
        await session.run(ids("the dog ran"))
    assert stage.client().ledger.spent(whole, 0)
    assert not any(stage.client().ledger.spent(half, 0) for half in halves)


async def test_two_clients_of_one_owner_run_at_the_same_time(stage: Stage) -> None:
    async with stage.session(CLIENT) as first, stage.session(OTHER) as second:
        results = await asyncio.gather(*(s.embed(TEXTS) for s in (first, second)))
    for result in results:
        close(result, TEXTS)
    assert first.pairing.key != second.pairing.key


async def test_runs_asked_for_at_the_same_time_follow_one_another(stage: Stage) -> None:
    async with stage.session() as session:
        results = await asyncio.gather(*(session.embed([text]) for text in TEXTS))
    for result, text in zip(results, TEXTS, strict=True):
        close(result, [text])


async def test_behind_a_network_a_run_is_the_same_and_every_round_takes_its_delay(stage: Stage) -> None:
    """The owner delays both ways by 10 ms: a round takes at least that, and a handshake a round trip."""
    loop, delay = asyncio.get_running_loop(), 0.01
    await stage.pair()
    near = await run_for(loop, stage, stage.owner_service(stage.dealing(OWNER)))
    links = Network("slow", 1e9, 2 * delay).links()
    slow = stage.owner_service(stage.dealing(OWNER), behind=lambda channel: WanChannel(channel, *links))
    far = await run_for(loop, stage, slow)
    assert far[0].bytes_sent == near[0].bytes_sent and far[0].rounds == near[0].rounds
    close(far[0], TEXTS)
    assert near[1] == 0 and far[1] >= far[0].rounds * delay


async def run_for(loop: asyncio.AbstractEventLoop, stage: Stage, owner: OwnerService) -> tuple[RunResult, float]:
    """A run, and the virtual seconds that it took."""
    async with stage.session(owner=owner) as session:
        start = loop.time()
        result = await session.embed(TEXTS)
        return result, loop.time() - start


async def test_a_barrier_after_every_round_changes_nothing_but_time(stage: Stage) -> None:
    async with stage.session(overlap=False) as session:
        result = await session.embed(TEXTS)
    close(result, TEXTS)


@pytest.mark.parametrize(
    ("sequences", "sentence"),
    [
        ([], "nothing to run"),
        ([np.ones(5, np.int64)] * 1025, "at most 1024 texts of 65536 tokens together: run fewer at a time"),
        ([np.arange(30)], "30 tokens is outside the model's 1 to 24"),
        ([np.zeros(0, np.int64)], "0 tokens is outside"),
        ([np.array([1, 99, 2])], "token ids are integers from 0 to 13"),
        ([np.array([1, -1, 2])], "token ids are integers"),
        ([np.array([1.0, 2.0])], "token ids are integers"),
        ([np.ones((3, 2), np.int64)], "token ids are integers"),
    ],
)
async def test_what_cannot_run_is_refused_before_anything_is_sent(
    stage: Stage, sequences: list[np.ndarray], sentence: str
) -> None:
    async with stage.session() as session:
        before = session.link.channel.sent
        with pytest.raises(InputError, match=sentence):
            await session.run(sequences)
        assert session.link.channel.sent == before
        close(await session.embed(TEXTS), TEXTS)  # and the session goes on


@pytest.mark.parametrize("head", ["cls", "none", "classify"])
async def test_sessions_of_every_head(tmp_path: Path, head: str) -> None:
    shape = dataclasses.replace(SHAPE, labels=3 if head == "classify" else 0)
    made = checkpoint(shape, pooling="cls" if head == "cls" else "none")
    stage = Stage(tmp_path / "roles", compiled(made, tmp_path / "model"))
    async with stage.session() as session:
        call = session.classify if head == "classify" else session.embed
        result = await call(TEXTS)
        if head == "classify":
            with pytest.raises(InputError, match=r"is a classifier: use classify"):
                await session.embed(TEXTS)
    for output, text in zip(result.outputs, TEXTS, strict=True):
        reference = answer(made, ids(text)[0])
        assert output.shape == reference.shape and np.abs(output - reference).max() < 5 * TOLERANCE


async def test_a_text_in_place_of_a_list_is_refused(stage: Stage) -> None:
    async with stage.session() as session:
        with pytest.raises(InputError, match=r"texts are a list"):
            await session.embed("a red cat")
        with pytest.raises(InputError, match=r"has no classification head: use embed"):
            await session.classify(["a red cat"])
