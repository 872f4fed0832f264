"""A benchmark as a recording, for its page and its trace."""

from __future__ import annotations

from typing import Any

from engine.bench.report import BenchReport, Run
from engine.report.recording import RecordedRun, Recording, gate_costs

__all__ = ["recorded"]

SAME = ("rounds", "rounds_per_layer", "bytes_sent", "prepare_bytes", "setup_bytes", "tape_bytes")
"""Fields of --json that are those of every run."""


def recorded(report: BenchReport) -> Recording:
    """Every run with the events of both parties, where `bench` was asked to record them."""
    data, job = report.as_dict(), report.job
    costs = gate_costs(report.plan)
    rates = None if job.network is None else job.network.rates
    runs = tuple(
        RecordedRun(
            f"{i + 1} of {len(report.runs)}",
            costs,
            run.sides,
            _totals(data, i, run),
            tape=run.dealt["tape"],
            rates=rates,
        )
        for i, run in enumerate(report.runs)
    )
    where = "one process" if report.one_process else "two processes over loopback"
    facts = {
        "workload": report.workload.name, "transport": f"{job.transport}, {where}",
        "network": str(job.network) if job.network else "none emulated",
        "overlap": "yes" if job.overlap else "no, a barrier after every round", "runs": str(len(runs)),
        "requests": _requests(report),
        "plan": data["plan"][:16],
    }  # fmt: skip
    return Recording(f"bench {report.workload.name}", report.workload.what, facts, data, runs)


def _totals(data: dict[str, Any], number: int, run: Run) -> dict[str, Any]:
    """The fields of one run; the accuracy is that of the last one's outputs."""
    seconds = {name: values[number] for name, values in data["seconds"].items()}
    last = {"error": data["error"], "cosine": data["cosine"]} if number + 1 == data["runs"] else {}
    peaks = data["peak_anon_bytes"][number]
    return {**{name: data[name] for name in SAME}, "seconds": seconds, "peak_anon_bytes": peaks, **last}


def _requests(report: BenchReport) -> str:
    """How many at a time, and what they shared; the timeline is that of the last request."""
    count, shared = report.job.concurrent, report.runs[-1].parties[0]["shared"]
    if shared is None:
        return "one at a time"
    rounds = report.runs[-1].parties[0]["rounds"]
    return (
        f"{count} at a time, each {rounds} rounds, over one channel: {shared['frames']} frames of the client in "
        f"{shared['messages']} messages (the timeline is the last one's)"
    )
