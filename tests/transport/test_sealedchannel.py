"""Sealed channels over channels in memory, with somebody on the way: what is altered, repeated, left out, moved or sent
back ends the channel, and nothing that waits exceeds its bounds."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine.errors import LocalError, PeerError, PeerMismatch, PeerRefused, PeerTimeout, RoundelayError
from engine.transport import sealed
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.handshake import client_handshake, listener_handshake
from engine.transport.memory import MemoryChannel, memory_pair
from engine.transport.multiplex import Multiplexer
from engine.transport.records import BATCH_BYTES
from engine.transport.sealed import RECORD_BYTES
from engine.transport.sealedchannel import QUEUE, SealedChannel, shake
from simulators import clock
from tests.transport.pairs import CLIENT, LISTENER, OTHER, sealed_pair

MIB = 1 << 20
Tamper = Callable[[list[bytes], list[bytes]], list[bytes]]


def in_virtual_time(body: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that runs on the virtual clock."""

    @functools.wraps(body)
    def test(*given: Any, **named: Any) -> None:
        clock.run(body(*given, **named))

    return test


class Middle:
    """Two memory channels with somebody between them, who passes messages on, and keeps those of the client back when
    told to."""

    def __init__(self, options: ChannelOptions) -> None:
        self.client, self._from_client = memory_pair(options)
        self._to_listener, self.listener = memory_pair(options)
        self.keeps = False
        self.there: list[bytes] = []
        self.back: list[bytes] = []
        self.passing = [asyncio.ensure_future(self._there()), asyncio.ensure_future(self._back())]

    async def _there(self) -> None:
        await self._passes(self._from_client, self._to_listener, self.there)

    async def _back(self) -> None:
        await self._passes(self._to_listener, self._from_client, self.back)

    async def _passes(self, source: MemoryChannel, sink: MemoryChannel, kept: list[bytes]) -> None:
        source.deadline = sink.deadline = 1e6
        try:
            while True:
                message = bytes(await source.recv())
                kept.append(message)
                if not self.keeps or source is self._to_listener:
                    await sink.send(message)
        except RoundelayError:
            pass

    async def inject(self, *messages: bytes) -> None:
        for message in messages:
            await self._to_listener.send(message)

    async def cut(self) -> None:
        """The connection ends on its way."""
        await self._to_listener.aclose()


@asynccontextmanager
async def attacked(**options: Any) -> AsyncIterator[tuple[Middle, Channel, Channel]]:
    settings = ChannelOptions(**{"linger": 0.1, **options})
    middle = Middle(ChannelOptions(linger=0.1))
    async with sealed_pair(middle.client, middle.listener, settings) as (a, b):
        yield middle, a, b
    for task in middle.passing:
        task.cancel()


def altered(record: bytes, at: int) -> bytes:
    return record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :]


ATTACKS: dict[str, tuple[Tamper, int]] = {
    "replayed": (lambda there, back: [there[0], there[0]], 1),
    "reordered": (lambda there, back: [there[1], there[0]], 0),
    "left out": (lambda there, back: [there[0], there[2]], 1),
    "cut short": (lambda there, back: [there[0][:-1]], 0),
    "too long": (lambda there, back: [there[0] + b"!"], 1),
    "reflected": (lambda there, back: [back[-1]], 0),
    "kind changed": (lambda there, back: [altered(there[0], 0)], 0),
    "length changed": (lambda there, back: [altered(there[0], 4)], 0),
    "body changed": (lambda there, back: [altered(there[0], 8)], 0),
    "tag changed": (lambda there, back: [altered(there[0], len(there[0]) - 1)], 0),
    "from the handshake": (lambda there, back: [back[0]], 0),
}


@pytest.mark.parametrize("name", sorted(ATTACKS))
@in_virtual_time
async def test_attacks_end_the_channel_after_what_came_before(name: str) -> None:
    tamper, good = ATTACKS[name]
    async with attacked() as (middle, a, b):
        await b.send(b"back")
        assert bytes(await a.recv()) == b"back"
        middle.keeps = True
        confirm = len(middle.there)
        for i in range(3):
            await a.send(bytes([i]))
            while len(middle.there) < confirm + i + 1:
                await asyncio.sleep(0)
        await middle.inject(*tamper(middle.there[confirm:], middle.back))
        for i in range(good):
            assert bytes(await b.recv()) == bytes([i])
        for _ in range(2):
            with pytest.raises(PeerError) as caught:
                await b.recv()
            assert type(caught.value) is PeerError
        with pytest.raises(PeerError):
            await b.send(b"to whoever that is")


@in_virtual_time
async def test_an_empty_message_says_nothing_and_does_no_harm() -> None:
    async with attacked() as (middle, a, b):
        await middle.inject(b"")
        await a.send(b"x")
        assert bytes(await b.recv()) == b"x"


@in_virtual_time
async def test_an_end_without_a_sealed_goodbye_is_no_orderly_end() -> None:
    async with attacked() as (middle, a, b):
        await a.send(b"before")
        assert bytes(await b.recv()) == b"before"
        await middle.cut()
        with pytest.raises(PeerError, match="without a sealed goodbye"):
            await b.recv()


