"""Tape in memory ahead of its use: blocks in order, read on one thread and taken on another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from engine.errors import LocalError

__all__ = ["EMPTY", "Cursor", "Shelf"]

Bytes = NDArray[np.uint8]
EMPTY: Bytes = np.empty(0, np.uint8)


class Shelf:
    """Tape read ahead, in order, within a budget of bytes. Who needs a block that is not there yet reads it himself:
    a worker thread never waits for the loop."""

    def __init__(self, blocks: Iterator[tuple[int, int]], read: Callable[[int, int], Bytes]) -> None:
        self._plan, self._read = blocks, read
        self._next = next(blocks, None)
        self._reading = Lock()
        self._ready: deque[Bytes] = deque()
        self._block, self._at = EMPTY, 0
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None  # where somebody waits for room

    def fits(self, budget: int) -> bool:
        """Whether there is a next block and it fits, or the shelf is empty."""
        if (following := self._next) is None:
            return False
        held = sum(block.size for block in tuple(self._ready))
        return held == 0 or held + following[1] <= budget

    async def room(self, budget: int) -> bool:
        """Wait until the next block fits; False if there is none."""
        self._loop = asyncio.get_running_loop()
        while self._next is not None:
            if self.fits(budget):
                return True
            self._changed.clear()
            await self._changed.wait()
        return False

    def fetch(self, if_empty: bool = False) -> None:
        """Read the next block, if there is one."""
        with self._reading:
            if self._next is not None and not (if_empty and self._ready):
                self._ready.append(self._read(*self._next))
                self._next = next(self._plan, None)

    def take(self, count: int) -> Bytes:
        """The next piece, of which blocks hold whole ones. From one thread."""
        if self._at == self._block.size:
            self._block, self._at = self._following(), 0
        if self._at + count > self._block.size:
            raise LocalError("a gate reads its tape in other pieces than planned: a bug in the engine")
        self._at += count
        return self._block[self._at - count : self._at]

    def _following(self) -> Bytes:
        self._block = EMPTY  # its memory may serve the next one
        if not self._ready:
            self.fetch(if_empty=True)
        block = self._ready.popleft() if self._ready else EMPTY
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed.set)
        return block


class Cursor:
    """The bytes that one node takes from the tape."""

    def __init__(self, shelf: Shelf, size: int) -> None:
        self._shelf, self._left = shelf, size

    def read(self, count: int) -> Bytes:
        if count > self._left:
            raise LocalError("a gate reads more tape than its plan gives it: a bug in the engine")
        self._left -= count
        return self._shelf.take(count) if count else EMPTY
