"""A party's seed, stretched: AES-128-CTR words addressed by offset, so that nothing uniform takes any tape."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.kernels.interface import Kernels, Keystream
from engine.ring import U64, Words, reduce_into

__all__ = ["SEED_BYTES", "SeedStream"]

SEED_BYTES = 16


@dataclass(frozen=True, slots=True)
class SeedStream:
    """Uniform words, bits and bytes of one secret 16-byte seed. The repr never shows it."""

    kernels: Kernels = field(repr=False)
    seed: bytes = field(repr=False)

    def words(self, offset: int, shape: tuple[int, ...], ring: int = 64) -> Words:
        """Uniform elements of Z_(2^ring), one word each."""
        out = np.empty(shape, U64)
        self.kernels.ctr(self.seed, offset, out.reshape(-1))
        return reduce_into(out, ring)

    def lazy(self, offset: int, size: int) -> Keystream:
        """Uniform words as an operand of `Kernels.poly`, which expands them as it goes."""
        return Keystream(self.seed, offset, size)

    def bits(self, offset: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Uniform bits, 64 to a word."""
        n = int(np.prod(shape, dtype=np.int64))
        words = self.words(offset, (-(-n // 64),))
        return np.unpackbits(words.view(np.uint8), bitorder="little")[:n].reshape(shape)

    def counters(self, offset: int, shape: tuple[int, ...], ring: int) -> NDArray[np.unsignedinteger]:
        """Uniform elements of Z_256 or Z_65536, packed."""
        n = int(np.prod(shape, dtype=np.int64)) * (ring // 8)
        words = self.words(offset, (-(-n // 8),))
        octets = words.view(np.uint8)[:n]
        return (octets if ring == 8 else octets.view(np.uint16)).reshape(shape)
