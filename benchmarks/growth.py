"""python -m benchmarks.growth: how a BERT-base block grows with the number of tokens, and which parts of it grow how.

Online times at several lengths are split, by least squares of relative errors, into a constant part (rounds, steps),
one that is linear in the tokens (products with weights, norms, activations) and a quadratic one (scores, softmax). What
each gate's evaluation takes, and with which power of the length it grows, stands beside it. Bytes and tape of every run
equal the plan's, or the benchmark fails.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import click
import numpy as np
from rich.console import Console

from benchmarks.markdown import show, span, written
from engine.bench.folder import Job
from engine.bench.report import BenchReport
from engine.bench.runner import bench
from engine.bench.workloads import build_workload
from engine.cli.common import text_errors
from engine.cost import plan_cost
from engine.errors import LocalError

LENGTHS = (64, 128, 256, 512)
POWERS = (0, 1, 2)
PARTS = ("constant", "linear", "quadratic")
HEADINGS = ("tokens", "online", *PARTS, "P0 and P1 send", "tapes", "processor P0 / P1")
GATE_HEADINGS = ("gate", "grows as", *(f"{n} tokens" for n in LENGTHS))
console = Console(stderr=True)


def split(lengths: Sequence[int], values: Sequence[float]) -> tuple[float, ...]:
    """Coefficients >= 0 of 1, S and S^2 whose sum is nearest to the values, relative to each.

    Of all sets of parts the one with the least error whose coefficients are not negative."""
    size, target = np.asarray(lengths, float), np.asarray(values, float)
    best, coefficients = float("inf"), (0.0,) * len(POWERS)
    for mask in range(1, 1 << len(POWERS)):
        used = [p for p in POWERS if mask >> p & 1]
        basis = np.stack([size**p / target for p in used], 1)
        found = np.linalg.lstsq(basis, np.ones_like(target), rcond=None)[0]
        error = float(np.square(basis @ found - 1).sum())
        if found.min() >= 0 and error < best - 1e-12:
            best = error
            coefficients = tuple(float(found[used.index(p)]) if p in used else 0.0 for p in POWERS)
    return coefficients


def power(lengths: Sequence[int], values: Sequence[float]) -> float:
    """The exponent with which the values grow."""
    slope, _ = np.polyfit(np.log(lengths), np.log(values), 1)
    return float(slope)


def check(report: BenchReport) -> None:
    """Bytes and tape are the plan's. Raises LocalError."""
    cost, data = plan_cost(report.plan), report.as_dict()
    for name, planned in (("bytes_sent", cost.online), ("prepare_bytes", cost.prepare), ("tape_bytes", cost.tape)):
        if data[name] != list(planned):
            raise LocalError(f"{report.workload.what}: {name} is {data[name]} where the plan has {list(planned)}")


def gate_seconds(report: BenchReport) -> dict[str, float]:
    """Of each gate, seconds that the slower of the two parties evaluated for it online; median over the runs."""
    found: dict[str, list[float]] = {}
    for run in report.runs:
        sides: list[dict[str, float]] = []
        for side in run.sides:
            assert side is not None, "runs are recorded"
            sums: dict[str, float] = {}
            for e in side.events:
                if e.lane == "evaluate" and e.gate:
                    sums[e.gate] = sums.get(e.gate, 0.0) + e.stop - e.start
            sides.append(sums)
        for gate in sides[0].keys() | sides[1].keys():
            found.setdefault(gate, []).append(max(side.get(gate, 0.0) for side in sides))
    return {gate: median(times) for gate, times in found.items()}


def gate_rows(lengths: Sequence[int], reports: Sequence[BenchReport]) -> list[list[str]]:
    """Gates by time at the greatest length, with the power at which their time grows."""
    times = [gate_seconds(r) for r in reports]
    gates = sorted(set.intersection(*(set(t) for t in times)), key=lambda g: -times[-1][g])
    return [
        [g, f"S^{power(lengths, [t[g] for t in times]):.1f}", *(f"{t[g]:.4f}" for t in times)]
        for g in gates
        if times[-1][g] >= 0.001
    ]


def time_rows(lengths: Sequence[int], reports: Sequence[BenchReport]) -> list[list[str]]:
    """One row a length: measured, and the parts of the split."""
    online = [r.seconds("online") for r in reports]
    parts = split(lengths, [median(times) for times in online])
    rows = []
    for n, times, report in zip(lengths, online, reports, strict=True):
        cost = plan_cost(report.plan)
        shares = [f"{c * n**p:.3f}" for p, c in zip(POWERS, parts, strict=True)]
        used = " / ".join(f"{v:.2f}" for v in report.medians(lambda p: p["cpu"]["online"]))
        sizes = [" / ".join(f"{b / 1e6:.1f} MB" for b in pair) for pair in (cost.online, cost.tape)]
        rows.append([str(n), span(times), *shares, *sizes, used])
    return rows


@click.command()
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1))
@click.option("--workload", default="block-bert-base", show_default=True)
@click.option("--transport", default="tcp", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Write the tables there.")
@text_errors
def main(runs: int, workload: str, transport: str, folder: Path | None, page: Path | None) -> None:
    """Measure WORKLOAD at 64, 128, 256 and 512 tokens."""
    reports = []
    for n in LENGTHS:
        console.print(f"{workload}, {n} tokens ...", highlight=False)
        reports.append(bench(build_workload(workload, n), runs, Job(transport), folder, record=True))
        check(reports[-1])
    times, gates = time_rows(LENGTHS, reports), gate_rows(LENGTHS, reports)
    about = f"{workload}, medians of {runs} runs (least to most), seconds, {os.cpu_count()} cores"
    show(f"growth: {about}", HEADINGS, times)
    show("evaluation by gate, the slower party", GATE_HEADINGS, gates)
    if page is not None:
        written(page, "growth", HEADINGS, times, about)
        written(page, "growth by gate", GATE_HEADINGS, gates)


if __name__ == "__main__":
    main()
