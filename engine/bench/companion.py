"""How much more a machine does with all processors than with one: python -m engine.bench.companion evaluates a block
over and over, until its stdin ends, while others measure."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from engine.bench.lockstep import Lockstep
from engine.bench.samples import busy_plan
from engine.kernels import get_kernels

__all__ = ["parallel"]

TURNS = 4
MOST = 7
"""Companions: more of them would take long to start."""


def parallel(cores: int, workers: int) -> float:
    """Work done by all processors together, in units of what one does while the others rest. Where a party's kernels
    run on several threads, they hold them busy already."""
    if cores == 1 or workers > 1:
        return float(cores)
    alone = _seconds()
    with _companions(min(cores - 1, MOST)):
        together = _seconds()
    return cores * min(1.0, alone / together)


def _seconds() -> float:
    """Least processor time of a walk through the plan."""
    lockstep, best = Lockstep(busy_plan(), get_kernels(workers=1)), float("inf")
    for _ in range(TURNS):
        start = time.thread_time()
        lockstep.run()
        best = min(best, time.thread_time() - start)
    return best


@contextmanager
def _companions(count: int) -> Iterator[None]:
    command = [sys.executable, "-m", "engine.bench.companion"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) for _ in range(count)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in started:
            process.communicate()


def _keep_busy() -> None:
    lockstep = Lockstep(busy_plan(), get_kernels(workers=1))
    lockstep.run()
    print("busy", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        lockstep.run()


if __name__ == "__main__":
    _keep_busy()
