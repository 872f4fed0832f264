"""The kernels in NumPy, AES from `cryptography`: slow, runs anywhere, the definition that other back ends equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from engine.kernels import checks
from engine.kernels.interface import Bits, Keystream, Operand, Question, Table, Tweak, tree_levels
from engine.kernels.numpy_dpf import (
    ONE,
    Evaluation,
    answer,
    arithmetic_leaf,
    bit_leaf,
    controls,
    descend,
    hashes,
    leaf_seeds,
    leaf_words,
    roots,
)
from engine.ring import U64, Words, byte_width, reduce, ring_mask

__all__ = ["NumpyKernels"]

CHUNK = 1 << 16


def chunks(n: int) -> Iterator[slice]:
    """Pieces of a vector; every start is a multiple of 8, so that packed pieces start on a byte."""
    return (slice(at, min(at + CHUNK, n)) for at in range(0, n, CHUNK))


class NumpyKernels:
    """See `engine.kernels.interface.Kernels`."""

    name = "numpy"

    def ctr(self, seed: bytes, offset: int, out: Words) -> None:
        checks.check_ctr(seed, offset, out)
        for piece in chunks(len(out)):
            first, stop = offset + piece.start, offset + piece.stop
            counter = np.zeros(((stop + 1) // 2 - first // 2, 2), U64)
            counter[:, 0] = np.arange(first // 2, (stop + 1) // 2, dtype=U64)
            stream = Cipher(algorithms.AES128(seed), modes.ECB()).encryptor().update(counter.tobytes())
            out[piece] = np.frombuffer(stream, U64)[first % 2 :][: stop - first]

    def pack(self, values: Words, w: int, out: NDArray[np.uint8]) -> None:
        checks.check_packed(w, values, out)
        for piece in chunks(len(values)):
            bits = np.unpackbits(values[piece].view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")[:, :w]
            packed = np.packbits(bits.reshape(-1), bitorder="little")
            out[piece.start * w // 8 :][: len(packed)] = packed

    def unpack(self, data: NDArray[np.uint8], w: int, out: Words) -> None:
        checks.check_packed(w, out, data)
        for piece in chunks(len(out)):
            count = piece.stop - piece.start
            packed = data[piece.start * w // 8 :][: (count * w + 7) // 8]
            bits = np.zeros((count, 64), np.uint8)
            bits[:, :w] = np.unpackbits(packed, bitorder="little")[: count * w].reshape(count, w)
            out[piece] = np.packbits(bits, axis=1, bitorder="little").view(U64)[:, 0]

    def mask(self, values: Words, seed: bytes, offset: int, w: int, out: NDArray[np.uint8]) -> None:
        checks.check_mask(values, seed, offset, w, out)
        total = np.empty_like(values)
        self.ctr(seed, offset, total)
        total += values
        self.pack(total, w, out)

    def combine(self, own: NDArray[np.uint8], peer: NDArray[np.uint8], w: int, out: Words, drop: int = 0) -> None:
        checks.check_combine(own, peer, w, out, drop)
        other = np.empty_like(out)
        self.unpack(own, w, out)
        self.unpack(peer, w, other)
        out += other
        out &= ring_mask(w)
        out >>= U64(drop)

    def poly(
        self,
        operands: Sequence[Words | Operand],
        terms: Sequence[tuple[int, tuple[int, ...]]],
        w: int,
        out: Words,
    ) -> None:
        checks.check_poly(operands, terms, w, out)
        arrays = [self._spread(o, len(out)) if isinstance(o, Operand) else o for o in operands]
        for piece in chunks(len(out)):
            total = np.zeros(piece.stop - piece.start, U64)
            for c, factors in terms:
                product = np.full_like(total, c)
                for i in factors:
                    product *= arrays[i][piece]
                total += product
            out[piece] = reduce(total, w)

    def _spread(self, o: Operand, n: int) -> Words:
        """The operand as a vector of its own."""
        elements = reduce(self._elements(o) + U64(o.add), o.bits) >> U64(o.drop)
        rows = np.repeat((elements ^ U64(o.flip)) << U64(o.shift), o.repeat)
        return np.resize(rows, n)

    def _elements(self, o: Operand) -> Words:
        if not isinstance(o.source, Keystream):
            if o.source.dtype == U64:
                return o.source.view(U64)
            out, width = np.empty(o.source.size // byte_width(o.bits), U64), byte_width(o.bits)
            self.unpack(o.source.view(np.uint8), 8 * width, out)
            return out
        words = np.empty(o.source.size, U64)
        self.ctr(o.source.seed, o.source.offset, words)
        return words

    def matmul(self, a: Words, b: NDArray[Any], w: int, out: Words) -> None:
        checks.check_matmul(a, b, w, out)
        words = b if b.dtype == U64 else b.astype(np.int64).view(U64)
        out[:] = reduce(a @ words, w)

    def dpf_gen(
        self, m: int, alpha: Words, root0: Words, root1: Words, tweak: Tweak, cw: Words, leaf: Words, sigma: Bits
    ) -> None:
        n = checks.check_dpf(m, {"alpha": alpha}, {"root0": root0, "root1": root1, "leaf": leaf}, cw, tweak)
        checks.check_array("sigma", sigma, (n,), np.uint8)
        tree, halves = cw[: tree_levels(m)], leaf_words(m, cw, leaf)
        for piece, h, h_leaf in hashes(tweak, n):
            at, point_bits = alpha[piece], U64(6 + len(halves))
            s0, s1 = leaf_seeds(h, roots(root0[piece], 0), roots(root1[piece], 1), at >> point_bits, tree[:, piece])
            place = (at & ((ONE << point_bits) - ONE))[:, None]
            sigma[piece] = 0
            for half, words in enumerate(halves):
                word, which = np.arange(2 * half, 2 * half + 2, dtype=U64), np.full(len(at), half, U64)
                one_hot = np.where(place >> U64(6) == word, ONE << (place & U64(63)), U64(0))
                v0 = bit_leaf(h_leaf, s0, which)
                words[piece] = v0 ^ bit_leaf(h_leaf, s1, which) ^ one_hot
                v0 ^= controls(s0) & words[piece]
                sigma[piece] |= (v0 & one_hot).any(axis=1)

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
        n = checks.check_dpf(m, {"x_hat": x_hat}, {"root": root, "leaf": leaf}, cw, tweak)
        checks.check_eval(party, m, n, questions, outs)
        for piece, h, h_leaf in hashes(tweak, n):
            key = Evaluation(party, m, root[piece], cw[:, piece], leaf[piece], h, h_leaf)
            for question, out in zip(questions, outs, strict=True):
                out[piece] = answer(key, question, x_hat[piece])

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
        points, n, width = min(points, m), len(alpha), payload.shape[-1]
        checks.check_leaf(m, points, n, width, {"root0": root0, "root1": root1, "leaf": leaf}, cw, tweak)
        checks.check_array("alpha", alpha, (n,))
        checks.check_array("payload", payload, (n, width))
        point = np.arange(1 << points, dtype=U64)
        for piece, h, h_leaf in hashes(tweak, n):
            at = alpha[piece]
            s0, s1 = leaf_seeds(h, roots(root0[piece], 0), roots(root1[piece], 1), at >> U64(points), cw[:, piece])
            hot = (point == (at & ring_mask(points))[:, None]).astype(U64)
            target = (hot[:, :, None] * payload[piece][:, None, :]).reshape(len(at), -1)
            word = target - arithmetic_leaf(h_leaf, s0, leaf.shape[1]) + arithmetic_leaf(h_leaf, s1, leaf.shape[1])
            minus = controls(s1, leaf.shape[1])
            leaf[piece] = (word ^ minus) - minus

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
        points, n, width = min(points, m), len(x_hat), 1 if slope is None else 2
        checks.check_leaf(m, points, n, width, {"root": root, "leaf": leaf}, cw, tweak)
        checks.check_leaf_tables(party, m, x_hat, d_hat, value, slope)
        checks.check_width(w)
        checks.check_array("out", out, (n,))
        leaves, size = 1 << (m - points), len(value)
        point = np.arange(1 << points, dtype=U64)
        for piece, h, h_leaf in hashes(tweak, n):
            top = (x_hat[piece] - U64(first % 2**m)) & ring_mask(m)
            total = np.zeros(len(top), U64)
            for q in range(min((size + 2 * len(point) - 2) // len(point), leaves)):
                index = ((top >> U64(points)) - U64(q)) & U64(leaves - 1)
                s, _ = descend(h, roots(root[piece], party), cw[:, piece], index)
                y = arithmetic_leaf(h_leaf, s, leaf.shape[1]) + (controls(s, leaf.shape[1]) & leaf[piece])
                j = (top[:, None] - (index[:, None] << U64(points)) - point) & ring_mask(m)
                at = np.minimum(j, U64(size - 1)).astype(np.intp)
                share = value.view(U64)[at] * y[:, 0::width]
                if slope is not None and d_hat is not None:
                    share += slope.view(U64)[at] * (d_hat[piece][:, None] * y[:, 0::2] - y[:, 1::2])
                total += np.where(j < U64(size), share, U64(0)).sum(1, dtype=U64)
            out[piece] = (total if party == 0 else U64(0) - total) & ring_mask(w)

    def onehot_share(self, r: Words, hot0: NDArray[Any], out: NDArray[Any]) -> None:
        checks.check_share(r, hot0, out)
        out[:] = (np.arange(out.shape[1], dtype=U64) == r[:, None]).astype(out.dtype) - hot0

    def onehot_counts(self, hot: NDArray[Any], t_hat: Words, out: NDArray[Any]) -> None:
        checks.check_counts(hot, t_hat, out)
        buckets = hot.shape[2]
        k = np.arange(buckets, dtype=U64) - U64(buckets // 2)
        index = (t_hat[..., None] - k) & U64(buckets - 1)
        out[:] = np.take_along_axis(hot, index.astype(np.intp), -1).sum(1, dtype=out.dtype)
