"""How this process takes memory from the system: kept once it was taken, for arrays of a run come and go many times."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h of the GNU C library
KEPT_BYTES = 256 << 20
MAPPED_BYTES = 4 << 20
"""Arrays from this size on are mapped alone, by NumPy on huge pages; a page fault then serves 2 MiB."""


def keep_memory() -> None:
    """For a command, at its start: freed memory below KEPT_BYTES is not given back to the system, and all threads share
    one heap. Without this a run of BERT-base takes ten times as many page faults. Does nothing where the C library has
    no such settings."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in (
            (M_ARENA_MAX, 1),
            (M_TRIM_THRESHOLD, KEPT_BYTES),
            (M_MMAP_THRESHOLD, MAPPED_BYTES),
        ):
            mallopt(ctypes.c_int(name), ctypes.c_int(value))
