"""Fixed keys of H and H': one pair for each 2^16 DPF instances of a gate."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from engine.kernels.interface import Tweak

__all__ = ["BLOCK_BITS", "block_keys", "key_slices", "last_round_key"]

BLOCK_BITS = 16


def key_slices(first: int, n: int) -> Iterator[tuple[int, int, int]]:
    """(key block, start, stop) of the pieces of [first, first + n) that share a key; start counts from `first`."""
    start = 0
    while start < n:
        block = (first + start) >> BLOCK_BITS
        stop = min(n, ((block + 1) << BLOCK_BITS) - first)
        yield block, start, stop
        start = stop


def block_keys(tweak: Tweak, n: int) -> bytes:
    """K | K' (32 bytes) for every key block that the slice of n instances touches, in order."""
    blocks = [block for block, _, _ in key_slices(tweak.first, n)]
    inputs = (
        tweak.gate.to_bytes(8, "little") + block.to_bytes(4, "little") + use.to_bytes(4, "little")
        for block in blocks
        for use in (0, 1)
    )
    # A derivation of keys from distinct public inputs, one AES block each: ECB is the bare permutation.
    return Cipher(algorithms.AES128(tweak.tape), modes.ECB()).encryptor().update(b"".join(inputs))


@lru_cache(maxsize=1)
def _s_box() -> bytes:
    """The inverse in GF(2^8), 0 of 0, through an affine map (FIPS 197, section 5.1.1)."""
    powers = [1]
    for _ in range(254):
        p = powers[-1]
        powers.append(p ^ p << 1 ^ (0x11B if p & 0x80 else 0))  # times 3, which generates the group
    inverse = {p: powers[-i % 255] for i, p in enumerate(powers)}
    return bytes(_affine(inverse.get(x, 0)) for x in range(256))


def _affine(x: int) -> int:
    twice = x << 8 | x
    return 0x63 ^ (x ^ twice >> 4 ^ twice >> 5 ^ twice >> 6 ^ twice >> 7) & 0xFF


def last_round_key(key: bytes) -> bytes:
    """K_10 of AES-128, of a public key (FIPS 197, section 5.2)."""
    constant = 1
    for _ in range(10):
        first = bytearray(_s_box()[key[12 + (i + 1) % 4]] for i in range(4))
        first[0] ^= constant
        words = [int.from_bytes(first, "little")]
        for at in range(0, 16, 4):
            words.append(words[-1] ^ int.from_bytes(key[at : at + 4], "little"))
        key = b"".join(w.to_bytes(4, "little") for w in words[1:])
        constant = constant << 1 ^ (0x11B if constant & 0x80 else 0)
    return key
