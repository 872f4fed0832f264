"""python -m benchmarks.overlap [WORKLOAD ...]: how much of computing and of communicating goes on at the same time.

Four times of a workload, in turn, so that a busy neighbour meets them all:

    compute alone    online over the bare loopback, where the network costs next to nothing
    network alone    from the plan: of every round the larger direction's bytes at the bandwidth, and half a round trip
    online           behind the network
    barrier          the same plan with --no-overlap

A perfect overlap takes max(compute, network); none at all their sum. Round trips of 2 ms and more are emulated by the
delayed channel, shorter ones by a shaped link for real TCP between two namespaces, which takes root.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import click
from rich.console import Console

from benchmarks.markdown import show, span, written
from engine.bench.folder import Job
from engine.bench.report import Run
from engine.bench.runner import bench
from engine.bench.workload import Workload
from engine.bench.workloads import build_workload
from engine.cli.common import text_errors
from engine.scheduler.plan import Plan
from engine.variants import Variants, parse
from simulators.profiles import Network, network
from simulators.tunnel import Host, obstacle, tunnel

WORKLOADS = ("block-bert-base", "bert-base", "gelu-1e6")
NETWORKS = ("wan-400m-8ms", "lan-1g")
EXACT = 2e-3
"""Seconds of a round trip from which on the delayed channel is exact enough."""
FRAME = 1 << 18
BANDS, GATE_BANDS = 4, 8
"""Of a model, whose products read their weights once a band, and of a gate alone, which has none."""
HEADINGS = ("workload", "network", "bands", "compute alone", "network alone", "online", "barrier", "online / max",
            "barrier / online", "evaluating P0 / P1", "link busy there / back")  # fmt: skip
console = Console(stderr=True)


def network_alone(plan: Plan, shape: Network) -> float:
    """Seconds that the rounds take if nobody computes anything."""
    total = 0.0
    for call in plan.calls:
        rounds: dict[int, list[int]] = {}
        for o in call.segment.openings:
            for p in o.senders:
                rounds.setdefault(o.round, [0, 0])[p] += o.bytes
        total += sum(shape.delay + max(sent) * 8 / shape.bandwidth for sent in rounds.values())
    return total


@dataclass(slots=True)
class Measured:
    """Online seconds of the slower party, a list entry a run, and the runs behind the network."""

    name: str
    shape: Network
    bands: int
    alone: float
    compute: list[float] = field(default_factory=list)
    online: list[float] = field(default_factory=list)
    barrier: list[float] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    @property
    def to_limit(self) -> list[float]:
        """Of each turn: online over the larger of computing and communicating alone."""
        return [o / max(c, self.alone) for o, c in zip(self.online, self.compute, strict=True)]

    @property
    def gain(self) -> list[float]:
        return [b / o for b, o in zip(self.barrier, self.online, strict=True)]

    def busy(self, lane: str) -> list[float]:
        """Part of the online time that each party's lane was busy, median over the runs."""
        return [median(r.parties[p]["lanes"].get(lane, 0.0) / max(r.pair("online")) for r in self.runs) for p in (0, 1)]

    @property
    def link(self) -> list[float]:
        """Part of the online time that each direction of the link was occupied."""
        bits = [8 * b / self.shape.bandwidth for b in self.runs[0].pair("bytes_sent")]
        return [b / median(self.online) for b in bits]

    def row(self) -> list[str]:
        parts = [f"{a:.2f} / {b:.2f}" for a, b in (self.busy("evaluate"), self.link)]
        times = [span(self.compute), f"{self.alone:.3f}", span(self.online), span(self.barrier)]
        ratios = [f"{median(r):.2f}" for r in (self.to_limit, self.gain)]
        return [self.name, self.shape.name, str(self.bands), *times, *ratios, *parts]


@contextmanager
def between(shape: Network) -> Iterator[tuple[Network | None, tuple[Host, Host] | None]]:
    """What emulates the network: (for the delayed channel, hosts of a shaped link)."""
    if shape.rtt >= EXACT:
        yield shape, None
        return
    with tunnel(shape) as hosts:
        yield None, hosts


def measure(workload: Workload, shape: Network, runs: int, transport: str, folder: Path | None) -> Measured:
    """`runs` turns of three runs each."""
    bands = workload.program.variants.bands
    found = Measured(workload.name, shape, bands, network_alone(Plan(workload.program), shape))

    def once(times: list[float], job: Job, hosts: tuple[Host, Host] | None = None) -> Run:
        run = bench(workload, 1, job, folder, hosts=hosts).runs[0]
        times.append(max(run.pair("online")))
        return run

    for _ in range(runs):
        once(found.compute, Job(transport))
        with between(shape) as (delayed, hosts):
            found.runs.append(once(found.online, Job(transport, network=delayed), hosts))
            once(found.barrier, Job(transport, overlap=False, network=delayed), hosts)
    return found


def possible(shapes: Sequence[Network]) -> list[Network]:
    """Those that can be emulated here; the others are named on stderr."""
    why = obstacle()
    for shape in shapes:
        if why and shape.rtt < EXACT:
            console.print(f"skipped: {shape.name} takes a shaped link, and {why}", highlight=False)
    return [s for s in shapes if not why or s.rtt >= EXACT]


def usual(name: str, tokens: int) -> Workload:
    """In the bands and frames that suit it."""
    built = build_workload(name, tokens, Variants(bands=BANDS, frame=FRAME))
    alone = built.counted == ("gate",)
    return build_workload(name, tokens, Variants(bands=GATE_BANDS, frame=FRAME)) if alone else built


@click.command()
@click.argument("workloads", nargs=-1)
@click.option("--network", "networks", multiple=True, default=NETWORKS, show_default=True)
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1))
@click.option("--tokens", default=128, show_default=True, type=click.IntRange(1))
@click.option("--transport", default="tcp", show_default=True)
@click.option("--variants", help=f"Of the plan. [default: bands={BANDS} or, for a gate, {GATE_BANDS}, frame={FRAME}]")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Write the table there.")
@text_errors
def main(
    workloads: tuple[str, ...], networks: tuple[str, ...], runs: int, tokens: int, transport: str,
    variants: str | None, folder: Path | None, page: Path | None,
) -> None:  # fmt: skip
    """Measure how well WORKLOADS hide the network behind their computation."""
    found = []
    for name in workloads or WORKLOADS:
        built = usual(name, tokens) if variants is None else build_workload(name, tokens, parse(variants))
        for shape in possible([network(n) for n in networks]):
            console.print(f"{name} on {shape} ...", highlight=False)
            found.append(measure(built, shape, runs, transport, folder))
    rows = [m.row() for m in found]
    show(f"overlap, medians of {runs} runs (least to most), seconds, {os.cpu_count()} cores", HEADINGS, rows)
    if page is not None:
        written(page, "overlap", HEADINGS, rows)


if __name__ == "__main__":
    main()
