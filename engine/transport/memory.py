"""Channels inside one process: between tasks of one event loop, or between two loops in two threads."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from engine.errors import InputError, LocalError, PeerError, RoundelayError
from engine.transport.channel import CLOSED_HERE, Channel, ChannelOptions, Listener, patience
from engine.transport.mailbox import Lane, Signal

__all__ = ["MemoryChannel", "MemoryListener", "MemoryTransport", "memory_pair"]

LISTENER_CLOSED = "the listener was closed by this side"


class MemoryChannel(Channel):
    """One end of a pair of lanes. Messages are handed over without copying."""

    def __init__(self, peer: str, options: ChannelOptions, outward: Lane, inward: Lane) -> None:
        super().__init__(peer, options)
        self._outward = outward
        self._inward = inward

    async def _send(self, message: memoryview) -> None:
        await self._outward.put(message)

    async def _recv(self) -> memoryview:
        return await self._inward.get()

    async def _close(self) -> None:
        self._part(PeerError("the peer closed the channel"))

    def vanish(self) -> None:
        """Goes away as a crashed process does: for tests of what the other side makes of it."""
        self._closed = True
        self._part(PeerError("the peer vanished"))

    def _part(self, gone: RoundelayError) -> None:
        here = LocalError(CLOSED_HERE)
        self._outward.end(reader=gone, writer=here)
        self._inward.drop(reader=here, writer=gone)


def memory_pair(
    options: ChannelOptions | None = None, names: tuple[str, str] = ("client", "owner")
) -> tuple[MemoryChannel, MemoryChannel]:
    """Two connected ends, the first held by `names[0]`, the second by `names[1]`."""
    options = options or ChannelOptions()
    return _ends(options, options, names)


def _ends(first: ChannelOptions, second: ChannelOptions, names: tuple[str, str]) -> tuple[MemoryChannel, MemoryChannel]:
    there, back = Lane(second.window), Lane(first.window)
    return MemoryChannel(names[1], first, there, back), MemoryChannel(names[0], second, back, there)


class _Port:
    """A name at which two sides meet, made by whoever comes first."""

    def __init__(self) -> None:
        self.options: ChannelOptions | None = None  # the listener's, while there is one
        self.knocking: list[Signal] = []
        self.arrived: deque[MemoryChannel] = deque()
        self.changed = Signal()

    def open(self, options: ChannelOptions) -> None:
        self.options = options
        for signal in list(self.knocking):
            signal.notify()

    async def opened(self) -> ChannelOptions:
        signal = Signal()
        self.knocking.append(signal)
        try:
            await signal.until(lambda: self.options is not None)
        finally:
            self.knocking.remove(signal)
        assert self.options is not None
        return self.options


class MemoryListener(Listener):
    """Accepts the channels that were connected to its name."""

    def __init__(self, address: str, ports: dict[str, _Port]) -> None:
        self.address = address
        self._ports = ports
        self._port = ports[address]

    async def accept(self, deadline: float | None = None) -> Channel:
        if deadline is None:
            return await self._next()
        async with patience(deadline, f"a peer at the memory address {self.address!r}"):
            return await self._next()

    async def _next(self) -> Channel:
        port = self._port
        await port.changed.until(lambda: bool(port.arrived) or port.options is None)
        if port.options is None:
            raise LocalError(LISTENER_CLOSED)
        return port.arrived.popleft()

    async def aclose(self) -> None:
        port = self._port
        if port.options is not None:
            port.options = None
            del self._ports[self.address]
            port.changed.notify()
            while port.arrived:
                await port.arrived.popleft().aclose()


class MemoryTransport:
    """`memory`: addresses are names, known to the whole process. There is nobody to authenticate."""

    _ports: ClassVar[dict[str, _Port]] = {}

    async def listen(self, address: str, options: ChannelOptions) -> MemoryListener:
        port = self._ports.setdefault(address, _Port())
        if port.options is not None:
            raise InputError(f"another listener uses the memory address {address!r}")
        port.open(options)
        return MemoryListener(address, self._ports)

    async def connect(self, address: str, options: ChannelOptions) -> MemoryChannel:
        port = self._ports.setdefault(address, _Port())
        try:
            async with patience(options.deadline, f"a listener at the memory address {address!r}"):
                theirs = await port.opened()
        finally:
            if port.options is None and not port.knocking:
                self._ports.pop(address, None)
        mine, other = _ends(options, theirs, ("client", address))
        port.arrived.append(other)
        port.changed.notify()
        return mine
