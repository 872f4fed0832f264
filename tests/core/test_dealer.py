"""The dealer: a function of seeds, tape id and model key alone; it never sees an input."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.dealer import deal
from engine.gates.gelu import gelu
from engine.gates.matmul import matmul, weight
from engine.gates.maximum import stabiliser
from engine.gates.polynomial import polynomial
from engine.gates.relu import relu
from engine.graph import Graph, WireType
from engine.kernels.interface import Kernels
from engine.parameters import DealerParameters, MaskSource
from engine.scheduler.plan import Call, Plan, Program, segment
from engine.tape import MemoryTape, TapeHeader
from engine.testing.local import run_local
from engine.wires import Masked, Share

SEEDS, TAPE, KEY = (b"0" * 16, b"1" * 16), b"t" * 16, b"k" * 16


def plan_of(gate: Callable[[Masked], Any], calls: int = 1, shape: tuple[int, ...] = (6, 4)) -> Plan:
    g = Graph("gate")
    x = Masked(g, g.add("input", (), WireType("masked", shape, 40, 12, 31 << 12), owner=0, name="x"))
    y = gate(x.as_share().open())
    share = y if isinstance(y, Share) else y.as_share()
    if calls == 1:
        share.reveal(0, "y")
    else:  # an output has one name in a run
        g.outputs = (share.open().index,)
    return Plan(Program((segment(g),), tuple(Call(0, f"call {i}") for i in range(calls))))


def tapes(
    plan: Plan, kernels: Kernels, seeds: tuple[bytes, bytes] = SEEDS, tape_id: bytes = TAPE, key: bytes = KEY
) -> list[bytes]:
    sinks = [MemoryTape(TapeHeader(p, plan.digest, tape_id, seeds[p], plan.tape_bytes[p])) for p in (0, 1)]
    deal(plan, kernels, seeds, tape_id, DealerParameters(MaskSource(kernels, key)), (sinks[0], sinks[1]))
    assert [s.size for s in sinks] == list(plan.tape_bytes)
    return [s.read(s.size).tobytes() for s in sinks]


def owned(x: Masked) -> Any:
    y = matmul(x, weight(x.graph, "w", (4, 4), owner=1, scale=4, bound=9)).open(bound=1 << 22)
    return matmul(y, y.transpose(1, 0)).open(bound=1 << 30)


def stable(x: Masked) -> Masked:
    return stabiliser(x, 1, 6)


GATES = [relu, gelu, owned, stable]


@pytest.mark.parametrize("gate", GATES)
def test_same_seeds_same_tapes(gate: Callable[[Masked], Any], kernels: Kernels) -> None:
    plan = plan_of(gate)
    assert tapes(plan, kernels) == tapes(plan, kernels)


def test_every_secret_matters(kernels: Kernels) -> None:
    def gate(x: Masked) -> Any:
        return matmul(gelu(x).open(40, 31 << 20), weight(x.graph, "w", (4, 4), owner=1, scale=0, bound=9))

    plan = plan_of(gate)
    base = tapes(plan, kernels)
    for other in (
        tapes(plan, kernels, seeds=(b"2" * 16, SEEDS[1])),
        tapes(plan, kernels, seeds=(SEEDS[0], b"2" * 16)),
        tapes(plan, kernels, tape_id=b"u" * 16),
        tapes(plan, kernels, key=b"l" * 16),
    ):
        assert other[0] != base[0]
    assert tapes(plan, kernels, key=b"l" * 16)[1] == base[1]  # R_W enters the correction of the output of P0 only


def test_calls_of_one_segment_get_tapes_of_their_own(kernels: Kernels) -> None:
    plan = plan_of(relu, calls=3)
    for data in tapes(plan, kernels):
        third = len(data) // 3
        assert len({data[:third], data[third : 2 * third], data[2 * third :]}) == 3


def test_what_a_tape_holds(kernels: Kernels) -> None:
    """P0: correction words and what its output needs. P1: correction words and corrections of shares."""
    plan = plan_of(lambda x: polynomial(x * x, 50, 1 << 40))
    assert plan.tape_bytes[0] == 24 * 7  # the output alone
    coefficients = (7, 7, 2, 2)  # of h, u, h u: rings of 50, 50 - 40 and so on, in whole bytes
    assert plan.tape_bytes[1] <= 24 * sum(coefficients)
    plan = plan_of(relu)
    keys = 24 * 16 * (19 - 7 + 1)  # of |x| < 2^17 in 40 bits, and two bits more than the bound for a sign
    assert plan.tape_bytes[0] - 24 * 5 == keys and plan.tape_bytes[1] - 24 * 5 * 3 == keys


def test_tapes_do_not_repeat_what_seeds_give(kernels: Kernels) -> None:
    """Correction words look uniform, and no 16 bytes of a tape are a block of a keystream of either party."""
    plan = plan_of(relu)
    for data, seed in zip(tapes(plan, kernels), SEEDS, strict=True):
        stream = np.empty(1 << 12, np.uint64)
        kernels.ctr(seed, 0, stream)
        blocks = {stream[i : i + 2].tobytes() for i in range(0, stream.size, 2)}
        assert not any(data[i : i + 16] in blocks for i in range(0, len(data) - 16, 8))
        bits = np.unpackbits(np.frombuffer(data, np.uint8))
        assert abs(bits.mean() - 0.5) < 5 * 0.5 / bits.size**0.5


def test_a_run_repeats_from_its_seed(kernels: Kernels) -> None:
    plan, x = plan_of(gelu), {"x": np.arange(-12, 12).reshape(6, 4) << 10}
    a, b, c = (run_local(plan, x, None, kernels, seed=s) for s in (KEY, KEY, TAPE))
    for one, two in zip(a.messages, b.messages, strict=True):
        assert np.array_equal(one.data, two.data)
    assert any(not np.array_equal(one.data, two.data) for one, two in zip(a.messages, c.messages, strict=True))


def test_chosen_masks_are_used(kernels: Kernels) -> None:
    """The hook that puts masks on the seams: of inputs, openings and bits, of P0 and of P1."""
    plan, x = plan_of(relu), {"x": np.full((6, 4), -5)}
    graph = plan.program.segments[0].graph

    def choose(_call: int, node: Any) -> Any:
        ring = node.type.ring
        return np.full(node.type.shape, (1 << ring) - 1 if ring > 1 else 1, np.uint64)

    run = run_local(plan, x, None, kernels, masks=choose, seed=KEY)
    assert run.outputs["y"].tolist() == run.predicted["y"].tolist() == np.zeros((6, 4)).tolist()
    for (_, node), x_hat in run.opened.items():
        if graph[node].type.kind == "bit":
            assert (x_hat == 1).all()
        else:
            assert (x_hat == (1 << 40) - 6).all()
