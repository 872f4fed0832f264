"""Brief steps are evaluated on the loop, others on a thread: nothing that a run gives or sends depends on it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from engine.bench.workloads import build_workload
from engine.party import PartyCall
from engine.scheduler.brief import BRIEF, brief, nanoseconds
from engine.scheduler.executor import Executor
from engine.scheduler.plan import Plan, Segment
from engine.scheduler.steps import Step, steps
from engine.transport.memory import memory_pair
from tests.scheduler.parties import Parties
from tests.scheduler.test_executor import TEXTS, check

CHOICES = {
    "loop": lambda _self, _segment, _step: True,
    "turns": lambda _self, _segment, step: step.opening % 2 == 0,
    "brief": lambda _self, segment, step: brief(segment, step),
}


@pytest.fixture(scope="module")
def parties() -> Parties:
    return Parties.small(*TEXTS)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("overlap", [True, False])
async def test_a_run_is_the_same_wherever_its_steps_are_evaluated(
    parties: Parties, choice: str, overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Executor, "_for_loop", CHOICES[choice])
    check(parties, await parties.run(memory_pair(), overlap))


async def test_two_runs_on_one_loop_are_evaluated_on_threads(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    evaluate = PartyCall.evaluate

    def seen(self: PartyCall, *args: Any) -> None:
        threads.add(threading.get_ident())
        evaluate(self, *args)

    monkeypatch.setattr(PartyCall, "evaluate", seen)
    await parties.run(memory_pair())
    assert threading.get_ident() not in threads
    assert Executor.online_now == 0


def test_a_run_that_fails_is_not_counted_any_more(parties: Parties) -> None:
    """Else its process would never evaluate on the loop again."""

    async def fails() -> None:
        ends = memory_pair()
        executor = parties.executor(0, ends[0], parties.tapes()[0])
        executor.inputs = {}
        await ends[1].aclose()
        with pytest.raises(BaseExceptionGroup):
            await executor.online()

    asyncio.run(fails())
    assert Executor.online_now == 0


def gate(workload: str) -> Segment:
    plan = Plan(build_workload(workload).program)
    return next(c.segment for c in plan.calls if c.call.name == "gate")


@pytest.mark.parametrize(
    ("workload", "most"), [("layernorm-128x768", True), ("softmax-128x128", True), ("compare-1e6", False)]
)
@pytest.mark.parametrize("party", [0, 1])
def test_steps_of_small_gates_are_brief_and_walks_of_many_keys_are_not(workload: str, most: bool, party: int) -> None:
    segment = gate(workload)
    assert brief(segment, steps(segment, party)[0]) is most


@pytest.mark.parametrize("workload", ["matmul-128x768x3072", "gelu-1e5"])
def test_the_estimate_counts_what_takes_time(workload: str) -> None:
    """P1's product of 3.0e8 multiplications, and 1e5 lookups, take longer than the loop may."""
    segment = gate(workload)
    assert max(nanoseconds(segment, step) for step in steps(segment, 1)) > BRIEF


def test_the_estimate_counts_openings_on_both_sides() -> None:
    segment = gate("relu-1e6")
    opening = segment.openings[-1].node
    nothing = Step((), (), (), -1)
    assert nanoseconds(segment, nothing) == 0
    assert nanoseconds(segment, Step((), (), (), opening)) == 4e6
    assert nanoseconds(segment, Step((opening,), (), (), -1)) == 3e6
