"""Calibration: magnitudes in whole bits above what the samples show, integers that are the folded float weights."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from engine.errors import BoundError, InputError
from engine.models.bert import bert
from engine.models.calibrate import MARGIN, calibrated, default_ranges, measured, quantise, widened
from engine.models.check import run_clear
from engine.models.checkpoint import Checkpoint, random_checkpoint, read_only
from engine.models.compiled import PublicModel, public_of
from engine.models.layers import BIAS, EMBED, F, W
from engine.models.reference import answer
from engine.models.shapes import SHAPES
from engine.models.taps import measure
from engine.scheduler.plan import Plan
from tests.session.stage import SAMPLES, SHAPE, checkpoint, ids


@pytest.fixture(scope="module")
def made() -> Checkpoint:
    return checkpoint()


@pytest.fixture(scope="module")
def public(made: Checkpoint) -> PublicModel:
    return public_of(made, calibrated(made, measured(made, SAMPLES)))


def test_every_magnitude_is_two_bits_above_what_was_seen(made: Checkpoint, public: PublicModel) -> None:
    ranges = measured(made, SAMPLES)
    for i, block in enumerate(public.ranges.blocks):
        seen = max(ranges.layer(name, i).magnitude for name in ("query", "key", "value"))
        assert block.v == max(math.ceil(math.log2(seen) + MARGIN), 1)
        low, high = block.attention[1:]
        variance = ranges.layer("attention.variance", i)
        assert 2.0**low <= variance.low / 4 and 2.0**high >= variance.high * 4


def test_more_samples_never_narrow_a_range(made: Checkpoint, public: PublicModel) -> None:
    few = calibrated(made, measured(made, SAMPLES[:1]))
    for a, b in zip(few.blocks, public.ranges.blocks, strict=True):
        assert a.v <= b.v and a.up <= b.up and a.softmax.spread <= b.softmax.spread
        assert a.attention[0] <= b.attention[0] and a.attention[1] >= b.attention[1]


def test_progress_is_told(made: Checkpoint) -> None:
    seen: list[tuple[int, int]] = []
    measured(made, SAMPLES, lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, len(SAMPLES)) for i in range(len(SAMPLES))]


def test_a_sample_that_is_too_long_is_refused(made: Checkpoint) -> None:
    with pytest.raises(InputError, match=r"takes from 1 to 24"):
        measured(made, ["cat " * 30])


# ---------------------------------------------------------------------- the fixed-point program on samples
def test_the_fixed_point_program_is_the_float_model_within_its_error(made: Checkpoint, public: PublicModel) -> None:
    sequences = ids(*SAMPLES)
    for result, tokens in zip(run_clear(public, quantise(made), sequences), sequences, strict=True):
        assert np.abs(result - answer(made, tokens)).max() < 6e-3


def test_a_value_beyond_its_bound_names_the_authors_line(made: Checkpoint, public: PublicModel) -> None:
    blocks = tuple(dataclasses.replace(b, up=3) for b in public.ranges.blocks)
    loud = {k: (v * 40 if k.endswith("up.weight") else v) for k, v in quantise(made).items()}
    narrow = dataclasses.replace(public, ranges=dataclasses.replace(public.ranges, blocks=blocks))
    with pytest.raises(
        BoundError, match=r"engine/models/bert.py:\d+: in layer 0 a value of '\w+' exceeds the bound 2\^27"
    ):
        run_clear(narrow, loud, ids("a red cat"))


def test_progress_of_the_check_is_told(made: Checkpoint, public: PublicModel) -> None:
    seen: list[tuple[int, int]] = []
    run_clear(public, quantise(made), ids("a", "cat"), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


# ---------------------------------------------------------------------- the owner's integers
def test_integers_fold_gains_and_biases_exactly(made: Checkpoint) -> None:
    p, integers = made.parameters, quantise(made)
    gain, shift = (p[f"embeddings.LayerNorm.{n}"] for n in ("weight", "bias"))
    key, b = (p[f"encoder.layer.0.attention.self.key.{n}"] for n in ("weight", "bias"))
    assert np.array_equal(integers["layer.0.key.weight"], np.rint(gain[:, None] * key.T * 2**W))
    assert np.array_equal(integers["layer.0.key.bias"], np.rint((key @ shift + b) * 2.0 ** (F + W)))
    places = p["embeddings.position_embeddings.weight"] + p["embeddings.token_type_embeddings.weight"][0]
    assert np.array_equal(integers["embeddings.places"], np.rint(places * 2**EMBED))
    scaled = np.rint(gain[:, None] * p["encoder.layer.0.attention.self.query.weight"].T / math.sqrt(8) * 2**W)
    assert np.array_equal(integers["layer.0.query.weight"], scaled), "scores are divided by the root of d_h here"


def test_integers_have_the_names_and_shapes_that_the_plan_declares(made: Checkpoint, public: PublicModel) -> None:
    for checkpoint_ in (made, checkpoint(dataclasses.replace(SHAPE, labels=3))):
        integers = quantise(checkpoint_)
        model = public_of(checkpoint_, default_ranges(checkpoint_.config))
        declared = {
            call.call.prefix + node.text("name"): node.type
            for call in model.plan((5,)).calls
            for node in call.segment.graph.weights()
        }
        assert {n: t.shape for n, t in declared.items()} == {n: a.shape for n, a in integers.items()}
        for name, kind in declared.items():
            assert int(np.abs(integers[name].astype(np.int64)).max()) <= kind.bound, name


def test_a_weight_beyond_fixed_point_is_named(made: Checkpoint) -> None:
    name = "encoder.layer.1.output.dense.weight"
    huge = made.parameters[name].copy()
    huge[0, 0] = 5000.0
    with pytest.raises(
        InputError, match=r"weight layer.1.down.weight reaches 5e\+03, more than fixed point of scale 12"
    ):
        quantise(dataclasses.replace(made, parameters=read_only((made.parameters | {name: huge}).items())))
    assert BIAS / 2.0 ** (F + W) > 5000


# ---------------------------------------------------------------------- classes of blocks
def test_widened_blocks_are_one_class_that_holds_all(public: PublicModel) -> None:
    wide = widened(public.ranges)
    assert len(set(wide.blocks)) == 1
    for block in public.ranges.blocks:
        one = wide.blocks[0]
        assert one.v >= block.v and one.up >= block.up and one.softmax.score >= block.softmax.score
        assert one.output[1] <= block.output[1] and one.output[2] >= block.output[2]
    with pytest.raises(InputError, match=r"to one class or left as they are"):
        widened(public.ranges, 2)


def test_widened_ranges_still_compute_the_model(made: Checkpoint, public: PublicModel) -> None:
    wide = dataclasses.replace(public, ranges=widened(public.ranges))
    tokens = ids("the dog ran")
    assert np.abs(run_clear(wide, quantise(made), tokens)[0] - answer(made, tokens[0])).max() < 8e-3


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_bare_shapes_have_defaults_that_plan(name: str) -> None:
    shape = SHAPES[name]
    plan = Plan(bert(shape, default_ranges(shape), (4,), embedding=False))
    assert [c.segment.rounds for c in plan.calls if c.call.name.startswith("layer")] == [20] * shape.layers


def test_defaults_of_blocks_hold_for_random_weights_that_behave() -> None:
    """Their embeddings alone are larger than trained ones."""
    made = random_checkpoint(SHAPE, 4, pooling="mean")
    model = public_of(made, dataclasses.replace(default_ranges(SHAPE), embedding=(4, -4, 4)))
    tokens = [np.arange(10) % SHAPE.vocab]
    assert np.abs(run_clear(model, quantise(made), tokens)[0] - answer(made, tokens[0])).max() < 8e-3
    assert measure(made, tokens).overall("up").magnitude < 2.0**5
