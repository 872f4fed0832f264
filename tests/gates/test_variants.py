"""Variants of gates: every one computes the same function as the default, bit for bit as clear predicts it, on small
rings completely and on drawn parameters, in the rounds that its name promises."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError, TraceError
from engine.gates.activation import Curve, between_lines
from engine.gates.causal import causal_softmax_times
from engine.gates.exp import exp_piece
from engine.gates.maximum import stabiliser
from engine.gates.norm import NormRange, centred_rows, layer_norm
from engine.gates.softmax import SoftmaxRange, softmax_times
from engine.graph import Graph, WireType
from engine.kernels import get_kernels
from engine.kernels.interface import Kernels
from engine.models.layers import biased, rescaled, unscaled, y_ring
from engine.scheduler.plan import Call, Plan, Program, segment
from engine.testing.check import check_gate
from engine.testing.declare import MaskedInput, WeightInput
from engine.testing.local import run_local
from engine.variants import DEFAULT, FEWEST_ROUNDS, OPTIONS, Variants, combinations, parse
from engine.wires import Masked, Share, Weight

Real = Any


def hat(x: Any) -> Any:
    """Half a parabola between 0 and the line x."""
    return (x + 1) * (x + 1) / 4


def ramp(x: Any) -> Any:
    """From 0 to 1 without a kink."""
    t = (x + 1) / 2
    return t * t * (3 - 2 * t)


CURVES = {
    "x": Curve("hat", hat, lambda x: (x + 1) / 2, -1, 1),
    "1": Curve("ramp", ramp, lambda x: 3 * (1 - x * x) / 4, -1, 1, right=1),
    "-1 to 1": Curve("ramp from -1", lambda x: 2 * ramp(x) - 1, lambda x: 3 * (1 - x * x) / 2, -1, 1, -1, 1),
}


def real(name: str, x: Real) -> Real:
    curve = CURVES[name]
    inside: Any = curve.f(x)
    return np.where(x < -1, curve.left, np.where(x < 1, inside, x if curve.right == "x" else float(curve.right)))


# ---------------------------------------------------------------------- small rings, completely
@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("how", OPTIONS["activation"])
def test_activations(name: str, how: str, kernels: Kernels) -> None:
    fine, step = (8, 3) if how == "plain" else (4, 2)

    def gate(x: Masked) -> Share:
        return between_lines(x, CURVES[name], 40, None, step=step, fine=fine, scale=10, how=how)

    wire = MaskedInput(fine + 4, fine, 3 << fine)
    tolerance = 0.02 if how == "plain" else 2.0**-5 * {"x": 0.52, "1": 1.6, "-1 to 1": 3.1}[name]
    report = check_gate(
        gate, wire, reference=lambda x: real(name, x), exhaustive=True, tolerance=tolerance, kernels=kernels
    )
    assert report.rounds == (1 if how == "leaf" else 2)


@pytest.mark.parametrize(("how", "rounds", "off"), [("histogram", 3, 1), ("direct", 2, 1), ("tournament", 2, 0)])
def test_stabilisers_of_pairs(how: str, rounds: int, off: float, kernels: Kernels) -> None:
    report = check_gate(
        lambda x: stabiliser(x, 0, 3, how), MaskedInput(4, bound=3, shape=(2,)),
        reference=lambda x: x.max(-1, keepdims=True), tolerance=off, exhaustive=True, kernels=kernels,
    )  # fmt: skip
    assert report.rounds == rounds


@pytest.mark.parametrize("owner", [0, 1, "public", "shared"])
def test_products_before_scaling(owner: int | str, kernels: Kernels) -> None:
    """n W + b from rows whose scale is not known yet; the columns of W add up to 0."""
    at = NormRange(y=4, centred=4, low=-2, high=6, n=2, wire=y_ring(7, 6, 20, 6), c_scale=10, r_scale=12)

    def gate(y: Masked, w: Weight, b: Weight) -> tuple[Share, Masked]:
        rows = centred_rows(y, at, 1e-5)
        product = unscaled(y.truncate(at.c_scale), w, at, 7, 10)
        return biased(rescaled(product, rows, 7, 9, 20), b), rows.normalised(at)

    def reference(y: Real, w: Real, b: Real) -> tuple[Real, Real]:
        """k r y W is what is computed; it is n W only where the columns of W add up to 0."""
        c = y - y.mean(-1, keepdims=True)
        square = (c * c).mean(-1, keepdims=True)
        std = np.where((square >= 2.0**-2) & (square < 2.0**6), np.sqrt(square + 1e-5), np.nan)
        return y @ w / std + b, c / std

    y = MaskedInput(at.wire, 20, 6 << 20, (1, 6))
    report = check_gate(
        gate, y, WeightInput((6, 3), 6, 60, owner, 60), WeightInput((3,), 10, 600, owner, 60), reference=reference,
        tolerance=0.02, examples=128, kernels=kernels,
    )  # fmt: skip
    assert report.rounds == 3 and (report.max_error or 0.0) < 0.02


# ---------------------------------------------------------------------- drawn parameters
KERNELS = get_kernels("numpy")
FEW = settings(max_examples=15, deadline=None)


@FEW
@given(st.integers(1, 40), st.integers(0, 2), st.integers(4, 7), st.integers(0, 2**32 - 1))
def test_direct_stabilisers_of_any_length(length: int, bucket: int, bits: int, seed: int) -> None:
    bound = ((1 << bits - 1) - 2) << bucket
    wire = MaskedInput(bits + bucket + 12, 10, bound << 10, (length,))
    report = check_gate(
        lambda x: stabiliser(x, bucket, bits, "direct"), wire, reference=lambda x: x.max(-1, keepdims=True),
        tolerance=float(1 << bucket), examples=12, seed=seed, kernels=KERNELS,
    )  # fmt: skip
    assert report.rounds == 2


@FEW
@given(st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_tournaments_of_any_length(length: int, seed: int) -> None:
    levels = (length - 1).bit_length()
    report = check_gate(
        lambda x: stabiliser(x, 1, 6, "tournament"), MaskedInput(26, 12, 40 << 12, (length,)),
        reference=lambda x: x.max(-1, keepdims=True), tolerance=0.26 * (levels + 1), examples=12, seed=seed,
        kernels=KERNELS,
    )  # fmt: skip
    assert report.rounds == 2 * levels


@FEW
@given(st.integers(0, 3), st.integers(4, 9), st.integers(16, 30), st.integers(0, 2**32 - 1))
def test_exp_from_leaves(top: int, spread: int, scale: int, seed: int) -> None:
    z = MaskedInput(spread + 16, 14, (1 << spread) - 2 << 14, high=top << 14)
    report = check_gate(lambda v: exp_piece(v, 64, top=top, scale=scale), z, reference=np.exp, relative=2.3e-3,
                        tolerance=2.0**-13 + 2.0 ** (8 - scale), examples=64, seed=seed, kernels=KERNELS)  # fmt: skip
    assert report.rounds == 1


@FEW
@given(st.integers(1, 9), st.sampled_from(list(combinations())), st.integers(0, 2**32 - 1))
def test_softmax_in_every_combination(length: int, how: Variants, seed: int) -> None:
    at = SoftmaxRange(score=4, spread=6, product=8, o=4)
    score = MaskedInput(at.score_ring, 20, at.score_bound, (2, length))
    v = MaskedInput(at.product_ring(11), 11, 7 << 11, (length, 3))

    def reference(s: Real, v: Real) -> Real:
        e = np.exp(s - s.max(-1, keepdims=True))
        return e @ v / e.sum(-1, keepdims=True)

    report = check_gate(lambda s, v: softmax_times(s, v, at, how=how), score, v, reference=reference, tolerance=0.05,
                        examples=8, seed=seed, kernels=KERNELS)  # fmt: skip
    stabiliser = {"histogram": 3, "direct": 2, "tournament": 2 * (length - 1).bit_length()}[how.maximum]
    assert report.rounds == stabiliser + (2 if how.exp == "lookup" else 1) + 2 + (how.scaling == "opened")


def test_a_row_longer_than_a_counter_of_eight_bits(kernels: Kernels) -> None:
    for length in (254, 255, 300):
        wire = MaskedInput(22, 12, 20 << 12, (length,))
        report = check_gate(lambda x: stabiliser(x, 1, 5, "direct"), wire, reference=lambda x: x.max(-1, keepdims=True),
                            tolerance=2.0, examples=4, kernels=kernels)  # fmt: skip
        assert report.rounds == 2
    equal = Plan(Program((segment(constant_row(254)),), (Call(0, "row"),)))
    x = np.full((1, 254), 5 << 12)
    run = run_local(equal, {"x": x}, check=True, seed=bytes(16))
    assert np.array_equal(run.outputs["y"], run.predicted["y"]) and abs(int(run.outputs["y"][0, 0]) / 4096 - 5) <= 2


def constant_row(length: int) -> Graph:
    """All scores of a row in one bucket: a counter at its fullest."""
    g = Graph("row")
    x = Masked(g, g.add("input", (), WireType("masked", (1, length), 22, 12, 20 << 12), owner=0, name="x"))
    stabiliser(x.as_share().open(), 1, 5, "direct").as_share().reveal(0, "y")
    return g


# ---------------------------------------------------------------------- causal rows
@pytest.mark.parametrize("length", [1, 2, 5, 12])
def test_causal_rows_direct_and_from_leaves(length: int) -> None:
    at, how = SoftmaxRange(score=4, spread=6, product=8, o=4), Variants(maximum="direct", exp="leaf")
    g = Graph("causal")
    kind = WireType("masked", (2, length, length), at.score_ring, 20, at.score_bound)
    score = Masked(g, g.add("input", (), kind, owner=0, name="score"))
    v = Masked(g, g.add("input", (), WireType("masked", (2, length, 3), at.product_ring(11), 11, 8 << 11),
                        owner=0, name="v"))  # fmt: skip
    causal_softmax_times(score.as_share(), v, at, how=how).reveal(0, "o")
    plan = Plan(Program((segment(g),), (Call(0, "causal"),)))
    rng = np.random.default_rng(length)
    s, x = np.clip(rng.normal(0, 2.5, (2, length, length)), -13, 13), rng.normal(0, 1, (2, length, 3))
    inputs = {"score": np.rint(s * 2**20).astype(np.int64), "v": np.rint(x * 2**11).astype(np.int64)}
    run = run_local(plan, inputs, check=True, seed=b"causal variants.")
    assert np.array_equal(run.outputs["o"], run.predicted["o"])
    e = np.where(np.tril(np.ones((length, length), bool)), np.exp(s), 0)
    assert np.abs(run.outputs["o"] / 2**26 - e @ x / e.sum(-1, keepdims=True)).max() < 0.02
    assert plan.rounds == 1 + 1 + 2 + 1 + 1 + 1  # input, scores, M, e, O with 1/S, and o, which is revealed


def test_causal_rows_have_no_tournament() -> None:
    g = Graph("causal")
    at = SoftmaxRange(score=4, spread=6, product=8, o=4)
    score = Masked(g, g.add("input", (), WireType("masked", (1, 3, 3), at.score_ring, 20, at.score_bound), owner=0,
                            name="score"))  # fmt: skip
    v = Masked(g, g.add("input", (), WireType("masked", (1, 3, 2), 40, 11, 8 << 11), owner=0, name="v"))
    with pytest.raises(TraceError, match="rows of every length have no tournament"):
        causal_softmax_times(score, v, at, how=Variants(maximum="tournament"))


# ---------------------------------------------------------------------- norms, names
def test_an_opened_factor_takes_a_round_and_fewer_coefficients(kernels: Kernels) -> None:
    at, y = NormRange(y=4, centred=4, low=-3, high=8, n=4), MaskedInput(50, 24, 8 << 24, (48,))
    reports = {}
    for how in OPTIONS["scaling"]:
        gate = lambda v, h=how: layer_norm(v.as_share(), at, 1e-5, how=h)  # noqa: E731
        reports[how] = check_gate(gate, y, examples=16, kernels=kernels)
    assert (reports["merged"].rounds, reports["opened"].rounds) == (4, 5)
    assert reports["opened"].tape_bytes[1] < reports["merged"].tape_bytes[1]


def test_names_are_read_as_they_are_written() -> None:
    everything = list(combinations())
    assert everything[0] == DEFAULT and len(everything) == len(set(map(str, everything))) == 144
    for v in (*everything, FEWEST_ROUNDS, Variants(frame=1 << 16), Variants(bands=3)):
        assert parse(str(v)) == v
    assert str(DEFAULT) == "default" and parse("fewest-rounds") == FEWEST_ROUNDS
    assert str(Variants(exp="leaf", frame=1 << 16)) == "exp=leaf,frame=65536"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("exp=leave", "no variant exp=leave: one of lookup, leaf"), ("fastest", "is no kind=variant of its own"),
        ("maximun=direct", "unknown kind 'maximun'; did you mean maximum"), ("exp=leaf,exp=leaf", "of its own"),
        ("frame=100000", "a frame holds a power of two"), ("frame=64k", "is no number of bytes"), ("", "of its own"),
        ("frame=33554432", "from 4096 to 16777216"), ("bands=0", "1 to 64 bands"),
        ("bands=two", "is no number of bands"),
    ],
)  # fmt: skip
def test_what_is_no_variant_is_refused_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse(text)
