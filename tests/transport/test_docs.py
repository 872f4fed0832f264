"""The transport that docs/transports.md shows passes the suite that the page recommends."""

from __future__ import annotations

import asyncio
import re
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from engine.testing.channels import ChannelConformance
from engine.transport import registry
from engine.transport.channel import ChannelOptions
from engine.transport.memory import memory_pair
from tests.transport.pairs import CLIENT, LISTENER

PAGE = (Path(__file__).parents[2] / "docs" / "transports.md").read_text()
CHECKS = sorted(name for name in vars(ChannelConformance) if name.startswith("test_"))


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "example"}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/transports.md", "exec"), names)
    return names


@pytest.mark.parametrize("check", CHECKS)
def test_the_example_conforms(example: dict[str, Any], check: str) -> None:
    getattr(example["TestUnix"](), check)()


def test_the_example_is_found_by_name(example: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("unix", "example:UnixTransport", registry.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: example["UnixTransport"])
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    assert isinstance(registry.open_transport("unix"), example["UnixTransport"])


def test_the_page_names_our_transports() -> None:
    assert {"memory", "tcp", "zeromq"} <= set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))


async def test_the_example_seals_a_channel(example: dict[str, Any]) -> None:
    first, second = memory_pair()
    here = example["as_client"](first, CLIENT, LISTENER.public, ChannelOptions())
    there = example["as_listener"](second, LISTENER, [CLIENT.public], ChannelOptions())
    client, listener = await asyncio.gather(here, there)
    async with client as a, listener as b:
        await a.send(b"sealed")
        assert bytes(await b.recv()) == b"sealed" and b.peer == CLIENT.public
