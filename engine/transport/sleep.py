"""A sleep that wakes within a tenth of a millisecond, where event loops round their timers up to a whole one.

The loop waits for a timer of the kernel as for a socket (timerfd_create(2)); elsewhere it is asyncio's own sleep. For
real time only: a loop with a clock of its own does not know of it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from functools import cache

__all__ = ["precise_sleep"]

CLOCK_MONOTONIC = time.CLOCK_MONOTONIC


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _Timer(ctypes.Structure):
    _fields_ = [("interval", _Timespec), ("value", _Timespec)]


async def precise_sleep(seconds: float) -> None:
    """Returns after `seconds`."""
    if seconds <= 0 or (timer := _timer(seconds)) < 0:
        return await asyncio.sleep(seconds)
    loop = asyncio.get_running_loop()
    due = loop.create_future()
    try:
        loop.add_reader(timer, _wake, due)
        await due
    finally:
        loop.remove_reader(timer)
        os.close(timer)


def _wake(due: asyncio.Future[None]) -> None:
    if not due.done():
        due.set_result(None)


def _timer(seconds: float) -> int:
    """A descriptor that is readable after `seconds`, -1 if there is none to be had."""
    libc = _libc()
    timer: int = -1 if libc is None else libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    if timer < 0 or libc is None:
        return -1
    whole, part = divmod(max(1, round(seconds * 1e9)), 10**9)
    if libc.timerfd_settime(timer, 0, ctypes.byref(_Timer(value=_Timespec(whole, part))), None) < 0:
        os.close(timer)
        return -1
    return timer


@cache
def _libc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "timerfd_create") else None
