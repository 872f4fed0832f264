"""A file imports from rows above its own, or from its own row; no cycles. The table is that of the design."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Row by module, or by package with everything in it; the longest name that fits decides. A dot: what is in the package
# and not named elsewhere. What has no name here belongs to the async shell, row 5.
ROWS = {
    0: "errors ring buffers",
    1: "kernels",
    2: "fss spec graph expr wires variants",
    3: "gates tape",
    4: "linear basis fuse narrow parameters clear dealer party cost choices "
    "scheduler scheduler.rounds scheduler.plan scheduler.frames scheduler.steps scheduler.walk "
    "models models.shapes models.bert models.gpt2 models.llama models.layers",
    5: "models. scheduler.executor scheduler.timeline scheduler.link scheduler.mail scheduler.shelf",
    6: "testing bench report cli",
}
APART = ("engine.transport", "simulators")
SIMULATORS_MAY = (
    {"engine.errors", "engine.cost", "engine.transport.linkmodel", "engine.transport.framing"}
    | {f"engine.scheduler.{name}" for name in ("rounds", "plan", "frames", "steps", "walk", "pieces", "timeline")}
    | {"engine.transport", "engine.graph", "engine.fuse", "engine.gates.polynomial", "engine.kernels.interface"}
)  # what plans consist of
SHELL = {"asyncio", "socket", "ssl", "selectors", "subprocess", "threading", "uvloop", "zmq", "nacl"}
"""What only the async shell (row 5 and transport) may touch."""


@cache
def modules() -> dict[str, Path]:
    found = {}
    for top in ("engine", "simulators"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """Full names that a file imports when it runs: modules of the package where they are, else as written."""
    names: set[str] = set()
    for node in _running(ast.parse(modules()[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}: imports are absolute"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = {name for name in whole if name in modules()}
            names |= inner or {node.module}
    return frozenset(names - {module})


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes outside `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _running(node)


def row(module: str) -> int | None:
    """The row of a module of engine; None for what stands apart, and for the empty package itself."""
    if module == "engine" or module.startswith(APART):
        return None
    name, best, found = module.removeprefix("engine."), "", 5
    for number, entries in ROWS.items():
        for entry in entries.split():
            fits = name == entry.rstrip(".") or (name + ".").startswith(entry.rstrip(".") + ".")
            exact = entry.endswith(".") and name == entry.rstrip(".")
            if fits and not exact and len(entry) > len(best):
                best, found = entry, number
    return found


def test_the_table_reads_as_meant() -> None:
    expected = {"engine.errors": 0, "engine.kernels.numpy_dpf": 1, "engine.graph": 2, "engine.gates.gelu": 3,
                "engine.clear": 4, "engine.models.bert": 4, "engine.models": 4, "engine.models.weights": 5,
                "engine.scheduler.plan": 4, "engine.scheduler.executor": 5, "engine.session": 5,
                "engine.testing.check": 6, "engine.transport.memory": None}  # fmt: skip
    assert {m: row(m) for m in expected} == expected
    assert len(modules()) > 60 and "engine.ring" in imports("engine.dealer")


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith("engine")])
def test_imports_go_up(module: str) -> None:
    mine = row(module)
    for name in imports(module) & modules().keys():
        theirs = row(name)
        if mine is not None and theirs is not None:
            assert theirs <= mine, f"{module} (row {mine}) imports {name} (row {theirs})"


@pytest.mark.parametrize("module", [m for m in modules() if m.startswith("engine.gates")])
def test_gates_know_no_schedule_no_wire_and_no_loop(module: str) -> None:
    above = tuple(f"engine.{name}" for name in ("errors", "ring", "fss", *ROWS[2].split(), "gates"))
    for name in imports(module):
        assert not name.startswith("engine") or name.startswith(above), f"{module} imports {name}"
        assert name.partition(".")[0] not in SHELL, f"{module} imports {name}"


def test_only_the_shell_does_input_and_output() -> None:
    for module in modules():
        below = row(module)
        if below is not None and below <= 4:
            touched = {name.partition(".")[0] for name in imports(module)} & SHELL
            assert not touched, f"{module} (row {below}) imports {touched}"


def test_transport_knows_bytes_only() -> None:
    for module in (m for m in modules() if m.startswith("engine.transport")):
        for name in (n for n in imports(module) if n.startswith("engine")):
            assert name == "engine.errors" or name.startswith("engine.transport"), f"{module} imports {name}"


def test_transport_is_used_by_the_shell_only() -> None:
    for module in modules():
        below = row(module) if module.startswith("engine") else None
        if below is not None and below < 5:
            used = [name for name in imports(module) if name.startswith("engine.transport")]
            assert not used, f"{module} (row {below}) imports {used}"


def test_simulators_read_plans_costs_and_the_link_model() -> None:
    for module in (m for m in modules() if m.startswith("simulators")):
        for name in (n for n in imports(module) if n.startswith("engine")):
            assert name in SIMULATORS_MAY, f"{module} imports {name}"


def test_the_engine_does_not_know_its_simulators_below_the_command_line() -> None:
    for module in (m for m in modules() if m.startswith("engine") and row(m) != 6):
        assert not any(name.startswith("simulators") for name in imports(module)), module


def test_no_cycles() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for name in sorted(imports(module) & modules().keys()):
                visit(name, (*path, module))
            done.add(module)

    for module in modules():
        visit(module, ())


BARE = """
import importlib, sys
for name in ("zmq", "uvloop", "nacl"):
    sys.modules[name] = None
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_what_imports_without_pyzmq_uvloop_and_pynacl() -> None:
    wanted = ["engine.transport.memory", "engine.transport.wan", "engine.kernels"]
    wanted += [m for m in modules() if m.startswith(("engine.testing", "engine.gates", "engine.bench", "simulators"))]
    done = subprocess.run([sys.executable, "-c", BARE, *wanted], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
