"""Matrix products of every native target: edges of tiles, panels and chunks of depth, and the ends of the range."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from engine.kernels.interface import Kernels
from engine.kernels.numpy_kernels import NumpyKernels
from engine.ring import U64, Words

DEFINITION = NumpyKernels()
DTYPES = [np.uint64, np.int16, np.int32]
SHAPES = [
    (1, 1, 1, 1),
    (1, 1, 300, 70),
    (2, 2, 64, 32),
    (1, 15, 65, 33),
    (1, 16, 1, 16),
    (3, 17, 63, 31),
    (2, 33, 32, 17),
    (1, 48, 100, 49),
    (1, 129, 130, 40),
    (1, 5, 1030, 24),
    (1, 40, 2050, 9),
    (1, 3, 90, 1100),
    (1, 50, 200, 400),
]


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray[Any, np.dtype[Any]]:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def products(kernels: Kernels, a: Words, b: np.ndarray[Any, np.dtype[Any]], w: int) -> list[Words]:
    """By the definition and by `kernels`."""
    outs = [np.full((a.shape[0], a.shape[1], b.shape[2]), 3, U64) for _ in range(2)]
    for k, out in zip((DEFINITION, kernels), outs, strict=True):
        k.matmul(a, b, w, out)
    return outs


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_edges(native: Kernels, rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> None:
    batch, m, k, n = shape
    for w in (50, int(rng.integers(1, 65))):
        expected, got = products(native, draw(rng, (batch, m, k), np.uint64), draw(rng, (batch, k, n), dtype), w)
        assert np.array_equal(got, expected), w


@pytest.mark.parametrize("w", range(1, 65))
def test_every_ring(native: Kernels, rng: np.random.Generator, w: int) -> None:
    for dtype in DTYPES:
        expected, got = products(native, draw(rng, (1, 18, 70), np.uint64), draw(rng, (1, 70, 35), dtype), w)
        assert np.array_equal(got, expected), dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("w", [24, 52, 64])
def test_sums_of_the_largest_products_are_exact(native: Kernels, w: int, dtype: type) -> None:
    info = np.iinfo(dtype)
    for end in (info.min, info.max):
        a, b = np.full((1, 17, 4200), 2**64 - 1, U64), np.full((1, 4200, 20), end, dtype)
        expected, got = products(native, a, b, w)
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("shape", [(1, 0, 3, 4), (1, 3, 0, 4), (1, 3, 4, 0), (0, 2, 3, 4)], ids=str)
def test_empty_operands(native: Kernels, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    batch, m, k, n = shape
    expected, got = products(native, draw(rng, (batch, m, k), np.uint64), draw(rng, (batch, k, n), np.int16), 50)
    assert np.array_equal(got, expected)


def test_threads_do_not_disturb_each_other(native: Kernels, rng: np.random.Generator) -> None:
    rows = [3, 16, 20, 64, 1, 33, 128, 7]
    a, b = [draw(rng, (1, m, 300), np.uint64) for m in rows], draw(rng, (1, 300, 90), np.int16)

    def product(i: int) -> Words:
        out = np.empty((1, rows[i], 90), U64)
        native.matmul(a[i], b, 44, out)
        return out

    expected = [product(i) for i in range(len(rows))]
    with ThreadPoolExecutor(4) as pool:
        for i, got in enumerate(pool.map(product, [j % len(rows) for j in range(200)])):
            assert np.array_equal(got, expected[i % len(rows)])
