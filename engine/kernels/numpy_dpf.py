"""The half-tree DPF in NumPy: the definition of Gen and of evaluation (Guo et al., EUROCRYPT 2023, eprint 2022/1431).

A seed is a row (lo, hi) of two words, and bit 63 of each is the control bit of the words at its place: t(s) of lo, u(s)
of hi. Both roots begin with the party's number in both, so that either bit is a share of "on the path to alpha".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from engine.kernels.interface import (
    Bits,
    Equal,
    HalfLine,
    Interval,
    Lookup,
    Question,
    Table,
    Tweak,
    leaf_blocks,
    tree_levels,
    tree_words,
)
from engine.kernels.keys import block_keys, key_slices, last_round_key
from engine.ring import U64, Words, ring_mask

__all__ = [
    "Hash",
    "answer",
    "arithmetic_leaf",
    "bit_leaf",
    "child",
    "controls",
    "descend",
    "hashes",
    "leaf_seeds",
    "leaf_words",
    "roots",
]

Hash = Callable[[Words], Words]
ONE, TOP = U64(1), U64(63)
BLOCK_BITS = 7
CHUNK = 4096


def fixed_key_hash(key: bytes) -> Hash:
    """H(x) = AES_key(sigma(x) xor key) xor K_10 xor sigma(x), sigma(hi | lo) = (hi xor lo) | hi, on seeds (..., 2): the
    exclusive ors with the key and with the last key of the rounds, K_10, undo those that AES begins and ends with."""
    first, last = np.frombuffer(key, U64), np.frombuffer(last_round_key(key), U64)

    def run(s: Words) -> Words:
        sigma = np.stack([s[..., 1], s[..., 1] ^ s[..., 0]], -1)
        encrypted = Cipher(algorithms.AES128(key), modes.ECB()).encryptor().update((sigma ^ first).tobytes())
        hashed: Words = np.frombuffer(encrypted, U64).reshape(sigma.shape) ^ last ^ sigma
        return hashed

    return run


def hashes(tweak: Tweak, n: int) -> Iterator[tuple[slice, Hash, Hash]]:
    """(instances, H, H') of pieces that share fixed keys and are small enough to stay in cache."""
    keys = block_keys(tweak, n)
    for i, (_, start, stop) in enumerate(key_slices(tweak.first, n)):
        pair = keys[32 * i : 32 * i + 32]
        h, h_leaf = fixed_key_hash(pair[:16]), fixed_key_hash(pair[16:])
        for at in range(start, stop, CHUNK):
            yield slice(at, min(at + CHUNK, stop)), h, h_leaf


def spread(bit: Words) -> Words:
    """A bit as an all-zero or all-one mask, with an axis for the two words of a seed."""
    mask: Words = (U64(0) - bit)[..., None]
    return mask


def t(s: Words) -> Words:
    """The control bit of low words, which also counts leaves."""
    return s[..., 0] >> TOP


def controls(s: Words, words: int = 2) -> Words:
    """A mask for each word of a correction: all ones where the control bit of its place is set; (n, words)."""
    masks = U64(0) - (s >> TOP)
    return masks[..., np.arange(words) % 2]


def roots(root: Words, party: int) -> Words:
    """Roots with both control bits = party."""
    return (root & ring_mask(63)) | (U64(party) << TOP)


def child(h: Hash, s: Words, bit: Words, cw: Words) -> Words:
    """H(s) xor bit s xor CW, each word of which counts if its control bit is set."""
    stepped: Words = h(s) ^ (spread(bit) & s) ^ (controls(s) & cw)
    return stepped


def bit_at(index: Words, position: int) -> Words:
    return (index >> U64(position)) & ONE


def descend(h: Hash, s: Words, cw: Words, index: Words) -> tuple[Words, Words]:
    """Seed of leaf `index`, and the parity of the control bits of all leaves before it."""
    before = np.zeros(len(s), U64)
    for i, level in enumerate(cw):
        c = bit_at(index, len(cw) - 1 - i)
        parent, s = s, child(h, s, c, level)
        before ^= c & (t(parent) ^ t(s))
    return s, before


def leaf_seeds(h: Hash, s0: Words, s1: Words, index: Words, cw: Words) -> tuple[Words, Words]:
    """Gen: fills the correction words for the path to leaf `index` and gives both parties' seeds there."""
    delta = s0 ^ s1
    for i, level in enumerate(cw):
        a = bit_at(index, len(cw) - 1 - i)
        h0, h1 = h(s0), h(s1)
        level[:] = h0 ^ h1 ^ (spread(ONE - a) & delta)
        s0, s1 = (x ^ (spread(a) & s) ^ (controls(s) & level) for x, s in ((h0, s0), (h1, s1)))
    return s0, s1


def leaf_words(m: int, cw: Words, leaf: Words) -> list[Words]:
    """The correction words of the blocks of a leaf: `leaf`, and before it the last of `cw` where a leaf has two."""
    return [*cw[tree_levels(m) :], leaf]


def bit_leaf(h_leaf: Hash, s: Words, half: Words) -> Words:
    """Block `half` of a leaf, before its correction: H'(s xor 2 half)."""
    tweaked = s.copy()
    tweaked[:, 0] ^= half << ONE
    return h_leaf(tweaked)


def arithmetic_leaf(h_leaf: Hash, s: Words, words: int) -> Words:
    """convert(s): H'(s xor 2 counter), counter = 1, 2, ..., its words taken in order; (n, words)."""
    counter = np.zeros(((words + 1) // 2, 2), U64)
    counter[:, 0] = np.arange(1, len(counter) + 1, dtype=U64) << ONE
    stream: Words = h_leaf(s[:, None] ^ counter).reshape(len(s), -1)[:, :words]
    return stream


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One party's keys for a piece of a gate."""

    party: int
    m: int
    root: Words
    cw: Words
    leaf: Words
    h: Hash
    h_leaf: Hash

    def leaf_at(self, index: Words) -> tuple[Words, Words]:
        """Seed of the leaf with block `index`, and the parity of the control bits of all leaves before it."""
        tree = self.cw[: tree_levels(self.m)]
        return descend(self.h, roots(self.root, self.party), tree, index >> U64(leaf_blocks(self.m) - 1))

    def half_of(self, s: Words, half: Words) -> Bits:
        """Block `half` of the leaf with seed s, as (n, 128) bits: H'(s xor 2 half) xor controls(s) CW_half."""
        words = leaf_words(self.m, self.cw, self.leaf)
        cw = np.where(half[:, None] == 0, words[0], words[-1])
        block = bit_leaf(self.h_leaf, s, half) ^ (controls(s) & cw)
        return np.unpackbits(block.view(np.uint8), axis=1, bitorder="little")

    def half_at(self, index: Words) -> Words:
        """Which block of its leaf block `index` is."""
        return index & U64(leaf_blocks(self.m) - 1)

    def block(self, index: Words) -> Bits:
        """Block `index` of all 2^(m-7), as (n, 128) bits."""
        return self.half_of(self.leaf_at(index)[0], self.half_at(index))

    def point(self, p: Words) -> Words:
        """v_b[p]."""
        bits = self.block(p >> U64(BLOCK_BITS))
        at: Words = bits[np.arange(len(p)), (p & U64(127)).astype(np.intp)].astype(U64)
        return at

    def below(self, p: Words) -> Words:
        """Bit share of [alpha < p]: control bits of the leaves before, then the bits of the leaf itself. Whether alpha
        is in the first half of its leaf is whether it is in the leaf, less whether it is in the second."""
        index = p >> U64(BLOCK_BITS)
        (s, before), half = self.leaf_at(index), self.half_at(index)
        bits, inside = self.half_of(s, half), np.arange(128, dtype=U64) < (p & U64(127))[:, None]
        first = half & (t(s) ^ bits.sum(1, dtype=U64))
        parity: Words = before ^ ((first ^ (bits & inside).sum(1, dtype=U64)) & ONE)
        return parity

    def left_half(self) -> Words:
        """Bit share of [alpha < 2^(m-1)]: the control bit of the root's left child."""
        return t(child(self.h, roots(self.root, self.party), np.zeros(len(self.root), U64), self.cw[0]))

    def window_sum(self, top: Words, table: Table) -> Words:
        """(-1)^party sum_j table[j] v[top - j]."""
        total, modulus, size = np.zeros(len(top), U64), ring_mask(self.m), len(table)
        blocks = 1 << tree_words(self.m)
        point_bits = np.arange(min(128, 1 << self.m), dtype=U64)
        for q in range(min((size + 127 + 127) // 128, blocks)):
            index = ((top >> U64(BLOCK_BITS)) - U64(q)) & U64(blocks - 1)
            bits = self.block(index)
            j = (top[:, None] - (index[:, None] << U64(BLOCK_BITS)) - point_bits) & modulus
            entry = table.view(U64)[np.minimum(j, U64(size - 1)).astype(np.intp)]
            total += np.where((j < U64(size)) & (bits[:, : len(point_bits)] == 1), entry, U64(0)).sum(1, dtype=U64)
        return total if self.party == 0 else U64(0) - total


def answer(key: Evaluation, question: Question, x_hat: Words) -> Words:
    """One party's share of the answer, as words."""
    modulus = (1 << key.m) - 1

    def minus(value: int) -> Words:
        return (x_hat - U64(value & modulus)) & U64(modulus)

    match question:
        case Equal(value):
            return key.point(minus(value))
        case Lookup(first, table):
            return key.window_sum(minus(first), table)
        case Interval(lo, hi):
            e, f = minus(lo - 1), minus(hi - 1)
            return key.below(e) ^ key.below(f) ^ (U64(1 - key.party) & (f > e).astype(U64))
        case HalfLine(lo, bound, above):
            e = minus(lo - 1)
            up, down = e <= U64(bound - lo), e > U64(min(modulus, modulus + 1 - bound - lo))
            public = up.astype(U64) ^ U64(not above)
            wrapped: Words = (up | down).astype(U64) & key.left_half()
            return key.below(e) ^ wrapped ^ (U64(1 - key.party) & public)
