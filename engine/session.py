"""A client's sessions with a model owner: the Python API of `pair`, `embed` and `classify`.

async with connect("tcp://host:port", dealer=(address, key)) as session:
    run = await session.embed(["a text"])
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.dealing import Dealing, dealing
from engine.errors import InputError, LocalError, PeerError, RoundelayError, TapeError
from engine.handshake import binding, compare, deliberate, request, tape_id_of
from engine.home import Home, default_home
from engine.kernels import get_kernels
from engine.kernels.interface import Kernels
from engine.models.checkpoint import Checkpoint
from engine.models.text import Tokenizer
from engine.pairing import Pairing, find_pairing, receive_pairing
from engine.parameters import PartyParameters
from engine.result import RunResult
from engine.run import Finished, Progress, Settings, Watch, open_fetched, open_tape, run_plan, unwatched
from engine.scheduler.link import Link
from engine.scheduler.plan import Plan
from engine.service import farewell, settled, streams
from engine.tape import TapeReader
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.multiplex import Multiplexer
from engine.transport.registry import open_transport

__all__ = ["ClientSession", "connect", "pair"]

log = logging.getLogger(__name__)
TokenIds = NDArray[np.int64]

MOST_OFFERED = 64
"""Tapes that a client offers for one run; the owner takes the first that it holds too."""


@dataclass(slots=True)
class ClientSession:
    """A connection to a model owner with whom this client is paired. Runs follow one another, also when they are asked
    for at the same time, until `side_by_side`; after a failed one the session is over."""

    link: Link
    pairing: Pairing
    home: Home
    parameters: PartyParameters
    kernels: Kernels = field(repr=False)
    dealer: Dealing | None = None
    settings: Settings = field(default_factory=Settings)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    _failed: bool = False
    _streams: Multiplexer | None = None
    _ahead: int = 0

    async def side_by_side(self) -> None:
        """From now on runs that are asked for at the same time run at the same time, each on a stream of its own with a
        tape of its own: they share round trips and messages. A failed run then ends no other. Raises PeerError."""
        async with self._turn:
            if self._streams is None:
                await self.link.control(request("owner", "streams"))
                if (await self.link.message("word that the owner serves streams")).get("streams") is not True:
                    raise PeerError("the owner does not serve streams")
                self._streams = streams(self.link.channel, connector=True)

    async def embed(self, texts: Sequence[str]) -> RunResult:
        """Sentence embeddings of a batch: one run, lengths public, no padding. Raises what `run` raises."""
        if self.pairing.public.head == "classify":
            raise InputError(f"{self.pairing.public.name} is a classifier: use classify")
        return await self.run(self.tokens(texts))

    async def classify(self, texts: Sequence[str]) -> RunResult:
        """Logits of a batch. Raises what `run` raises."""
        if self.pairing.public.head != "classify":
            raise InputError(f"{self.pairing.public.name} has no classification head: use embed")
        return await self.run(self.tokens(texts))

    def tokens(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of every text. Raises InputError, which never quotes a text."""
        if isinstance(texts, str):
            raise InputError("texts are a list, even of one text")
        public = self.pairing.public
        tokenizer = Tokenizer(Checkpoint(public.name, public.shape, {}, self.pairing.tokenizer_json))
        return [tokenizer.encode(text) for text in texts]

    async def run(self, sequences: Sequence[TokenIds]) -> RunResult:
        """One run on token ids. Raises InputError, after which the session goes on, and PeerError, TapeError,
        LocalError, after which it is over; a tape that was spent stays spent."""
        if self._streams is not None:
            return await self._run_beside(await self._streams.open(), sequences)
        public = self.pairing.public
        lengths = [len(s) for s in sequences]
        plan, inputs = public.plan(lengths), public.inputs(sequences)
        async with self._turn:
            if self._failed:
                raise LocalError("this session ended with its failed run: connect again")
            try:
                return await self._run(plan, lengths, inputs)
            except BaseException as failure:
                self._failed = True
                error = deliberate(failure)
                await self.link.error("the client failed on its side" if isinstance(error, LocalError) else str(error))
                if not isinstance(failure, Exception) or error is failure:
                    raise
                raise error from failure

    async def _run_beside(self, stream: Channel, sequences: Sequence[TokenIds]) -> RunResult:
        """A run in a session of its own, on a stream."""
        granted = (self.settings.ahead - self._ahead) // 2  # runs side by side share the memory that one would have
        self._ahead += granted
        settings = replace(self.settings, ahead=granted)
        alone = replace(self, link=Link(stream), settings=settings, _turn=asyncio.Lock(), _streams=None)
        try:
            return await alone.run(sequences)
        finally:
            self._ahead -= granted
            await alone.close()

    async def _run(self, plan: Plan, lengths: list[int], inputs: dict[str, NDArray[np.int64]]) -> RunResult:
        start = time.perf_counter()
        tape, dealt = await self._handshake(plan, lengths)
        try:
            await self.link.control({"tape": tape.header.tape.hex()})
            deal = time.perf_counter() - start if dealt else 0.0
            done = await run_plan(
                self.link, 0, plan, tape, self.kernels, self.parameters, self.home, inputs, self.settings
            )
        finally:
            tape.close()
        results = self.pairing.public.results(done.outputs, lengths)
        theirs = await self._report(done)
        return RunResult.of(plan, results, done.report, theirs, deal, done.timeline, lengths, done.tape)

    async def _handshake(self, plan: Plan, lengths: list[int]) -> tuple[TapeReader, bool]:
        """Agree on everything; this side's tape, verified, and whether it was dealt just now."""
        bound = binding(plan, self.pairing.key)
        held = self.home.unspent(0, bound)[:MOST_OFFERED]
        if not held and self.dealer is None:
            options = " ".join(f"--tokens {n}" for n in lengths)
            raise TapeError(
                f"no unspent tape for this run is in {self.home.tapes}: deal one with {options}, or name a dealer"
            )
        mine = {"model": self.pairing.public.digest, "key": self.pairing.key, "plan": plan.digest.hex()}
        offer = {"lengths": lengths, "tapes": [t.hex() for t in held], "dealer": self.dealer is not None}
        await self.link.control(request("owner", "run", **mine, **offer))
        reply = await settled(self.link, "the owner's handshake")
        compare(mine, reply, ["model", "key", "plan"])
        tape_id = tape_id_of(reply.get("tape"))
        if tape_id in held:
            return await open_tape(self.home, tape_id, 0, bound), False
        return await self._fetched(tape_id, plan, bound), True

    async def _fetched(self, tape_id: bytes, plan: Plan, bound: bytes) -> TapeReader:
        if self.dealer is None:
            raise PeerError("the owner names a tape that this side does not hold")
        log.info("fetching tape %s from the dealer", tape_id.hex()[:12])
        async with self.dealer() as dealer:
            await dealer.fetch(tape_id, plan, self.home)
            return await open_fetched(self.home, tape_id, 0, bound)

    async def _report(self, done: Finished) -> dict[str, Any]:
        """The owner's figures. The outputs are here already: an owner that vanishes now does not take them away."""
        try:
            report = (await settled(self.link, "the owner's report")).get("done")
        except PeerError as e:
            self._failed = True
            log.warning("the run is whole, but the owner sent no report of its own: %s", e)
            report = None
        return report if isinstance(report, dict) else {}

    async def close(self) -> None:
        """End in order."""
        if self._streams is not None:
            return await self._streams.aclose()
        await farewell(self.link)
        await self.link.channel.aclose()


