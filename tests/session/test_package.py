"""`import engine` is light; `engine.connect` and `engine.pair` work as the README says, over real ZeroMQ."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import engine
from engine.dealing import DealerService, dealing
from engine.errors import InputError, PeerRefused, PeerTimeout
from engine.home import Home
from engine.kernels import get_kernels
from engine.models.compiled import CompiledModel
from engine.models.reference import answer
from engine.owner import OwnerService
from engine.transport.channel import ChannelOptions
from engine.transport.registry import open_transport
from tests.session.stage import checkpoint, ids

TEXTS = ["the dog ran", "a red cat sat on the mat"]


def test_importing_the_package_loads_neither_zeromq_nor_numpy() -> None:
    code = (
        "import engine, sys; assert not {'zmq', 'numpy', 'uvloop', 'nacl'} & set(sys.modules); "
        "print(engine.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == engine.__version__


def test_names_that_are_not_there() -> None:
    with pytest.raises(AttributeError, match=r"module 'engine' has no attribute 'conect'"):
        _ = engine.conect  # type: ignore[attr-defined]


def roles(tmp_path: Path) -> list[Home]:
    homes = [Home(tmp_path / role) for role in ("client", "owner", "dealer")]
    for home in homes:
        home.new_identity()
    return homes


async def example(tmp_path: Path, model: CompiledModel, address: str, dealer_address: str, **how: str) -> None:
    """The three roles of the README, each with its own home, in one process."""
    client, owner, dealer = roles(tmp_path)
    keys = {home: home.identity.public for home in (client, owner, dealer)}
    transport = open_transport(how.get("transport", "tcp"))

    def options(home: Home, *peers: Home) -> ChannelOptions:
        return ChannelOptions(identity=home.identity, peers=tuple(keys[p] for p in peers), linger=0.5)

    async with (
        await transport.listen(dealer_address, options(dealer, owner, client)) as at_dealer,
        await transport.listen(address, options(owner, client)) as at_owner,
    ):
        to_dealer = dealing(at_dealer.address, keys[dealer], owner, **how)
        services = [
            asyncio.create_task(DealerService(dealer, keys[owner], (keys[client],), get_kernels()).serve(at_dealer)),
            asyncio.create_task(OwnerService(model, owner, get_kernels(), to_dealer).serve(at_owner)),
        ]
        try:
            await engine.pair(at_owner.address, keys[owner], home=client.path, **how)
            async with engine.connect(
                at_owner.address, home=client.path, dealer=(at_dealer.address, keys[dealer]), **how
            ) as session:
                for texts in (TEXTS, TEXTS[:1]):
                    result = await session.embed(texts)
                    for output, text in zip(result.outputs, texts, strict=True):
                        assert np.abs(output - answer(checkpoint(), ids(text)[0])).max() < 6e-3
            with pytest.raises(InputError, match=r"no pairing in .*: run `roundelay pair` first"):
                async with engine.connect(at_owner.address, home=dealer.path, **how):
                    pass
            with pytest.raises(PeerRefused, match=r"does not list this side's public key"):
                await engine.pair(at_owner.address, keys[owner], home=dealer.path, **how)
            with pytest.raises(PeerRefused, match=r"its public key is another one"):
                await engine.pair(at_owner.address, keys[dealer], home=client.path, **how)
        finally:
            for service in services:
                service.cancel()
            await asyncio.gather(*services, return_exceptions=True)


def test_the_example_over_tcp(tmp_path: Path, small: CompiledModel) -> None:
    asyncio.run(example(tmp_path, small, "tcp://127.0.0.1:*", "tcp://127.0.0.1:*"))


def test_the_example_over_ipc(tmp_path: Path, small: CompiledModel) -> None:
    asyncio.run(example(tmp_path, small, f"ipc://{tmp_path}/o.sock", f"ipc://{tmp_path}/d.sock", transport="zeromq"))


def test_an_absent_owner(tmp_path: Path) -> None:
    client = roles(tmp_path)[0]
    with pytest.raises(PeerTimeout, match=r"waited 0.2 s for an answer from tcp://127.0.0.1:9"):
        asyncio.run(engine.pair("tcp://127.0.0.1:9", "17" * 32, home=client.path, deadline=0.2))
