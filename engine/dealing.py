"""The dealer as a process: model keys, tapes to files, and a service that hands them to the parties they belong to.

Requests are control messages over an authenticated channel; who asks is known by its public key, not by what it says:

    owner    {"ask": "key", "model", "client"}               -> {"key", "seed"}
    owner    {"ask": "deal", "model": public, "key", "lengths"} -> {"tape", "size", "seconds"}, then P1's tape
    client   {"ask": "tape", "tape"}                         -> {"size"}, then P0's tape, which the dealer then forgets

The dealer sees public parts of models, lengths and who talks to whom; never data, never weights.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.dealer import deal
from engine.errors import InputError, LocalError, PeerError, RoundelayError
from engine.home import Home
from engine.kernels.interface import Kernels
from engine.ledger import ModelKey
from engine.models.compiled import PublicModel
from engine.parameters import DealerParameters, MaskSource
from engine.scheduler.link import Link
from engine.scheduler.plan import Plan
from engine.tape import HEADER_BYTES, TRAILER_BYTES, FileTapeWriter, TapeHeader
from engine.transport.channel import Channel, Listener

__all__ = ["BULK_BYTES", "DealerClient", "DealerService", "binding", "deal_files", "receive_file", "send_file"]

log = logging.getLogger(__name__)
BULK_BYTES = 1 << 20
Progress = Callable[[int, int], None]


def binding(plan: Plan, key: str) -> bytes:
    """What a tape is bound to: the plan, and the model key whose masks it was dealt against."""
    return hashlib.sha256(b"roundelay run 1" + plan.digest + key.encode()).digest()


def deal_files(
    plan: Plan, key: ModelKey, kernels: Kernels, folders: tuple[Path, Path], progress: Progress | None = None
) -> tuple[bytes, tuple[Path, Path]]:
    """Deal one run to ID.p0 and ID.p1 in the two folders; both appear, or neither. Returns the tape id and the paths."""
    tape_id, bound = secrets.token_bytes(16), binding(plan, key.id)
    seeds = (secrets.token_bytes(16), secrets.token_bytes(16))
    writers: list[FileTapeWriter] = []
    try:
        for p in (0, 1):
            folders[p].mkdir(parents=True, exist_ok=True, mode=0o700)
            header = TapeHeader(p, bound, tape_id, seeds[p], plan.tape_bytes[p])
            writers.append(FileTapeWriter(folders[p] / f"{tape_id.hex()}.p{p}", header))
        parameters = DealerParameters(MaskSource(kernels, key.seed))
        deal(plan, kernels, seeds, tape_id, parameters, (writers[0], writers[1]), progress=progress)
        first = writers[0].finish()
        try:
            return tape_id, (first, writers[1].finish())
        except BaseException:
            first.unlink(missing_ok=True)
            raise
    except OSError as e:
        raise LocalError(f"cannot write tapes to {e.filename}: {e.strerror}") from e
    except BaseException:
        for w in writers:
            w.abort()
        raise


async def send_file(link: Link, path: Path) -> None:
    """The bytes of a file as DATA frames."""
    loop = asyncio.get_running_loop()
    link.allow(BULK_BYTES)
    try:
        with open(path, "rb") as f:
            index = 0
            while chunk := await loop.run_in_executor(None, f.read, BULK_BYTES):
                await link.data("bulk", 0, index, chunk)
                index += 1
    except OSError as e:
        raise LocalError(f"cannot read {path}: {e.strerror}") from e


async def receive_file(link: Link, path: Path, size: int, what: str) -> None:
    """Exactly `size` bytes into a file of mode 0600 that appears when it is complete."""
    link.allow(BULK_BYTES)
    part = path.with_name(path.name + ".part")
    loop = asyncio.get_running_loop()
    try:
        with open(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as f:
            left, index = size, 0
            while left:
                payload = await link.opening(what, 0, index, min(left, BULK_BYTES))
                await loop.run_in_executor(None, f.write, payload)
                left, index = left - len(payload), index + 1
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, path)
    except OSError as e:
        raise LocalError(f"cannot write {path}: {e.strerror}") from e
    finally:
        part.unlink(missing_ok=True)


def lengths_of(message: dict[str, Any]) -> tuple[int, ...]:
    """The public lengths in a request. Raises PeerError if they are none."""
    lengths = message.get("lengths")
    if not isinstance(lengths, list) or not lengths or len(lengths) > 4096:
        raise PeerError("the other side asks for a run without saying its lengths")
    if any(type(n) is not int or n < 1 for n in lengths):
        raise PeerError("the other side gives a length that is no positive number")
    return tuple(lengths)


@dataclass(slots=True)
class DealerService:
    """Serves one owner and the clients that it names. Tapes wait in the dealer's home until they are fetched."""

    home: Home
    owner: str
    clients: tuple[str, ...]
    kernels: Kernels = field(repr=False)

    async def serve(self, listener: Listener) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                channel = await listener.accept()
                group.create_task(self._serve(channel))

    async def _serve(self, channel: Channel) -> None:
        link = Link(channel)
        try:
            while (request := await link.request("a request")) is not None:
                await self._answer(link, channel.peer, request)
        except PeerError as e:
            log.info("%s: %s", channel.peer[:12], e)
        except RoundelayError as e:
            log.warning("%s: %s", channel.peer[:12], e)
            await link.error(str(e))
        finally:
            await channel.aclose()

    async def _answer(self, link: Link, peer: str, request: dict[str, Any]) -> None:
        ask = request.get("ask")
        if ask == "key" and peer == self.owner:
            key = self.home.ledger.model_key(str(request.get("model")), self._client(str(request.get("client"))))
            await link.control({"key": key.id, "seed": key.seed.hex()})
        elif ask == "deal" and peer == self.owner:
            await self._deal(link, request)
        elif ask == "tape" and peer in self.clients:
            await self._hand_out(link, peer, str(request.get("tape")))
        else:
            raise PeerError("this key may not ask that of the dealer")

    def _client(self, client: str) -> str:
        if client not in self.clients:
            raise InputError(f"client {client[:12]} is not one that this dealer serves: start it with --client")
        return client

    async def _deal(self, link: Link, request: dict[str, Any]) -> None:
        public = PublicModel.from_json(str(request.get("model")), "the model in the request")
        key = self.home.ledger.key(str(request.get("key")))
        if key.model != public.digest:
            raise InputError("the model changed since its key was made: pair the client again")
        plan = public.plan(lengths_of(request))
        start, folder = time.perf_counter(), self._waiting(key.client)
        work = asyncio.to_thread(deal_files, plan, key, self.kernels, (folder, folder))
        tape_id, (_, path1) = await _alive(link, work)
        try:
            seconds = time.perf_counter() - start
            await link.control({"tape": tape_id.hex(), "size": path1.stat().st_size, "seconds": seconds})
            await send_file(link, path1)
        finally:
            path1.unlink(missing_ok=True)

    def _waiting(self, client: str) -> Path:
        return self.home.tapes / client

    async def _hand_out(self, link: Link, client: str, tape: str) -> None:
        path = self._waiting(client) / f"{tape}.p0"
        if len(tape) != 32 or not tape.isalnum() or not path.exists():
            raise InputError(f"no tape {tape[:12]} waits for this client")
        await link.control({"size": path.stat().st_size})
        await send_file(link, path)
        path.unlink(missing_ok=True)


