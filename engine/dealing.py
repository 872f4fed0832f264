"""The dealer as a process: model keys, tapes to files, and a service that hands them to the parties they belong to.

Requests are control messages over an authenticated channel; who asks is known by its public key, not by what it says:

    owner    "key": model, client                  -> key, seed
    owner    "deal": model (public part), key, lengths -> signs of life; tape, size, seconds; then P1's tape
    client   "tape": tape                          -> size; then P0's tape, which the dealer then forgets

The dealer sees public parts of models, lengths and who talks to whom; never data, never weights.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.dealer import deal
from engine.errors import InputError, LocalError, PeerError, PeerRefused
from engine.files import private_folder
from engine.handshake import binding, check_request, lengths_of, request, tape_id_of
from engine.home import Home
from engine.kernels.interface import Kernels
from engine.ledger import ModelKey
from engine.models.compiled import PublicModel
from engine.parameters import DealerParameters, MaskSource
from engine.scheduler.link import Link
from engine.scheduler.plan import Plan
from engine.service import alive, converse, farewell, settled, welcome
from engine.tape import FileTapeWriter, TapeHeader, file_bytes
from engine.transfer import receive_file, send_file
from engine.transport.channel import Channel, ChannelOptions, Listener
from engine.transport.registry import open_transport

__all__ = ["DealerClient", "DealerService", "Dealing", "deal_files", "dealing"]

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]

MOST_JOBS = 8
"""Pieces of a tape that wait to be written."""
SYNC_BYTES = 128 << 20
"""What of a tape is brought to disk at a time."""
MOST_WAITING = 8
"""Tapes that a dealer keeps for one client; beyond that the oldest, which nobody came for, is dropped."""


def deal_files(
    plan: Plan, key: ModelKey, kernels: Kernels, folders: tuple[Path, Path], progress: Progress | None = None
) -> tuple[bytes, tuple[Path, Path]]:
    """Deal one run to ID.p0 and ID.p1 in the two folders; both appear, or neither. Returns the tape id and the paths.
    Raises LocalError."""
    tape_id, bound = secrets.token_bytes(16), binding(plan, key.id)
    seeds = (secrets.token_bytes(16), secrets.token_bytes(16))
    paths = (folders[0] / f"{tape_id.hex()}.p0", folders[1] / f"{tape_id.hex()}.p1")
    writers: list[_Behind] = []
    try:
        for p, path in enumerate(paths):
            private_folder(path.parent)
            writers.append(_Behind(FileTapeWriter(path, TapeHeader(p, bound, tape_id, seeds[p], plan.tape_bytes[p]))))
        parameters = DealerParameters(MaskSource(kernels, key.seed))
        deal(plan, kernels, seeds, tape_id, parameters, (writers[0], writers[1]), progress=progress)
        for writer in writers:
            writer.finish()
    except BaseException:
        for writer in writers:
            writer.abort()
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    return tape_id, paths


class _Behind:
    """A tape that is tagged, written and brought to disk on a thread of its own, while dealing goes on."""

    def __init__(self, writer: FileTapeWriter) -> None:
        self._writer, self._thread = writer, ThreadPoolExecutor(1, "tape")
        self._jobs: deque[Future[None]] = deque()
        self._unsynced = 0

    def write(self, data: NDArray[np.uint8]) -> None:
        """`data` is not to change any more. Raises what an earlier write failed with."""
        self._jobs.append(self._thread.submit(self._writer.write, data))
        self._unsynced += data.size
        if self._unsynced >= SYNC_BYTES:
            self._jobs.append(self._thread.submit(self._writer.sync))
            self._unsynced = 0
        while len(self._jobs) > MOST_JOBS:
            self._jobs.popleft().result()

    def finish(self) -> None:
        while self._jobs:
            self._jobs.popleft().result()
        self._thread.shutdown()
        self._writer.finish()

    def abort(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._writer.abort()


# ---------------------------------------------------------------------- the service
@dataclass(slots=True)
class DealerService:
    """Serves one owner and the clients that it names. Tapes wait in the dealer's home until they are fetched."""

    home: Home
    owner: str
    clients: tuple[str, ...]
    kernels: Kernels = field(repr=False)

    async def serve(self, listener: Listener) -> None:
        """Until cancelled."""
        shutil.rmtree(self.home.path / "waiting", ignore_errors=True)  # lost to both sides alike by the restart
        await welcome(listener, self.session, once=False)

    async def session(self, channel: Channel) -> None:
        """One peer's requests, until it leaves."""
        await converse(channel, partial(self._answer, channel.peer), "dealer")

    async def _answer(self, peer: str, link: Link, message: dict[str, Any]) -> bool:
        want = check_request(message, "dealer")
        if want in ("key", "deal") and peer != self.owner:
            raise PeerRefused(f"only the model owner may ask the dealer for '{want}', and this key is not the owner's")
        if want == "key":
            key = self.home.ledger.model_key(_digest(message.get("model")), self._client(str(message.get("client"))))
            await link.control({"key": key.id, "seed": key.seed.hex()})
        elif want == "deal":
            await self._deal(link, message)
        elif want == "tape" and peer in self.clients:
            await self._hand_out(link, peer, tape_id_of(message.get("tape")))
        else:
            raise PeerRefused("this key may not ask that of the dealer")
        return True

    def _client(self, client: str) -> str:
        if client not in self.clients:
            raise InputError(f"client {client[:12]} is not one that this dealer serves: start the dealer with --client")
        return client

    async def _deal(self, link: Link, message: dict[str, Any]) -> None:
        public = PublicModel.from_json(str(message.get("model")), "the model in the request")
        key, lengths = self.home.ledger.key(str(message.get("key"))), lengths_of(message)
        if key.model != public.digest:
            raise InputError("the model changed since its key was made: pair the client again")
        folder, start = self.home.waiting(self._client(key.client)), time.perf_counter()
        tape_id, (path0, path1) = await alive(link, self._in_thread(public, key, lengths, folder))
        try:
            seconds = time.perf_counter() - start
            await link.control({"tape": tape_id.hex(), "size": path1.stat().st_size, "seconds": seconds})
            await send_file(link, path1)
        except BaseException:
            path0.unlink(missing_ok=True)  # of no use without the other
            raise
        finally:
            path1.unlink(missing_ok=True)
        log.info("dealt tape %s for a run of %d tokens in %.2f s", tape_id.hex()[:12], sum(lengths), seconds)
        _drop_oldest(folder)

    async def _in_thread(
        self, public: PublicModel, key: ModelKey, lengths: tuple[int, ...], folder: Path
    ) -> tuple[bytes, tuple[Path, Path]]:
        """Plan and deal on a worker thread, which stops at the next segment if the peer leaves."""
        left = threading.Event()

        def go_on(_done: int, _total: int) -> None:
            if left.is_set():
                raise LocalError("the dealing was abandoned")

        try:
            plan = await asyncio.to_thread(public.plan, lengths)
            return await asyncio.to_thread(deal_files, plan, key, self.kernels, (folder, folder), go_on)
        finally:
            left.set()

    async def _hand_out(self, link: Link, client: str, tape: bytes) -> None:
        path = self.home.waiting(client) / f"{tape.hex()}.p0"
        if not path.exists():
            raise InputError(f"no tape {tape.hex()[:12]} waits for this client: run again, for a new one")
        await link.control({"size": path.stat().st_size})
        await send_file(link, path)
        path.unlink(missing_ok=True)
        log.info("handed out tape %s", tape.hex()[:12])


