"""What each role knows of the model's parameters, and the masks that the dealer and an owner derive alike.

The mask R_W of a weight is expanded from a secret seed that belongs to one (model digest, dealer, client): the model
key. Each name has a seed of its own, so that no order of weights matters. Another model draws another key, or the
difference of the weights would leak (docs/protocols.md, section 5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError
from engine.fss.prg import SeedStream
from engine.kernels.interface import Kernels
from engine.ring import U64, Words, reduce, to_ring

__all__ = ["DealerParameters", "MaskSource", "Parameters", "PartyParameters", "Small", "mask_weight", "small_integers"]

T = TypeVar("T")
Small = NDArray[Any]


class Parameters(Protocol):
    """What a party holds. Names are complete."""

    def plain(self, name: str) -> Small:
        """The integers of a weight that this party owns, or that is public."""

    def masked(self, name: str, ring: int) -> Words:
        """W_hat = W + R_W mod 2^ring, of a weight that this party does not own, or that is shared."""

    def share(self, name: str, ring: int) -> Words:
        """This party's additive share of a shared weight."""


@dataclass(frozen=True, slots=True)
class MaskSource:
    """R_W by name, from the secret seed of a model key."""

    kernels: Kernels = field(repr=False)
    seed: bytes = field(repr=False)

    def mask(self, name: str, shape: tuple[int, ...], ring: int) -> Words:
        """R_W mod 2^ring; masks of one name in two rings agree in their low bits."""
        sub = hashlib.blake2b(name.encode(), key=self.seed, digest_size=16, person=b"roundelay R_W").digest()
        return SeedStream(self.kernels, sub).words(0, shape, ring)


@dataclass(frozen=True, slots=True)
class DealerParameters:
    """The dealer's: masks of private weights, the integers of public ones."""

    masks: MaskSource
    public: Mapping[str, Small] = field(default_factory=dict)

    def plain(self, name: str) -> Small:
        return _find(self.public, name, "public weights")


@dataclass(frozen=True, slots=True)
class PartyParameters:
    """A party's, in memory or in memory-mapped files. The repr shows nothing of them."""

    integers: Mapping[str, Small] = field(default_factory=dict, repr=False)
    hats: Mapping[str, Words] = field(default_factory=dict, repr=False)
    shares: Mapping[str, Words] = field(default_factory=dict, repr=False)

    def plain(self, name: str) -> Small:
        return _find(self.integers, name, "weights")

    def masked(self, name: str, ring: int) -> Words:
        return reduce(_find(self.hats, name, "masked weights"), ring)

    def share(self, name: str, ring: int) -> Words:
        return reduce(_find(self.shares, name, "weight shares"), ring)


def mask_weight(weight: Small, name: str, ring: int, source: MaskSource) -> Words:
    """W_hat = W + R_W mod 2^ring: what an owner sends at pairing."""
    return reduce(to_ring(weight, 64) + source.mask(name, weight.shape, ring), ring)


def small_integers(a: NDArray[np.int64]) -> Small:
    """The narrowest of int16, int32 that holds the array, or words: what the matrix kernel multiplies fastest."""
    top = int(np.abs(a).max(initial=0))
    if top < 1 << 15:
        return a.astype(np.int16)
    return a.astype(np.int32) if top < 1 << 31 else a.view(U64)


def _find(table: Mapping[str, T], name: str, what: str) -> T:
    if name not in table:
        raise InputError(f"the {what} at hand have no '{name}': the model and the plan do not belong together")
    return table[name]
