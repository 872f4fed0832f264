"""Waiting across event loops and threads, and what channels build from it: a mailbox and a window."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from engine.errors import RoundelayError

__all__ = ["Lane", "Mailbox", "Signal", "Window"]

MESSAGE_COST = 64
"""Bytes that a message counts for in a window besides its own, so that a flood of empty messages is bounded too."""


class Signal:
    """One task waits for a condition; anyone, on any thread, makes it true and then calls `notify`."""

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    async def until(self, ready: Callable[[], bool], deadline: float | None = None) -> None:
        """Returns once `ready()`; nothing runs between that check and the caller's next line.

        Raises TimeoutError if that takes longer than `deadline` seconds, at a third of asyncio.timeout's cost.
        """
        if ready():
            return
        loop = asyncio.get_running_loop()
        due = None if deadline is None else loop.time() + deadline
        while not ready():
            future = loop.create_future()
            timer = None if due is None else loop.call_at(due, expire, future)
            self._waiter = (loop, future)
            try:
                if not ready():  # it may have become true on another thread before the waiter was in place
                    await future
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()

    def notify(self) -> None:
        """Makes the waiting task look again."""
        if (waiter := self._waiter) is None:
            return
        loop, future = waiter
        if loop is running_loop():
            settle(future)
        else:
            with suppress(RuntimeError):  # the other loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(settle, future)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of this thread, if one runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def settle(future: asyncio.Future[None]) -> None:
    """Wakes the future's task unless it was cancelled meanwhile."""
    if not future.done():
        future.set_result(None)


def expire(future: asyncio.Future[None]) -> None:
    """Ends the wait of the future's task with TimeoutError unless it was woken meanwhile."""
    if not future.done():
        future.set_exception(TimeoutError())


def fresh(error: RoundelayError) -> RoundelayError:
    """The same error without the traceback of an earlier raise."""
    return type(error)(*error.args)


class Mailbox:
    """Messages in order for one reader; closed with an error, which the reader meets after the last message."""

    def __init__(self) -> None:
        self._messages: deque[memoryview] = deque()
        self._error: RoundelayError | None = None
        self._signal = Signal()

    def put(self, message: memoryview) -> None:
        """Appends a message; after closing it is dropped."""
        if self._error is None:
            self._messages.append(message)
            self._signal.notify()

    async def get(self, deadline: float | None = None) -> memoryview:
        """The next message; raises the error of `close` when there is none left, TimeoutError at the deadline."""
        if not self._messages:
            await self._signal.until(lambda: bool(self._messages) or self._error is not None, deadline)
        if not self._messages and self._error is not None:
            raise fresh(self._error)
        return self._messages.popleft()

    def close(self, error: RoundelayError) -> None:
        """Ends the mailbox; the first error stays."""
        self._error = self._error or error
        self._signal.notify()

    def discard(self, error: RoundelayError) -> None:
        """Closes with this error and forgets what is left: the reader meets it at once."""
        self._error = error
        self._messages.clear()
        self._signal.notify()

    def __len__(self) -> int:
        return len(self._messages)


class Window:
    """Bytes under way in one direction; a sender waits for room, so that memory stays below window plus one message."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._held = 0
        self._error: RoundelayError | None = None
        self._signal = Signal()

    @property
    def held(self) -> int:
        """Bytes under way, with the fixed cost of each message."""
        return self._held

    async def take(self, nbytes: int, deadline: float | None = None) -> None:
        """Waits for room, then counts a message of `nbytes` as under way. Raises the error of `close`, and TimeoutError
        at the deadline."""
        await self._signal.until(lambda: self._held < self.size or self._error is not None, deadline)
        if self._error is not None:
            raise fresh(self._error)
        self._held += nbytes + MESSAGE_COST

    def give(self, cost: int) -> None:
        """`cost` bytes, fixed costs included, are no longer under way."""
        self._held -= cost
        self._signal.notify()

    def close(self, error: RoundelayError) -> None:
        """Whoever waits or takes from now on gets the error; the first one stays."""
        self._error = self._error or error
        self._signal.notify()


class Lane:
    """One direction within a process: a mailbox whose writer waits for room."""

    def __init__(self, window: int) -> None:
        self._mailbox = Mailbox()
        self._window = Window(window)

    async def put(self, message: memoryview) -> None:
        """Appends a message when there is room. Raises the error that closed the lane for its writer."""
        await self._window.take(message.nbytes)
        self._mailbox.put(message)

    async def get(self) -> memoryview:
        """The next message. Raises the error that closed the lane for its reader."""
        message = await self._mailbox.get()
        self._window.give(message.nbytes + MESSAGE_COST)
        return message

    def end(self, reader: RoundelayError, writer: RoundelayError) -> None:
        """No more messages: the reader gets what is there and then its error, the writer its error at once."""
        self._mailbox.close(reader)
        self._window.close(writer)

    def drop(self, reader: RoundelayError, writer: RoundelayError) -> None:
        """As `end`, but the reader's error comes at once."""
        self._mailbox.discard(reader)
        self._window.close(writer)
