"""Every gate and composite: hundreds of examples on the seams, bit for bit, with every cost equal to the plan."""

import pytest

from engine.kernels.interface import Kernels
from engine.testing.check import check_spec
from engine.testing.registry import gates

ROUNDS = {
    "relu": 2, "gelu": 2, "silu": 2, "sigmoid": 2, "tanh": 2, "exp": 2, "reciprocal": 1, "rsqrt": 1, "interval": 1,
    "lookup": 1, "piece": 1, "many questions": 1, "maximum": 8, "argmax": 8, "stabiliser": 3, "softmax": 7,
    "layer_norm": 4, "rms_norm": 4, "matmul secret": 1, "matmul owned by 1": 1, "matmul public": 0, "truncate": 0,
    "rest": 1, "cubic": 1, "gelu, plain": 2, "gelu, leaf": 1, "exp, leaf": 1, "stabiliser, direct": 2,
    "stabiliser, tournament": 10, "layer_norm, opened": 5, "softmax times v": 7, "softmax times v, leaves": 5,
}  # fmt: skip


@pytest.mark.parametrize("name", gates())
def test_gate(name: str, kernels: Kernels) -> None:
    report = check_spec(gates()[name], examples=200, seed=20, kernels=kernels)
    assert report.ok, str(report)
    assert report.mismatches == 0 and report.evaluations >= 200
    assert report.rounds == ROUNDS.get(name, report.rounds)
