"""Memory that is used again: fresh memory costs a page fault for each page, about as long as reading a tape into it."""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
from numpy.typing import NDArray

__all__ = ["Buffers"]

GRAIN = 1 << 20
"""Capacities are multiples of this, so that arrays of nearly one size share their memory."""


class Buffers:
    """Lends arrays of bytes; the memory of one comes back by itself when the last view of it is gone, on whatever
    thread. At most `keep` bytes of each capacity wait for their next use (but room for one array always)."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._free: dict[int, deque[NDArray[np.uint8]]] = {}

    def take(self, size: int) -> NDArray[np.uint8]:
        """`size` bytes of no particular value."""
        capacity = -(-size // GRAIN) * GRAIN
        free = self._free.setdefault(capacity, deque(maxlen=max(1, self._keep // max(1, capacity))))
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(capacity, np.uint8)
        lent = np.frombuffer(memory.data, np.uint8, size)  # views have `lent` as their base, not `memory`
        weakref.finalize(lent, free.append, memory).atexit = False
        return lent
