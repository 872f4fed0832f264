"""What runs do now, from one process to another on the same machine: a file of JSON that is replaced a few times a
second. A reader meets one state or another, never half of one."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import astuple
from pathlib import Path

from engine.report.status import Observer, Status

__all__ = ["read_statuses", "relayed", "write_statuses"]

SECONDS = 0.2


def write_statuses(statuses: Sequence[Status], path: Path) -> None:
    """Raises OSError."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps([astuple(s) for s in statuses]))
    os.replace(part, path)


def read_statuses(path: Path) -> list[Status]:
    """Nothing where nobody has written yet, or no more."""
    try:
        return [Status(*row) for row in json.loads(path.read_text())]
    except FileNotFoundError:
        return []


@asynccontextmanager
async def relayed(observers: Sequence[Observer], path: Path) -> AsyncIterator[None]:
    """While the context lasts, `path` says what is observed. A disk that is full ends the view, not the run."""

    async def write() -> None:
        with suppress(OSError):
            while True:
                write_statuses([o.status() for o in observers], path)
                await asyncio.sleep(SECONDS)

    writing = asyncio.create_task(write(), name="live view")
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        path.unlink(missing_ok=True)
