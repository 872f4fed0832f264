"""Calibration: this machine as a device for predictions, measured in half a minute."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from engine.bench.companion import Companions
from engine.bench.fit import Fitted, Sample, fit, fitted
from engine.bench.inplace import in_place
from engine.bench.lanes import Line, delayed_costs, frame_costs, lateness, prefetch_costs, step_cost
from engine.bench.lockstep import Lockstep
from engine.bench.samples import sample_plans, small_plan
from engine.kernels import get_kernels
from engine.kernels.interface import Kernels
from engine.transport.registry import transport_names
from simulators.device import Device

__all__ = ["Calibration", "calibrate"]

RUNS = 3
TRANSPORTS = ("memory", "tcp", "zeromq")


@dataclass(frozen=True, slots=True)
class Calibration:
    """The device, and how well its costs explain what was measured, by operation."""

    device: Device
    fitted: tuple[Fitted, ...] = field(repr=False)


def calibrate(
    name: str, workers: int = 1, runs: int = RUNS, progress: Callable[[int, int], None] | None = None
) -> Calibration:
    """Measure this machine with kernels on `workers` threads. Of every piece of work the least of `runs` times counts:
    processor time on one thread, wall-clock time on several."""
    with Companions(_cores(), workers) as companions:
        return _calibrate(name, workers, runs, companions, progress)


def _calibrate(
    name: str, workers: int, runs: int, companions: Companions, progress: Callable[[int, int], None] | None
) -> Calibration:
    kernels = get_kernels(workers=workers)
    clock = time.thread_time if workers == 1 else time.perf_counter
    with ThreadPoolExecutor(1, "evaluate") as thread:  # as in a run: a thread's memory is not the main thread's
        samples, deal = thread.submit(_pieces, kernels, clock, runs, progress).result()
    costs = fit(samples)
    frames: dict[str, Line] = {t: frame_costs(t) for t in TRANSPORTS if t in transport_names()}
    costs["step"] = step_cost(
        small_plan(), kernels, frames["memory"], lambda s: sum(costs[k] * v for k, v in s.work.items())
    )
    cores = companions.parallel()
    pieces = Device(
        name, costs, prefetch_costs(), frames, delayed_costs(frames["tcp"]), 0.0, lateness(), deal, cores, workers,
        kernels.name, _about(),
    )  # fmt: skip
    return Calibration(in_place(pieces), tuple(fitted(samples, costs)))


def _pieces(
    kernels: Kernels, clock: Callable[[], float], runs: int, progress: Callable[[int, int], None] | None
) -> tuple[list[Sample], float]:
    """Samples of every piece of work, and the seconds that dealing takes for a byte of tape."""
    samples: list[Sample] = []
    plans = list(sample_plans())
    dealt, tape = 0.0, 0
    for done, plan in enumerate(plans):
        lockstep = Lockstep(plan, kernels, clock)
        for _ in range(runs):
            lockstep.run()
        samples += lockstep.samples()
        dealt, tape = dealt + lockstep.dealt, tape + sum(plan.tape_bytes)
        if progress is not None:
            progress(done + 1, len(plans))
    return samples, dealt / tape


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _about() -> str:
    """What the machine is, without its name."""
    return f"{_model() or platform.machine()}, {_cores()} cores, Python {platform.python_version()}"


def _model() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            lines = [line for line in file if line.startswith("model name")]
    except OSError:
        return ""
    return lines[0].partition(":")[2].strip() if lines else ""
