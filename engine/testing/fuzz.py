"""Fuzz a gate by name, or one's own by `FILE.py:function`: what `roundelay fuzz` runs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from engine.errors import InputError, RoundelayError
from engine.kernels.interface import Kernels
from engine.testing.check import check_spec, is_small
from engine.testing.declare import GateSpec, spec_of
from engine.testing.registry import gates
from engine.testing.report import GateReport

__all__ = ["find_gate", "fuzz", "names"]

T = TypeVar("T")


def names() -> tuple[str, ...]:
    """The gates and composites of the package."""
    return tuple(gates())


def fuzz(
    gate: str, examples: int = 1000, seed: int = 0, *, exhaustive: bool = False, kernels: Kernels | None = None
) -> GateReport:
    """Check the gate called `gate`, or the one that `FILE.py:function` declares, on drawn examples.

    exhaustive: on all values and masks as well, where its inputs are small enough.

    Raises InputError where there is no such gate, or it cannot be traced; what a run finds is in the report."""
    if examples < 1:
        raise InputError(f"at least one example is needed, not {examples}")
    spec = find_gate(gate)

    def check() -> GateReport:
        drawn = check_spec(spec, examples=examples, seed=seed, kernels=kernels)
        if not (exhaustive and is_small(spec)):
            return drawn
        return drawn.joined(check_spec(spec, exhaustive=True, seed=seed, kernels=kernels))

    return check() if gate in gates() else _foreign(gate, check)


def find_gate(gate: str) -> GateSpec:
    """The declaration behind a name or a `FILE.py:function`."""
    if gate in gates():
        return gates()[gate]
    file, colon, function = gate.rpartition(":")
    if not colon:
        known = ", ".join(names())
        raise InputError(f"no gate is called '{gate}': give FILE.py:function, or one of {known}")
    module = _load(Path(file))
    found = getattr(module, function, None)
    if not callable(found):
        raise InputError(f"{file} defines no function '{function}'")
    return spec_of(found, gate)


def _load(path: Path) -> ModuleType:
    if path.suffix != ".py" or not path.is_file():
        raise InputError(f"there is no Python file {path}")
    name = f"roundelay_gate_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and typing look their module up
    _foreign(str(path), lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
    return module


def _foreign(name: str, run: Callable[[], T]) -> T:
    """Run code that its author may have got wrong: its exceptions are the input's fault, and say where."""
    try:
        return run()
    except RoundelayError:
        raise
    except SyntaxError as error:
        raise InputError(f"{error.filename}:{error.lineno}: {error.msg}") from error
    except Exception as error:
        raise InputError(f"{_line(error)}: {name} failed with {type(error).__name__}: {error}") from error


def _line(error: BaseException) -> str:
    """file:line of the innermost frame."""
    at = error.__traceback__
    assert at is not None
    while at.tb_next is not None:
        at = at.tb_next
    return f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}"
