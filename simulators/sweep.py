"""Predictions over a grid of plans and networks, as rows of a table."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from io import StringIO

from engine.scheduler.plan import Plan
from simulators.device import Device
from simulators.profiles import Network
from simulators.replay import predict

__all__ = ["Case", "Row", "bounds", "sweep", "to_csv"]

INSTANT = Network("instant", 1e18, 0.0)


@dataclass(frozen=True, slots=True)
class Case:
    """One plan of a grid, and what it is called there."""

    model: str
    tokens: int
    weights: str
    variants: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class Row:
    """One prediction. Seconds; bytes online from P0, from P1; compute and wire: with only that taking time."""

    model: str
    tokens: int
    weights: str
    variants: str
    network: str
    online: float
    prepare: float
    compute: float
    wire: float
    rounds: int
    bytes_p0: int
    bytes_p1: int
    link_use: float
    cores_use: float


def bounds(
    plan: Plan, network: Network, device: Device, overlap: bool = True, cores: float | None = None, *,
    transport: str = "tcp",
) -> tuple[float, float]:  # fmt: skip
    """Online seconds with a network that takes no time, and with work that takes none."""
    free = device.free()
    compute = predict(plan, INSTANT, device, overlap, cores, transport=transport).online
    return compute, predict(plan, network, free, overlap, cores, transport=transport).online


def sweep(
    cases: Iterable[Case], networks: Sequence[Network], device: Device, overlap: bool = True,
    cores: float | None = None, *, transport: str = "tcp", progress: Callable[[Row], None] | None = None,
) -> list[Row]:  # fmt: skip
    """Every case on every network, in this order. Raises InputError as `predict` does."""
    rows: list[Row] = []
    for case in cases:
        for network in networks:
            rows.append(_row(case, network, device, overlap, cores, transport))
            if progress is not None:
                progress(rows[-1])
    return rows


def _row(case: Case, network: Network, device: Device, overlap: bool, cores: float | None, transport: str) -> Row:
    p = predict(case.plan, network, device, overlap, cores, transport=transport)
    compute, wire = bounds(case.plan, network, device, overlap, cores, transport=transport)
    return Row(
        case.model, case.tokens, case.weights, case.variants, network.name, p.online, p.prepare, compute, wire,
        p.rounds, *p.bytes_sent, max(p.link_use), p.cores_use,
    )  # fmt: skip


def to_csv(rows: Iterable[Row]) -> str:
    """With a line of names first; times in seconds, with microseconds."""
    out = StringIO()
    names = [f.name for f in fields(Row)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        values = (getattr(row, name) for name in names)
        writer.writerow([f"{v:.6f}" if isinstance(v, float) else v for v in values])
    return out.getvalue()
