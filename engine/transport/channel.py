"""The interface of every transport: channels carry whole messages, reliably and in order, between exactly two parties.

`Channel` does what all transports share: joining of parts, counters, limits, deadlines, one owner per direction.
A transport implements `_send`, `_recv` and `_close`; `engine.testing.channels` proves that it does so correctly.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from engine.errors import InputError, LocalError, PeerError, PeerTimeout

if TYPE_CHECKING:
    from engine.transport.identity import Identity

__all__ = [
    "CLOSED_HERE",
    "FOREVER",
    "Buffer",
    "Channel",
    "ChannelOptions",
    "Listener",
    "Traffic",
    "Transport",
    "joined",
    "patience",
]

Buffer = bytes | bytearray | memoryview

KIB, MIB = 1 << 10, 1 << 20
CLOSED_HERE = "the channel was closed by this side"
FOREVER = 1e9
"""Seconds; the deadline of an inner channel whose wrapper has its own."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went one way: payloads as handed to the channel, without the transport's own headers."""

    messages: int = 0
    bytes: int = 0

    def plus(self, size: int) -> Traffic:
        """One message of `size` bytes more."""
        return Traffic(self.messages + 1, self.bytes + size)


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """What every transport takes; sizes in bytes, times in seconds.

    limit      largest message at first; enough for a handshake, after which the plan's largest frame replaces it
    ceiling    what `limit` can be raised to; a transport refuses more than this before it buffers any of it
    deadline   how long one wait may last: connecting, receiving, sending against back pressure
    window     bytes under way in one direction before `send` waits (one message may exceed it)
    linger     how long `aclose` may spend on delivering what was sent
    heartbeat  how often a silent peer is probed, where the transport can
    identity   this side's key pair, where the transport authenticates
    peers      public keys of the peers that are let in; a connecting side names exactly one

    Raises InputError for numbers that cannot work.
    """

    limit: int = MIB
    ceiling: int = 256 * MIB
    deadline: float = 30.0
    window: int = 16 * MIB
    linger: float = 5.0
    heartbeat: float = 5.0
    identity: Identity | None = None
    peers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_limit(self.limit, self.ceiling)
        for name in ("deadline", "linger", "heartbeat", "window"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"channel option {name} must be positive and finite, not {value!r}")


def check_limit(limit: int, ceiling: int) -> None:
    """InputError unless 1 <= limit <= ceiling."""
    if not 1 <= limit <= ceiling:
        raise InputError(f"a channel's limit must lie between 1 and its ceiling of {ceiling} bytes, not {limit}")


def joined(parts: Sequence[Buffer]) -> memoryview:
    """The concatenation of `parts` as read-only bytes; a single part is not copied."""
    if len(parts) == 1:
        return memoryview(parts[0]).toreadonly().cast("B")
    return memoryview(b"".join(parts))


@asynccontextmanager
async def patience(deadline: float, what: str) -> AsyncIterator[None]:
    """Turns a body that takes longer than `deadline` seconds into a PeerTimeout that names `what`."""
    try:
        async with asyncio.timeout(deadline):
            yield
    except TimeoutError:
        raise overdue(deadline, what) from None


def overdue(deadline: float, what: str) -> PeerTimeout:
    """The error of a wait that has reached its deadline."""
    return PeerTimeout(f"waited {deadline:g} s for {what}")


