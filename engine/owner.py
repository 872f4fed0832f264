"""The model owner's service: pairs clients and serves their runs.

Handshake of a run: the client states version, model, key, lengths, plan and the tapes that it holds; the owner compares
each, names the tape, or has one dealt; each side verifies its tape, and only then spends it and begins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from engine.dealing import Dealing
from engine.errors import InputError, PeerError, TapeError
from engine.handshake import binding, check_request, compare, lengths_of, tape_id_of
from engine.home import Home
from engine.kernels.interface import Kernels
from engine.ledger import ModelKey
from engine.models.compiled import CompiledModel
from engine.pairing import send_pairing
from engine.parameters import PartyParameters
from engine.run import Finished, Settings, Watch, open_fetched, open_tape, run_plan, unwatched
from engine.scheduler.link import Link
from engine.scheduler.pieces import PREPARE_BYTES
from engine.scheduler.plan import Plan
from engine.service import IDLE_SECONDS, alive, converse, streams, welcome
from engine.tape import TapeReader
from engine.transport.channel import Channel, Listener
from engine.transport.multiplex import Multiplexer, StreamChannel

__all__ = ["OwnerService"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class OwnerService:
    """Pairs clients with one compiled model and serves their runs. `dealer` is None with tapes from files. `behind`
    wraps every channel, in an emulated network for one. A run happens within `watch`; `finished` is told of each (plan,
    lengths, what came of it) before the client hears that it is done."""

    model: CompiledModel
    home: Home
    kernels: Kernels = field(repr=False)
    dealer: Dealing | None = None
    overlap: bool = True
    once: bool = False
    behind: Callable[[Channel], Channel] | None = None
    watch: Watch = unwatched
    finished: Callable[[Plan, Sequence[int], Finished], None] | None = None
    _taken: set[bytes] = field(default_factory=set, repr=False)
    _ahead: int = 0

    async def serve(self, listener: Listener) -> None:
        """Until cancelled, or after one session if `once`."""
        await welcome(listener, self.session, self.once)

    async def session(self, channel: Channel) -> None:
        """One client's requests, until it leaves."""
        if self.behind is not None:
            channel = self.behind(channel)
        await self._converse(channel)

    async def _converse(self, channel: Channel) -> None:
        await converse(channel, partial(self._answer, channel.peer), "model owner")

    async def _answer(self, peer: str, link: Link, message: dict[str, Any]) -> bool:
        want = check_request(message, "owner")
        if want == "streams":
            await link.control({"streams": True})
            await self._side_by_side(link.channel)
            return False
        if want == "pair":
            count = await send_pairing(link, self.model, await self._key(peer), self.kernels)
            log.info("paired with %s: %d bytes of masked weights", peer[:12], count)
        elif want == "run":
            await self._run(link, peer, message)
        else:
            raise PeerError("the client asks the model owner for something unknown")
        return True

    async def _side_by_side(self, channel: Channel) -> None:
        """Requests on streams of one channel, as many at once as the client likes, until it leaves."""
        async with streams(channel, connector=False) as opened, asyncio.TaskGroup() as group:
            while (stream := await _accepted(opened)) is not None:
                group.create_task(self._converse(stream))
            log.info("%d frames went in %d messages", opened.entries, opened.bundles)

    async def _key(self, client: str) -> ModelKey:
        """The model key of a client: the one at hand, else from the dealer."""
        digest = self.model.public.digest
        key = self.home.find_key(digest, client)
        if key is None and self.dealer is not None:
            async with self.dealer() as dealer:
                key = await dealer.key(digest, client)
            self.home.ledger.adopt(key)
        if key is None:
            raise InputError(
                f"the model owner has no key of model {digest[:12]} for client {client[:12]}: start it with --dealer, "
                "or bring the dealer's folder owner/ into its home"
            )
        return key

    async def _run(self, link: Link, peer: str, message: dict[str, Any]) -> None:
        public, lengths = self.model.public, lengths_of(message)
        compare({"model": public.digest}, message, ["model"])
        key = await self._key(peer)
        mine = {"model": public.digest, "key": key.id}
        compare(mine, message, ["key"])
        plan = await asyncio.to_thread(public.plan, lengths)
        mine["plan"] = plan.digest.hex()
        compare(mine, message, ["plan"])
        tape = await alive(link, self._tape(message, plan, key.id, lengths))
        try:
            name = tape.header.tape.hex()
            await link.control({**mine, "tape": name})
            compare({"tape": name}, await link.message("word that the client has its tape"), ["tape"])
            parameters = PartyParameters(integers=self.model.integers)
            with self._memory(plan.tape_bytes[1]) as ahead:
                settings = Settings(overlap=self.overlap, watch=self.watch, ahead=ahead)
                done = await run_plan(link, 1, plan, tape, self.kernels, parameters, self.home, {}, settings)
        finally:
            self._taken.discard(tape.header.tape)
            tape.close()
        if self.finished is not None:
            await alive(link, asyncio.to_thread(self.finished, plan, lengths, done))
        await link.control({"done": done.report})
        log.info(
            "served a run of %d tokens to %s: %d rounds, %.3f s online",
            sum(lengths), peer[:12], done.report["rounds"], done.report["online"],
        )  # fmt: skip

    @contextmanager
    def _memory(self, wanted: int) -> Iterator[int]:
        """Bytes of tape that a run may read in its prepare phase: runs side by side share what one would have."""
        granted = min(wanted, PREPARE_BYTES - self._ahead)
        self._ahead += granted
        try:
            yield granted
        finally:
            self._ahead -= granted

    async def _tape(self, message: dict[str, Any], plan: Plan, key: str, lengths: Sequence[int]) -> TapeReader:
        """This side's tape, verified, and taken by this run: of a pair that the client holds the other one of, or dealt
        now."""
        bound, offered = binding(plan, key), message.get("tapes")
        held = set(self.home.unspent(1, bound)) - self._taken
        named = [tape_id_of(name) for name in (offered if isinstance(offered, list) else [])]
        tape_id = next((t for t in named if t in held), None)
        if tape_id is None:
            return await self._dealt(message, plan, key, lengths)
        self._taken.add(tape_id)
        try:
            return await open_tape(self.home, tape_id, 1, bound)
        except BaseException:
            self._taken.discard(tape_id)
            raise

    async def _dealt(self, message: dict[str, Any], plan: Plan, key: str, lengths: Sequence[int]) -> TapeReader:
        """A tape that is dealt for this run alone."""
        offered = message.get("tapes")
        if offered and message.get("dealer") is not True:
            raise TapeError(f"none of the client's {_some(offered)} for this run is here unspent: deal a new pair")
        if self.dealer is None:
            raise TapeError(
                "the model owner takes its tapes from files, and the client has none for this run: deal a pair"
            )
        async with self.dealer() as dealer:
            tape_id = await dealer.deal(self.model.public, plan, key, lengths, self.home)
            return await open_fetched(self.home, tape_id, 1, binding(plan, key))


async def _accepted(streams: Multiplexer) -> StreamChannel | None:
    """The next stream, or None when the client has left."""
    try:
        return await streams.accept(IDLE_SECONDS)
    except PeerError as end:
        log.info("no more streams from %s: %s", streams.address[:12], end)
        return None


def _some(offered: Any) -> str:
    count = len(offered) if isinstance(offered, list) else 0
    return f"{count} tape{'' if count == 1 else 's'}"
