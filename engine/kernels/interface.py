"""The one seam to fast code: what every kernel back end computes, bit for bit.

All words are little-endian uint64, all arrays C-contiguous unless said; results are written into preallocated outputs.
Functions are single-threaded over the slices that they get and release the GIL: callers split work over threads.
`numpy` is the definition; `native` and `cuda` must equal it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.ring import Words

__all__ = [
    "Equal",
    "HalfLine",
    "Interval",
    "Kernels",
    "Keystream",
    "Lookup",
    "Operand",
    "Question",
    "Tweak",
    "leaf_blocks",
    "leaf_levels",
    "tree_levels",
    "tree_words",
]

Bits = NDArray[np.uint8]
Table = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tweak:
    """Public inputs of the key derivation of H and H': K, K' = AES_(tape)(LE64(gate) | LE32(block) | LE32(0 or 1)).

    `first` is the number, within its gate, of the first instance of the slice; block = instance >> 16, so that one
    fixed key serves at most 2^16 DPF keys (multi-target security, docs/protocols.md, section 3).
    """

    tape: bytes
    gate: int
    first: int = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """Bit share (uint8 0/1) of [lo <= x < hi], x = x_hat - alpha as an element of Z_(2^m); 0 < hi - lo < 2^m."""

    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class HalfLine:
    """Bit share (uint8 0/1) of [x >= lo], or of [x < lo] if not `above`, where |x| <= bound < 2^(m-2), |lo| <= bound
    and m > 7; what comes out for other x means nothing.

    With e = x_hat - lo + 1 mod 2^m the bit [x >= lo] is [alpha < e], unless e wrapped: upwards only if e <= bound - lo,
    and then alpha >= 2^(m-1); downwards only if e > 2^m - bound - lo, and then alpha < 2^(m-1). There, and only there,
    the two halves of the domain tell what wrapped. t of the root's left child is a share of [alpha < 2^(m-1)], and the
    walk to e has it: one walk, where an interval takes two.
    """

    lo: int
    bound: int
    above: bool = True


@dataclass(frozen=True, slots=True)
class Equal:
    """Bit share (uint8 0/1) of [x = value mod 2^m]."""

    value: int


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """Word A_b with A_0 + A_1 = sigma T[x - first mod 2^m], 0 outside the table; at most 2^m entries."""

    first: int
    table: Table


Question = Interval | HalfLine | Equal | Lookup


@dataclass(frozen=True, slots=True)
class Keystream:
    """Words offset to offset + size of a seed's keystream (see `Kernels.ctr`)."""

    seed: bytes = field(repr=False)
    offset: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Operand:
    """An operand of `Kernels.poly` that is read where it lies: no array of its own is made for it.

    Its element i is e = source[(i // repeat) mod size], then ((e + add mod 2^bits) >> drop xor flip) << shift. The
    source is words, bytes (little-endian, byte_width(bits) of them an element, as on a tape) or keystream.
    """

    source: Words | Bits | Keystream = field(repr=False)
    bits: int = 64
    repeat: int = 1
    add: int = 0
    drop: int = 0
    flip: int = 0
    shift: int = 0


def tree_words(m: int) -> int:
    """Correction words of a bit DPF before the one named `leaf`: L = max(m - 7, 0)."""
    return max(m - 7, 0)


def tree_levels(m: int) -> int:
    """Levels of a bit DPF: L for L < 2, then L - 1, above leaves of 256 points."""
    words = tree_words(m)
    return words if words < 2 else words - 1


def leaf_blocks(m: int) -> int:
    """Blocks of 128 points, one AES call each, in a leaf of a bit DPF: L - levels + 1, one or two."""
    return tree_words(m) - tree_levels(m) + 1


def leaf_levels(m: int, points: int) -> int:
    """Levels of a DPF with arithmetic leaves of 2^points points."""
    return max(m - points, 0)


class Kernels(Protocol):
    """A back end. n is the number of instances; L the number of correction words before the leaf's."""

    name: str

    def ctr(self, seed: bytes, offset: int, out: Words) -> None:
        """AES-128-CTR keystream: out[i] = word (offset + i), where words 2j, 2j+1 are AES_seed(LE128(j))."""

    def pack(self, values: Words, w: int, out: NDArray[np.uint8]) -> None:
        """The low w bits of each value, little-endian bit order, no gaps; len(out) = ceil(n w / 8), spare bits zero."""

    def unpack(self, data: NDArray[np.uint8], w: int, out: Words) -> None:
        """Inverse of `pack`."""

    def mask(self, values: Words, seed: bytes, offset: int, w: int, out: NDArray[np.uint8]) -> None:
        """The message of an opening in one pass: `pack` of values[i] + keystream word (offset + i), modulo 2^w."""

    def combine(self, own: NDArray[np.uint8], peer: NDArray[np.uint8], w: int, out: Words, drop: int = 0) -> None:
        """An opened value in one pass: the sum modulo 2^w of two messages as `mask` packs them, less its lowest `drop`
        bits."""

    def poly(
        self,
        operands: Sequence[Words | Operand],
        terms: Sequence[tuple[int, tuple[int, ...]]],
        w: int,
        out: Words,
    ) -> None:
        """out = sum_k c_k prod_(i in term k) operands[i] mod 2^w, elementwise; an empty product is 1. 0 <= c_k < 2^64.
        A vector of words is as long as `out`."""

    def matmul(self, a: Words, b: NDArray[Any], w: int, out: Words) -> None:
        """out = a @ b mod 2^w. a (B, M, K) words; b (B, K, N) words, or int16 / int32 small integers; out (B, M, N)."""

    def dpf_gen(
        self, m: int, alpha: Words, root0: Words, root1: Words, tweak: Tweak, cw: Words, leaf: Words, sigma: Bits
    ) -> None:
        """Half-tree Gen. alpha (n,) < 2^m; roots (n, 2) uniform words, bit 63 of which is set to the party's number by
        the kernel; out: cw (L, n, 2), leaf (n, 2), sigma (n,) = v_0[alpha] as 0/1 (sign +1 if 1 else -1).
        L = tree_words(m): one for each level of the tree, but where there are two or more the last is that of the first
        half of a leaf, and `leaf` that of the second. cw may have any stride along L. No branch or index depends on
        alpha or on seeds."""

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
        """Answers all questions of one key per instance on x_hat (n,) < 2^m; outs: (n,) uint64 for Lookup, uint8 for
        the others."""

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
        """DPF with arithmetic leaves: 2^points points a leaf, each of P words; payload (n, P) is the value at alpha.
        Out: cw (L, n, 2), L = leaf_levels(m, points), leaf (n, 2^points P)."""

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
        """Share mod 2^w of value[j] + slope[j] d at j = x - first mod 2^m, 0 outside the table. Without slope P = 1,
        payload (1); with slope P = 2, payload (1, r_d), and d = d_hat - r_d."""

    def onehot_share(self, r: Words, hot0: NDArray[Any], out: NDArray[Any]) -> None:
        """out[i, k] = [k = r_i] - hot0[i, k] in the ring of the dtype (uint8 or uint16); r (n,), hot0, out (n, B)."""

    def onehot_counts(self, hot: NDArray[Any], t_hat: Words, out: NDArray[Any]) -> None:
        """hot (rows, len, B) shares of one-hot vectors of masks; t_hat (rows, len); out (rows, B):
        out[row, k] = sum_i hot[row, i, (t_hat_i - (k - B/2)) mod B]: how many values of the row equal k - B/2."""