async def _alive(link: Link, work: Any) -> Any:
    """Await long work, telling the peer every few seconds that it goes on, so that its deadline measures silence."""
    task = asyncio.ensure_future(work)
    while True:
        done, _ = await asyncio.wait([task], timeout=5)
        if done:
            return task.result()
        await link.control({"busy": True})


@dataclass(slots=True)
class DealerClient:
    """A party's side of the service."""

    link: Link

    async def key(self, model: str, client: str) -> ModelKey:
        """The model key of a client (owner only)."""
        await self.link.control({"ask": "key", "model": model, "client": client})
        reply = await self.link.message("a model key from the dealer")
        try:
            return ModelKey(str(reply["key"]), model, client, bytes.fromhex(reply["seed"]))
        except (KeyError, ValueError, TypeError):
            raise PeerError("the dealer sent no model key") from None

    async def deal(self, public: PublicModel, key: str, lengths: Sequence[int], home: Home) -> tuple[bytes, float]:
        """Have one run dealt and keep P1's tape (owner only). Returns the tape id and the dealer's seconds."""
        size = tape_size(public.plan(lengths), 1)
        await self.link.control({"ask": "deal", "model": public.to_json(), "key": key, "lengths": list(lengths)})
        while (reply := await self.link.message("tapes from the dealer")).get("busy"):
            continue
        tape_id = _tape_id(reply)
        _check_size(reply, size)
        await receive_file(self.link, home.tape(tape_id, 1), size, "a tape from the dealer")
        return tape_id, float(reply.get("seconds", 0.0))

    async def fetch(self, tape_id: bytes, plan: Plan, home: Home) -> None:
        """P0's tape of a run (client only)."""
        await self.link.control({"ask": "tape", "tape": tape_id.hex()})
        reply = await self.link.message("a tape from the dealer")
        _check_size(reply, tape_size(plan, 0))
        await receive_file(self.link, home.tape(tape_id, 0), tape_size(plan, 0), "a tape from the dealer")

    async def close(self) -> None:
        await self.link.bye()
        await self.link.channel.aclose()


def _tape_id(reply: dict[str, Any]) -> bytes:
    try:
        tape = bytes.fromhex(reply["tape"])
    except (KeyError, ValueError, TypeError):
        tape = b""
    if len(tape) != 16:
        raise PeerError("the other side named no tape")
    return tape


def tape_size(plan: Plan, party: int) -> int:
    """Bytes of a tape file."""
    return HEADER_BYTES + plan.tape_bytes[party] + TRAILER_BYTES


def _check_size(reply: dict[str, Any], size: int) -> None:
    if reply.get("size") != size:
        raise PeerError(f"the dealer announced a tape of {reply.get('size')} bytes where the plan needs {size}")
