"""How much more a machine does with all processors than with one: python -m engine.bench.companion makes itself ready,
and once it reads a line evaluates a block over and over until its stdin ends, while others measure."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from engine.bench.lockstep import Lockstep
from engine.bench.samples import busy_plan
from engine.kernels import get_kernels

__all__ = ["Companions"]

TURNS = 4
MOST = 7
"""Companions: more of them would take long to start."""


class Companions:
    """Processes that start, and wait until they are needed: a context. None where there is nothing to find out."""

    def __init__(self, cores: int, workers: int) -> None:
        self._cores = cores
        self._count = 0 if workers > 1 else min(cores - 1, MOST)
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "engine.bench.companion"]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        for _ in range(self._count):
            process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._started.append(process)
        return self

    def __exit__(self, k: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        self._end()

    def parallel(self) -> float:
        """Work done by all processors together, in units of what one does while the others rest. Where a party's
        kernels run on several threads, they hold them busy already."""
        if not self._started:
            return float(self._cores)
        self._said()
        lockstep = Lockstep(busy_plan(), get_kernels(workers=1))
        alone = _seconds(lockstep)
        for process in self._started:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        self._said()
        together = _seconds(lockstep)
        self._end()
        return self._cores * min(1.0, alone / together)

    def _said(self) -> None:
        """Every process has said something."""
        for process in self._started:
            assert process.stdout is not None
            process.stdout.readline()

    def _end(self) -> None:
        while self._started:
            self._started.pop().communicate()


def _seconds(lockstep: Lockstep) -> float:
    """Least processor time of a walk through the plan."""
    best = float("inf")
    for _ in range(TURNS):
        start = time.thread_time()
        lockstep.run()
        best = min(best, time.thread_time() - start)
    return best


def _keep_busy() -> None:
    lockstep = Lockstep(busy_plan(), get_kernels(workers=1))
    lockstep.run()
    print("ready", flush=True)
    if os.read(sys.stdin.fileno(), 64):
        print("busy", flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:
            lockstep.run()


if __name__ == "__main__":
    _keep_busy()
