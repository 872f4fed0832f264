"""Virtual time: an asyncio event loop whose clock jumps to the next timer as soon as nothing else can run.

A test that waits an hour takes no time, and every run takes the same virtual time. Jobs on worker threads
(`run_in_executor`, `asyncio.to_thread`) take none: the clock stands still until they are done. Sockets can be used but
take no virtual time either; waiting for another process needs the real clock.

    from simulators.clock import run
    run(main())

For coroutine tests, in a folder's conftest.py (pytest-asyncio 1.4 or newer):

    def pytest_asyncio_loop_factories(config, item):
        return {"virtual": VirtualLoop}
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from engine.errors import LocalError

__all__ = ["Deadlock", "VirtualLoop", "run"]

T = TypeVar("T")


class Deadlock(LocalError):
    """Nothing is ready, no timer is set and no thread works: the tasks named would wait for ever."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` starts at 0 and moves only when every task waits."""

    def __init__(self) -> None:
        self._virtual_now = 0.0
        self._jobs = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._virtual_now

    @property
    def _clock_resolution(self) -> float:
        """asyncio fires timers early that are due within this of now, on real clocks a nanosecond. Here none is early:
        in virtual time every event has its own moment."""
        return 2 * math.ulp(self._virtual_now)

    @_clock_resolution.setter
    def _clock_resolution(self, of_real_clocks: float) -> None:
        """asyncio says what it found when the loop was made."""

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        future = super().run_in_executor(executor, func, *args)
        self._jobs += 1
        future.add_done_callback(self._job_done)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        self._jobs += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._jobs -= 1

    def _job_done(self, _: asyncio.Future[Any]) -> None:
        self._jobs -= 1

    def working(self) -> bool:
        """Whether a thread still works for this loop."""
        return self._jobs > 0

    def jump(self, timeout: float | None) -> None:
        """Moves the clock to the next timer, `timeout` from now. Raises Deadlock if there is none."""
        if timeout is None:
            raise Deadlock(f"virtual time stands still at {self._virtual_now:g} s: {self._waiting()}")
        timers = self._scheduled  # type: ignore[attr-defined]
        # The timer's own time, not now + timeout, which may differ in the last bit or be clamped to a day.
        self._virtual_now = timers[0].when() if timers else self._virtual_now + timeout

    def _waiting(self) -> str:
        tasks = sorted(f"{task.get_name()} at {_place(task)}" for task in asyncio.all_tasks(self))
        return ", ".join(tasks) + " would wait for ever" if tasks else "there is no task"


def _place(task: asyncio.Task[Any]) -> str:
    stack = task.get_stack(limit=1)
    if not stack:
        return "its start"
    return f"{stack[0].f_code.co_filename}:{stack[0].f_lineno}"


class _JumpingSelector(selectors.DefaultSelector):
    """Polls for real events; where the loop would sleep it moves the loop's clock instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._loop.working() and timeout != 0:
            return super().select(None)  # a thread that finishes wakes the loop through its self-pipe
        ready = super().select(0)
        if not ready and timeout != 0:
            self._loop.jump(timeout)
        return ready


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs `coroutine` to its end in virtual time, which starts at 0."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
