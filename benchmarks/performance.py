"""python -m benchmarks.performance: the tables of docs/performance.md, measured here and now, in one command.

Limits of the machine first, then every workload: what bounds each phase and lane, its floor at those limits, and how
far from it the processor time (deal, prepare, online) and the busy time (lanes) are. Then overlap and growth, unless
left out. With --page the tables replace those of the page.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import click
from rich.console import Console

from benchmarks.floors import Floor, Rates, floors, measure_rates
from benchmarks.markdown import show, span, written
from engine.bench.folder import Job
from engine.bench.report import BenchReport
from engine.bench.runner import TRIES, bench
from engine.bench.workloads import build_workload
from engine.cli.common import text_errors

WORKLOADS = (
    "compare-1e5", "compare-1e6", "relu-1e6", "gelu-1e5", "gelu-1e6", "softmax-128x128", "layernorm-128x768",
    "matmul-128x768x3072", "block-bert-base", "bert-tiny", "minilm", "bert-base", "gpt2", "bert-large",
)  # fmt: skip
LANES = ("evaluate", "prefetch", "send", "receive")
PHASES = ("workload", "phase", "party", "bound by", "floor", "measured", "times the floor")
TIMES = ("workload", "rounds", "deal", "open", "prepare", "online", "online, counted", "processor, online", "peak, MB",
         "largest error", "taken by the host")  # fmt: skip
LEAST = 1e-4
"""Seconds below which a floor is not worth a row."""
console = Console(stderr=True)


def phase_rows(report: BenchReport, rates: Rates) -> Iterator[list[str]]:
    """Of each phase and lane, for the party that is further from its floor in seconds."""
    for name, pair in floors(report.plan).items():
        rows = [_measured(report, name, p) for p in (0, 1)]
        party = max((0, 1), key=lambda p: rows[p] - pair[p].seconds(rates))
        if pair[party].seconds(rates) >= LEAST or rows[party] >= 10 * LEAST:
            who = "dealer" if name == "deal" else f"P{party}"
            yield [report.workload.name, name, who, *_cells(pair[party], rates, rows[party])]


def _cells(floor: Floor, rates: Rates, measured: float) -> list[str]:
    least = floor.seconds(rates)
    times = f"{measured / least:.1f}" if least >= LEAST else ""
    return [floor.bound(rates) if least >= LEAST else "", f"{least:.4f}", f"{measured:.4f}", times]


def _measured(report: BenchReport, name: str, party: int) -> float:
    """Median over the runs: processor seconds of a phase, seconds that a lane was busy."""
    if name == "deal":
        return median(float(r.dealt["cpu"]) for r in report.runs)
    if name in LANES:
        return median(float(r.parties[party]["lanes"].get(name, 0.0)) for r in report.runs)
    return median(float(r.parties[party]["cpu"][name]) for r in report.runs)


def time_row(report: BenchReport) -> list[str]:
    phases = [f"{median(report.seconds(name)):.3f}" for name in ("deal", "open", "prepare", "online")]
    used = " / ".join(f"{v:.2f}" for v in report.medians(lambda p: p["cpu"]["online"]))
    peak = " / ".join(f"{v / 1e6:.0f}" for v in report.medians(lambda p: p["peak"]))
    rounds = str(report.counted.rounds)
    counted = span(report.seconds("counted"))
    stolen = [r.stolen for r in report.runs if r.stolen is not None]
    taken = f"{median(stolen):.1%}" if stolen else ""
    return [report.workload.name, rounds, *phases, counted, used, peak, f"{report.accuracy.max_error:.2g}", taken]


@click.command()
@click.argument("workloads", nargs=-1)
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1))
@click.option("--tokens", default=128, show_default=True, type=click.IntRange(1))
@click.option("--transport", default="tcp", show_default=True)
@click.option(
    "--most-stolen", type=click.FloatRange(0, 100), metavar="PERCENT",
    help="As of roundelay bench, for the tables of times and floors.",
)  # fmt: skip
@click.option("--overlap/--without-overlap", default=True, help="The benchmark of overlap too.")
@click.option("--growth/--without-growth", default=True, help="The benchmark of growth too.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Write the tables there.")
@text_errors
def main(
    workloads: tuple[str, ...], runs: int, tokens: int, transport: str, most_stolen: float | None, overlap: bool,
    growth: bool, folder: Path | None, page: Path | None,
) -> None:  # fmt: skip
    """Measure WORKLOADS (all that the page shows) beside the limits of this machine."""
    rates = measure_rates()
    console.print(f"limits of one core: {rates}", highlight=False)
    phases, times = [], []
    share = None if most_stolen is None else most_stolen / 100
    for name in workloads or WORKLOADS:
        console.print(f"{name} ...", highlight=False)
        report = bench(build_workload(name, tokens), runs, Job(transport), folder, most_stolen=share)
        phases += list(phase_rows(report, rates))
        times.append(time_row(report))
    chosen = "" if share is None else f" repeated up to {TRIES} times where the host took more than {share:.1%}"
    about = f"{tokens} tokens, {transport}, medians of {runs} runs{chosen}, {os.cpu_count()} cores. One core: {rates}."
    show("times, seconds", TIMES, times)
    show("distance to the floor, seconds", PHASES, phases)
    if page is not None:
        written(page, "times", TIMES, times, about)
        written(page, "floors", PHASES, phases)
    for other in [*(["overlap"] if overlap else []), *(["growth"] if growth else [])]:
        _also(other, runs, transport, folder, page)


def _also(name: str, runs: int, transport: str, folder: Path | None, page: Path | None) -> None:
    """Another benchmark of this folder, with the same options."""
    options = ["--runs", str(runs), "--transport", transport]
    options += [] if folder is None else ["--folder", str(folder)]
    options += [] if page is None else ["--page", str(page)]
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=True)


if __name__ == "__main__":
    main()
