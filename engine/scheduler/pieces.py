"""How a tape is read: in pieces, each of which a gate takes at once, and in blocks of whole pieces.

The keys of a gate lie on a tape in slices: the correction words of a slice, level by level, then its leaves. So
evaluation begins when the first slice is there, works within the cache, and needs memory for a few slices only.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from engine.gates.polynomial import lower
from engine.graph import Node
from engine.ring import byte_width
from engine.scheduler.plan import Plan, Segment

__all__ = ["BLOCK_BYTES", "PREFETCH_BYTES", "PREPARE_BYTES", "SLICE_BYTES", "tape_blocks", "tape_pieces", "tape_slices"]

SLICE_BYTES = 1 << 23
"""About what a slice takes: many times what a call of a kernel costs, and long enough levels for a walk to find what it
needs next in a cache (docs/decisions/0012-tapes-in-slices.md)."""
MOST_KEYS, LEAST_KEYS = 1 << 16, 1 << 10
UNEVEN = 64
"""Keys beyond a power of two. Levels that lie a multiple of 64 KiB apart fall into the same few sets of a cache, and
walks of 24 levels or more then take up to twice as long."""
BLOCK_BYTES = 1 << 22
"""What is read at a time."""
PREFETCH_BYTES = 24 << 20
"""Tape held in memory ahead of its use (one piece may exceed it)."""
PREPARE_BYTES = 1 << 30
"""Tape that the prepare phase brings to memory."""


def tape_slices(n: int, key_bytes: int) -> list[tuple[int, int]]:
    """(start, stop) of the slices of n keys."""
    step = min(max(1 << (SLICE_BYTES // key_bytes or 1).bit_length() - 1, LEAST_KEYS), MOST_KEYS) + UNEVEN
    return [(a, min(a + step, n)) for a in range(0, n, step)]


@lru_cache(maxsize=256)
def tape_pieces(s: Segment, party: int) -> tuple[tuple[int, bool], ...]:
    """(bytes, whether they are words) of what a party reads in one call of a segment, in order. They add up to the
    plan's bytes."""
    return tuple(piece for i in s.schedule.order if s.needs[i].tape[party] for piece in _of_node(s, s.graph[i], party))


def _of_node(s: Segment, node: Node, party: int) -> list[tuple[int, bool]]:
    size, n = s.needs[node.index].tape[party], node.type.size
    if node.op in ("dpf", "leaf"):
        return [((b - a) * (size // n), True) for a, b in tape_slices(n, size // n)]
    if node.op == "poly":
        counts = [(_elements(c.shape), c.bits) for c in lower(node, s.graph).coefficients]
        return [(count * byte_width(bits), False) for count, bits in counts]
    return [(size, node.op == "onehot")]


def _elements(shape: tuple[int, ...]) -> int:
    n = 1
    for d in shape:
        n *= d
    return n


def tape_blocks(plan: Plan, party: int) -> Iterator[tuple[int, int]]:
    """(call that it begins in, bytes) of the blocks of a tape: as many whole pieces as fit BLOCK_BYTES, one at least.
    Words lie in a block at multiples of their size."""
    first, size = 0, 0
    for call in plan.calls:
        for piece, words in tape_pieces(call.segment, party):
            if size and (size + piece > BLOCK_BYTES or (words and size % 16)):
                yield first, size
                size = 0
            first, size = first if size else call.index, size + piece
    if size:
        yield first, size