def _digest(value: object) -> str:
    text = str(value)
    if len(text) != 64 or any(c not in "0123456789abcdef" for c in text):
        raise InputError("the owner names no model digest")
    return text


def _drop_oldest(folder: Path) -> None:
    waiting = sorted(folder.glob("*.p0"), key=lambda p: p.stat().st_mtime_ns)
    for path in waiting[:-MOST_WAITING]:
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------------- a party's side of it
@dataclass(slots=True)
class DealerClient:
    """A party's side of the service. Errors of the dealer say that they are the dealer's."""

    link: Link

    async def key(self, model: str, client: str) -> ModelKey:
        """The model key of a client (owner only)."""
        await self.link.control(request("dealer", "key", model=model, client=client))
        reply = await self.link.message("a model key from the dealer")
        try:
            return ModelKey(str(reply["key"]), model, client, bytes.fromhex(reply["seed"]))
        except (KeyError, ValueError, TypeError):
            raise PeerError("the dealer sent no model key") from None

    async def deal(self, public: PublicModel, plan: Plan, key: str, lengths: Sequence[int], home: Home) -> bytes:
        """Have one run dealt and fetch P1's tape (owner only). Returns the tape id."""
        fields = {"model": public.to_json(), "key": key, "lengths": list(lengths)}
        await self.link.control(request("dealer", "deal", **fields))
        reply = await settled(self.link, "tapes from the dealer")
        tape_id = tape_id_of(reply.get("tape"))
        await self._receive(reply, home.fetched(tape_id, 1), file_bytes(plan.tape_bytes[1]))
        return tape_id

    async def fetch(self, tape_id: bytes, plan: Plan, home: Home) -> None:
        """P0's tape of a run (client only)."""
        await self.link.control(request("dealer", "tape", tape=tape_id.hex()))
        reply = await self.link.message("a tape from the dealer")
        await self._receive(reply, home.fetched(tape_id, 0), file_bytes(plan.tape_bytes[0]))

    async def _receive(self, reply: dict[str, Any], path: Path, size: int) -> None:
        if reply.get("size") != size:
            raise PeerError(f"the dealer announces a tape of {reply.get('size')} bytes where the plan needs {size}")
        await receive_file(self.link, path, size, "a tape from the dealer")


Dealing = Callable[[], AbstractAsyncContextManager[DealerClient]]
"""Opens a connection to the dealer."""


def dealing(address: str, key: str, home: Home, transport: str = "tcp", deadline: float = 60.0) -> Dealing:
    """Opens connections to a dealer of known key."""

    @asynccontextmanager
    async def connection() -> AsyncIterator[DealerClient]:
        options = ChannelOptions(identity=home.identity, peers=(key,), deadline=deadline)
        try:
            async with await open_transport(transport).connect(address, options) as channel:
                link = Link(channel)
                yield DealerClient(link)
                await farewell(link)
        except PeerError as e:
            raise type(e)(f"at the dealer: {e}") from e

    return connection
