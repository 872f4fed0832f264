"""What the two services, dealer and model owner, have in common: accept peers, answer requests, outlive failures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from engine.errors import LocalError, RoundelayError
from engine.handshake import deliberate, unhurried, whereabouts
from engine.scheduler.link import Link
from engine.transport.channel import Channel, ChannelOptions, Listener, patience
from engine.transport.framing import HEADER_BYTES
from engine.transport.multiplex import Multiplexer
from engine.variants import LARGEST_FRAME

__all__ = ["IDLE_SECONDS", "alive", "converse", "farewell", "settled", "streams", "welcome"]

log = logging.getLogger(__name__)
T = TypeVar("T")

IDLE_SECONDS = 3600.0
"""How long a peer may keep a session open without asking for anything; a vanished one is noticed at once."""
LONGEST_SECONDS = 3600.0
"""How long signs of life may stand in for an answer."""
FAREWELL_SECONDS = 2.0
BUSY_SECONDS = 1.0
"""How often a peer hears that long work goes on, so that its deadline measures silence."""

Answer = Callable[[Link, dict[str, Any]], Awaitable[bool]]
"""Serves one request; False if the session ended with it."""


def streams(channel: Channel, connector: bool) -> Multiplexer:
    """For runs side by side: no message on a stream may be longer than the largest frame of any plan, and what claims
    to be is refused before it is buffered."""
    most = min(LARGEST_FRAME + HEADER_BYTES, channel.ceiling)
    options = ChannelOptions(limit=min(channel.limit, most), ceiling=most, deadline=channel.deadline)
    return Multiplexer(channel, connector, options)


async def welcome(listener: Listener, session: Callable[[Channel], Coroutine[Any, Any, None]], once: bool) -> None:
    """A session for every peer, until cancelled, or after the first one if `once`."""
    async with asyncio.TaskGroup() as group:
        while True:
            task = group.create_task(session(await listener.accept()))
            if once:
                await task
                return


async def converse(channel: Channel, answer: Answer, role: str) -> None:
    """Answer requests until the peer says goodbye. A failure ends this session alone: it is logged, and told to the
    peer in one sentence; what happened on this machine stays in this machine's log."""
    link, peer = Link(channel), channel.peer[:12]
    log.info("session with %s began", peer)
    try:
        while (message := await _request(link)) is not None and await answer(link, message):
            continue
        log.info("session with %s ended", peer)
    except Exception as failure:
        error = deliberate(failure)
        log.warning("session with %s ended: %s", peer, error)
        if error is not failure and not isinstance(failure, ExceptionGroup):
            log.info("the cause: %s", whereabouts(failure))
        await link.error(f"the {role} failed on its side" if isinstance(error, LocalError) else str(error))
    finally:
        with suppress(RoundelayError, OSError):
            await channel.aclose()


async def _request(link: Link) -> dict[str, Any] | None:
    with unhurried(link, IDLE_SECONDS):
        return await link.request("a request")


async def farewell(link: Link) -> None:
    """Say goodbye and wait until the other side has closed, so that nothing is under way when this side does."""
    with suppress(RoundelayError):
        link.channel.deadline = min(link.channel.deadline, FAREWELL_SECONDS)
        await link.bye()
        await link.channel.recv("a goodbye")


async def alive(link: Link, work: Coroutine[Any, Any, T]) -> T:
    """Await long work while telling the peer that it goes on. Raises what the work raises, or that the peer left."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=BUSY_SECONDS))[0]:
            await link.control({"busy": True})
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


async def settled(link: Link, what: str) -> dict[str, Any]:
    """The next message that is no sign of life. Raises PeerTimeout for one that takes too long all the same."""
    async with patience(LONGEST_SECONDS, what):
        while (reply := await link.message(what)).get("busy") is True:
            continue
    return reply
