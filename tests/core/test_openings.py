"""Who sends what and when: rounds, one-way openings, fresh masks, and messages that tell nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.gates.fss import Table, at_least, equal, interval, lookup
from engine.gates.gelu import gelu
from engine.gates.matmul import bias, gain, matmul, weight
from engine.gates.polynomial import polynomial
from engine.graph import Graph, WireType
from engine.kernels.interface import Kernels
from engine.scheduler.plan import Call, Plan, Program, segment
from engine.testing.accounts import differences
from engine.testing.check import check_gate
from engine.testing.declare import MaskedInput, WeightInput
from engine.testing.local import LocalRun, run_local, setup_weights
from engine.wires import Masked, Share

SEED = bytes(range(16))
TABLE = Table("a line", -8, 4, tuple(range(16)))


def given(g: Graph, shape: tuple[int, ...], ring: int = 30, bound: int = 1 << 10, owner: int = 0) -> Masked:
    return Masked(g, g.add("input", (), WireType("masked", shape, ring, 4, bound), owner=owner, name="x"))


def planned(g: Graph) -> Plan:
    return Plan(Program((segment(g),), (Call(0, g.name),)))


def parameter(x: Masked, name: str, shape: tuple[int, ...], owner: int | str) -> Any:
    return weight(x.graph, name, shape, owner=owner, scale=4, bound=100)


# ---------------------------------------------------------------------- rounds and shared keys
def test_openings_at_one_depth_share_a_round(kernels: Kernels) -> None:
    """q, k and v written one after another, each opened where it is written; then scores."""
    g = Graph("qkv")
    x = given(g, (3, 4))
    q, k, v = (matmul(x, parameter(x, n, (4, 4), 1)).open(bound=1 << 14) for n in "qkv")
    scores = matmul(q.reduce(16), k.transpose(1, 0).reduce(16)).open(bound=1 << 14)
    matmul(scores, v).reveal(0, "y", bound=1 << 14)
    plan = planned(g)
    rounds = [o.round for o in plan.program.segments[0].openings]
    assert sorted(rounds) == [1, 2, 2, 2, 3, 4]


def test_chains_do_not_wait_for_each_other() -> None:
    g = Graph("chains")
    x = given(g, (5,), ring=40)
    for i in range(8):
        y = x.plus(i)
        for _ in range(4):
            y = y.as_share().open()
        y.as_share().reveal(0, f"y{i}")
    assert planned(g).rounds == 1 + 4 + 1


def test_all_questions_on_a_wire_share_one_key() -> None:
    def tape(*questions: Callable[[Masked], Any]) -> tuple[int, int]:
        g = Graph("questions")
        x = given(g, (7,), ring=12, bound=1000).as_share().open()
        for i, q in enumerate(questions):
            polynomial(q(x).open().operand(), 30).reveal(0, f"y{i}")
        return sum(n.op == "dpf" for n in g), planned(g).program.segments[0].tape[0]

    def half(x: Masked) -> Any:
        return lookup(x.reduce(12), TABLE)

    one = tape(lambda x: interval(x, -3, 5))
    reveal = 7 * 4
    assert one == (1, 7 * 16 * 6 + reveal)
    many = tape(lambda x: interval(x, -3, 5), lambda x: equal(x, 2), lambda x: at_least(x, 1), half, half)
    assert many == (1, 7 * 16 * 6 + 5 * reveal)


def test_activations_take_one_key_and_shares_of_a_mask_are_dealt_once() -> None:
    g = Graph("gelu")
    gelu(given(g, (5,), ring=40, bound=31 << 4).times(1, 12)).reveal(0, "y")
    assert sum(n.op == "dpf" for n in g) == 1
    g = Graph("products")
    x = given(g, (4, 4)).as_share().open()
    for i in range(3):
        matmul(x, parameter(x, f"w{i}", (4, 4), 1)).reveal(0, f"y{i}")
    matmul(x, x).reveal(0, "square")
    assert sum(n.op == "mask_share" for n in g) == 1


# ---------------------------------------------------------------------- one-way openings
def mixed(g: Graph, owners: tuple[int | str, ...], mine: int | None) -> tuple[Masked, Share]:
    x = given(g, (3, 4), owner=mine or 0)
    x = x if mine is not None else x.as_share().open()
    total: Any = None
    for i, owner in enumerate(owners):
        product = matmul(x, parameter(x, f"w{i}", (4, 4), owner))
        total = product if total is None else total + product
    return x, total if isinstance(total, Share) else total.as_share()


def run_mixed(
    owners: tuple[int | str, ...], mine: int | None, kernels: Kernels, value: int
) -> tuple[Plan, LocalRun, int]:
    g = Graph("mixed")
    _, share = mixed(g, owners, mine)
    y = share.open(bound=1 << 20)
    y.as_share().reveal(0, "y")
    plan = planned(g)
    rng = np.random.default_rng(5)
    weights = {f"w{i}": rng.integers(-100, 101, (4, 4)).astype(np.int16) for i in range(len(owners))}
    x = np.random.default_rng(value).integers(-900, 900, (3, 4))
    run = run_local(plan, {"x": x}, setup_weights(plan, weights, kernels, SEED), kernels, check=True, seed=SEED)
    total = sum(w.astype(np.int64) for w in weights.values())
    assert np.array_equal(run.outputs["y"], x @ total) and not differences(plan, run)
    return plan, run, y.index


SENDERS = [
    ((1,), None, (1,), (0,)), ((0,), None, (0, 1), ()), (("shared",), None, (0, 1), ()),
    ((1, 1), None, (1,), (0,)), ((0, 1), None, (0, 1), ()), ((1, "shared"), None, (0, 1), ()),
    ((1, "public"), None, (1,), (0,)), (("public",), None, (1,), (0,)), ((0, "public"), None, (0, 1), ()),
    ((1,), 0, (1,), (0,)), ((1,), 1, (1,), (0,)), ((0,), 1, (0, 1), ()), ((0, 1, "shared", "public"), 1, (0, 1), ()),
]  # fmt: skip


@pytest.mark.parametrize(("owners", "mine", "online", "static"), SENDERS)
def test_one_way_openings(
    owners: tuple[int | str, ...], mine: int | None, online: tuple[int, ...], static: tuple[int, ...], kernels: Kernels
) -> None:
    """Who must speak once x_hat is known follows from who owns what. Party 0, whose shares come from its seed, may have
    spoken before; party 1 reads them from its tape in plan order, so it waits where party 0 owns the weights."""
    plan, _, y = run_mixed(owners, mine, kernels, 1)
    opening = plan.program.segments[0].opening_of[y]
    assert (opening.senders, opening.static) == (online, static)


@pytest.mark.parametrize("owners", [(1,), (0,), (1, 1), ("public",), (0, 1), (1, "shared")])
def test_prepare_messages_do_not_depend_on_the_input(owners: tuple[int | str, ...], kernels: Kernels) -> None:
    runs = [run_mixed(owners, None, kernels, value)[1] for value in (1, 2)]
    pairs = list(zip(runs[0].messages, runs[1].messages, strict=True))
    assert all((a.node, a.party, a.static) == (b.node, b.party, b.static) for a, b in pairs)
    assert all(np.array_equal(a.data, b.data) for a, b in pairs if a.static)
    first = min(a.node for a, _ in pairs)
    changed = {(a.node, a.party) for a, b in pairs if not np.array_equal(a.data, b.data)}
    assert (first, 0) in changed and len({node for node, _ in changed}) >= 3


@pytest.mark.parametrize("mine", [0, 1, None])
@pytest.mark.parametrize("owners", [(0, 1), (1, "public"), ("shared", 0), (0, 1, "shared", "public")])
def test_sums_of_products_with_weights_of_several_owners(
    owners: tuple[int | str, ...], mine: int | None, kernels: Kernels
) -> None:
    def gate(x: Masked, *weights: Any) -> Any:
        n = len(owners)
        total = matmul(x, weights[0])
        for w in weights[1:n]:
            total = total + matmul(x, w) if isinstance(total, Share) else matmul(x, w) + total
        total = total + gain(x, weights[n]) if isinstance(total, Share) else gain(x, weights[n]) + total
        return bias(total, weights[n + 1])

    def reference(x: Any, *weights: Any) -> Any:
        n = len(owners)
        return sum(x @ w for w in weights[:n]) + x * weights[n] + weights[n + 1]

    matrices = [WeightInput((4, 4), 3, 500, o) for o in owners]
    vectors = [WeightInput((4,), 3, 500, owners[0]), WeightInput((4,), 7, 500, owners[-1])]
    x = MaskedInput(40, 4, 1 << 12, (3, 4), owner=mine)
    check_gate(gate, x, *matrices, *vectors, reference=reference, examples=40, kernels=kernels)


# ---------------------------------------------------------------------- masks and messages
def everything(g: Graph) -> None:
    """Openings of every kind: inputs, wires, bits, answers, products; then an output for each party."""
    x = given(g, (64, 8), ring=16, bound=1 << 10)
    t = x.truncate(0)
    bit, answer = at_least(t, 3).open(), lookup(t, TABLE).open()
    y = polynomial(bit * x + answer * 4, 40).open()
    z = matmul(y.reduce(24), parameter(x, "w", (8, 8), 1)).open(bound=1 << 22)
    polynomial(z * z, 60, 1 << 50).reveal(0, "for 0")
    matmul(z, z.transpose(1, 0)).reveal(1, "for 1", bound=1 << 22)


def run_everything(kernels: Kernels, seed: bytes, value: int = 7) -> tuple[Plan, LocalRun]:
    g = Graph("everything")
    everything(g)
    plan = planned(g)
    w = np.full((8, 8), 3, np.int16)
    setup = setup_weights(plan, {"w": w}, kernels, SEED)
    return plan, run_local(plan, {"x": np.full((64, 8), value)}, setup, kernels, seed=seed)


def test_every_opening_has_a_mask_of_its_own(kernels: Kernels) -> None:
    plan, run = run_everything(kernels, SEED)
    assert not differences(plan, run)
    masks = [m for (_, node), m in run.masks.items() if plan.program.segments[0].graph[node].type.kind != "bit"]
    low = [tuple((np.asarray(m).astype(np.uint64).reshape(-1)[:64] & np.uint64(127)).tolist()) for m in masks]
    assert len(set(low)) == len(low) >= 4


def test_masks_are_fresh_in_every_run(kernels: Kernels) -> None:
    _, a = run_everything(kernels, SEED)
    plan, b = run_everything(kernels, SEED[::-1])
    for key, x_hat in a.opened.items():
        n = x_hat.size
        same = int((x_hat == b.opened[key]).sum())
        ring = plan.program.segments[0].graph[key[1]].type.ring
        assert same <= n * 2.0**-ring + 6 * (n * 2.0**-ring) ** 0.5 + 1
    for m, n in zip(a.messages, b.messages, strict=True):
        assert not np.array_equal(m.data, n.data)


@pytest.mark.parametrize("value", [0, 1023])
def test_messages_and_openings_of_a_constant_input_look_uniform(value: int, kernels: Kernels) -> None:
    """A smoke test with a fixed seed: bits of what crosses, and of every opening, are balanced, by position."""
    plan, run = run_everything(kernels, SEED, value)
    graph = plan.program.segments[0].graph
    for message in run.messages:
        bits = np.unpackbits(message.data)
        assert abs(bits.mean() - 0.5) < 5 * 0.5 / bits.size**0.5, graph[message.node].canonical()
    for (_, node), x_hat in run.opened.items():
        ring, n = graph[node].type.ring, x_hat.size
        bits = (x_hat.astype(np.uint64).reshape(-1, 1) >> np.arange(ring, dtype=np.uint64)) & np.uint64(1)
        assert np.abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / n**0.5, graph[node].canonical()


def test_messages_are_reduced_to_their_ring(kernels: Kernels) -> None:
    """High bits of an unreduced word would leak: a message holds the ring's bits and no more, spare bits are zero."""
    g = Graph("narrow")
    x = given(g, (3,), ring=50)
    x.as_share().open(5, 15).as_share().reveal(0, "y")
    plan = planned(g)
    run = run_local(plan, {"x": np.array([1, -2, 15])}, None, kernels, seed=SEED)
    narrow = [m.data for m in run.messages if plan.program.segments[0].graph[m.node].type.ring == 5]
    assert len(narrow) == 3 and all(d.size == 2 and d[1] < 128 for d in narrow)
    assert run.outputs["y"].tolist() == [1, -2, 15]
