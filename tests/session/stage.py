"""A small model and the three roles in one process: real services and sessions, over channels in memory."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.dealing import DealerClient, DealerService, Dealing, deal_files
from engine.errors import InputError
from engine.handshake import request
from engine.home import Home
from engine.kernels import get_kernels
from engine.ledger import ModelKey
from engine.models.calibrate import calibrated, measured, quantise
from engine.models.checkpoint import Checkpoint, Pooling, random_checkpoint
from engine.models.compiled import CompiledModel, compile_model
from engine.models.shapes import BertShape
from engine.owner import OwnerService
from engine.pairing import Pairing, find_pairing, receive_pairing
from engine.run import Settings
from engine.scheduler.link import Link
from engine.session import ClientSession
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.memory import memory_pair
from tests.models.make_model import WORDS, tokenizer_json

SHAPE = BertShape(layers=2, heads=2, hidden=16, intermediate=24, vocab=len(WORDS), max_positions=24)
SAMPLES = ["a red cat sat on the mat", "the dog ran", "blue", "", "cat cat cat dog dog red blue a the on on on mat"]
CLIENT, OTHER, OWNER, DEALER = ("c1" * 32, "c2" * 32, "0a" * 32, "de" * 32)
"""Public keys; channels in memory authenticate nobody, so any will do."""


def checkpoint(shape: BertShape = SHAPE, seed: int = 1, pooling: Pooling = "mean") -> Checkpoint:
    """A random model that can read."""
    made = random_checkpoint(shape, seed, pooling="none" if shape.labels else pooling)
    return dataclasses.replace(made, name="small", tokenizer_json=tokenizer_json())


def compiled(model: Checkpoint, folder: Path, texts: list[str] | None = None) -> CompiledModel:
    return compile_model(model, calibrated(model, measured(model, texts or SAMPLES)), quantise(model), folder)


def ids(*sequences: str) -> list[NDArray[np.int64]]:
    """Token ids of texts of the small vocabulary, special tokens included."""
    return [np.array([1, *(WORDS.index(w) for w in s.split()), 2], np.int64) for s in sequences]


class Broken:
    """Kernels of which one fails."""

    def __init__(self, kernels: object, name: str, failure: Exception) -> None:
        self._kernels, self._name, self._failure = kernels, name, failure

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            raise self._failure
        return getattr(self._kernels, name)


@dataclass
class Stage:
    """Homes of the roles and one compiled model; `options` are those of every channel."""

    path: Path
    model: CompiledModel
    options: ChannelOptions = dataclasses.field(default_factory=ChannelOptions)
    clients: tuple[str, ...] = (CLIENT, OTHER)

    def __post_init__(self) -> None:
        self.kernels = get_kernels()
        self.owner, self.dealer = Home(self.path / "owner"), Home(self.path / "dealer")

    def client(self, key: str = CLIENT) -> Home:
        return Home(self.path / f"client-{key[:2]}{self.clients.index(key)}")

    def owner_service(self, dealer: Dealing | None = None, **settings: Any) -> OwnerService:
        return OwnerService(self.model, self.owner, self.kernels, dealer, **settings)

    def dealing(self, asker: str) -> Dealing:
        """A connection to a dealer that serves for as long as it lasts."""

        @contextlib.asynccontextmanager
        async def connection() -> AsyncIterator[DealerClient]:
            service = DealerService(self.dealer, OWNER, self.clients, self.kernels)
            async with served(service.session, asker, DEALER, self.options) as channel:
                link = Link(channel)
                yield DealerClient(link)
                await link.bye()

        return connection

    def key(self, client: str = CLIENT) -> ModelKey:
        """The client's model key, dealt by hand."""
        key = self.dealer.ledger.model_key(self.model.public.digest, client)
        self.owner.ledger.adopt(key)
        return key

    def deal(self, lengths: tuple[int, ...], client: str = CLIENT) -> bytes:
        """Tapes in both homes."""
        folders = (self.client(client).tapes, self.owner.tapes)
        return deal_files(self.model.public.plan(lengths), self.key(client), self.kernels, folders)[0]

    async def pair(self, client: str = CLIENT, owner: OwnerService | None = None) -> tuple[Pairing, int]:
        service = owner or self.owner_service(self.dealing(OWNER))
        async with served(service.session, client, OWNER, self.options) as channel:
            link = Link(channel)
            await link.control(request("owner", "pair"))
            result = await receive_pairing(link, self.client(client), self.kernels)
            await link.bye()
            return result

    async def _paired(self, client: str) -> Pairing:
        try:
            return find_pairing(self.client(client), self.model.public.digest)
        except InputError:
            return (await self.pair(client))[0]

    @contextlib.asynccontextmanager
    async def session(
        self, client: str = CLIENT, owner: OwnerService | None = None, *, from_files: bool = False, overlap: bool = True
    ) -> AsyncIterator[ClientSession]:
        """A paired client's session with the owner."""
        pairing = await self._paired(client)
        service = owner or self.owner_service(None if from_files else self.dealing(OWNER), overlap=overlap)
        async with served(service.session, client, OWNER, self.options) as channel:
            dealer = None if from_files else self.dealing(client)
            settings, home = Settings(overlap=overlap), self.client(client)
            session = ClientSession(Link(channel), pairing, home, pairing.parameters(), self.kernels, dealer, settings)
            try:
                yield session
            finally:
                await session.close()


@contextlib.asynccontextmanager
async def served(
    session: Callable[[Channel], Coroutine[Any, Any, None]], asker: str, server: str, options: ChannelOptions
) -> AsyncIterator[Channel]:
    """The asker's end of a channel whose other end is served; the service ends before the context does."""
    here, there = memory_pair(options, (asker, server))
    service = asyncio.create_task(session(there))
    try:
        yield here
    finally:
        await here.aclose()
        await service
