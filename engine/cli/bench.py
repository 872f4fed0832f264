"""`bench`: measured times of gates and models on this machine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import click
from rich.table import Table

from engine.bench.folder import Job
from engine.bench.recorded import recorded
from engine.bench.report import BenchReport
from engine.bench.runner import bench as run_bench
from engine.bench.workloads import WORKLOADS, build_workload
from engine.cli.calibrate import find_device
from engine.cli.common import Output, console, json_option, network_option, progress, size, text_errors
from engine.cli.reporting import Reports, live_option, report_options
from engine.errors import InputError
from engine.report.live import LiveView
from engine.report.recording import Recording, Side, beside
from engine.run import Progress
from engine.transport.multiplex import MOST_STREAMS
from engine.variants import parse
from simulators.profiles import Network
from simulators.replay import predict

__all__ = ["bench"]


@click.command(epilog=f"Workloads: {', '.join(WORKLOADS)}.")
@click.argument("workload")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1), help="Each with a fresh pair of tapes.")
@click.option("--tokens", default=128, show_default=True, type=click.IntRange(1), help="Length of a model's input.")
@click.option("--transport", default="tcp", show_default=True, help="tcp, zeromq, memory, or one of your own.")
@click.option("--overlap/--no-overlap", default=True, help="Barrier after every round with --no-overlap.")
@click.option(
    "--concurrent",
    default=1,
    show_default=True,
    type=click.IntRange(1, MOST_STREAMS),
    help="Requests at the same time on one channel, with a pair of tapes each.",
)
@click.option(
    "--pin/--no-pin", default=True,
    help="Each party keeps to its half of the processors, as on a machine of its own; with --no-pin both use all.",
)  # fmt: skip
@click.option(
    "--most-stolen", type=click.FloatRange(0, 100), metavar="PERCENT",
    help="Repeat runs, up to 5 times as many, in which the host of this virtual machine took more processor time.",
)  # fmt: skip
@click.option("--variants", default="default", show_default=True, help="Of the plan: bands=2,frame=262144,exp=leaf ...")
@network_option("each of the two processes delays what it sends.")
@click.option("--check", is_flag=True, help="First run in the clear, every bound checked.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where weights and tapes lie meanwhile. [default: the system's temporary folder]",
)  # fmt: skip
@live_option
@report_options
@json_option
@text_errors
def bench(
    workload: str, runs: int, tokens: int, transport: str, overlap: bool, concurrent: int, pin: bool,
    most_stolen: float | None, variants: str,
    network: Network | None, check: bool, folder: Path | None, live: bool, report: Path | None, trace: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure WORKLOAD: a dealer writes tapes to disk, then two processes run over loopback.

    Counted are a gate from masked input to opened result, or a model's layers from embedded input to last norm; how
    input and output travel is in the totals (docs/benchmarks.md). With --transport memory both parties share one
    process, and so the processor.
    """
    built = build_workload(workload, tokens, parse(variants))
    console.print(f"{built.what} ...", highlight=False)
    job = Job(transport, overlap, network=network, concurrent=concurrent, pinned=pin)
    reports = Reports(report, trace)
    with LiveView(console) if live else nullcontext() as view, _bar(live) as bar:
        share = None if most_stolen is None else most_stolen / 100
        found = run_bench(built, runs, job, folder, bar, check, bool(reports), live=view, most_stolen=share)
    Output(as_json).result(found.as_dict(), _costs(found), _times(found), _where(found), _accuracy(found))
    if reports:
        reports.write(_foretold(recorded(found), found))


def _bar(live: bool) -> AbstractContextManager[Progress | None]:
    """Of the runs, unless a live view shows them."""
    return nullcontext() if live else progress("running", "runs")


def _foretold(recording: Recording, report: BenchReport) -> Recording:
    """With a prediction beside it, where a network is emulated that one can be made for."""
    if report.job.network is None:
        return recording
    try:
        device = find_device(None)
        told = predict(
            report.plan, report.job.network, device, report.job.overlap, transport=report.job.transport, emulated=True
        )
    except InputError as error:
        console.print(f"without a prediction: {error}", highlight=False)
        return recording
    sides = (Side.of(told.timelines[0]), Side.of(told.timelines[1]))
    return beside(recording, sides, f"{told.online:.3f} s on {device.name}")


def _costs(report: BenchReport) -> Table:
    table = Table("", "rounds", "P0 sends", "P1 sends", "in prepare", "tape P0", "tape P1", title=report.workload.what)
    c, data = report.counted, report.as_dict()
    table.add_row("counted", *_cost_cells(c.rounds, c.online, c.prepare, c.tape))
    whole = (data["rounds"], data["bytes_sent"], data["prepare_bytes"], data["tape_bytes"])
    table.add_row("whole run", *_cost_cells(*whole), style="dim")
    return table


def _cost_cells(rounds: int, online: Any, prepare: Any, tape: Any) -> list[str]:
    return [str(rounds), *(size(b) for b in online), size(sum(prepare)), *(size(b) for b in tape)]


def _times(report: BenchReport) -> Table:
    table = Table("", "median", "least", "most", title=f"seconds over {len(report.runs)} runs, {_how(report)}")
    for name, label in _LABELS.items():
        values = report.seconds(name)
        table.add_row(label, *(f"{v:.3f}" for v in (median(values), min(values), max(values))))
    for phase in ("prepare", "online"):
        medians = report.medians(lambda p, phase=phase: p["cpu"][phase])  # type: ignore[misc]
        table.add_row(f"processor, {phase}", " / ".join(f"{v:.3f}" for v in medians))
    if report.job.concurrent > 1:
        rates = [report.job.concurrent / s for s in report.seconds("online")]
        table.add_row("requests a second", *(f"{v:.3f}" for v in (median(rates), min(rates), max(rates))))
    stolen = [r.stolen for r in report.runs if r.stolen is not None]
    if stolen:
        table.add_row("taken by the host", *(f"{v:.1%}" for v in (median(stolen), min(stolen), max(stolen))))
    if report.repeated:
        table.add_row("runs left out for that", str(report.repeated))
    peaks = report.medians(lambda p: p["peak"])
    table.add_row("peak anonymous memory", " / ".join(size(v) for v in peaks))
    return table


_LABELS = {
    "deal": "deal", "open": "open tapes", "prepare": "prepare", "online": "online, whole", "counted": "online, counted",
}  # fmt: skip


def _how(report: BenchReport) -> str:
    sides = "both parties in one process" if report.one_process else f"two processes over {report.job.transport}"
    behind = f" behind {report.job.network.name}" if report.job.network else ""
    shared = "" if report.one_process or report.job.pinned else ", processors shared"
    return sides + behind + shared + ("" if report.job.overlap else ", a barrier after every round")


def _where(report: BenchReport) -> Table:
    """Processor time by kernel and busy time by lane, online, of the last run."""
    table = Table("online, last run", "P0", "P1")
    for kind in ("kernels", "lanes"):
        sides = report.runs[-1].pair(kind)
        for name in sorted(set().union(*sides), key=lambda n: -max(s.get(n, 0.0) for s in sides)):
            table.add_row(f"{kind[:-1]} {name}", *(f"{s.get(name, 0.0):.3f} s" for s in sides))
        table.add_section()
    return table


def _accuracy(report: BenchReport) -> str:
    a = report.accuracy
    return f"error against float64: largest {a.max_error:.3g}, mean {a.mean_error:.3g}; cosine {min(a.cosines):.6f}"
