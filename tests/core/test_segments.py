"""Programs of several calls: wires that pass between segments, one segment used by several layers."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from engine.errors import BoundError, InputError, TraceError
from engine.gates.matmul import bias, matmul, weight
from engine.gates.relu import relu
from engine.graph import Graph, WireType
from engine.kernels.interface import Kernels
from engine.scheduler.plan import Call, Plan, Program, Segment, segment
from engine.testing.accounts import differences
from engine.testing.local import LocalRun, run_local, setup_weights
from engine.wires import Masked

N, D = 3, 4
WIRE = WireType("masked", (N, D), 40, 8, 1 << 20)


def first() -> Segment:
    g = Graph("first")
    x = Masked(g, g.add("input", (), WIRE, owner=0, name="x"))
    g.outputs = (x.as_share().open().index, x.plus(256).index)
    return segment(g)


def layer() -> Segment:
    """y = relu(x W + b), and x + 1 passed by."""
    g = Graph("layer")
    x, skip = (Masked(g, g.add("wire", (), WIRE, at=i)) for i in (0, 1))
    w = weight(g, "w", (D, D), owner=1, scale=0, bound=5)
    b = weight(g, "b", (D,), owner=1, scale=8, bound=1 << 10)
    y = bias(matmul(x, w, bound=1 << 20), b).open(bound=1 << 20)
    g.outputs = (relu(y, 40, 1 << 20).open().index, (skip + x).bounded(1 << 20).index)
    return segment(g)


def last() -> Segment:
    g = Graph("last")
    x, skip = (Masked(g, g.add("wire", (), WIRE, at=i)) for i in (0, 1))
    (x - skip).bounded(1 << 20).as_share().reveal(0, "y")
    return segment(g)


def program(layers: int) -> Plan:
    def before(i: int) -> tuple[tuple[int, int], ...]:
        return (i, 0), (i, 1)

    middle = tuple(Call(1, f"layer {i}", f"layer.{i}.", before(i)) for i in range(layers))
    return Plan(Program((first(), layer(), last()), (Call(0, "first"), *middle, Call(2, "last", "", before(layers)))))


def weights(layers: int) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    drawn: dict[str, Any] = {}
    for i in range(layers):
        drawn[f"layer.{i}.w"] = rng.integers(-5, 6, (D, D)).astype(np.int16)
        drawn[f"layer.{i}.b"] = rng.integers(-1000, 1000, (D,)).astype(np.int16)
    return drawn


def expected(x: Any, params: dict[str, Any], layers: int) -> Any:
    skip = x + 256
    for i in range(layers):
        y = np.maximum(x @ params[f"layer.{i}.w"].astype(np.int64) + params[f"layer.{i}.b"], 0)
        x, skip = y, skip + x
    return x - skip


def run(layers: int, kernels: Kernels, x: Any) -> tuple[Plan, LocalRun]:
    plan, params = program(layers), weights(layers)
    return plan, run_local(plan, {"x": x}, setup_weights(plan, params, kernels, b"k" * 16), kernels, check=True)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_layers_compute_what_they_should(layers: int, kernels: Kernels) -> None:
    x = np.random.default_rng(1).integers(-400, 400, (N, D))
    plan, done = run(layers, kernels, x)
    assert np.array_equal(done.outputs["y"], expected(x, weights(layers), layers))
    assert np.array_equal(done.outputs["y"], done.predicted["y"])
    assert differences(plan, done) == []
    assert plan.rounds == done.rounds == 2 + 3 * layers + 1


def test_each_call_has_seed_tape_gates_and_masks_of_its_own(kernels: Kernels) -> None:
    plan, done = run(3, kernels, np.full((N, D), 7))
    calls = plan.calls[1:4]
    assert len({c.gate(5) for c in plan.calls}) == 5
    assert [b.tape[1] - a.tape[1] for a, b in pairwise(calls)] == [calls[0].segment.tape[1]] * 2
    opened = [m for (call, node), m in sorted(done.masks.items()) if call in (1, 2, 3) and m.dtype == np.uint64]
    assert len({m.tobytes() for m in opened}) == len(opened)


def test_a_missing_weight_is_named(kernels: Kernels) -> None:
    plan, params = program(2), weights(2)
    setup = setup_weights(plan, params, kernels)
    del setup.parties[1].integers["layer.1.w"]  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"the weights at hand have no 'layer\.1\.w'"):
        run_local(plan, {"x": np.zeros((N, D), np.int64)}, setup, kernels)


def test_a_value_beyond_its_bound_names_line_and_layer(kernels: Kernels) -> None:
    with pytest.raises(BoundError, match=r"test_segments.py:\d+: in first a value of 'input' exceeds the bound 2\^21"):
        run(1, kernels, np.full((N, D), 1 << 21))


def test_two_calls_with_outputs_of_one_name_are_refused() -> None:
    """The later one would silently take the place of the earlier."""
    s = one_reveal("y")
    with pytest.raises(TraceError, match=r"party 0 are named 'y': of call 'first' \(.*\) and of call 'second' \(.*\)"):
        Plan(Program((s,), (Call(0, "first"), Call(0, "second"))))
    Plan(Program((s, one_reveal("z")), (Call(0, "first"), Call(1, "second"))))


def one_reveal(name: str) -> Segment:
    g = Graph("revealing")
    x = Masked(g, g.add("input", (), WireType("masked", (2,), 20, 0, 100), owner=0, name="x"))
    x.as_share().reveal(0, name)
    return segment(g)
