"""How this process takes memory from the system: on huge pages, and kept once it was taken, for arrays of a run come
and go many times."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["keep_memory", "reserve", "touch"]

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8  # malloc.h of the GNU C library
MADV_HUGEPAGE = 14
HEAP_BYTES = 1 << 30
"""Addresses of the heap: memory is taken when an array is first written."""
HUGE_PAGE = 1 << 21
MAPPED_BYTES = 4 << 20
"""Arrays from this size on are mapped alone where the heap has no room, by NumPy on huge pages."""
TOUCHED_BYTES = 1 << 29
"""The most that `reserve` gives."""
_kept = False


def keep_memory() -> None:
    """For a command, at its start: freed memory is not given back to the system, all threads share one heap, and a page
    fault in it serves 2 MiB instead of 4 KiB. Does nothing where the C library has no such settings."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        global _kept
        _kept = True
        for name, value in (
            (M_ARENA_MAX, 1),
            (M_TRIM_THRESHOLD, HEAP_BYTES),
            (M_TOP_PAD, HEAP_BYTES),
            (M_MMAP_THRESHOLD, MAPPED_BYTES),
        ):
            libc.mallopt(ctypes.c_int(name), ctypes.c_int(value))
        _grow_on_huge_pages(libc)


def reserve(size: int) -> list[NDArray[np.uint8]]:
    """`size` bytes of the heap, in pieces, for later: they go back to it, all in one place, when the list is dropped.
    Nothing where freed memory is not kept."""
    return [np.empty(HUGE_PAGE, np.uint8) for _ in range(min(size, TOUCHED_BYTES) // HUGE_PAGE if _kept else 0)]


def touch(blocks: Iterable[NDArray[np.uint8]]) -> None:
    """Have the system back this memory now, rather than at the first use of each page: on a small run these page faults
    take longer than the arithmetic."""
    for block in blocks:
        block[::4096] = 0


def _grow_on_huge_pages(libc: ctypes.CDLL) -> None:
    """Make the heap grow by HEAP_BYTES at once, and ask for huge pages there."""
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    start = libc.sbrk(ctypes.c_ssize_t(0))
    libc.free(ctypes.c_void_p(libc.malloc(ctypes.c_size_t(MAPPED_BYTES // 2))))
    aligned, end = -(-start // HUGE_PAGE) * HUGE_PAGE, libc.sbrk(ctypes.c_ssize_t(0))
    if end > aligned:  # it may not grow where processes may have few addresses
        libc.madvise(ctypes.c_void_p(aligned), ctypes.c_size_t(end - aligned), ctypes.c_int(MADV_HUGEPAGE))
