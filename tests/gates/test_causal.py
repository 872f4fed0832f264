"""Causal attention: every piece lies in the triangle, the pieces cover it, and rows see nothing to their right."""

from math import ceil, log2

import numpy as np
import pytest

from engine.gates.causal import causal_softmax_times, cut, join, join_rows
from engine.gates.gelu_new import gelu_new
from engine.gates.softmax import SoftmaxRange
from engine.graph import Graph, WireType
from engine.models.activations import activation
from engine.scheduler.plan import Call, Plan, Program, segment
from engine.testing.local import LocalRun, run_local
from engine.variants import DEFAULT, Variants, parse
from engine.wires import Masked

H, D = 2, 4
AT = SoftmaxRange(score=4, spread=6, product=8, o=4)


def attention(length: int, first: int = 0, how: Variants = DEFAULT) -> Plan:
    """Of the rows from `first` on."""
    g = Graph("causal")
    kind = WireType("masked", (H, length - first, length), AT.score_ring, 20, AT.score_bound)
    score = Masked(g, g.add("input", (), kind, owner=0, name="score"))
    values = WireType("masked", (H, length, D), AT.product_ring(11), 11, 8 << 11)
    v = Masked(g, g.add("input", (), values, owner=0, name="v"))
    causal_softmax_times(score.as_share(), v, AT, how=how).reveal(0, "o")
    return Plan(Program((segment(g),), (Call(0, "causal"),)))


def run(plan: Plan, score: np.ndarray, v: np.ndarray) -> LocalRun:
    inputs = {"score": np.rint(score * 2**20).astype(np.int64), "v": np.rint(v * 2**11).astype(np.int64)}
    return run_local(plan, inputs, check=True, seed=b"causal attention")


def drawn(length: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(length)
    return np.clip(rng.normal(0, 2.5, (H, length, length)), -13, 13), rng.normal(0, 1, (H, length, D))


def reference(score: np.ndarray, v: np.ndarray) -> np.ndarray:
    below = np.tril(np.ones(score.shape[-2:], bool))
    e = np.where(below, np.exp(score), 0)
    return e @ v / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 12, 33])
def test_any_length_equals_float_and_the_prediction_bit_for_bit(length: int) -> None:
    score, v = drawn(length)
    result = run(attention(length), score, v)
    assert np.array_equal(result.outputs["o"], result.predicted["o"])
    assert np.abs(result.outputs["o"] / 2**26 - reference(score, v)).max() < 0.02


@pytest.mark.parametrize("how", ["default", "fewest-rounds"])
@pytest.mark.parametrize(("first", "length"), [(1, 2), (5, 12), (8, 16), (11, 12)])
def test_rows_from_the_middle_equal_those_of_the_whole(first: int, length: int, how: str) -> None:
    score, v = drawn(length)
    result = run(attention(length, first, parse(how)), score[:, first:], v)
    assert np.array_equal(result.outputs["o"], result.predicted["o"])
    assert np.abs(result.outputs["o"] / 2**26 - reference(score, v)[:, first:]).max() < 0.02


def test_nothing_right_of_the_diagonal_changes_anything() -> None:
    score, v = drawn(12)
    plan = attention(12)
    plain = run(plan, score, v)
    score[:, ~np.tril(np.ones((12, 12), bool))] = 13.0
    moved = v.copy()
    moved[:, 9:] = 7.0
    other = run(plan, score, moved)
    assert np.array_equal(plain.outputs["o"][:, :9], other.outputs["o"][:, :9])
    assert not np.array_equal(plain.outputs["o"][:, 9:], other.outputs["o"][:, 9:])


@pytest.mark.parametrize(("first", "length"), [(0, 16), (0, 21), (13, 21)])
def test_keys_and_openings_are_those_of_the_triangle(first: int, length: int) -> None:
    graph = attention(length, first).program.segments[0].graph
    entries = H * (length * (length + 1) - first * (first + 1)) // 2
    onehot = sum(n.type.size for n in graph if n.op == "onehot")
    exponent = [n.type.size for n in graph if n.op == "dpf" and n.type.ring > 8 + 2]
    scores = [n.type.size for n in graph if n.op == "open" and n.type.ring == AT.score_ring and n.type.scale == 20]
    assert onehot == entries and entries in exponent and entries in scores


def test_as_many_pieces_as_the_length_has_halvings() -> None:
    for length in (1, 2, 16, 128):
        assert len(cut(square(length), length)) == ceil(log2(length)) + 1


@pytest.mark.parametrize("length", [1, 2, 5, 8, 11])
def test_join_undoes_cut(length: int) -> None:
    x = square(length)
    y, rows = join(iter(cut(x, length)), length), x.slice(-1, 0, 1)
    total = join_rows(iter(cut(rows, length)), length)
    y.as_share().reveal(0, "square")
    total.as_share().reveal(0, "rows")
    values = np.arange(1, H * length * length + 1).reshape(H, length, length)
    result = run_local(Plan(Program((segment(x.graph),), (Call(0, "ruler"),))), {"x": values})
    assert np.array_equal(result.outputs["square"], np.tril(values))
    times = np.array([len(cut(square(i + 1), i + 1)) for i in range(length)])
    assert (result.outputs["rows"] % values[:, :, :1] == 0).all()
    assert (result.outputs["rows"] <= times.max() * values[:, :, :1]).all()


def square(length: int) -> Masked:
    g = Graph("ruler")
    kind = WireType("masked", (H, length, length), 40, 0, 1 << 20)
    return Masked(g, g.add("input", (), kind, owner=0, name="x"))


def test_gelu_new_is_gpt2s_own_and_not_gelu() -> None:
    g = Graph("gelu_new")
    x = np.linspace(-9, 9, 4001)
    wire = Masked(g, g.add("input", (), WireType("masked", x.shape, 40, 12, 31 << 12), owner=0, name="x"))
    gelu_new(wire).reveal(0, "y")
    result = run_local(
        Plan(Program((segment(g),), (Call(0, "gelu_new"),))), {"x": np.rint(x * 2**12).astype(np.int64)}, check=True
    )
    assert np.array_equal(result.outputs["y"], result.predicted["y"])
    y = result.outputs["y"] / 2**24
    wanted = activation("gelu_new")(np.rint(x * 2**12) / 2**12)
    assert np.abs(y - wanted).max() < 2.5e-3
    assert np.abs(y - wanted).mean() < 0.7 * np.abs(y - activation("gelu")(x)).mean()
