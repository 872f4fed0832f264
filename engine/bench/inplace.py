"""What pieces of work do not show: how much longer they take in two processes that run together, and how long a process
takes to wake. Both are measured in runs, against what is predicted for them.

A piece is timed over and over, so that its code and data are in the processor's caches; in a run it comes once, among
others, and often after a rest. What a call takes grows more by that than what a byte or an AES step takes. So there are
two factors, from two runs: of a block, where size counts, and of a tiny model behind a delay, where calls do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from engine.bench.fit import non_negative
from engine.bench.folder import Job
from engine.bench.report import BenchReport
from engine.bench.runner import bench
from engine.bench.workloads import build_workload
from engine.scheduler.timeline import Timeline
from simulators.device import Device
from simulators.profiles import Network
from simulators.replay import Prediction, predict

__all__ = ["Found", "factors", "in_place"]

LOOPBACK, NEAR = Network("loopback", 40e9, 50e-6), Network("near", 1e9, 8e-3)
LANES = ("evaluate", "prefetch", "send", "receive")
APART = 64.0
"""Processors, so that no job waits for another."""


@dataclass(frozen=True, slots=True)
class Found:
    """Runs of a workload, and what is predicted for them."""

    report: BenchReport
    network: Network

    def told(self, device: Device, cores: float | None = None) -> Prediction:
        emulated = self.report.job.network is not None
        return predict(self.report.plan, self.network, device, cores=cores, emulated=emulated)

    @property
    def used(self) -> float:
        """Processor seconds of both parties online, the least of the runs."""
        used: float = min(sum(party["cpu"]["online"] for party in run.parties) for run in self.report.runs)
        return used

    def foretold(self, device: Device) -> float:
        """Processor seconds of both parties online, as predicted."""
        return sum(_online(line) for line in self.told(device, APART).timelines)


def _online(line: Timeline) -> float:
    """Seconds of work since the online phase began."""
    begin = line.phases["online"][0]
    return sum(e.stop - e.start for e in line.events if e.lane in LANES and e.start >= begin)


def in_place(pieces: Device) -> Device:
    """The device as runs find it."""
    block = Found(bench(build_workload("block-bert-base", 128), 2, Job("tcp"), early=True), LOOPBACK)
    tiny = Found(bench(build_workload("bert-tiny", 16), 3, Job("tcp", network=NEAR), early=True), NEAR)
    return _woken(pieces.scaled(*factors(pieces, (block, tiny))), tiny)


def factors(device: Device, found: tuple[Found, Found]) -> tuple[float, float]:
    """How many times as long as in `device` a call and a unit take: processor time of both runs, explained. Where two
    factors explain nothing, which is where runs were disturbed, one for both."""
    parts = np.array([[f.foretold(device.scaled(1, 0)), f.foretold(device.scaled(0, 1))] for f in found])
    used = np.array([f.used for f in found])
    call, unit = non_negative(parts, used).tolist()
    if min(call, unit) <= 0:
        call = unit = used[0] / parts[0].sum()
    return call, unit


def _woken(device: Device, tiny: Found) -> Device:
    """With what every round takes longer than predicted, where there is little to compute: the processes sleep until a
    message is in."""
    told, measured = tiny.told(device), min(tiny.report.seconds("online"))
    return replace(device, wake=max(measured - told.online, 0.0) / told.rounds)
