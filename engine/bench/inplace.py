"""What pieces of work do not show: how much longer they take in two processes that run together, and how long a process
takes to wake. Both are measured in runs, against what is predicted for them."""

from __future__ import annotations

from dataclasses import replace

from engine.bench.folder import Job
from engine.bench.report import BenchReport
from engine.bench.runner import bench
from engine.bench.workloads import build_workload
from engine.scheduler.plan import Plan
from simulators.device import Device
from simulators.profiles import Network
from simulators.replay import predict

__all__ = ["in_place"]

LOOPBACK, NEAR = Network("loopback", 40e9, 50e-6), Network("near", 1e9, 8e-3)
LANES = ("evaluate", "prefetch", "send", "receive")


def in_place(pieces: Device) -> Device:
    """The device as runs find it."""
    return _woken(pieces.scaled(_longer(pieces)))


def _longer(device: Device) -> float:
    """Processor seconds of both parties in a block over the loopback, over those that are predicted."""
    workload = build_workload("block-bert-base", 128)
    measured = _least(bench(workload, 2, Job("tcp")))
    foretold = predict(Plan(workload.program), LOOPBACK, device)
    return measured / sum(line.seconds(lane) for line in foretold.timelines for lane in LANES)


def _least(report: BenchReport) -> float:
    used: float = min(sum(party["cpu"]["online"] for party in run.parties) for run in report.runs)
    return used


def _woken(device: Device) -> Device:
    """With what every round takes longer than predicted, where there is little to compute: the processes sleep until a
    message is in."""
    workload = build_workload("bert-tiny", 16)
    measured = min(bench(workload, 3, Job("tcp", network=NEAR)).seconds("online"))
    foretold = predict(Plan(workload.program), NEAR, device, emulated=True)
    return replace(device, wake=max(measured - foretold.online, 0.0) / foretold.rounds)
