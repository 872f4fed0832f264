"""Every native target gives the bits of the NumPy definition: odd sizes, strides, and slices across a key block."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.kernels.interface import (
    Equal,
    HalfLine,
    Interval,
    Kernels,
    Keystream,
    Lookup,
    Operand,
    Question,
    Tweak,
    leaf_levels,
    tree_words,
)
from engine.kernels.numpy_kernels import NumpyKernels
from engine.ring import U64, Words, byte_width, packed_bytes, ring_mask

DEFINITION = NumpyKernels()
SIZES = st.sampled_from([0, 1, 3, 7, 8, 15, 16, 17, 33, 100])
SEEDS = st.integers(0, 2**32)
relaxed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def uniform(rng: np.random.Generator, shape: int | tuple[int, ...], w: int = 64) -> Words:
    return rng.integers(0, 2**64, shape, dtype=U64) & ring_mask(w)


def both(native: Kernels, method: str, make: Any) -> None:
    """Calls `method` on both with equal inputs; `make` gives fresh (arguments, outputs)."""
    results = []
    for kernels in (DEFINITION, native):
        arguments, outputs = make()
        getattr(kernels, method)(*arguments)
        results.append(outputs)
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def level_view(levels: int, n: int, pad: int) -> Words:
    """Correction words inside a wider array: any stride along the levels."""
    return np.zeros((levels, n + pad, 2), U64)[:, pad // 2 : pad // 2 + n]


@given(SEEDS, SIZES, st.integers(1, 64), st.sampled_from([0, 65_500, 65_536, 2**40 - 5]), st.sampled_from([0, 6]))
@relaxed
def test_dpf_gen(native: Kernels, seed: int, n: int, m: int, first: int, pad: int) -> None:
    rng = np.random.default_rng(seed)
    alpha, root0, root1 = uniform(rng, n, m), uniform(rng, (n, 2)), uniform(rng, (n, 2))
    tweak = Tweak(rng.bytes(16), seed, first)

    def make() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        outputs = level_view(tree_words(m), n, pad), np.zeros((n, 2), U64), np.zeros(n, np.uint8)
        return (m, alpha, root0, root1, tweak, *outputs), outputs

    both(native, "dpf_gen", make)


@st.composite
def questions(draw: st.DrawFn) -> tuple[int, list[Question]]:
    m = draw(st.one_of(st.integers(1, 16), st.integers(1, 64)))
    size = 1 << m
    offsets = st.integers(-size, size)

    def interval(lo: int, width: int) -> Question:
        return Interval(lo, lo + width)

    def lookup(first: int, entries: int, bits: int, seed: int) -> Question:
        rng = np.random.default_rng(seed)
        return Lookup(first, rng.integers(-(2**bits), 2**bits, entries))

    def half_line(bound: int, at: float, above: bool) -> Question:
        return HalfLine(max(-bound, min(bound, round(at * bound))), bound, above)

    tables = st.builds(
        lookup, offsets, st.integers(1, min(size, 900)), st.sampled_from([3, 15, 16, 30, 31, 62]), st.integers(0, 99)
    )
    kinds = [st.builds(Equal, offsets), st.builds(interval, offsets, st.integers(1, size - 1)), tables]
    if m > 7:
        kinds.append(st.builds(half_line, st.integers(0, size // 4 - 1), st.floats(-1, 1), st.booleans()))
    return m, draw(st.lists(st.one_of(kinds), max_size=4))


@given(SEEDS, SIZES, questions(), st.sampled_from([0, 65_500]), st.sampled_from([0, 6]), st.integers(0, 1))
@relaxed
def test_dpf_eval(
    native: Kernels, seed: int, n: int, asked: tuple[int, list[Question]], first: int, pad: int, party: int
) -> None:
    rng = np.random.default_rng(seed)
    m, wanted = asked
    cw = level_view(tree_words(m), n, pad)
    cw[:] = uniform(rng, cw.shape)
    key = (uniform(rng, (n, 2)), cw, uniform(rng, (n, 2)), Tweak(rng.bytes(16), 3, first), uniform(rng, n, m))

    def make() -> tuple[tuple[Any, ...], list[Any]]:
        outs = [np.zeros(n, U64 if isinstance(q, Lookup) else np.uint8) for q in wanted]
        return (party, m, *key, wanted, outs), outs

    both(native, "dpf_eval", make)


@pytest.mark.parametrize("sizes", [(640,), (64, 64), (1, 400)])
def test_neighbouring_tables_share_a_window(native: Kernels, rng: np.random.Generator, sizes: tuple[int, ...]) -> None:
    m, n = 20, 50
    cw = uniform(rng, (tree_words(m), n, 2))
    x_hat = uniform(rng, n, m)
    x_hat[:4] = 0, 2**m - 1, 5, 640  # windows that go around the end of the domain
    wanted = [Lookup(100 * i - 50, rng.integers(-99, 99, size)) for i, size in enumerate(sizes)]
    key = (uniform(rng, (n, 2)), cw, uniform(rng, (n, 2)), Tweak(bytes(16), 3), x_hat)

    def make() -> tuple[tuple[Any, ...], list[Any]]:
        outs = [np.zeros(n, U64) for _ in wanted]
        return (0, m, *key, wanted, outs), outs

    both(native, "dpf_eval", make)


def signed(rng: np.random.Generator, bits: int, size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return rng.integers(-(2**bits), 2**bits, size)


@pytest.mark.parametrize("bits", [*range(1, 17), 23, 24, 29, 30, 31, 32, 40, 47, 55, 61, 62, 63])
@pytest.mark.parametrize("sign", [1, 0, -1])
def test_entries_of_any_width(native: Kernels, rng: np.random.Generator, bits: int, sign: int) -> None:
    """Sums of neighbours that just fit some bytes, or do not, of one sign or of both, beside narrow ones."""
    m, n, size = 11, 40, 300
    table = signed(rng, bits, size)
    table = np.abs(table) * sign if sign else table
    table[rng.random(size) < 0.3] = (2**bits - 1) * (sign or 1)
    narrow = np.where(np.arange(size) // 40 % 2 == 1, table, signed(rng, 3, size))
    cw, x_hat = uniform(rng, (tree_words(m), n, 2)), uniform(rng, n, m)
    wanted = [Lookup(-9, table), Lookup(500, narrow)]
    key = (uniform(rng, (n, 2)), cw, uniform(rng, (n, 2)), Tweak(bytes(16), 3), x_hat)

    def make() -> tuple[tuple[Any, ...], list[Any]]:
        outs = [np.zeros(n, U64) for _ in wanted]
        return (1, m, *key, wanted, outs), outs

    both(native, "dpf_eval", make)


@pytest.mark.parametrize(("m", "size"), [(11, 128), (13, 578), (20, 1), (9, 200)])
def test_a_threshold_at_the_end_of_a_table(native: Kernels, rng: np.random.Generator, m: int, size: int) -> None:
    """[x >= hi] beside a table over [lo, hi): its leaf is the window's first."""
    n, lo = 70, -(size // 2)
    cw, x_hat = uniform(rng, (tree_words(m), n, 2)), uniform(rng, n, m)
    x_hat[:3] = 0, 2**m - 1, size // 2
    wanted = [Lookup(lo, rng.integers(-99, 99, size)), Interval(lo + size, 1 << (m - 1)), Equal(lo + size - 1),
              HalfLine(min(lo + size, (1 << m - 2) - 1), (1 << m - 2) - 1)]  # fmt: skip
    key = (uniform(rng, (n, 2)), cw, uniform(rng, (n, 2)), Tweak(bytes(16), 3), x_hat)

    def make() -> tuple[tuple[Any, ...], list[Any]]:
        outs = [np.zeros(n, U64 if isinstance(q, Lookup) else np.uint8) for q in wanted]
        return (1, m, *key, wanted, outs), outs

    both(native, "dpf_eval", make)


@pytest.mark.parametrize("m", [11, 14, 40])
@pytest.mark.parametrize("party", [0, 1])
def test_thresholds_inside_a_table_are_those_of_a_walk(native: Kernels, m: int, party: int) -> None:
    """In its leaves, past the end of the domain and on either side of it."""
    rng, n, levels = np.random.default_rng(m), 600, tree_words(m)
    x_hat = (uniform(rng, n, 10) - U64(512)) & ring_mask(m)  # windows go around the end
    root, cw, leaf = uniform(rng, (n, 2)), uniform(rng, (levels, n, 2)), uniform(rng, (n, 2))
    wanted: list[Question] = [Lookup(-200, rng.integers(-99, 99, 400))]
    wanted += [Interval(lo, hi) for lo, hi in ((-201, 0), (-200, 199), (200, 500), (-73, 55))]
    wanted += [HalfLine(0, (1 << m - 2) - 1), Equal(17)]
    answers = []
    for kernels in (DEFINITION, native):
        answers.append([np.zeros(n, U64 if isinstance(q, Lookup) else np.uint8) for q in wanted])
        kernels.dpf_eval(party, m, root, cw, leaf, Tweak(bytes(16), 1), x_hat, wanted, answers[-1])
    for ours, theirs in zip(*answers, strict=True):
        np.testing.assert_array_equal(ours, theirs)


RINGS = st.sampled_from([1, 31, 51, 52, 53, 64])


@given(SEEDS, SIZES, st.integers(1, 30), st.integers(0, 7), st.booleans(), st.sampled_from([0, 65_500]), RINGS)
@relaxed
def test_arithmetic_leaves(
    native: Kernels, seed: int, n: int, m: int, points: int, sloped: bool, first: int, ring: int
) -> None:
    rng = np.random.default_rng(seed)
    width, leaf_points, levels = 1 + sloped, min(points, m), leaf_levels(m, points)
    alpha, payload, roots = uniform(rng, n, m), uniform(rng, (n, width)), uniform(rng, (2, n, 2))
    tweak, size = Tweak(rng.bytes(16), 5, first), int(rng.integers(1, min(2**m, 300) + 1))
    cw, leaf = uniform(rng, (levels, n, 2)), uniform(rng, (n, width << leaf_points))
    tables = [rng.integers(-(2**62), 2**62, size) for _ in range(2)]
    question = (uniform(rng, n, m), uniform(rng, n) if sloped else None, -3, tables[0], tables[1] if sloped else None)

    def make_gen() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        outputs = level_view(levels, n, 4), np.zeros_like(leaf)
        return (m, points, alpha, payload, *roots, tweak, *outputs), outputs

    def make_eval() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        out = np.zeros(n, U64)
        return (seed % 2, m, points, roots[0], cw, leaf, tweak, *question, ring, out), (out,)

    both(native, "leaf_gen", make_gen)
    both(native, "leaf_eval", make_eval)


@given(SEEDS, st.integers(1, 64), st.integers(0, 1100), st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=6))
@relaxed
def test_streams(native: Kernels, seed: int, w: int, n: int, factors: list[list[int]]) -> None:
    rng = np.random.default_rng(seed)
    arrays = [uniform(rng, n) for _ in range(4)]
    coefficients = rng.choice(np.array([0, 1, 2**64 - 1, 77], U64), len(factors))
    terms = [(int(c), tuple(f)) for c, f in zip(coefficients, factors, strict=True)]
    data = np.frombuffer(rng.bytes(packed_bytes(n, w)), np.uint8)

    def make_poly() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        out = np.zeros(n, U64)
        return (arrays, terms, w, out), (out,)

    def make_pack() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        out = np.zeros(packed_bytes(n, w), np.uint8)
        return (arrays[0], w, out), (out,)

    def make_unpack() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        out = np.zeros(n, U64)
        return (data, w, out), (out,)

    both(native, "poly", make_poly)
    both(native, "pack", make_pack)
    both(native, "unpack", make_unpack)


