"""Whole files over a link, as DATA frames in order."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engine.errors import LocalError
from engine.files import whole_file
from engine.scheduler.link import Link

__all__ = ["BULK_BYTES", "receive_file", "send_file"]

BULK_BYTES = 1 << 20


async def send_file(link: Link, path: Path) -> None:
    """The bytes of a file. Raises LocalError, PeerError."""
    link.allow(BULK_BYTES)
    try:
        with open(path, "rb") as f:
            index = 0
            while chunk := await asyncio.to_thread(f.read, BULK_BYTES):
                await link.data("bulk", 0, index, chunk)
                index += 1
    except OSError as e:
        raise LocalError(f"cannot read {path}: {e.strerror}") from e


async def receive_file(link: Link, path: Path, size: int, what: str) -> None:
    """Exactly `size` bytes into a file of mode 0600 that appears when it is complete. Raises LocalError, PeerError."""
    link.allow(BULK_BYTES)
    with whole_file(path) as f:
        left, index = size, 0
        while left:
            payload = await link.opening(what, 0, index, min(left, BULK_BYTES))
            await asyncio.to_thread(f.write, payload)
            left, index = left - len(payload), index + 1
