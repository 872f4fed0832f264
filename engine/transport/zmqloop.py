"""A ZeroMQ socket on the running event loop: what arrives is handed over at once, what is sent never waits.

libzmq signals through a descriptor that fires only when its queues go from idle to not idle, so every wake-up reads
until nothing is left, and every send, which may swallow such a signal, looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import zmq

from engine.transport.channel import Buffer

__all__ = ["LoopSocket"]

READABLE = int(zmq.POLLIN)


class LoopSocket:
    """Calls `deliver` with the frames of each message. Belongs to the loop that is running when it is made."""

    def __init__(self, socket: zmq.Socket[bytes], deliver: Callable[[list[zmq.Frame]], None]) -> None:
        self.socket = socket
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(socket.FD, self.drain)
        self._loop.call_soon(self.drain)

    def drain(self) -> None:
        """Delivers everything that has arrived."""
        while self._waits():
            self._deliver(self.socket.recv_multipart(zmq.NOBLOCK, copy=False))

    def send(self, frames: list[Buffer]) -> None:
        """Queues one message; large frames are not copied. The socket must have no high-water mark."""
        self.socket.send_multipart(frames, zmq.NOBLOCK, copy=False)
        if self._waits():
            self._loop.call_soon(self.drain)

    def _waits(self) -> bool:
        """Whether a message can be read."""
        return not self.socket.closed and bool(int(self.socket.getsockopt(zmq.EVENTS)) & READABLE)

    def close(self) -> None:
        """Stops reading, and drops what libzmq has not sent yet."""
        if not self.socket.closed:
            self._loop.remove_reader(self.socket.FD)
            self.socket.close(0)
