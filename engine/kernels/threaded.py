"""Kernels spread over worker threads: every call is cut into slices of instances, rows or words, one for each worker.

The back end's functions are single-threaded and release the GIL; they are exact on slices, so the results are the same
bits for any number of workers. Calls too small to be worth a hand-over run where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.kernels.interface import Bits, Kernels, Keystream, Operand, Question, Table, Tweak
from engine.ring import U64, Words, byte_width

__all__ = ["ThreadedKernels"]

GRAIN = 4096
"""Elements that a slice has at least, for kernels that take some ten nanoseconds an element; others in proportion."""


class ThreadedKernels:
    """The same kernels on `workers` threads, this one included."""

    def __init__(self, inner: Kernels, workers: int, grain: int = GRAIN) -> None:
        self._inner, self._workers, self._grain = inner, workers, grain
        self._pool = ThreadPoolExecutor(max(workers - 1, 1), "kernels")
        self.name = f"{inner.name} on {workers} threads"

    def _each(self, n: int, grain: int, work: Callable[[int, int], None], align: int = 1) -> None:
        """work(start, stop) over slices of [0, n), the last one in this thread; the first error of any is raised."""
        count = max(1, min(self._workers, n // grain))
        cuts = [n * j // count // align * align for j in range(count)] + [n]
        others = [self._pool.submit(work, a, b) for a, b in pairwise(cuts[:-1])]
        try:
            work(cuts[-2], n)
        finally:
            failures = [e for e in (f.exception() for f in others) if e is not None]
        if failures:
            raise failures[0]

    def ctr(self, seed: bytes, offset: int, out: Words) -> None:
        self._each(out.size, 8 * self._grain, lambda a, b: self._inner.ctr(seed, offset + a, out[a:b]), 2)

    def pack(self, values: Words, w: int, out: NDArray[np.uint8]) -> None:
        def work(a: int, b: int) -> None:
            self._inner.pack(values[a:b], w, out[a * w // 8 : (b * w + 7) // 8])

        self._each(values.size, 8 * self._grain, work, 8)

    def unpack(self, data: NDArray[np.uint8], w: int, out: Words) -> None:
        def work(a: int, b: int) -> None:
            self._inner.unpack(data[a * w // 8 : (b * w + 7) // 8], w, out[a:b])

        self._each(out.size, 8 * self._grain, work, 8)

    def mask(self, values: Words, seed: bytes, offset: int, w: int, out: NDArray[np.uint8]) -> None:
        def work(a: int, b: int) -> None:
            self._inner.mask(values[a:b], seed, offset + a, w, out[a * w // 8 : (b * w + 7) // 8])

        self._each(values.size, 4 * self._grain, work, 8)

    def combine(self, own: NDArray[np.uint8], peer: NDArray[np.uint8], w: int, out: Words, drop: int = 0) -> None:
        def work(a: int, b: int) -> None:
            part = slice(a * w // 8, (b * w + 7) // 8)
            self._inner.combine(own[part], peer[part], w, out[a:b], drop)

        self._each(out.size, 4 * self._grain, work, 8)

    def poly(
        self,
        operands: Sequence[Words | Operand],
        terms: Sequence[tuple[int, tuple[int, ...]]],
        w: int,
        out: Words,
    ) -> None:
        n = out.size
        align = lcm(*(_alignment(o, n) for o in operands))

        def work(a: int, b: int) -> None:
            self._inner.poly([_part(o, a, b, n) for o in operands], terms, w, out[a:b])

        self._each(n, max(self._grain, align), work, align)

    def matmul(self, a: Words, b: NDArray[Any], w: int, out: Words) -> None:
        batch, rows = a.shape[0], a.shape[1]
        if batch >= self._workers:
            self._each(batch, 1, lambda i, j: self._inner.matmul(a[i:j], b[i:j], w, out[i:j]))
        elif batch == 1:
            self._each(rows, max(self._grain // 256, 1), lambda i, j: self._inner.matmul(a[:, i:j], b, w, out[:, i:j]))
        else:
            self._inner.matmul(a, b, w, out)

    def dpf_gen(
        self, m: int, alpha: Words, root0: Words, root1: Words, tweak: Tweak, cw: Words, leaf: Words, sigma: Bits
    ) -> None:
        def work(a: int, b: int) -> None:
            parts = (alpha[a:b], root0[a:b], root1[a:b], _at(tweak, a), cw[:, a:b], leaf[a:b], sigma[a:b])
            self._inner.dpf_gen(m, *parts)

        self._each(alpha.size, self._grain, work)

    def dpf_eval(
        self,
        party: int,
        m: int,
        root: Words,
        cw: Words,
        leaf: Words,
        tweak: Tweak,
        x_hat: Words,
        questions: Sequence[Question],
        outs: Sequence[NDArray[Any]],
    ) -> None:
        def work(a: int, b: int) -> None:
            keys = (root[a:b], cw[:, a:b], leaf[a:b], _at(tweak, a), x_hat[a:b])
            self._inner.dpf_eval(party, m, *keys, questions, [o[a:b] for o in outs])

        self._each(x_hat.size, self._grain, work)

    def leaf_gen(
        self,
        m: int,
        points: int,
        alpha: Words,
        payload: Words,
        root0: Words,
        root1: Words,
        tweak: Tweak,
        cw: Words,
        leaf: Words,
    ) -> None:
        def work(a: int, b: int) -> None:
            secret = (alpha[a:b], payload[a:b], root0[a:b], root1[a:b])
            self._inner.leaf_gen(m, points, *secret, _at(tweak, a), cw[:, a:b], leaf[a:b])

        self._each(alpha.size, self._grain, work)

    def leaf_eval(
        self,
        party: int,
        m: int,
        points: int,
        root: Words,
        cw: Words,
        leaf: Words,
        tweak: Tweak,
        x_hat: Words,
        d_hat: Words | None,
        first: int,
        value: Table,
        slope: Table | None,
        w: int,
        out: Words,
    ) -> None:
        def work(a: int, b: int) -> None:
            keys = (root[a:b], cw[:, a:b], leaf[a:b], _at(tweak, a), x_hat[a:b])
            d = None if d_hat is None else d_hat[a:b]
            self._inner.leaf_eval(party, m, points, *keys, d, first, value, slope, w, out[a:b])

        self._each(x_hat.size, max(self._grain // 128, 1), work)

    def onehot_share(self, r: Words, hot0: NDArray[Any], out: NDArray[Any]) -> None:
        self._each(r.size, self._grain, lambda a, b: self._inner.onehot_share(r[a:b], hot0[a:b], out[a:b]))

    def onehot_counts(self, hot: NDArray[Any], t_hat: Words, out: NDArray[Any]) -> None:
        def work(a: int, b: int) -> None:
            self._inner.onehot_counts(hot[a:b], t_hat[a:b], out[a:b])

        self._each(hot.shape[0], max(self._grain // 128, 1), work)


def _at(tweak: Tweak, start: int) -> Tweak:
    return replace(tweak, first=tweak.first + start)


def _count(o: Operand) -> int:
    """Elements of the source."""
    if isinstance(o.source, Keystream) or o.source.dtype == U64:
        return o.source.size
    return o.source.size // byte_width(o.bits)


def _alignment(o: Words | Operand, n: int) -> int:
    """Cuts at multiples of this fall between the elements of the source, or between its repetitions where it wraps."""
    if not isinstance(o, Operand):
        return 1
    return o.repeat if o.repeat * _count(o) >= n else o.repeat * _count(o)


def _part(o: Words | Operand, a: int, b: int, n: int) -> Words | Operand:
    """The operand of the slice [a, b) of n, cut at a multiple of its alignment."""
    if not isinstance(o, Operand):
        return o[a:b]
    if o.repeat * _count(o) < n:
        return o
    first, last = a // o.repeat, -(-b // o.repeat)
    if isinstance(o.source, Keystream):
        source: Words | Bits | Keystream = replace(o.source, offset=o.source.offset + first, size=last - first)
    else:
        width = 1 if o.source.dtype == U64 else byte_width(o.bits)
        source = o.source[first * width : last * width]
    return replace(o, source=source)
