"""The identities of section 3 of the protocol description, on the kernels, with the keys of both parties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from engine.kernels.interface import (
    Equal,
    HalfLine,
    Interval,
    Kernels,
    Lookup,
    Question,
    Tweak,
    leaf_levels,
    tree_words,
)
from engine.ring import U64, Words, ring_mask

TWEAK = Tweak(bytes(range(16)), gate=9, first=65_500)


def uniform(rng: np.random.Generator, shape: int | tuple[int, ...], w: int = 64) -> Words:
    return rng.integers(0, 2**64, shape, dtype=U64) & ring_mask(w)


@dataclass
class Dealt:
    """Both parties' keys for masks alpha."""

    kernels: Kernels
    m: int
    roots: tuple[Words, Words]
    cw: Words
    leaf: Words
    sign: np.ndarray

    def ask(self, x_hat: Words, *questions: Question) -> list[tuple[np.ndarray, np.ndarray]]:
        answers = []
        for party in (0, 1):
            outs = [np.zeros(len(x_hat), U64 if isinstance(q, Lookup) else np.uint8) for q in questions]
            key = (self.roots[party], self.cw, self.leaf, TWEAK)
            self.kernels.dpf_eval(party, self.m, *key, x_hat, questions, outs)
            answers.append(outs)
        return list(zip(*answers, strict=True))


def deal(kernels: Kernels, rng: np.random.Generator, m: int, alpha: Words) -> Dealt:
    n = len(alpha)
    roots = uniform(rng, (n, 2)), uniform(rng, (n, 2))
    cw, leaf, sigma = np.zeros((tree_words(m), n, 2), U64), np.zeros((n, 2), U64), np.zeros(n, np.uint8)
    kernels.dpf_gen(m, alpha, *roots, TWEAK, cw, leaf, sigma)
    return Dealt(kernels, m, roots, cw, leaf, np.where(sigma == 1, 1, -1))


@pytest.mark.parametrize("m", [1, 2, 7, 8, 9, 12, 16, 33, 52, 63, 64])
def test_threshold(kernels: Kernels, rng: np.random.Generator, m: int) -> None:
    n, top = 300, (1 << m) - 1
    alpha, x_hat = uniform(rng, n, m), uniform(rng, n, m)
    x_hat[:100] = alpha[:100]
    x_hat[100:150] = (alpha[100:150] + U64(1)) & U64(top)
    x = (x_hat - alpha) & U64(top)
    half = 1 << (m - 1)
    ((zero, one),) = deal(kernels, rng, m, alpha).ask(x_hat, Interval(0, half))
    np.testing.assert_array_equal(zero ^ one, x < U64(half))


