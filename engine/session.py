"""Sessions between a client (P0) and a model owner (P1): handshake, tapes, runs. The Python API of the command line.

    async with connect("tcp://host:port", home=..., dealer=...) as session:
        run = await session.embed(["a text"])

Handshake of a run: both sides state version, role, model, key, lengths, plan and tape; a mismatch names the field. Then
each verifies and spends its tape, and only then does anything that depends on data or masks leave either side.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.dealing import DealerClient, binding, lengths_of
from engine.errors import InputError, PeerError, PeerMismatch, RoundelayError, TapeError
from engine.home import Home, default_home
from engine.kernels import get_kernels
from engine.kernels.interface import Kernels
from engine.meter import PeakMemory
from engine.models.compiled import CompiledModel
from engine.models.checkpoint import Checkpoint
from engine.models.text import Tokenizer
from engine.pairing import Pairing, find_pairing, receive_pairing, send_pairing
from engine.parameters import Parameters, PartyParameters
from engine.result import RunResult
from engine.scheduler.executor import Executor
from engine.scheduler.link import Link
from engine.scheduler.plan import Plan
from engine.scheduler.timeline import Timeline
from engine.tape import TapeReader
from engine.transport.channel import Channel, ChannelOptions, Listener
from engine.transport.registry import open_transport

__all__ = ["ClientSession", "Dealing", "OwnerService", "connect", "pair"]

VERSION = 1
log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
Dealing = Callable[[], Awaitable[DealerClient]]
"""Opens a connection to the dealer."""


def first_error(error: BaseException) -> BaseException:
    """The error that a task group failed with: the first deliberate one, or the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    inner = [first_error(e) for e in error.exceptions]
    known = [e for e in inner if isinstance(e, RoundelayError)]
    local = [e for e in known if not isinstance(e, PeerError)]
    return (local or known or inner)[0]


def compare(mine: dict[str, Any], theirs: dict[str, Any], fields: Sequence[str]) -> None:
    """Raises PeerMismatch naming the first field on which the two sides differ."""
    for name in fields:
        if mine[name] != theirs.get(name):
            raise PeerMismatch(
                f"the two sides disagree about the {name}: here {_shown(mine[name])}, there {_shown(theirs.get(name))}"
            )


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."


# ---------------------------------------------------------------------- what both sides do
async def _run(
    link: Link, party: int, plan: Plan, tape: TapeReader, kernels: Kernels, parameters: Parameters, home: Home,
    inputs: dict[str, NDArray[np.int64]], settings: _Settings,
) -> tuple[dict[str, NDArray[np.int64]], dict[str, Any], Timeline]:  # fmt: skip
    """Spend the tape, then prepare and run; returns outputs, this side's report, and the timeline."""
    home.ledger.spend(tape.header.tape, party)
    timeline = Timeline()
    link.rounds, link.sent = set(), {"prepare": 0, "online": 0, "bulk": 0}
    executor = Executor(
        plan, party, link, tape, kernels, parameters, inputs, timeline, settings.progress, settings.overlap
    )
    try:
        with PeakMemory() as peak:
            start = time.perf_counter()
            await executor.prepare()
            ready = time.perf_counter()
            outputs = await executor.online()
            stop = time.perf_counter()
    finally:
        tape.close()
        Path(tape.where).unlink(missing_ok=True)
    report = {
        "prepare": ready - start, "online": stop - ready, "peak": peak.bytes, "rounds": len(link.rounds),
        "bytes_sent": link.sent["online"], "prepare_bytes": link.sent["prepare"], "tape_bytes": plan.tape_bytes[party],
    }  # fmt: skip
    return outputs, report, timeline


@dataclass(frozen=True, slots=True)
class _Settings:
    progress: Progress | None = None
    overlap: bool = True


def _open_tape(home: Home, tape_id: bytes, party: int, bound: bytes) -> TapeReader:
    """Verify a tape before anything is sent. A spent one is an error even if its file is still there."""
    if home.ledger.spent(tape_id):
        raise TapeError(f"tape {tape_id.hex()[:12]} was spent already: deal a new one")
    path = home.tape(tape_id, party)
    if not path.exists():
        raise TapeError(f"this side has no tape {tape_id.hex()[:12]}: both tapes of a pair are needed")
    return TapeReader.open(path, party, bound)