@in_virtual_time
async def test_a_long_message_is_cut_off_in_the_middle() -> None:
    """What has arrived of it is never delivered."""
    async with attacked(limit=4 * MIB) as (middle, a, b):
        middle.keeps = True
        confirm = len(middle.there)
        await a.send(bytes(2 * MIB))
        while len(middle.there) < confirm + 8:
            await asyncio.sleep(0)
        await middle.inject(*middle.there[confirm : confirm + 5])
        await middle.cut()
        with pytest.raises(PeerError, match="without a sealed goodbye"):
            await b.recv()


@in_virtual_time
async def test_an_announcement_beyond_the_ceiling_is_refused() -> None:
    async with attacked(limit=1000, ceiling=1000) as (middle, _a, b):
        await middle.inject(sealed.HEADER.pack(sealed.Record.MESSAGE, 1001))
        with pytest.raises(PeerError, match="announces 1001 bytes where at most 1000 are allowed"):
            await b.recv()


@in_virtual_time
async def test_an_announcement_beyond_a_lowered_ceiling_is_refused() -> None:
    """Before a byte of the message has come, let alone been kept."""
    async with attacked() as (middle, _a, b):
        b.lower_ceiling(1 << 16)
        await middle.inject(sealed.HEADER.pack(sealed.Record.MESSAGE, (1 << 16) + 1))
        with pytest.raises(PeerError, match="announces 65537 bytes where at most 65536 are allowed"):
            await b.recv()


@in_virtual_time
async def test_streams_hand_their_ceiling_down_to_the_records() -> None:
    async with attacked() as (middle, _a, b), Multiplexer(b, False, ChannelOptions(ceiling=1 << 20)) as streams:
        most = b.ceiling
        assert most == (1 << 20) + 12
        stream = await streams.open()
        await middle.inject(sealed.HEADER.pack(sealed.Record.MESSAGE, most + 1))
        with pytest.raises(PeerError, match=f"announces {most + 1} bytes where at most {most} are allowed"):
            await stream.recv()


@in_virtual_time
async def test_a_message_beyond_a_batch_is_refused_by_the_inner_channel() -> None:
    async with attacked() as (middle, _a, b):
        await middle.inject(bytes(BATCH_BYTES + 1))
        with pytest.raises(PeerError, match=f"at most {BATCH_BYTES} are allowed"):
            await b.recv()


@in_virtual_time
async def test_what_waits_is_bounded_on_both_sides() -> None:
    first, second = memory_pair(ChannelOptions(window=MIB, linger=0.1))
    options = ChannelOptions(deadline=1.0, linger=0.1)
    async with sealed_pair(first, second, options) as (a, _b):
        assert isinstance(a, SealedChannel)
        with pytest.raises(PeerTimeout):
            for _ in range(100):
                await a.send(bytes(RECORD_BYTES))
        assert a._outgoing.held <= QUEUE + BATCH_BYTES
        assert a.sent.bytes <= MIB + 2 * BATCH_BYTES + QUEUE, "the inner window, a batch on its way, and the queue"


@in_virtual_time
async def test_small_messages_share_batches() -> None:
    """Those that wait for the sender's turn leave together."""
    first, second = memory_pair()
    async with sealed_pair(first, second, ChannelOptions()) as (a, b):
        for i in range(100):
            await a.send(bytes([i]) * 100)
        for i in range(100):
            assert bytes(await b.recv()) == bytes([i]) * 100
        assert second.received.messages <= 4, "the handshake's two, and one batch"


@in_virtual_time
async def test_used_up_record_numbers_are_this_sides_fault() -> None:
    first, second = memory_pair(ChannelOptions(linger=0.1))
    async with sealed_pair(first, second, ChannelOptions(deadline=1.0, linger=0.1)) as (a, _b):
        assert isinstance(a, SealedChannel)
        a._outgoing._sealer._number = sealed.RECORDS
        await a.send(b"one too many")
        await asyncio.sleep(0.01)
        with pytest.raises(LocalError, match="connect again"):
            await a.send(b"more")


# ---------------------------------------------------------------------- the handshake over a channel
@pytest.mark.parametrize(
    ("client", "listener", "says"),
    [
        (client_handshake(OTHER, LISTENER.public), listener_handshake(LISTENER, [CLIENT.public]), "does not list"),
        (client_handshake(CLIENT, OTHER.public), listener_handshake(LISTENER, [CLIENT.public]), "another one"),
    ],
)
@in_virtual_time
async def test_wrong_keys_are_refused_on_both_sides(client: Any, listener: Any, says: str) -> None:
    a, b = memory_pair()
    mine, theirs = await asyncio.gather(shake(a, client), shake(b, listener), return_exceptions=True)
    assert isinstance(mine, PeerRefused) and says in str(mine) and isinstance(theirs, PeerRefused)


@pytest.mark.parametrize("hello", [b"x" * 104, b"x" * 105, b"rndlay\x02\x00" + bytes(96)])
@in_virtual_time
async def test_no_hello_is_refused(hello: bytes) -> None:
    a, b = memory_pair()
    await a.send(hello)
    with pytest.raises((PeerRefused, PeerMismatch)):
        await shake(b, listener_handshake(LISTENER, [CLIENT.public]))


@in_virtual_time
async def test_a_silent_side_is_named_at_the_deadline() -> None:
    a, _ = memory_pair(ChannelOptions(deadline=1.0))
    with pytest.raises(PeerTimeout, match="the listener's verdict"):
        await shake(a, client_handshake(CLIENT, LISTENER.public))
