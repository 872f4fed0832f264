"""The shapes in which models call the kernels, each with the AES calls, bytes and products that it cannot avoid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from engine.cost import lookup_steps
from engine.kernels.interface import (
    Equal,
    HalfLine,
    Interval,
    Kernels,
    Lookup,
    Operand,
    Question,
    Tweak,
    leaf_levels,
    tree_levels,
    tree_words,
)
from engine.ring import U64, Words, packed_bytes, ring_mask

__all__ = ["Case", "cases"]

TWEAK = Tweak(bytes(16), gate=1)


@dataclass(frozen=True, slots=True)
class Case:
    """One call. `aes` blocks, `moved` bytes and `macs` multiply-adds are what an ideal implementation spends on it."""

    name: str
    elements: int
    run: Callable[[], None]
    moved: int
    aes: int = 0
    macs: int = 0


class Maker:
    """Makes the cases for one back end; `scale` divides the numbers of elements."""

    def __init__(self, kernels: Kernels, scale: int) -> None:
        self.kernels, self.scale = kernels, scale
        self.rng = np.random.default_rng(7)

    def uniform(self, shape: int | tuple[int, ...], w: int = 64) -> Words:
        return self.rng.integers(0, 2**64, shape, dtype=U64) & ring_mask(w)

    def table(self, size: int, bits: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        return self.rng.integers(-(2**bits), 2**bits, size)

    def dpf(self, label: str, m: int, n: int, questions: list[Question], aes: int) -> Iterator[Case]:
        """Generation and evaluation; `aes` calls answer the questions of one instance."""
        n //= self.scale
        levels = tree_words(m)
        alpha, x_hat, roots = self.uniform(n, m), self.uniform(n, m), self.uniform((2, n, 2))
        cw, leaf, sigma = np.zeros((levels, n, 2), U64), np.zeros((n, 2), U64), np.zeros(n, np.uint8)
        outs = [np.zeros(n, U64 if isinstance(q, Lookup) else np.uint8) for q in questions]
        key_bytes = cw.nbytes + leaf.nbytes

        def generate() -> None:
            self.kernels.dpf_gen(m, alpha, roots[0], roots[1], TWEAK, cw, leaf, sigma)

        def evaluate() -> None:
            self.kernels.dpf_eval(0, m, roots[0], cw, leaf, TWEAK, x_hat, questions, outs)

        yield Case(f"dpf_gen   m={m}", n, generate, key_bytes + roots.nbytes, 2 * (levels + 1) * n)
        yield Case(f"dpf_eval  m={m} {label}", n, evaluate, key_bytes + 32 * n, aes * n)

    def leaves(self, m: int, points: int, n: int, size: int) -> Iterator[Case]:
        n //= self.scale
        words, levels = 2 << points, leaf_levels(m, points)
        alpha, payload, roots = self.uniform(n, m), self.uniform((n, 2)), self.uniform((2, n, 2))
        cw, leaf, out = np.zeros((levels, n, 2), U64), np.zeros((n, words), U64), np.zeros(n, U64)
        d_hat = self.uniform(n)
        value, slope, visited = self.table(size, 40), self.table(size, 20), (size >> points) + 1

        def generate() -> None:
            self.kernels.leaf_gen(m, points, alpha, payload, roots[0], roots[1], TWEAK, cw, leaf)

        def evaluate() -> None:
            key = (roots[0], cw, leaf, TWEAK)
            self.kernels.leaf_eval(0, m, points, *key, alpha, d_hat, -(size // 2), value, slope, 52, out)

        moved = cw.nbytes + leaf.nbytes
        yield Case(f"leaf_gen  m={m} 2^{points} points x 2", n, generate, moved, (2 * levels + words) * n)
        yield Case(f"leaf_eval m={m} {size} entries", n, evaluate, moved, (levels + visited * (1 + words // 2)) * n)

    def product(self, m: int, k: int, n: int, w: int, dtype: type, batch: int = 1) -> Case:
        m = max(m // self.scale, 1)
        a = self.uniform((batch, m, k), w)
        wide, narrow = self.uniform((batch, k, n), w), self.rng.integers(-2048, 2048, (batch, k, n))
        b = wide if dtype is np.uint64 else narrow.astype(dtype)
        out, macs = np.zeros((batch, m, n), U64), batch * m * k * n
        name = f"matmul    {f'{batch} x ' if batch > 1 else ''}{m}x{k}x{n} w={w} {np.dtype(dtype)}"
        moved = a.nbytes + b.nbytes + out.nbytes
        return Case(name, macs, lambda: self.kernels.matmul(a, b, w, out), moved, macs=macs)

    def streams(self, n: int) -> Iterator[Case]:
        n //= self.scale
        words, seed = self.uniform(n), bytes(16)
        yield Case("ctr", n, lambda: self.kernels.ctr(seed, 0, words), words.nbytes, n // 2)
        for w in (16, 20, 40):
            packed = np.zeros(packed_bytes(n, w), np.uint8)
            moved = words.nbytes + packed.nbytes
            yield Case(f"pack      w={w}", n, partial(self.kernels.pack, words, w, packed), moved)
            yield Case(f"unpack    w={w}", n, partial(self.kernels.unpack, packed, w, words), moved)

    def dealt_polynomial(self, n: int) -> Case:
        """The same sum as a party has it: two wires to lift, a bit, and seven coefficients as bytes of a tape."""
        n //= self.scale
        x, a, out = self.uniform(n, 24), self.uniform(n, 20), np.zeros(n, U64)
        bit = self.rng.integers(0, 2, n, dtype=np.uint8)
        lifts = [
            Operand(y, w, add=1 << w - 2, drop=d, flip=f)
            for y, w in ((x, 24), (a, 20))
            for d, f in ((0, 0), (w - 1, 1))
        ]
        tape = [Operand(self.rng.integers(0, 256, 7 * n, dtype=np.uint8), 52) for _ in range(7)]
        operands = [Operand(bit, 8), *lifts, *tape]
        terms = [
            (1, (0, 1, 5)),
            (1, (0, 2, 6)),
            (1, (0, 7)),
            (1, (1, 8)),
            (1, (2, 9)),
            (1, (3, 10)),
            (1, (4, 11)),
            (1, (1,)),
        ]
        moved = x.nbytes + a.nbytes + out.nbytes + 50 * n
        return Case("poly      8 terms, from tape", n, lambda: self.kernels.poly(operands, terms, 52, out), moved)

    def polynomial(self, n: int) -> Case:
        """A lifted wire times a bit, plus a lifted lookup: the gate after GELU's opening."""
        n //= self.scale
        arrays, out = [self.uniform(n) for _ in range(10)], np.zeros(n, U64)
        terms = [(1, (0, 1, 5)), (1, (0, 2, 6)), (1, (0, 7)), (1, (3, 8)), (2**64 - 1, (4, 9)), (1, (1,))]
        moved = (len(arrays) + 1) * out.nbytes
        return Case("poly      6 terms, 10 arrays", n, lambda: self.kernels.poly(arrays, terms, 52, out), moved)

    def histogram(self, rows: int, length: int, buckets: int) -> Iterator[Case]:
        rows = max(rows // self.scale, 1)
        hot = self.rng.integers(0, 256, (rows, length, buckets), dtype=np.uint8)
        t_hat, out = self.uniform((rows, length), 6), np.zeros((rows, buckets), np.uint8)
        flat, share = hot.reshape(-1, buckets), np.zeros((rows * length, buckets), np.uint8)
        n, r = rows * length, t_hat.reshape(-1)
        yield Case("onehot_share  64 buckets", n, lambda: self.kernels.onehot_share(r, flat, share), 2 * hot.nbytes)
        yield Case("onehot_counts 64 buckets", n, lambda: self.kernels.onehot_counts(hot, t_hat, out), hot.nbytes)


def cases(kernels: Kernels, scale: int) -> Iterator[Case]:
    """All cases, built one after another so that their arrays do not live together."""
    make = Maker(kernels, scale)
    exp_like = Lookup(-512, make.table(640, 14))
    gelu_like: list[Question] = [Lookup(-64, make.table(128, 14)), Lookup(-64, make.table(128, 13)), Interval(64, 1024)]
    yield from make.dpf("lookup of 640", 13, 200_000, [exp_like], lookup_steps(640, 13))
    # One window holds both tables and an end of the interval; every other walk begins at the root's children.
    yield from make.dpf("2 lookups of 128, interval", 11, 200_000, gelu_like, lookup_steps(128, 11) + tree_levels(11))
    yield from make.dpf("equal", 8, 100_000, [Equal(0)], tree_levels(8) + 1)
    yield from make.dpf("interval", 64, 100_000, [Interval(0, 2**63)], 2 * tree_levels(64) + 1)
    yield from make.dpf("half-line", 64, 100_000, [HalfLine(0, 2**62 - 1)], tree_levels(64) + 1)
    yield from make.leaves(23, 3, 1536, 960)
    yield from make.leaves(13, 3, 1536, 480)
    yield from make.leaves(14, 3, 128, 1024)
    yield make.product(128, 768, 3072, 50, np.uint64)
    yield make.product(128, 768, 3072, 50, np.int16)
    yield make.product(128, 768, 768, 64, np.uint64)
    yield make.product(1, 768, 3072, 50, np.int16)
    for m in (4, 11, 16):
        yield make.product(m, 768, 3072, 50, np.int16)
    yield make.product(11, 30522, 384, 50, np.uint64)
    yield make.product(128, 30522, 384, 50, np.int16)
    yield make.product(128, 32, 128, 36, np.uint64, batch=12)
    yield make.product(128, 128, 32, 36, np.uint64, batch=12)
    yield make.polynomial(1_000_000)
    yield make.dealt_polynomial(1_000_000)
    yield from make.streams(4_000_000)
    yield from make.histogram(1536, 128, 64)