@given(SEEDS, st.integers(1, 64), st.sampled_from([0, 1, 9, 1023, 1024, 1025, 2077]), st.integers(0, 2**40))
@relaxed
def test_openings(native: Kernels, seed: int, w: int, n: int, offset: int) -> None:
    rng = np.random.default_rng(seed)
    values, key = uniform(rng, n), rng.bytes(16)
    messages = [np.frombuffer(rng.bytes(packed_bytes(n, w)), np.uint8) for _ in range(2)]

    def make_mask() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        out = np.zeros(packed_bytes(n, w), np.uint8)
        return (values, key, offset, w, out), (out,)

    def make_combine() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        out = np.zeros(n, U64)
        return (*messages, w, out, offset % w), (out,)

    both(native, "mask", make_mask)
    both(native, "combine", make_combine)


SIDES = st.sampled_from([0, 1, 2, 4, 5, 8, 9, 23, 24, 25, 50])


@given(
    SEEDS,
    st.integers(0, 3),
    SIDES,
    st.sampled_from([0, 1, 7, 8, 9, 17, 767, 769]),
    SIDES,
    st.sampled_from([8, 52, 53, 64]),
)
@relaxed
def test_matmul(native: Kernels, seed: int, batch: int, m: int, k: int, n: int, w: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = (np.uint64, np.int16, np.int32)[seed % 3]
    info = np.iinfo(dtype)
    a, b = uniform(rng, (batch, m, k)), rng.integers(info.min, info.max, (batch, k, n), dtype=dtype, endpoint=True)

    def make() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        out = np.ones((batch, m, n), U64)
        return (a, b, w, out), (out,)

    both(native, "matmul", make)


def operand(draw: Any, rng: np.random.Generator, n: int) -> Words | Operand:
    """A vector, or one of the ways to read an operand where it lies."""
    kind = draw(st.sampled_from(["vector", "words", "bytes", "keystream"]))
    if kind == "vector":
        return uniform(rng, n)
    size, bits = draw(st.sampled_from([1, 3, 8, 64, 600, max(n, 1)])), draw(st.integers(1, 64))
    sources: dict[str, Any] = {
        "words": lambda: uniform(rng, size),
        "bytes": lambda: rng.integers(0, 256, size * byte_width(bits), dtype=np.uint8),
        "keystream": lambda: Keystream(rng.bytes(16), draw(st.integers(0, 2**40)), size),
    }
    repeat, add, drop = (
        draw(st.sampled_from([1, 1, 2, 7, 600])),
        draw(st.integers(0, 2**64 - 1)),
        draw(st.integers(0, 63)),
    )
    if draw(st.booleans()):
        return Operand(sources[kind](), bits, repeat)
    if draw(st.booleans()):  # zeros and ones
        return Operand(sources[kind](), bits, repeat, add, bits - 1, draw(st.integers(0, 1)))
    return Operand(sources[kind](), bits, repeat, add, drop, draw(st.integers(0, 1)), draw(st.integers(0, 63)))


@given(st.data(), SEEDS, st.integers(1, 64), st.sampled_from([0, 1, 7, 511, 512, 1300]))
@relaxed
def test_poly_of_operands_read_in_place(native: Kernels, data: st.DataObject, seed: int, w: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    operands = [operand(data.draw, rng, n) for _ in range(4)]
    terms = [(1, (0, 3)), (1, (0, 1, 3)), (2**64 - 1, (0, 1)), (1, (0, 1, 2, 2)), (5, (2,)), (7, ()), (3, (1, 2))]

    def make() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        out = np.zeros(n, U64)
        return (operands, terms, w, out), (out,)

    both(native, "poly", make)


BUCKETS = st.sampled_from([1, 2, 16, 64, 128, 256])


@given(SEEDS, st.integers(0, 3), SIZES, BUCKETS, st.sampled_from([np.uint8, np.uint16]))
@relaxed
def test_one_hot(native: Kernels, seed: int, rows: int, length: int, buckets: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    hot = rng.integers(0, np.iinfo(dtype).max, (rows, length, buckets), dtype=dtype, endpoint=True)
    t_hat = rng.integers(0, buckets, (rows, length), dtype=U64)

    def make_share() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        out = np.zeros((rows * length, buckets), dtype)
        return (t_hat.reshape(-1), hot.reshape(-1, buckets), out), (out,)

    def make_counts() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        out = np.ones((rows, buckets), dtype)
        return (hot, t_hat, out), (out,)

    both(native, "onehot_share", make_share)
    both(native, "onehot_counts", make_counts)


def test_slices_of_a_gate_agree_with_the_whole(native: Kernels, rng: np.random.Generator) -> None:
    """Threads evaluate slices: each names its first instance, and together they give what one call gives."""
    m, n, cut = 9, 70_000, 65_521
    alpha, roots = uniform(rng, n, m), uniform(rng, (2, n, 2))
    cw, leaf, sigma = np.zeros((2, n, 2), U64), np.zeros((n, 2), U64), np.zeros(n, np.uint8)
    native.dpf_gen(m, alpha, *roots, Tweak(bytes(16), 1), cw, leaf, sigma)
    question, whole, parts = [Interval(0, 200)], np.zeros(n, np.uint8), np.zeros(n, np.uint8)
    native.dpf_eval(0, m, roots[0], cw, leaf, Tweak(bytes(16), 1), alpha, question, [whole])
    for piece in (slice(0, cut), slice(cut, n)):
        tweak = Tweak(bytes(16), 1, piece.start)
        key = (roots[0][piece], cw[:, piece], leaf[piece], tweak)
        native.dpf_eval(0, m, *key, alpha[piece], question, [parts[piece]])
    np.testing.assert_array_equal(parts, whole)
