"""The kernel's timers never wake early, and leave no descriptor behind."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

import pytest

from engine.transport import sleep
from engine.transport.loop import run
from engine.transport.sleep import precise_sleep

RUNNERS: dict[str, Callable[..., object]] = {"asyncio": asyncio.run, "uvloop": run}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def slept(seconds: float, wait: Callable[[float], Awaitable[None]] = precise_sleep) -> float:
    start = time.monotonic()
    await wait(seconds)
    return time.monotonic() - start


@pytest.mark.parametrize("loop", RUNNERS)
def test_it_never_wakes_early(loop: str) -> None:
    async def main() -> None:
        before = descriptors()
        assert min([await slept(0.0004) for _ in range(50)]) >= 0.0004
        assert await slept(0.0) >= 0
        assert descriptors() == before

    RUNNERS[loop](main())


@pytest.mark.parametrize("loop", RUNNERS)
def test_sleepers_are_independent_and_can_be_cancelled(loop: str) -> None:
    async def main() -> None:
        before = descriptors()
        order: list[int] = []

        async def one(number: int) -> None:
            await precise_sleep(number / 1000)
            order.append(number)

        late = asyncio.create_task(precise_sleep(3600))
        await asyncio.gather(*(one(n) for n in (9, 3, 6)))
        assert order == [3, 6, 9]
        late.cancel()
        assert isinstance((await asyncio.gather(late, return_exceptions=True))[0], asyncio.CancelledError)
        assert descriptors() == before

    RUNNERS[loop](main())


def test_without_the_kernels_timers_it_is_the_loops_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sleep, "_libc", lambda: None)
    assert asyncio.run(slept(0.002)) >= 0.002
