"""Norms: what is opened in which ring, bit for bit with the cleartext reading, near the float64 function."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.gates.norm import NormRange, centred, layer_norm
from engine.graph import Graph, WireType
from engine.kernels.interface import Kernels
from engine.testing.check import check_gate
from engine.testing.declare import MaskedInput
from engine.wires import Masked, magnitude

Real = Any


def at_width(d: int, y: int, scale: int, c_scale: int) -> NormRange:
    """|y| < 2^y at `scale`, in the narrowest rings."""
    return NormRange(y, y + 1, -3, 2 * y + 2, 4, y + scale + (d - 1).bit_length() + 3, c_scale=c_scale)


def times_k(y: Real) -> Real:
    """The centred row times D / 2^ceil(log2 D)."""
    d = y.shape[-1]
    return (y - y.mean(-1, keepdims=True)) * d / 2.0 ** (d - 1).bit_length()


@pytest.mark.parametrize(("d", "y"), [(1, 3), (2, 2), (3, 1)])
@pytest.mark.parametrize("opened", [False, True], ids=["share", "opened"])
def test_centring_on_small_rings_completely(d: int, y: int, opened: bool, kernels: Kernels) -> None:
    """One coin of the sum and one of the result, each of a unit."""
    at = at_width(d, y, 0, 0)
    report = check_gate(
        lambda x: centred(x if opened else x.as_share(), at), MaskedInput(at.wire, 0, (1 << y) - 1, (d,)),
        reference=times_k, tolerance=2.0, exhaustive=True, kernels=kernels,
    )  # fmt: skip
    assert report.rounds == 1 - opened


@settings(max_examples=12)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(8, 24), st.integers(0, 8))
def test_centring_of_any_width(kernels: Kernels, d: int, y: int, scale: int, finer: int) -> None:
    at = at_width(d, y, scale, scale - finer)
    step = 2.0**-at.c_scale + 2.0**-scale
    check_gate(
        lambda x: centred(x.as_share(), at), MaskedInput(at.wire, scale, magnitude(y + scale), (d,)),
        reference=times_k, tolerance=step, examples=12, kernels=kernels,
    )  # fmt: skip


@pytest.mark.parametrize(("d", "less"), [(768, 8), (1024, 10), (384, 7), (96, 5), (7, 0), (1, 0)])
def test_only_the_sum_of_a_row_is_opened_with_bits_for_a_mean(d: int, less: int) -> None:
    g, at = Graph("norm"), at_width(d, 4, 24, 11)
    kind = WireType("masked", (3, d), at.wire, 24, magnitude(28))
    layer_norm(Masked(g, g.add("wire", (), kind)).as_share(), at, 1e-5)
    opened = [(n.type.shape, n.type.ring) for n in g if n.op == "open"]
    assert opened[:2] == [((3, d), at.wire - less), ((3, 1), at.wire)]


@pytest.mark.parametrize("d", [2, 5, 12, 32])
def test_a_norm_of_any_width_in_four_rounds(d: int, kernels: Kernels) -> None:
    def reference(y: Real) -> Real:
        c = y - y.mean(-1, keepdims=True)
        square = (c * c).mean(-1, keepdims=True)
        return np.where(square >= 2.0**-3, c / np.sqrt(square + 1e-5), np.nan)

    at = at_width(d, 3, 20, 11)
    report = check_gate(
        lambda x: layer_norm(x.as_share(), at, 1e-5), MaskedInput(at.wire, 20, magnitude(23), (d,)),
        reference=reference, tolerance=1.5e-2, examples=64, kernels=kernels,
    )  # fmt: skip
    assert report.rounds == 4