def _options(home: Home, peer: str, deadline: float) -> ChannelOptions:
    return ChannelOptions(identity=home.identity, peers=(peer,), deadline=deadline)


@asynccontextmanager
async def connect(
    address: str,
    *,
    home: Path | None = None,
    model: str | None = None,
    dealer: tuple[str, str] | None = None,
    transport: str = "tcp",
    deadline: float = 60.0,
    kernels: Kernels | None = None,
    overlap: bool = True,
    progress: Progress | None = None,
    behind: Callable[[Channel], Channel] | None = None,
    watch: Watch = unwatched,
) -> AsyncIterator[ClientSession]:
    """A session with the owner at `address`, whose key the pairing pins. `dealer`: (address, public key), or None to
    use tapes from files. `behind` wraps the channel once it stands, in an emulated network for one; every run happens
    within `watch`. Raises InputError without a sound pairing, PeerTimeout, PeerRefused."""
    place = Home(home or default_home())
    pairing = await asyncio.to_thread(find_pairing, place, model)
    parameters = await asyncio.to_thread(pairing.parameters)
    channel = await open_transport(transport).connect(address, _options(place, pairing.owner, deadline))
    if behind is not None:
        channel = behind(channel)
    log.info("connected to the owner of %s (%s) at %s", pairing.public.name, pairing.public.digest[:12], address)
    open_dealer = None if dealer is None else dealing(*dealer, place, transport, deadline)
    settings = Settings(progress, overlap, watch)
    session = ClientSession(Link(channel), pairing, place, parameters, kernels or get_kernels(), open_dealer, settings)
    try:
        yield session
    finally:
        await session.close()


async def pair(
    address: str,
    owner: str,
    *,
    home: Path | None = None,
    transport: str = "tcp",
    deadline: float = 60.0,
    progress: Progress | None = None,
) -> tuple[Pairing, int]:
    """Pair with the owner of known key at `address`. Returns the pairing and the set-up bytes that W_hat took."""
    place = Home(home or default_home())
    async with await open_transport(transport).connect(address, _options(place, owner, deadline)) as channel:
        link = Link(channel)
        try:
            await link.control(request("owner", "pair"))
            result = await receive_pairing(link, place, get_kernels(), progress)
        except RoundelayError as e:
            await link.error("the client failed on its side" if isinstance(e, LocalError) else str(e))
            raise
        await farewell(link)
        return result
