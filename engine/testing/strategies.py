"""Hypothesis strategies for what a gate takes, dense where fixed-point arithmetic breaks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.graph import Shape, WireType
from engine.ring import Words
from engine.testing.seams import draw_masks, draw_values, edges, mask_seams

__all__ = ["masks", "rings", "seeds", "shapes", "values", "wire_masks", "wire_types", "wire_values"]


def rings(low: int = 1, high: int = 64) -> st.SearchStrategy[int]:
    """Widths of rings, often those where a word, a byte or a leaf of a tree ends."""
    seams = [w for w in (1, 2, 7, 8, 9, 31, 32, 33, 63, 64) if low <= w <= high]
    return st.sampled_from([*seams, low, high]) | st.integers(low, high)


def values(low: int, high: int, near: Iterable[int] = ()) -> st.SearchStrategy[int]:
    """Integers of [low, high]: 0, the ends, powers of two, `near`, their neighbours, and all between."""
    return st.sampled_from(sorted(edges(low, high, near), key=abs)) | st.integers(low, high)


def masks(ring: int) -> st.SearchStrategy[int]:
    """Elements of Z_(2^ring): on the seams, with low bits all zero or all one, and all."""
    whole = st.integers(0, (1 << ring) - 1)
    low = st.integers(0, ring).map(lambda k: (1 << k) - 1)
    return st.sampled_from(mask_seams(ring)) | whole | st.builds(lambda r, k: r & ~k, whole, low) | st.builds(
        lambda r, k: r | k, whole, low
    )  # fmt: skip


def shapes(max_dims: int = 3, max_side: int = 5) -> st.SearchStrategy[Shape]:
    """Shapes with one dimension at least, without empty ones."""
    return st.lists(st.integers(1, max_side), min_size=1, max_size=max_dims).map(tuple)


def seeds() -> st.SearchStrategy[bytes]:
    """16 bytes."""
    return st.binary(min_size=16, max_size=16)


@st.composite
def wire_types(draw: st.DrawFn, low: int = 3, high: int = 64, headroom: int = 0) -> WireType:
    """Masked wires whose bound leaves `headroom` bits free at least."""
    ring = draw(rings(max(low, headroom + 2), high))
    bits = draw(st.integers(1, ring - 1 - headroom))
    bound = draw(st.sampled_from([(1 << bits) - 1, 1 << (bits - 1)]))
    return WireType("masked", draw(shapes()), ring, draw(st.integers(0, bits)), bound)


@st.composite
def wire_values(draw: st.DrawFn, wire: WireType, near: tuple[int, ...] = ()) -> NDArray[np.int64]:
    """Integers of a wire, int64. Its first element is drawn by itself, so that a failing one shrinks."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    out = draw_values(rng, -wire.bound, wire.bound, wire.shape, near, bool(wire.shape))
    if out.size:
        out.reshape(-1)[0] = draw(values(-wire.bound, wire.bound, near))
    return out


@st.composite
def wire_masks(draw: st.DrawFn, wire: WireType, at: Words) -> Words:
    """Masks for the ring elements `at` of a wire, many of them such that x_hat lies on a seam."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return draw_masks(rng, wire.ring, at)
