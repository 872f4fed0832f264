"""What a benchmark found: per run its times and sizes; over the runs medians and extremes; as a table and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from engine.bench.folder import Job, private_weights
from engine.bench.workload import Workload
from engine.cost import Cost, by_layer, total
from engine.report.recording import Sides
from engine.result import Accuracy
from engine.ring import packed_bytes
from engine.scheduler.plan import Plan

__all__ = ["BenchReport", "Run"]

Report = dict[str, Any]
Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `parties` are the reports of P0 and P1, `dealt` the dealer's; `sides` what they recorded, if asked;
    `stolen` the share of processor time that the host took, if the system tells."""

    dealt: Report = field(repr=False)
    parties: tuple[Report, Report] = field(repr=False)
    sides: Sides = field(default=(None, None), repr=False)
    stolen: float | None = None

    @staticmethod
    def of(dealt: Report, parties: Sequence[Report], sides: Sides = (None, None), stolen: float | None = None) -> Run:
        return Run(dealt, (parties[0], parties[1]), sides, stolen)

    def pair(self, name: str) -> list[Any]:
        return [p[name] for p in self.parties]

    def seconds(self, calls: Sequence[str], counted: Sequence[str]) -> dict[str, float]:
        """Of the slower party. `counted`: from when the first party knows the input of the counted calls, or of their
        first band, waiting for their tape included, until the last one is through with them."""
        before = calls[calls.index(counted[0]) - 1]
        start = min(min(p["calls"][before][1], p["calls"][counted[0]][0]) for p in self.parties)
        stop = max(p["calls"][name][1] for p in self.parties for name in counted)
        alone = {name: max(self.pair(name)) for name in ("open", "prepare", "online")}
        return {"deal": self.dealt["deal"], **alone, "counted": stop - start}


@dataclass(frozen=True, slots=True)
class BenchReport:
    """All runs of a workload, and how good the last one's outputs were. `repeated`: how many others were left out
    because the host took more than the share `most_stolen`, or more than in those that stayed."""

    workload: Workload
    plan: Plan
    job: Job
    runs: tuple[Run, ...]
    accuracy: Accuracy
    most_stolen: float | None = None
    repeated: int = 0

    @property
    def one_process(self) -> bool:
        return self.job.transport == "memory"

    @property
    def counted(self) -> Cost:
        """Planned figures of the counted calls."""
        return total("counted", [c for c in by_layer(self.plan) if c.name in self.workload.counted])

    def seconds(self, name: str) -> list[float]:
        calls = [c.call.name for c in self.plan.calls]
        return [r.seconds(calls, self.workload.counted)[name] for r in self.runs]

    def per_party(self, value: Callable[[Report], float]) -> list[list[float]]:
        """One list a run: [P0, P1], or [both together] where they share a process."""
        return [[value(p) for p in r.parties[: 1 if self.one_process else 2]] for r in self.runs]

    def medians(self, value: Callable[[Report], float]) -> list[float]:
        """Over the runs, of each party."""
        return [median(values) for values in zip(*self.per_party(value), strict=True)]

    def as_dict(self) -> dict[str, Any]:
        """The fields of a result (docs/results.md); what differs between runs is a list, one entry a run."""
        first, counted = self.runs[0], self.counted
        names = ("deal", "open", "prepare", "online", "counted")
        return {
            "workload": self.workload.name, "what": self.workload.what, "counted_calls": list(self.workload.counted),
            **self.job.as_dict(), "runs": len(self.runs), "one_process": self.one_process,
            "plan": self.plan.digest.hex(), "variants": str(self.plan.program.variants),
            "rounds": first.parties[0]["rounds"],
            "rounds_per_layer": [c.rounds for c in by_layer(self.plan) if c.name.startswith("layer")],
            "bytes_sent": first.pair("bytes_sent"), "prepare_bytes": first.pair("prepare_bytes"),
            "setup_bytes": setup_bytes(self.plan), "tape_bytes": first.pair("tape_bytes"),
            "counted": {"rounds": counted.rounds, "bytes_sent": list(counted.online),
                        "prepare_bytes": list(counted.prepare), "tape_bytes": list(counted.tape)},
            "seconds": {name: self.seconds(name) for name in names},
            "median_seconds": {name: median(self.seconds(name)) for name in names},
            "cpu_seconds": {"deal": [r.dealt["cpu"] for r in self.runs],
                            "prepare": self.per_party(lambda p: p["cpu"]["prepare"]),
                            "online": self.per_party(lambda p: p["cpu"]["online"])},
            "peak_anon_bytes": self.per_party(lambda p: p["peak"]),
            "dealer_peak_anon_bytes": [r.dealt["peak"] for r in self.runs],
            "kernel_seconds": [r.pair("kernels") for r in self.runs],
            "lane_seconds": [r.pair("lanes") for r in self.runs],
            "requests_per_second": [self.job.concurrent / s for s in self.seconds("online")],
            "shared": [r.pair("shared") for r in self.runs],
            "stolen": [r.stolen for r in self.runs], "most_stolen": self.most_stolen, "repeated": self.repeated,
            "layers": [c.as_dict() for c in by_layer(self.plan)],
            **self.accuracy.as_dict(),
        }  # fmt: skip


def setup_bytes(plan: Plan) -> int:
    """W_hat, sent once a model, at the width of its masks."""
    rings = private_weights(plan)
    sizes = {c.call.prefix + n.text("name"): n.type.size for c in plan.calls for n in c.segment.graph.weights()}
    return sum(packed_bytes(sizes[name], ring) for name, ring in rings.items())