# ---------------------------------------------------------------------- the model owner
@dataclass(slots=True)
class OwnerService:
    """Serves runs of one compiled model to paired clients, and pairs new ones. `dealer` is None with tapes from files."""

    model: CompiledModel
    home: Home
    kernels: Kernels = field(repr=False)
    dealer: Dealing | None = None
    overlap: bool = True
    once: bool = False
    _served: int = 0

    async def serve(self, listener: Listener) -> None:
        """Until cancelled, or after one session if `once`."""
        async with asyncio.TaskGroup() as group:
            while True:
                channel = await listener.accept()
                task = group.create_task(self._session(channel))
                if self.once:
                    await task
                    return

    async def _session(self, channel: Channel) -> None:
        link = Link(channel)
        try:
            while (hello := await link.request("a request")) is not None:
                await self._answer(link, channel.peer, hello)
        except BaseException as group:
            error = first_error(group)
            if not isinstance(error, RoundelayError):
                raise
            log.warning("session with %s ended: %s", channel.peer[:12], error)
            if not isinstance(error, PeerError) or isinstance(error, PeerMismatch):
                await link.error(str(error))
        finally:
            await channel.aclose()

    async def _answer(self, link: Link, peer: str, hello: dict[str, Any]) -> None:
        compare({"version": VERSION}, hello, ["version"])
        if hello.get("role") != "client":
            raise PeerMismatch(f"the two sides disagree about the role: here owner, there {_shown(hello.get('role'))}")
        if hello.get("want") == "pair":
            await send_pairing(link, self.model, await self._key(peer), self.kernels)
            log.info("paired with %s", peer[:12])
        elif hello.get("want") == "run":
            await self._serve_run(link, peer, hello)
        else:
            raise PeerError("the client asks for something unknown")

    async def _key(self, client: str) -> Any:
        """The model key of a client: from the ledger, else from the dealer."""
        key = self.home.ledger.find_key(self.model.public.digest, client)
        if key is None and self.dealer is not None:
            dealer = await self.dealer()
            key = await dealer.key(self.model.public.digest, client)
            await dealer.close()
            self.home.ledger.adopt(key)
        if key is None:
            raise InputError("there is no model key for this client: deal one for this model first")
        return key

    async def _serve_run(self, link: Link, peer: str, hello: dict[str, Any]) -> None:
        public, lengths = self.model.public, lengths_of(hello)
        compare({"model": public.digest}, hello, ["model"])
        key = await self._key(peer)
        plan = public.plan(lengths)
        mine = {"version": VERSION, "role": "owner", "model": public.digest, "key": key.id, "plan": plan.digest.hex()}
        compare(mine, hello, ["key", "plan"])
        tape_id, seconds = await self._tape(hello, key.id, lengths)
        tape = _open_tape(self.home, tape_id, 1, binding(plan, key.id))
        await link.control({**mine, "tape": tape_id.hex(), "deal_seconds": seconds})
        go = await link.message("word that the client has its tape")
        compare({"tape": tape_id.hex()}, go, ["tape"])
        parameters = PartyParameters(integers=self.model.integers)
        settings = _Settings(overlap=self.overlap)
        _, report, _ = await _run(link, 1, plan, tape, self.kernels, parameters, self.home, {}, settings)
        await link.control({"done": report})
        await link.message("the end of the run")
        log.info("served a run of %d tokens in %.3f s", sum(lengths), report["online"])

    async def _tape(self, hello: dict[str, Any], key: str, lengths: Sequence[int]) -> tuple[bytes, float]:
        named = hello.get("tape")
        if named:
            return bytes.fromhex(str(named)), 0.0
        if self.dealer is None:
            raise TapeError("the client has no tape for this plan and no dealer serves: deal tapes for this length first")
        dealer = await self.dealer()
        try:
            return await dealer.deal(self.model.public, key, lengths, self.home)
        finally:
            await dealer.close()


