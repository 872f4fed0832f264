"""A channel that speaks frames: control messages and openings, errors of the peer raised as such, what crossed
counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import PeerError
from engine.transport.channel import Buffer, Channel
from engine.transport.framing import HEADER_BYTES, Frame, FrameReader, FrameWriter, Kind

__all__ = ["Link"]


class Link:
    """One task sends and one receives at a time. `rounds` are the online rounds in which anything crossed;
    `sent` counts payload bytes of openings, by phase."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._writer, self._reader = FrameWriter(), FrameReader(channel.limit)
        self.rounds: set[int] = set()
        self.sent = {"prepare": 0, "online": 0, "bulk": 0}

    def allow(self, payload: int) -> None:
        """From now on frames may have up to `payload` bytes: what the plan's largest frame, or a bulk transfer,
        needs."""
        self.channel.limit = max(self.channel.limit, payload + HEADER_BYTES)
        self._reader.limit = self.channel.limit - HEADER_BYTES

    async def control(self, message: Mapping[str, Any]) -> None:
        await self.channel.send(*self._writer.control(message))

    async def data(self, phase: str, round: int, index: int, *payload: Buffer) -> None:
        size = sum(memoryview(p).nbytes for p in payload)
        await self.channel.send(*self._writer.data(round, index, *payload))
        self.sent[phase] += size
        if phase == "online":
            self.rounds.add(round)

    async def receive(self, what: str, kind: Kind) -> Frame:
        """The next frame, which must be of `kind`. An ERROR frame is raised as the peer's sentence."""
        frame = self._reader.message(await self.channel.recv(what))
        if frame.kind is Kind.ERROR:
            raise PeerError(f"the other side gave up: {frame.sentence()}")
        if frame.kind is Kind.BYE:
            raise PeerError(f"the other side ended the session while this side waited for {what}")
        if frame.kind is not kind:
            raise PeerError(f"the other side sent a {frame.kind.name} frame instead of {what}")
        return frame

    async def message(self, what: str) -> dict[str, Any]:
        """The next control message."""
        return (await self.receive(what, Kind.CONTROL)).control()

    async def request(self, what: str) -> dict[str, Any] | None:
        """The next control message, or None when the peer ends the session in order."""
        frame = self._reader.message(await self.channel.recv(what))
        if frame.kind is Kind.BYE:
            return None
        if frame.kind is Kind.ERROR:
            raise PeerError(f"the other side gave up: {frame.sentence()}")
        return frame.control()

    async def opening(self, what: str, round: int, index: int, size: int) -> memoryview:
        """The payload of exactly the opening frame that the plan expects next."""
        frame = await self.receive(what, Kind.DATA)
        if (frame.round, frame.index, len(frame.payload)) != (round, index, size):
            raise PeerError(
                f"the other side sent frame {frame.index} of round {frame.round} with {len(frame.payload)} bytes "
                f"where the plan expects frame {index} of round {round} with {size}"
            )
        return frame.payload

    async def error(self, sentence: str) -> None:
        """Tell the peer why this side gives up, if it still listens."""
        try:
            self.channel.deadline = min(self.channel.deadline, 2.0)
            await self.channel.send(*self._writer.error(sentence))
        except Exception:  # the peer may be gone already: the first error is the one that counts
            return

    async def bye(self) -> None:
        await self.channel.send(*self._writer.bye())
