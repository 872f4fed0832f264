"""Every variant that a causal pre-norm block can have: both parties' result is clear's, bit for bit, near the float
model's; every counter is the plan's; rounds a layer are what the names promise. What it cannot have is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.bench.workloads import build_workload
from engine.cost import plan_cost
from engine.errors import InputError, TraceError
from engine.kernels import get_kernels
from engine.models.choose import choose, sensible
from engine.models.gpt2 import Gpt2Ranges, Gpt2Shape, gpt2_program
from engine.models.gpt2_calibrate import calibrated_gpt2, measured_gpt2, quantise_gpt2
from engine.models.gpt2_reference import embed_tokens, gpt2_forward, gpt2_logits, random_gpt2
from engine.models.layers import F, W
from engine.scheduler.plan import Plan
from engine.testing.local import LocalRun, run_local, setup_weights
from engine.transport.memory import memory_pair
from engine.variants import BANDS, DEFAULT, FEWEST_ROUNDS, FRAMES, OPTIONS, Variants, parse
from tests.scheduler.parties import Parties

SHAPE = Gpt2Shape(layers=2, heads=2, hidden=16, intermediate=24, vocab=40, max_positions=40)
MODEL = random_gpt2(SHAPE, 3)
SEED = bytes(range(16))
Texts = list[NDArray[np.int64]]
ALONE = [parse(f"{kind}={name}") for kind, names in OPTIONS.items() for name in names[1:] if name != "tournament"]
ROUNDS = {"default": 20, "maximum=direct": 19, "exp=leaf": 19, "activation=plain": 20, "activation=leaf": 19,
          "up=before": 19, "scores=before": 19, "scaling=opened": 23}  # fmt: skip


def drawn(*lengths: int) -> Texts:
    rng = np.random.default_rng(len(lengths))
    return [rng.integers(0, SHAPE.vocab, n) for n in lengths]


@cache
def ranges(head: str) -> Gpt2Ranges:
    return calibrated_gpt2(MODEL, measured_gpt2(MODEL, drawn(9, 12, 1, 40)), head)


def planned(how: Variants, *lengths: int, head: str = "hidden") -> Plan:
    return Plan(gpt2_program(SHAPE, ranges(head), lengths, head=head, variants=how))


def one_hot(sequences: Texts) -> NDArray[np.int64]:
    return np.eye(SHAPE.vocab, dtype=np.int64)[np.concatenate(sequences)]


def run(plan: Plan, sequences: Texts) -> LocalRun:
    setup = setup_weights(plan, quantise_gpt2(MODEL, plan.program.variants), get_kernels(), SEED)
    return run_local(plan, {"one-hot tokens": one_hot(sequences)}, setup, check=True, seed=SEED)


def check(result: LocalRun, plan: Plan) -> None:
    for name, value in result.predicted.items():
        assert np.array_equal(result.outputs[name], value), name
    cost = plan_cost(plan)
    assert (tuple(result.bytes_sent), tuple(result.prepare_bytes)) == (cost.online, cost.prepare)
    assert tuple(result.tape_bytes) == cost.tape == plan.tape_bytes
    assert result.rounds == cost.rounds == plan.rounds


def error(outputs: Mapping[str, NDArray[np.int64]], sequences: Texts, head: str) -> float:
    """The largest against float64."""
    wanted = [gpt2_forward(MODEL, ids) if head == "hidden" else gpt2_logits(MODEL, ids)[None] for ids in sequences]
    got = [outputs[f"output {i}"] / 2.0 ** (F + W) for i in range(len(sequences))]
    return max(float(np.abs(a - b).max()) for a, b in zip(got, wanted, strict=True))


def layers(plan: Plan) -> list[int]:
    return [c.segment.rounds for c in plan.calls if c.call.name.startswith("layer")]


@pytest.mark.parametrize("head", ["hidden", "logits"])
@pytest.mark.parametrize("how", [*ALONE, FEWEST_ROUNDS], ids=str)
def test_a_variant_runs_as_planned_and_near_the_float_model(how: Variants, head: str) -> None:
    sequences = drawn(1, 5, 12)
    plan = planned(how, 1, 5, 12, head=head)
    result = run(plan, sequences)
    check(result, plan)
    assert error(result.outputs, sequences, head) < 0.03
    expected = ROUNDS.get(str(how), 15)
    assert layers(plan) == [expected] * 2
    assert plan.rounds == 2 * expected + 2 + 4 + (how.scaling == "opened")


@pytest.mark.parametrize(("how", "bands"), [(DEFAULT, 2), (DEFAULT, 3), (FEWEST_ROUNDS, 2), (FEWEST_ROUNDS, 3)])
def test_bands_take_no_round_more_and_give_the_same_within_rounding(how: Variants, bands: int) -> None:
    """Texts that begin, end and lie whole within a band."""
    lengths, sequences = (20, 9, 24), drawn(20, 9, 24)
    plan = planned(dataclasses.replace(how, bands=bands), *lengths)
    result = run(plan, sequences)
    check(result, plan)
    assert error(result.outputs, sequences, "hidden") < 0.03
    assert layers(plan) == [ROUNDS.get(str(how), 15)] * 2


def keys(plan: Plan) -> dict[tuple[str, int], int]:
    """How many keys a block has for each gate and domain."""
    found: dict[tuple[str, int], int] = {}
    for n in plan.program.segments[1].graph:
        if n.op == "dpf":
            found[n.gate, n.type.ring] = found.get((n.gate, n.type.ring), 0) + n.type.size
    return found


def test_bands_deal_no_key_more_and_less_for_what_lies_above_the_diagonal() -> None:
    """Shorter rows have smaller tables of 1/S, and fewer zeros to join. Every message of a band ends in a byte of its
    own: that is all that two bands send more than one."""
    plans = [planned(Variants(bands=bands), 40) for bands in (1, 2)]
    one, two = map(plan_cost, plans)
    assert keys(plans[0]) == keys(plans[1]) and two.aes < one.aes
    assert all(0 <= b - a < 64 for a, b in zip(one.online, two.online, strict=True))
    assert two.tape[0] < one.tape[0] and two.tape[1] < one.tape[1]


def test_in_bands_a_later_token_changes_no_bit_of_what_stands_before_it() -> None:
    text = drawn(36)[0]
    changed = text.copy()
    changed[25:] = (changed[25:] + 11) % SHAPE.vocab
    plan = planned(dataclasses.replace(FEWEST_ROUNDS, bands=2), 36)
    first, second = (run(plan, [t]).outputs["output 0"] for t in (text, changed))
    assert np.array_equal(first[:25], second[:25])
    assert (first[25:] != second[25:]).any(axis=-1).all()


@pytest.mark.parametrize(("owner", "most"), [(1, 15), ("shared", 15), (0, 15), ("public", 13)])
def test_fewest_rounds_whoever_owns_the_weights(owner: int | str, most: int) -> None:
    text, at = drawn(9)[0], ranges("hidden")
    plan = Plan(gpt2_program(SHAPE, at, (9,), owner, "hidden", embedding=False, variants=FEWEST_ROUNDS))
    x = np.rint(embed_tokens(MODEL.centred(), text) * 2.0 ** (F + W)).astype(np.int64)
    setup = setup_weights(plan, quantise_gpt2(MODEL, FEWEST_ROUNDS), get_kernels(), SEED)
    result = run_local(plan, {"x": x}, setup, check=True, seed=SEED)
    check(result, plan)
    assert layers(plan) == [most] * 2
    assert error(result.outputs, [text], "hidden") < 0.03


async def test_two_parties_send_and_read_what_the_plan_says() -> None:
    """Over a channel, with the executor: in bands, in the fewest rounds."""
    sequences, plan = drawn(20, 16), planned(dataclasses.replace(FEWEST_ROUNDS, bands=2), 20, 16)
    setup = setup_weights(plan, quantise_gpt2(MODEL, plan.program.variants), get_kernels(), SEED)
    sides = await Parties(plan, {"one-hot tokens": one_hot(sequences)}, setup).run(memory_pair())
    assert error(sides[0].outputs, sequences, "hidden") < 0.03
    cost = plan_cost(plan)
    for p, side in enumerate(sides):
        assert (side.link.sent["online"], side.tape_read) == (cost.online[p], cost.tape[p])
        assert side.link.rounds == set(range(1, plan.rounds + 1))


def test_integers_are_those_that_every_plan_declares_and_centred_where_rows_are_not() -> None:
    for how in (*ALONE, FEWEST_ROUNDS):
        integers = quantise_gpt2(MODEL, how)
        for call in planned(how, 5).calls:
            for node in call.segment.graph.weights():
                assert integers[call.call.prefix + node.text("name")].shape == node.type.shape
    early = quantise_gpt2(MODEL, FEWEST_ROUNDS)
    for name in ("query", "key", "up"):
        assert np.abs(early[f"layer.1.{name}.weight"].astype(np.int64).sum(0)).max() <= SHAPE.hidden // 2
    assert np.array_equal(early["layer.1.value.weight"], quantise_gpt2(MODEL)["layer.1.value.weight"])


def test_plans_of_different_variants_have_different_digests() -> None:
    every = [DEFAULT, FEWEST_ROUNDS, *ALONE]
    every += [Variants(frame=f) for f in FRAMES[1:]] + [Variants(bands=b) for b in BANDS[1:]]
    assert len({planned(v, 3).digest for v in every}) == len(every)
    assert planned(DEFAULT, 3).digest == Plan(gpt2_program(SHAPE, ranges("hidden"), (3,), head="hidden")).digest


# ---------------------------------------------------------------------- what it cannot have
def test_a_tournament_is_refused_in_one_sentence() -> None:
    with pytest.raises(InputError, match=r"^a causal model has no maximum=tournament, .*: take maximum=histogram or"):
        planned(Variants(maximum="tournament"), 5)


def test_the_choice_leaves_out_what_it_cannot_have_and_says_why() -> None:
    choice = choose(lambda v: planned(v, 5), lambda plan: float(plan.rounds), sensible((5,))[:60])
    assert choice.best.cost.rounds == 15 * 2 + 2 + 4
    assert choice.refused and all("tournament" in name for name in choice.refused)
    assert [c for kind, name, c in choice.instead() if name == "tournament"] == [None]


def test_ranges_without_room_are_refused_with_the_authors_line() -> None:
    at = ranges("hidden")
    block = dataclasses.replace(at.blocks[0], output=(6, -4, 30), up=9)
    with pytest.raises(TraceError, match=r"engine/.*\.py:\d+: "):
        gpt2_program(SHAPE, dataclasses.replace(at, blocks=(block,) * 2), (5,), variants=Variants(up="before"))


# ---------------------------------------------------------------------- as a workload
@pytest.mark.parametrize("name", ["block-bert-base", "bert-tiny"])
def test_workloads_have_the_weights_that_their_variants_ask_for(name: str) -> None:
    built = build_workload(name, 4, parse("up=before,scores=before"))
    plan = Plan(built.program)
    result = run_local(plan, built.inputs, setup_weights(plan, built.weights, get_kernels(), SEED), seed=SEED)
    assert built.accuracy(result.outputs).max_error < 0.05
