"""Predictions: exact counts, agreement with runs in virtual time, bounds, and what a slower part of the world does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from engine.bench.lockstep import drawn_values, drawn_weights
from engine.cost import plan_cost
from engine.errors import InputError
from engine.models.bert import bert
from engine.models.calibrate import default_ranges
from engine.models.shapes import BertShape
from engine.scheduler.plan import Plan
from engine.scheduler.timeline import Timeline
from engine.testing.registry import gates
from engine.testing.traced import trace
from engine.testing.virtual import VirtualRun, run_virtual
from engine.variants import DEFAULT, Variants
from simulators.profiles import PROFILES, Network, network
from simulators.replay import Prediction, predict
from simulators.sweep import bounds
from tests.simulators.devices import device

SHAPE = BertShape(layers=2, heads=2, hidden=32, intermediate=48, vocab=40, max_positions=24)
WAN = PROFILES["wan-300m-60ms"]


def encoder(owner: int | str = 1, tokens: int = 7, variants: Variants = DEFAULT) -> Plan:
    ranges = default_ranges(SHAPE)
    return Plan(bert(SHAPE, ranges, (tokens,), owner=owner, embedding=False, head="mean", variants=variants))


def ran(plan: Plan, shape: Network, overlap: bool = True, cores: float = 2.0, seed: int = 0) -> VirtualRun:
    rng = np.random.default_rng(5)
    inputs = {n.text("name"): drawn_values(n, rng) for s in plan.program.segments for n in s.graph if n.op == "input"}
    weights = drawn_weights(plan, rng)
    return run_virtual(plan, inputs, weights, shape, device(), overlap, cores, seed=bytes([seed]) + bytes(15))


def test_rounds_and_bytes_are_the_plans_for_every_gate() -> None:
    for spec in gates().values():
        plan = trace(spec, 3).plan
        cost, told = plan_cost(plan), predict(plan, WAN, device())
        assert (told.rounds, told.bytes_sent, told.prepare_bytes) == (cost.rounds, cost.online, cost.prepare), spec.name


@pytest.mark.parametrize("name", [n for n in gates() if not n.startswith(("lookup of", "interval of"))][::6])
def test_a_gate_on_the_wire_is_as_predicted(name: str) -> None:
    plan = trace(gates()[name], 2).plan
    if any(n.op == "input" and n["owner"] == 1 for s in plan.program.segments for n in s.graph):
        pytest.skip("the model's owner has no input in a run")
    run, told = ran(plan, WAN), predict(plan, WAN, device())
    assert (run.rounds, run.bytes_sent, run.prepare_bytes) == (told.rounds, told.bytes_sent, told.prepare_bytes)
    assert run.online == pytest.approx(told.online, rel=1e-9)


@pytest.mark.parametrize("owner", [1, "public", "shared"])
@pytest.mark.parametrize("overlap", [True, False])
def test_a_run_in_virtual_time_takes_what_was_predicted(owner: int | str, overlap: bool) -> None:
    plan = encoder(owner)
    for shape, cores in ((WAN, 2.0), (PROFILES["lan-1g"], 1.0), (network("rtt=1ms,bandwidth=5mbit,jitter=3ms"), 1.4)):
        run, told = ran(plan, shape, overlap, cores), predict(plan, shape, device(), overlap, cores)
        assert (run.online, run.prepare) == (
            pytest.approx(told.online, rel=1e-9),
            pytest.approx(told.prepare, rel=1e-9),
        )
        assert (run.rounds, run.bytes_sent, run.prepare_bytes) == (told.rounds, told.bytes_sent, told.prepare_bytes)
        for mine, theirs in zip(run.timelines, told.timelines, strict=True):
            for lane in ("evaluate", "wait", "prefetch", "prepare"):
                assert mine.seconds(lane) == pytest.approx(theirs.seconds(lane), abs=1e-9), lane


def mixed(plan: Plan, line: Timeline) -> int:
    """Times at which rounds run into one another: a frame leaves before all of its round has been evaluated, or
    evaluation goes on before all of the round before is in."""
    ends = {c.first_round + c.segment.rounds for c in plan.calls}  # what is evaluated last has no opening
    begun = {lane: [(e.round, e.start) for e in line.events if e.lane == lane] for lane in ("send", "evaluate")}
    online = line.phases["online"][0]
    early = sum(
        e.lane == "evaluate" and e.stop > sent + 1e-12 for number, sent in begun["send"] for e in line.events
        if e.round == number and number not in ends and sent >= online
    )  # fmt: skip
    late = sum(
        e.lane == "receive" and e.stop > start + 1e-12 for number, start in begun["evaluate"] for e in line.events
        if e.round == number - 1
    )  # fmt: skip
    return early + late


@pytest.mark.parametrize("owner", [1, "public"])
def test_without_overlap_every_round_ends_in_a_barrier(owner: int | str) -> None:
    plan = encoder(owner, tokens=64, variants=Variants(bands=2, frame=1 << 12))
    shape = network("rtt=0.2ms,bandwidth=100mbit")
    for overlap in (True, False):
        run, told = ran(plan, shape, overlap), predict(plan, shape, device(), overlap)
        assert run.online == pytest.approx(told.online, rel=1e-9)
        for line in (*run.timelines, *told.timelines):
            assert (mixed(plan, line) > 0) == overlap


def test_virtual_runs_of_one_seed_agree_in_every_bit() -> None:
    shape = dataclasses.replace(WAN, jitter=5e-3, loss=1e-3)
    plan = encoder()
    first, again, other = (ran(plan, shape, seed=seed) for seed in (3, 3, 4))
    assert first.digest == again.digest and first.online == again.online
    assert all(a.events == b.events for a, b in zip(first.timelines, again.timelines, strict=True))
    assert other.digest != first.digest and other.online != first.online


def test_the_critical_path_adds_up_and_utilisation_is_a_part() -> None:
    for shape in PROFILES.values():
        told = predict(encoder(), shape, device())
        last = max((t.phases["online"] for t in told.timelines), key=lambda phase: phase[1])
        assert sum(leg.seconds for leg in told.path) == pytest.approx(last[1] - last[0])
        assert all(0 <= use <= 1 for use in (*told.link_use, told.cores_use))


def test_delays_bind_a_wan_run_and_the_wire_a_narrow_one() -> None:
    def most(told: Prediction) -> str:
        lanes: dict[str, float] = {}
        for leg in told.path:
            lanes[leg.lane] = lanes.get(leg.lane, 0.0) + leg.seconds
        return max(lanes, key=lambda lane: lanes[lane])

    assert most(predict(encoder(), WAN, device())) == "delay"
    assert most(predict(encoder(), network("rtt=0ms,bandwidth=1mbit"), device())) == "transmit"
    assert most(predict(encoder(), PROFILES["lan-10g"], device(scale=50))) in ("evaluate", "prefetch")


def test_nothing_is_faster_than_its_parts_alone() -> None:
    for name in ("lan-1g", "wan-400m-8ms"):
        told = predict(encoder(), PROFILES[name], device())
        compute, wire = bounds(encoder(), PROFILES[name], device())
        barrier = predict(encoder(), PROFILES[name], device(), overlap=False)
        assert max(compute, wire) <= told.online + 1e-12 and told.online <= barrier.online + 1e-12
        assert told.online <= compute + wire + told.rounds * 2e-3


def test_more_of_anything_costs_more() -> None:
    told = predict(encoder(), WAN, device())
    assert predict(encoder(), WAN, device(), cores=0.5).online > told.online
    assert predict(encoder(), WAN, device(scale=3)).online > told.online
    assert predict(encoder(), WAN, device(), emulated=True).online > told.online
    punctual = dataclasses.replace(device(), late=0.0)
    behind = predict(encoder(), WAN, punctual, emulated=True).online - predict(encoder(), WAN, punctual).online
    assert behind >= told.rounds * device().delayed[0]  # of a frame in every round, at one end at least
    assert predict(encoder(tokens=14), WAN, device()).online > told.online
    assert predict(encoder(), dataclasses.replace(WAN, back=1e6), device()).online > told.online


@pytest.mark.parametrize(
    ("cores", "transport", "says"), [(0.0, "tcp", "positive number of cores"), (2.0, "tpc", "transport 'tpc'")]
)
def test_impossible_numbers(cores: float, transport: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        predict(encoder(), WAN, device(), cores=cores, transport=transport)
