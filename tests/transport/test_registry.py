"""Transports by name, and what may import what."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.transport import registry
from engine.transport.memory import MemoryTransport
from engine.transport.zeromq import ZeromqTransport

TRANSPORT = Path(registry.__file__).parent


def test_our_transports_are_registered() -> None:
    assert {"memory", "zeromq"} <= set(registry.transport_names())
    assert isinstance(registry.open_transport("memory"), MemoryTransport)
    assert isinstance(registry.open_transport("zeromq"), ZeromqTransport)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown transport 'zeromp'; did you mean zeromq"):
        registry.open_transport("zeromp")


def test_a_transport_that_does_not_load_is_the_users_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("pigeon", "engine.transport.pigeon:Pigeon", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [broken])
    with pytest.raises(InputError, match="transport 'pigeon' cannot be loaded"):
        registry.open_transport("pigeon")


@pytest.mark.parametrize("module", sorted(path.stem for path in TRANSPORT.glob("*.py")))
def test_transports_know_nothing_above_them(module: str) -> None:
    tree = ast.parse((TRANSPORT / f"{module}.py").read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    ours = {name for name in imported if name.split(".")[0] in {"engine", "simulators"}}
    assert all(name == "engine.errors" or name.startswith("engine.transport") for name in ours), ours


@pytest.mark.parametrize("module", ["memory", "wan", "framing", "loop", "linkmodel"])
def test_the_core_needs_no_third_party_package(module: str) -> None:
    blocked = "import sys; sys.modules.update(dict.fromkeys(['zmq', 'uvloop', 'nacl', 'numpy']))"
    code = (
        f"{blocked}; import engine.transport.{module}, engine.testing.channels, simulators.clock, simulators.profiles"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