@pytest.mark.parametrize("m", [1, 3, 6, 7, 8])
def test_every_alpha_and_every_x(kernels: Kernels, rng: np.random.Generator, m: int) -> None:
    size = 1 << m
    alpha, x_hat = (grid.reshape(-1).astype(U64) for grid in np.meshgrid(np.arange(size), np.arange(size)))
    x = (x_hat - alpha) & U64(size - 1)
    table = rng.integers(-(2**62), 2**62, size)
    low = size // 3
    high = low + max(size // 4, 1)
    questions = (Interval(low, high), Interval(-1, size - 2), Equal(size - 1), Lookup(3, table), Lookup(-2, table[:1]))
    dealt = deal(kernels, rng, m, alpha)
    inside, almost, equal, full, single = dealt.ask(x_hat, *questions)
    np.testing.assert_array_equal(inside[0] ^ inside[1], (x >= low) & (x < high))
    np.testing.assert_array_equal(almost[0] ^ almost[1], x != size - 2)
    np.testing.assert_array_equal(equal[0] ^ equal[1], x == size - 1)
    index = (x.astype(np.int64) - 3) % size
    np.testing.assert_array_equal((full[0] + full[1]).view(np.int64) * dealt.sign, table[index])
    expected = np.where((x.astype(np.int64) + 2) % size == 0, table[0], 0)
    np.testing.assert_array_equal((single[0] + single[1]).view(np.int64) * dealt.sign, expected)


@pytest.mark.parametrize(
    ("m", "bound", "lo"), [(8, 63, 0), (8, 63, 63), (8, 63, -63), (9, 100, -37), (10, 255, 1), (8, 0, 0)]
)
def test_half_line_of_every_alpha_and_every_x(
    kernels: Kernels, rng: np.random.Generator, m: int, bound: int, lo: int
) -> None:
    alpha, x = (grid.reshape(-1) for grid in np.meshgrid(np.arange(1 << m), np.arange(-bound, bound + 1)))
    dealt = deal(kernels, rng, m, alpha.astype(U64))
    up, down = dealt.ask((x + alpha).astype(U64) & ring_mask(m), HalfLine(lo, bound), HalfLine(lo, bound, above=False))
    np.testing.assert_array_equal(up[0] ^ up[1], x >= lo)
    np.testing.assert_array_equal(down[0] ^ down[1], x < lo)


@pytest.mark.parametrize("m", [8, 11, 14, 19, 33, 63, 64])
def test_half_line_at_the_seams(kernels: Kernels, rng: np.random.Generator, m: int) -> None:
    """Thresholds and values at the ends of the bound, masks at the ends of the domain and of its halves."""
    bound = (1 << (m - 2)) - 1
    for lo in (0, 1, -1, bound, -bound, bound // 3):
        x = np.array([lo + d for d in (-1, 0, 1) if abs(lo + d) <= bound] + [-bound, bound, 0, bound // 2])
        near = np.array([d % (1 << m) for c in (0, 1 << (m - 1), bound, 3 * bound) for d in (c - 1, c, c + 1)], U64)
        alpha = np.concatenate([np.tile(near, len(x)), uniform(rng, 8 * len(x), m)])
        values = np.concatenate([np.repeat(x, len(near)), np.repeat(x, 8)])
        x_hat = (values.astype(U64) + alpha) & ring_mask(m)
        ((zero, one),) = deal(kernels, rng, m, alpha).ask(x_hat, HalfLine(lo, bound))
        np.testing.assert_array_equal(zero ^ one, values >= lo)


def test_intervals_around_zero(kernels: Kernels, rng: np.random.Generator) -> None:
    m, n = 12, 2000
    x, r = rng.integers(-(2**11), 2**11, n), uniform(rng, n, m)
    x_hat = (x.astype(U64) + r) & ring_mask(m)
    bounds = ((0, 2**11), (-256, 256), (-(2**11), -5), (17, 18))
    answers = deal(kernels, rng, m, r).ask(x_hat, *(Interval(lo, hi) for lo, hi in bounds))
    for (lo, hi), (zero, one) in zip(bounds, answers, strict=True):
        np.testing.assert_array_equal(zero ^ one, (x >= lo) & (x < hi))


@pytest.mark.parametrize(("m", "first", "size"), [(12, -256, 512), (13, -512, 640), (10, -64, 128), (20, 1000, 300)])
def test_range_lookup(kernels: Kernels, rng: np.random.Generator, m: int, first: int, size: int) -> None:
    n = 1500
    x, r = rng.integers(-(2 ** (m - 1)), 2 ** (m - 1), n), uniform(rng, n, m)
    x[: n // 2] = rng.integers(first - 3, first + size + 3, n // 2)
    table = rng.integers(-8000, 8000, size)
    dealt = deal(kernels, rng, m, r)
    ((zero, one),) = dealt.ask((x.astype(U64) + r) & ring_mask(m), Lookup(first, table))
    inside = (x >= first) & (x < first + size)
    expected = np.where(inside, table[np.clip(x - first, 0, size - 1)], 0)
    np.testing.assert_array_equal((zero + one).view(np.int64) * dealt.sign, expected)
    assert abs(dealt.sign.mean()) < 0.15  # the sign is a fair coin


@pytest.mark.parametrize(("m", "points"), [(1, 3), (3, 3), (4, 0), (10, 7), (14, 3), (23, 3)])
@pytest.mark.parametrize("interpolated", [False, True])
@pytest.mark.parametrize("ring", [40, 52, 64])
def test_arithmetic_leaf(
    kernels: Kernels, rng: np.random.Generator, m: int, points: int, interpolated: bool, ring: int
) -> None:
    n, size, first = 400, min(300, 2**m), -5
    width = 2 if interpolated else 1
    value, slope = rng.integers(-(2**50), 2**50, size), rng.integers(-(2**20), 2**20, size)
    x, r = rng.integers(-(2 ** (m - 1)), 2 ** (m - 1), n), uniform(rng, n, m)
    x[:300] = first + np.arange(300) % size
    d, r_d = rng.integers(-100, 100, n), uniform(rng, n)
    x_hat, d_hat = (x.astype(U64) + r) & ring_mask(m), d.astype(U64) + r_d
    payload = np.stack([np.ones(n, U64), r_d], 1)[:, :width].copy()
    roots = uniform(rng, (n, 2)), uniform(rng, (n, 2))
    cw = np.zeros((leaf_levels(m, points), n, 2), U64)
    leaf = np.zeros((n, width << min(points, m)), U64)
    kernels.leaf_gen(m, points, r, payload, *roots, TWEAK, cw, leaf)
    total = np.zeros(n, U64)
    for party in (0, 1):
        share = np.zeros(n, U64)
        question = (x_hat, d_hat if interpolated else None, first, value, slope if interpolated else None, ring, share)
        kernels.leaf_eval(party, m, points, roots[party], cw, leaf, TWEAK, *question)
        assert not (share >> U64(ring - 1) >> U64(1)).any()
        total += share
    j = (x - first) % 2**m
    at = np.minimum(j, size - 1)
    expected = np.where(j < size, value[at] + (slope[at] * d if interpolated else 0), 0)
    np.testing.assert_array_equal(total & ring_mask(ring), expected.astype(U64) & ring_mask(ring))


def test_one_hot_histogram(kernels: Kernels, rng: np.random.Generator) -> None:
    rows, length, buckets = 5, 37, 64
    t, r = rng.integers(-32, 32, (rows, length)), uniform(rng, (rows, length), 6)
    t_hat = (t.astype(U64) + r) & U64(buckets - 1)
    hot0 = rng.integers(0, 256, (rows, length, buckets), dtype=np.uint8)
    hot1 = np.zeros_like(hot0)
    kernels.onehot_share(r.reshape(-1), hot0.reshape(-1, buckets), hot1.reshape(-1, buckets))
    counts = np.zeros((2, rows, buckets), np.uint8)
    for party, hot in enumerate((hot0, hot1)):
        kernels.onehot_counts(hot, t_hat, counts[party])
    expected = [[int((row == k - 32).sum()) for k in range(buckets)] for row in t]
    np.testing.assert_array_equal(counts[0] + counts[1], expected)
