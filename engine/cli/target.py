"""What a simulation is of: a workload of `bench`, a model, or a bare shape, as a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from engine.bench.workload import Workload
from engine.bench.workloads import WORKLOADS, build_workload
from engine.cli.common import progress
from engine.errors import InputError
from engine.models.bare import BARE, OWNERS, bare_program
from engine.models.calibrate import calibrated, measured
from engine.models.compiled import PUBLIC, public_of, read_public
from engine.models.text import CALIBRATION_TEXTS
from engine.models.weights import PACKAGES, load_model
from engine.scheduler.plan import Plan
from engine.variants import DEFAULT, Variants

__all__ = ["OWNERS", "Target", "shape_target", "target"]


@dataclass(frozen=True, slots=True)
class Target:
    """A plan by name; `workload` where it can also be run."""

    name: str
    plan: Plan
    workload: Workload | None = None


def target(name: str, lengths: Sequence[int], weights: str = "owned", variants: Variants = DEFAULT) -> Target:
    """A workload, a model (a compiled or a Hugging Face folder, or a short name), or else a shape, in this order.
    Raises InputError, with the nearest names, and for weights and variants that it cannot have."""
    if name in WORKLOADS and (weights, variants) == ("owned", DEFAULT) and len(lengths) == 1:
        workload = build_workload(name, lengths[0])
        return Target(name, Plan(workload.program), workload)
    if name in BARE:
        return shape_target(name, lengths, weights, variants)
    if name in PACKAGES or Path(name).is_dir():
        if (weights, variants) != ("owned", DEFAULT):
            raise InputError(f"{name} has owned weights and its own variants: give a --shape to try others")
        return Target(name, _model(name, lengths))
    if name in WORKLOADS:
        raise InputError(f"workload {name} has owned weights, the usual variants and one sequence: give a --shape")
    known = [*WORKLOADS, *PACKAGES, *BARE]
    near = get_close_matches(name, known, 3, 0.4) or known
    raise InputError(f"there is no workload, model or shape {name!r}; did you mean {' or '.join(near)}?")


def shape_target(shape: str, lengths: Sequence[int], weights: str = "owned", variants: Variants = DEFAULT) -> Target:
    """A bare shape with default bounds, from its embedded input. Raises InputError."""
    return Target(shape, Plan(bare_program(shape, lengths, weights, variants)))


def _model(name: str, lengths: Sequence[int]) -> Plan:
    if (Path(name) / PUBLIC).exists():
        return read_public(Path(name)).plan(lengths)
    checkpoint = load_model(name)
    with progress("calibrating", "texts") as bar:
        ranges = calibrated(checkpoint, measured(checkpoint, list(CALIBRATION_TEXTS), bar))
    return public_of(checkpoint, ranges).plan(lengths)
