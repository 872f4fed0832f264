"""Steps of all calls in order: every one of them once, wires before their readers, and bands one by one."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import numpy as np
import pytest

from engine.bench.gateloads import gelu_load
from engine.bench.workload import Workload
from engine.bench.workloads import build_workload
from engine.clear import clear
from engine.graph import Graph, WireType
from engine.kernels import get_kernels
from engine.scheduler.plan import Call, Plan, Program, segment
from engine.scheduler.steps import steps
from engine.scheduler.walk import Wire, walk
from engine.testing.local import setup_weights
from engine.transport.memory import memory_pair
from engine.variants import Variants
from engine.wires import Masked
from tests.scheduler.parties import Parties

BANDS = 3
KIND = WireType("masked", (4,), 20, 0, 1 << 10)


@pytest.fixture(scope="module")
def load() -> Workload:
    return gelu_load("gelu", 96, Variants(bands=BANDS, frame=4096))


@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("overlap", [True, False])
def test_every_step_is_taken_once_and_wires_before_who_reads_them(load: Workload, party: int, overlap: bool) -> None:
    plan = Plan(load.program)
    taken = list(walk(plan, party, overlap))
    every = {(c.index, k) for c in plan.calls for k in range(len(steps(c.segment, party)))}
    assert len(taken) == len(every) and {(d.call.index, d.number) for d in taken} == every
    known: set[Wire | None] = set()
    for due in taken:
        assert known >= {wire for _, wire in due.takes}
        known.add(due.gives)
    sent = [(d.call.index, d.step.opening) for d in taken if d.step.opening >= 0]
    assert sent == [(c.index, o.node) for c in plan.calls for o in c.segment.openings if party in o.senders]


@pytest.mark.parametrize("party", [0, 1])
def test_a_band_is_worked_on_before_the_next_one_is_asked_for(load: Workload, party: int) -> None:
    """In the gate's first round and where it is revealed; with a barrier no call begins before the last one is over."""
    taken = [(d.call.index, d.step.wire) for d in walk(Plan(load.program), party)]
    for call in (0, 1):
        places = [taken.index((call, k)) for k in range(BANDS)]
        between = [taken[a + 1 : b] for a, b in pairwise(places)]
        assert all(any(c == call + 1 for c, _ in steps) for steps in between)
    calls = [d.call.index for d in walk(Plan(load.program), party, overlap=False)]
    assert calls == sorted(calls)


@pytest.mark.parametrize("workload", ["bert-tiny", "gelu-1e5", "softmax-128x128", "compare-1e5"])
def test_what_completes_a_wire_takes_no_tape(workload: str) -> None:
    """Else tapes would be read in another order than they are dealt in."""
    for call in Plan(build_workload(workload, 32, Variants(bands=2)).program).calls:
        for p in (0, 1):
            last = [i for step in steps(call.segment, p) if step.wire >= 0 for i in step.nodes]
            assert not any(call.segment.needs[i].tape[p] for i in last)


def passed_on() -> Program:
    """A call gives its wires on in another order, unchanged and read twice; nobody reads the last one."""
    first, second, third = Graph("input"), Graph("on"), Graph("sum")
    first.outputs = tuple(first.add("input", (), KIND, owner=0, name=name) for name in "xyz")
    a, b, _ = (Masked(second, second.add("wire", (), KIND)) for _ in range(3))
    second.outputs = (b.index, a.index, (a + b).index)
    u, v, w = (Masked(third, third.add("wire", (), KIND)) for _ in range(3))
    (u.times(3, 0) + v + w).as_share().reveal(0, "y")
    calls = (
        Call(0, "input"),
        Call(1, "on", "", ((0, 0), (0, 1), (0, 2))),
        Call(2, "sum", "", ((1, 0), (1, 1), (1, 0))),
    )
    return Program(tuple(segment(g) for g in (first, second, third)), calls)


@pytest.mark.parametrize("overlap", [True, False])
async def test_bands_on_wires_of_their_own_change_no_bit(load: Workload, overlap: bool) -> None:
    plan = Plan(load.program)
    inputs = {name: np.asarray(x) for name, x in load.inputs.items()}
    parties = Parties(plan, inputs, setup_weights(plan, {}, get_kernels(), bytes(16)))
    sides, local = await parties.run(memory_pair(), overlap), parties.local()
    assert local.outputs.keys() == {"y 0", "y 1", "y 2"} == sides[0].outputs.keys()
    for name, y in local.outputs.items():
        assert np.array_equal(sides[0].outputs[name], y) and np.array_equal(y, local.predicted[name])


@pytest.mark.parametrize("overlap", [True, False])
def test_wires_may_be_passed_on_read_twice_or_by_nobody(overlap: bool) -> None:
    plan = Plan(passed_on())
    inputs = {name: np.arange(4, dtype=np.int64) * (k + 1) - 2 for k, name in enumerate("xyz")}
    parties = Parties(plan, inputs, setup_weights(plan, {}, get_kernels(), bytes(16)))
    outputs = asyncio.run(parties.run(memory_pair(), overlap))[0].outputs
    assert np.array_equal(outputs["y"], 4 * inputs["y"] + inputs["x"])
    assert np.array_equal(outputs["y"], clear(plan, get_kernels(), inputs, {})["y"])
    assert not any(d.gives == (1, 2) for p in (0, 1) for d in walk(plan, p, overlap=True))