class Channel(ABC):
    """A reliable, ordered, message-preserving channel to one peer. At most one task sends and one receives at a time.

    `peer` names the other side: its public key where the transport authenticates, else a label.
    `deadline` may be changed at any time; it holds for the waits that begin afterwards.
    """

    def __init__(self, peer: str, options: ChannelOptions) -> None:
        self.peer = peer
        self._ceiling = options.ceiling
        self.deadline = options.deadline
        self._limit = options.limit
        self._sent = Traffic()
        self._received = Traffic()
        self._busy: set[str] = set()
        self._closed = False
        self._fault: PeerError | None = None  # why the channel was closed, if it was the peer's doing

    @property
    def sent(self) -> Traffic:
        """What this side has sent."""
        return self._sent

    @property
    def received(self) -> Traffic:
        """What this side has received."""
        return self._received

    @property
    def ceiling(self) -> int:
        """What `limit` can be raised to."""
        return self._ceiling

    def lower_ceiling(self, ceiling: int) -> None:
        """From now on the peer may send no message beyond `ceiling`: where the transport can, it is refused before any
        of it is buffered. The limit goes down with it. Raises InputError for one that is higher than before."""
        check_limit(ceiling, self._ceiling)
        self._ceiling, self._limit = ceiling, min(self._limit, ceiling)

    @property
    def limit(self) -> int:
        """Largest message, either way. Setting it beyond `ceiling` raises InputError."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        check_limit(limit, self.ceiling)
        self._limit = limit

    async def send(self, *parts: Buffer) -> None:
        """Sends one message, the concatenation of `parts`; the caller must not write to them afterwards.

        Returns when the transport has taken the message, waiting while too much is under way. Cancelled or timed out,
        nothing of the message was sent. Raises PeerTimeout, PeerError (the peer is gone), LocalError (message beyond
        the limit, closed channel, two senders).
        """
        size = sum(memoryview(part).nbytes for part in parts)
        if size > self._limit:
            raise LocalError(f"a message of {size} bytes exceeds the channel's limit of {self._limit} bytes")
        self._begin("send")
        try:
            await self._send_within(self.deadline, parts, size)
        except TimeoutError:
            raise overdue(self.deadline, f"{self.peer} to take a message of {size} bytes") from None
        except LocalError:  # closed while it waited: the cause is what closed it
            if self._fault is not None:
                raise self._fault from None
            raise
        finally:
            self._busy.discard("send")
        self._sent = self._sent.plus(size)

    async def recv(self, what: str = "a message") -> memoryview:
        """The next whole message (read-only bytes); `what` names it in the error if it does not come.

        Cancelled or timed out, no message is lost. Raises PeerTimeout, PeerError (the peer is gone, or sent more than
        the limit; then the channel is closed), LocalError (closed channel, two receivers).
        """
        self._begin("receive")
        try:
            message = await self._recv_within(self.deadline)
        except TimeoutError:
            raise overdue(self.deadline, f"{what} from {self.peer}") from None
        finally:
            self._busy.discard("receive")
        if message.nbytes > self._limit:
            self._fault = PeerError(f"{self.peer} sent {message.nbytes} bytes where at most {self._limit} are allowed")
            await self.aclose()
            raise self._fault
        self._received = self._received.plus(message.nbytes)
        return message

    async def aclose(self) -> None:
        """Delivers what was sent, within the linger time, and closes; afterwards the peer's `recv` raises PeerError.
        Closing twice is harmless."""
        if not self._closed:
            self._closed = True
            await self._close()

    def _begin(self, verb: str) -> None:
        if self._closed:
            raise self._fault or LocalError(CLOSED_HERE)
        if verb in self._busy:
            raise LocalError(f"two tasks {verb} on one channel at the same time")
        self._busy.add(verb)

    async def _send_within(self, deadline: float, parts: Sequence[Buffer], size: int) -> None:
        """As `_send`, by the deadline, else TimeoutError. For a transport that need not join the parts, `size` bytes
        together, or that keeps deadlines at a lower cost."""
        async with asyncio.timeout(deadline):
            await self._send(joined(parts))

    async def _recv_within(self, deadline: float) -> memoryview:
        """As `_recv`, by the deadline, else TimeoutError."""
        async with asyncio.timeout(deadline):
            return await self._recv()

    @abstractmethod
    async def _send(self, message: memoryview) -> None:
        """Takes the whole message, or, if cancelled, nothing of it. Raises PeerError if the peer is gone."""

    @abstractmethod
    async def _recv(self) -> memoryview:
        """The next message; if cancelled, it is kept for the next call. When the peer has closed or is gone, raises
        PeerError after the last message. Refuses messages beyond `ceiling` before buffering them where it can."""

    @abstractmethod
    async def _close(self) -> None:
        """Called once. Delivers what was sent within the linger time, lets the peer know and makes a waiting `_send` or
        `_recv` of this side raise LocalError(CLOSED_HERE)."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Listener(ABC):
    """Where peers arrive. Closing it leaves the channels that it has accepted open."""

    address: str
    """Where to connect to, with the real port where the system chose one."""

    @abstractmethod
    async def accept(self, deadline: float | None = None) -> Channel:
        """The next peer's channel. Without a deadline it waits until the listener is closed (LocalError).

        Raises PeerTimeout, or PeerRefused if within the deadline only unlisted peers knocked.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Lets nobody in any more."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Transport(Protocol):
    """A way to reach a peer; found by name in the entry-point group `roundelay.channels`."""

    async def listen(self, address: str, options: ChannelOptions) -> Listener:
        """Waits for peers at `address`. Raises InputError for an address that cannot be used."""

    async def connect(self, address: str, options: ChannelOptions) -> Channel:
        """Reaches the peer that listens at `address`, retrying until the deadline if it is not there yet.

        Raises InputError for a malformed address, PeerTimeout, and PeerRefused if either side rejects the other's key.
        """
