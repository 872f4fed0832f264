"""Runs of a workload: for each a fresh pair of tapes, dealt by a process of its own, then the two parties."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from engine.bench.folder import BenchFolder, Job, bench_folder, read_report
from engine.bench.report import BenchReport, Run
from engine.bench.stolen import Processors
from engine.bench.workload import Workload
from engine.clear import clear
from engine.errors import InputError, LocalError, PeerTimeout
from engine.kernels import get_kernels
from engine.report.live import LiveView, Source
from engine.report.relay import read_statuses
from engine.report.store import load_side
from engine.scheduler.plan import Plan
from engine.transport.registry import open_transport
from simulators.tunnel import Host

__all__ = ["bench"]

Hosts = tuple[Host, Host]
START_SECONDS = 60.0
RUN_SECONDS = 1800.0
TRIES = 5
"""Times the number of runs that are made at most for as many in which the host took little."""


def bench(
    workload: Workload,
    runs: int = 3,
    job: Job | None = None,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    check: bool = False,
    record: bool = False,
    hosts: Hosts | None = None,
    live: LiveView | None = None,
    early: bool = False,
    most_stolen: float | None = None,
) -> BenchReport:
    """Measure `runs` runs. `folder`: where weights and tapes lie meanwhile. With `check`, the program first runs in the
    clear with every bound checked (BoundError). With `record`, runs hold what both parties did when.
    `hosts`: where client and owner run, if not on the loopback. `live` shows every run as its client sees it. `early`:
    both parties start while the dealer deals, so that a run takes less time and its dealing more. `most_stolen`: runs
    are repeated until as many as asked for had at most this share of their processor time taken by the machine's host,
    or there are TRIES times as many; the ones with the least stay, whatever their times. Raises InputError,
    LocalError."""
    job = job or Job()
    open_transport(job.transport)
    if most_stolen is not None and Processors.now() is None:
        raise InputError("this system does not tell what its host takes of the processors: leave out --most-stolen")
    plan = Plan(workload.program)
    if check:
        clear(plan, get_kernels(), workload.inputs, workload.weights, check=True)
    done: list[Run] = []
    with bench_folder(workload, plan, job, folder) as place:
        if record:
            place.events.mkdir()
        if live is not None:
            place.live.mkdir()
        while (quiet := _quiet(done, most_stolen)) < runs and len(done) < TRIES * runs:
            seen = nullcontext() if live is None else live.follow(f"run {quiet + 1} of {runs}", _statuses(place))
            with seen:
                done.append(_run(place, job, hosts, early))
            if progress is not None:
                progress(_quiet(done, most_stolen), runs)
        outputs = place.outputs()
    accuracy, repeated = workload.accuracy(outputs), len(done) - runs
    return BenchReport(workload, plan, job, _least_stolen(done, runs), accuracy, most_stolen, repeated)


def _quiet(done: list[Run], most_stolen: float | None) -> int:
    """Runs in which the host took at most that share."""
    return sum(most_stolen is None or (r.stolen or 0.0) <= most_stolen for r in done)


def _least_stolen(done: list[Run], runs: int) -> tuple[Run, ...]:
    """As many as asked for, in the order in which they were made."""
    kept = sorted(range(len(done)), key=lambda i: done[i].stolen or 0.0)[:runs]
    return tuple(done[i] for i in sorted(kept))


def _statuses(place: BenchFolder) -> Source:
    return lambda: read_statuses(place.statuses)


def _run(place: BenchFolder, job: Job, hosts: Hosts | None, early: bool) -> Run:
    before = Processors.now()
    try:
        one = job.transport == "memory"
        dealt, parties = _in_one_process(place) if one else _in_two(place, job, hosts, early)
        after = Processors.now()
        stolen = None if before is None or after is None else before.share_stolen(after)
        sides = load_side(place.events / "p0.json"), load_side(place.events / "p1.json")
        return Run.of(dealt, parties, sides, stolen)
    finally:
        for used in (*place.tapes.glob("*"), *place.events.glob("*")):
            used.unlink()


def _deal(place: BenchFolder) -> dict[str, Any]:
    return read_report(_finish(_start("deal", place)))


def _in_one_process(place: BenchFolder) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    dealt = _deal(place)
    return dealt, read_report(_finish(_start("both", place)))["parties"]


def _in_two(
    place: BenchFolder, job: Job, hosts: Hosts | None, early: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    dealt = None if early else _deal(place)
    with _parties(place, hosts) as processes:
        for process, processors in zip(processes, halves() if job.pinned else ((), ()), strict=True):
            if processors:
                with suppress(ProcessLookupError):  # a process that has ended says why when it is asked
                    os.sched_setaffinity(process.pid, processors)
        client, owner = processes
        dealt = dealt or _deal(place)
        asked = _finish(client, f"{_listening(owner)}\n")
        return dealt, [read_report(asked), read_report(_finish(owner))]


def halves() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The processors of either party; none where there are not two of them, or a process cannot choose. Left to the
    system, small workloads took up to 1.4 times as long (docs/decisions/0016-brief-steps-and-processors.md)."""
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    middle = len(mine) // 2
    return (tuple(mine[:middle]), tuple(mine[middle:])) if middle else ((), ())


@contextmanager
def _parties(place: BenchFolder, hosts: Hosts | None) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
    """Client and owner as processes, which end with the context. The client waits to be told where to connect."""
    here, there = hosts or (None, None)
    owner = _start("owner", place, *(() if there is None else (f"tcp://{there.address}:0",)), at=there)
    client = _start("client", place, at=here)
    try:
        yield client, owner
    finally:
        for process in (owner, client):
            if process.poll() is None:
                process.kill()
                process.wait()


def _start(role: str, place: BenchFolder, *more: str, at: Host | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "engine.bench.worker", role, str(place.path), *more]
    command = command if at is None else at.inside(command)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)


def _listening(owner: subprocess.Popen[str]) -> str:
    """The first line that the owner prints."""
    assert owner.stdout is not None
    timer = threading.Timer(START_SECONDS, owner.kill)
    timer.start()
    line = owner.stdout.readline()
    timer.cancel()
    if not line:
        _finish(owner)
        raise PeerTimeout(f"the owner's process did not listen within {START_SECONDS:g} s")
    address: str = json.loads(line)["listening"]
    return address


def _finish(process: subprocess.Popen[str], told: str | None = None) -> str:
    """What the process printed until its end; `told` is what it reads."""
    try:
        out, err = process.communicate(told, timeout=RUN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise LocalError(f"a run took longer than {RUN_SECONDS:g} s: use fewer --tokens") from None
    if process.returncode:
        said = " ".join(err.strip().splitlines()[-2:]) or f"code {process.returncode}"
        raise LocalError(f"a process of the benchmark failed: {said}")
    return out
