"""Where fixed-point gates go wrong: edges of the ring and of bounds, powers of two, ends of tables, masks that wrap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.graph import Graph, Node
from engine.ring import U64, Words, reduce

__all__ = ["draw_masks", "draw_values", "edges", "mask_seams", "question_seams"]

Ints = NDArray[np.int64]


def edges(low: int, high: int, near: Iterable[int] = ()) -> list[int]:
    """The integers of [low, high] at which something may break: 0, the ends, 2^k, and `near`, with their neighbours."""
    points = {0, low, high, *near}
    points |= {sign << k for k in range(max(-low, high, 1).bit_length() + 1) for sign in (1, -1)}
    return sorted({p + d for p in points for d in (-1, 0, 1) if low <= p + d <= high})


def mask_seams(ring: int) -> list[int]:
    """Elements of Z_(2^ring) at which carries and wraps begin: 0, 1, and around the quarters of the ring."""
    quarters = {k << ring >> 2 for k in range(4)}
    return sorted({(q + d) % (1 << ring) for q in quarters for d in (-2, -1, 0, 1)})


def draw_values(
    rng: np.random.Generator, low: int, high: int, shape: Sequence[int], near: Iterable[int] = (), rows: bool = False
) -> Ints:
    """Integers of [low, high], int64: edges, uniform, and uniform in the logarithm. With `rows`, some of the rows along
    the last axis are constant, or nothing but one spike, or rise."""
    out = rng.integers(low, high, shape, np.int64, endpoint=True)
    kind = rng.integers(0, 3, shape)
    out = np.where(kind == 0, rng.choice(np.array(edges(low, high, near), np.int64), shape), out)
    bits = rng.integers(0, max(-low, high, 1).bit_length() + 1, shape)
    size = (rng.integers(0, 1 << 63, shape, np.uint64) >> (63 - bits).astype(U64)).astype(np.int64)
    out = np.where(kind == 1, np.clip(size * rng.choice([-1, 1], shape), low, high), out)
    return _pattern(rng, out) if rows else out


def _pattern(rng: np.random.Generator, values: Ints) -> Ints:
    flat = values.reshape(-1, values.shape[-1]).copy()
    kind = rng.integers(0, 6, len(flat))
    flat[kind == 0] = flat[kind == 0, :1]
    spike = flat[kind == 1]
    at, top = rng.integers(0, flat.shape[1], len(spike)), spike.max(1)
    spike[:] = spike.min(1, keepdims=True)
    spike[np.arange(len(spike)), at] = top
    flat[kind == 1] = spike
    flat[kind == 2] = np.sort(flat[kind == 2], axis=1)
    return flat.reshape(values.shape)


def draw_masks(rng: np.random.Generator, ring: int, values: Words) -> Words:
    """Masks for `values`: uniform, on the seams, such that x_hat is on a seam, with low bits all zero or all one."""
    shape = values.shape
    out = rng.integers(0, 1 << 64, shape, np.uint64)
    kind = rng.integers(0, 5, shape)
    seams = np.array(mask_seams(ring), np.uint64)
    out = np.where(kind == 0, rng.choice(seams, shape), out)
    out = np.where(kind == 1, rng.choice(seams, shape) - values, out)
    low = (U64(1) << rng.integers(0, ring, shape).astype(U64)) - U64(1)
    out = np.where(kind == 2, out & ~low, out)
    out = np.where(kind == 3, out | low, out)
    return reduce(out, ring)


def question_seams(graph: Graph, wire: int) -> list[int]:
    """The integers of masked wire `wire` at which a question changes its answer, where only truncations lie between."""
    found: set[int] = set()
    for node in graph:
        shift = _shift(graph, node, wire)
        if shift is not None:
            found |= {p << shift for p in _ends(node)}
    return sorted(found)


def _ends(node: Node) -> tuple[int, ...]:
    match node.op:
        case "interval":
            return node.integer("lo"), node.integer("hi")
        case "half_line":
            return (node.integer("lo"),)
        case "equal":
            return (node.integer("value"),)
        case "lookup" | "piece":
            return node.integer("first"), node.integer("first") + len(node.integers("values"))
    return ()


def _shift(graph: Graph, node: Node, wire: int) -> int | None:
    """Bits truncated between `wire` and what a question asks, None if it asks something else."""
    if not _ends(node):
        return None
    at, shift = graph[node.inputs[1]], 0
    while at.index != wire:
        if at.op not in ("truncate", "reduce"):
            return None
        shift += at.integer("bits") if at.op == "truncate" else 0
        at = graph[at.inputs[0]]
    return shift
