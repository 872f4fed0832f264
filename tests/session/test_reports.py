"""A session as its two sides record it: one page and one trace of both, with nothing private in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from engine.report.page import render
from engine.report.recording import RecordedRun, Recording, merged
from engine.report.results import recorded, served, served_run, with_result
from engine.report.trace import write_trace
from engine.result import RunResult
from engine.run import Finished, Settings
from engine.scheduler.plan import Plan
from engine.scheduler.timeline import Timeline
from tests.session.stage import OWNER, Stage, ids

TEXTS = ["the red dog sat", "blue"]


async def both_sides(stage: Stage) -> tuple[list[RunResult], Recording, Recording]:
    """Two runs of one session, as the client and as the owner recorded them."""
    told: list[RecordedRun] = []

    def finished(plan: Plan, lengths: Sequence[int], done: Finished) -> None:
        told.append(served_run(len(told) + 1, plan, lengths, done))

    owner = stage.owner_service(stage.dealing(OWNER), finished=finished)
    async with stage.session(owner=owner) as session:
        runs = [await session.embed([text]) for text in TEXTS]
    result = {"model": "small", "text": TEXTS, "outputs": [r.outputs[0].tolist() for r in runs],
              "runs": [r.as_dict() for r in runs]}  # fmt: skip
    return runs, recorded("embed small", runs, result, {"model": "small"}), served("serve small", told, {})


async def test_both_sides_agree_on_every_figure(stage: Stage) -> None:
    runs, mine, theirs = await both_sides(stage)
    whole = merged([mine, theirs])
    for result, run, told in zip(runs, whole.runs, theirs.runs, strict=True):
        assert run.tape == told.tape == result.tape and all(side is not None for side in run.sides)
        for name in ("rounds", "rounds_per_layer", "bytes_sent", "prepare_bytes", "tape_bytes"):
            assert run.totals[name] == told.totals[name] == result.as_dict()[name]
        sent = [sum(e.bytes for e in side.events if e.lane == "send") for side in run.sides if side is not None]
        assert sent == [a + b for a, b in zip(result.bytes_sent, result.prepare_bytes, strict=True)]
    assert [run.name for run in whole.runs] == ["1 of 2, 6 tokens", "2 of 2, 3 tokens"]


async def test_texts_outputs_keys_and_seeds_are_in_neither_page_nor_trace(stage: Stage, tmp_path: Path) -> None:
    runs, mine, theirs = await both_sides(stage)
    data = {"runs": [r.as_dict() for r in runs], "text": TEXTS, "outputs": [r.outputs[0].tolist() for r in runs]}
    whole = with_result(merged([mine, theirs]), data, "demo small", {})
    write_trace(whole, tmp_path / "t.json")
    key = stage.owner.find_key(stage.model.public.digest, "c1" * 32)
    assert key is not None
    for shown in (render(whole), (tmp_path / "t.json").read_text()):
        assert TEXTS[0] not in shown and key.seed.hex() not in shown and key.id not in shown
        assert str(ids(TEXTS[0])[0].tolist()) not in shown and OWNER not in shown
        for r in runs:
            assert not any(json.dumps(v) in shown for v in r.outputs[0].tolist() if v)


async def test_a_run_happens_within_its_watch(stage: Stage) -> None:
    seen: list[tuple[int, int, bool]] = []

    @contextmanager
    def watch(plan: Plan, party: int, timeline: Timeline) -> Iterator[None]:
        seen.append((party, plan.rounds, bool(timeline.events)))
        yield
        seen.append((party, plan.rounds, "online" in timeline.phases))

    owner = stage.owner_service(stage.dealing(OWNER), watch=watch)
    async with stage.session(owner=owner) as session:
        session.settings = Settings(watch=watch)
        run = await session.embed([TEXTS[0]])
    assert np.isfinite(run.outputs[0]).all()
    rounds = run.plan.rounds
    assert sorted(seen) == [(0, rounds, False), (0, rounds, True), (1, rounds, False), (1, rounds, True)]