# ---------------------------------------------------------------------- the client
@dataclass(slots=True)
class ClientSession:
    """A connection to a model owner with whom this client is paired. Several runs may follow one another."""

    link: Link
    pairing: Pairing
    home: Home
    kernels: Kernels = field(repr=False)
    dealer: Dealing | None = None
    overlap: bool = True
    progress: Progress | None = None

    async def embed(self, texts: Sequence[str]) -> RunResult:
        """Sentence embeddings of a batch: one run, lengths public, no padding."""
        if self.pairing.public.head == "classify":
            raise InputError(f"{self.pairing.public.name} is a classifier: use classify")
        return await self.run(self._tokens(texts))

    async def classify(self, texts: Sequence[str]) -> RunResult:
        """Logits of a batch."""
        if self.pairing.public.head != "classify":
            raise InputError(f"{self.pairing.public.name} has no classification head: use embed")
        return await self.run(self._tokens(texts))

    def _tokens(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        public = self.pairing.public
        tokenizer = Tokenizer(Checkpoint(public.name, public.shape, {}, self.pairing.tokenizer_json))
        return [tokenizer.encode(t) for t in texts]

    async def run(self, sequences: Sequence[NDArray[np.int64]]) -> RunResult:
        """One run on token ids. Raises InputError, PeerError, TapeError, LocalError; a spent tape stays spent."""
        try:
            return await self._attempt(sequences)
        except BaseException as group:
            error = first_error(group)
            if isinstance(error, RoundelayError) and not isinstance(error, PeerError):
                await self.link.error(str(error) if isinstance(error, TapeError) else "the client failed")
            if error is group or not isinstance(error, Exception):
                raise
            raise error from None

    async def _attempt(self, sequences: Sequence[NDArray[np.int64]]) -> RunResult:
        public, key = self.pairing.public, self.pairing.key
        lengths = [len(s) for s in sequences]
        plan = public.plan(lengths)
        bound = binding(plan, key)
        start = time.perf_counter()
        held = self.home.unspent(0, bound)
        mine = {"version": VERSION, "model": public.digest, "key": key, "plan": plan.digest.hex()}
        tape_id = held.stem if held is not None else None
        await self.link.control({**mine, "role": "client", "want": "run", "lengths": lengths, "tape": tape_id})
        reply = await self._reply(held is None)
        compare({**mine, "role": "owner"}, reply, ["version", "role", "model", "key", "plan"])
        tape = await self._tape(reply, held, plan, bound)
        await self.link.control({"tape": tape.header.tape.hex()})
        deal = time.perf_counter() - start if held is None else 0.0
        settings, parameters = _Settings(self.progress, self.overlap), self.pairing.parameters()
        outputs, report, timeline = await _run(
            self.link, 0, plan, tape, self.kernels, parameters, self.home, public.inputs(sequences), settings
        )
        done = (await self.link.message("the owner's report")).get("done")
        await self.link.control({"done": True})
        results = public.results(outputs, lengths)
        return RunResult.of(plan, results, report, done if isinstance(done, dict) else {}, deal, timeline)

    async def _reply(self, dealing: bool) -> dict[str, Any]:
        """The owner's side of the handshake; it takes longer when the dealer has to deal first."""
        patience = self.link.channel.deadline
        self.link.channel.deadline = patience * (20 if dealing else 1)
        try:
            return await self.link.message("the owner's handshake")
        finally:
            self.link.channel.deadline = patience

    async def _tape(self, reply: dict[str, Any], held: Path | None, plan: Plan, bound: bytes) -> TapeReader:
        try:
            tape_id = bytes.fromhex(str(reply.get("tape")))
        except ValueError:
            raise PeerError("the owner named no tape") from None
        if held is not None:
            compare({"tape": held.stem}, {"tape": tape_id.hex()}, ["tape"])
        elif self.dealer is None:
            raise TapeError("there is no tape for this plan: deal tapes for this length, or name a dealer")
        else:
            dealer = await self.dealer()
            try:
                await dealer.fetch(tape_id, plan, self.home)
            finally:
                await dealer.close()
        return _open_tape(self.home, tape_id, 0, bound)

    async def close(self) -> None:
        """End in order."""
        try:
            await self.link.bye()
        except RoundelayError:
            pass
        await self.link.channel.aclose()


def _options(home: Home, peer: str | None, deadline: float) -> ChannelOptions:
    peers = () if peer is None else (peer,)
    return ChannelOptions(identity=home.identity, peers=peers, deadline=deadline)


def dealing(address: str, key: str, home: Home, transport: str = "zeromq", deadline: float = 60.0) -> Dealing:
    """Opens connections to a dealer of known key."""

    async def open_dealer() -> DealerClient:
        channel = await open_transport(transport).connect(address, _options(home, key, deadline))
        return DealerClient(Link(channel))

    return open_dealer


@asynccontextmanager
async def connect(
    address: str,
    *,
    home: Path | None = None,
    model: str | None = None,
    dealer: tuple[str, str] | None = None,
    transport: str = "zeromq",
    deadline: float = 60.0,
    kernels: Kernels | None = None,
    overlap: bool = True,
    progress: Progress | None = None,
) -> AsyncIterator[ClientSession]:
    """A session with the owner at `address`, whose key the pairing pins. `dealer`: (address, public key), or None to use
    tapes from files. Raises InputError without a pairing, PeerTimeout, PeerRefused."""
    place = Home(home or default_home())
    pairing = find_pairing(place, model)
    channel = await open_transport(transport).connect(address, _options(place, pairing.owner, deadline))
    open_dealer = None if dealer is None else dealing(*dealer, place, transport, deadline)
    session = ClientSession(Link(channel), pairing, place, kernels or get_kernels(), open_dealer, overlap, progress)
    try:
        yield session
    finally:
        await session.close()


async def pair(
    address: str,
    owner: str,
    *,
    home: Path | None = None,
    transport: str = "zeromq",
    deadline: float = 60.0,
    progress: Progress | None = None,
) -> tuple[Pairing, int]:
    """Pair with the owner of known key at `address`. Returns the pairing and the set-up bytes that W_hat took."""
    place = Home(home or default_home())
    channel = await open_transport(transport).connect(address, _options(place, owner, deadline))
    link = Link(channel)
    try:
        await link.control({"version": VERSION, "role": "client", "want": "pair"})
        result = await receive_pairing(link, place, get_kernels(), progress)
        await link.bye()
        return result
    finally:
        await channel.aclose()


