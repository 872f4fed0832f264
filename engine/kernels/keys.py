"""Fixed keys of H and H': one pair for each 2^16 DPF instances of a gate."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from engine.kernels.interface import Tweak

__all__ = ["BLOCK_BITS", "block_keys", "key_slices"]

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
