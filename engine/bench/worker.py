"""One role of a benchmark, as a process of its own: python -m engine.bench.worker ROLE FOLDER [ADDRESS].

ROLE is deal, owner (prints where it listens, first), client (ADDRESS is where), or both (two parties in one process).
The last line on stdout is a report in JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from engine.bench.folder import BenchFolder, Job
from engine.bench.metered import metered
from engine.dealing import deal_files
from engine.errors import LocalError, PeerError, PeerMismatch, RoundelayError
from engine.kernels import get_kernels
from engine.ledger import ModelKey
from engine.meter import PeakMemory
from engine.report.recording import Side
from engine.report.store import save_side
from engine.scheduler.executor import Executor
from engine.scheduler.link import Link
from engine.scheduler.plan import Plan
from engine.scheduler.timeline import Timeline
from engine.tape import TapeReader
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.loop import run
from engine.transport.registry import open_transport
from engine.transport.wan import real_time

__all__ = ["main"]

Report = dict[str, Any]
LOOPBACK = {"memory": "bench"}
"""Where a transport listens, if not on a port of the system's choice."""


def deal(folder: BenchFolder) -> Report:
    """Deal a fresh pair of tapes to disk."""
    key = ModelKey("bench", "bench", "bench", folder.key())
    plan = folder.plan()
    with PeakMemory() as peak:
        start, cpu = time.perf_counter(), time.process_time()
        tape, _ = deal_files(plan, key, get_kernels(), (folder.tapes, folder.tapes))
        stop, used = time.perf_counter(), time.process_time() - cpu
    return {"tape": tape.hex(), "deal": stop - start, "cpu": used, "peak": peak.bytes}


async def party(folder: BenchFolder, plan: Plan, number: int, channel: Channel) -> Report:
    """One party's run: open the tape, agree on it, prepare, go online."""
    link, timeline, (kernels, meter) = Link(channel), Timeline(), metered(get_kernels())
    start = time.perf_counter()
    tape = await asyncio.to_thread(TapeReader.open, _tape_file(folder, number), number)
    opened = time.perf_counter() - start
    try:
        await _agree(link, {"plan": plan.digest.hex(), "tape": tape.header.tape.hex()})
        inputs = folder.inputs() if number == 0 else {}
        parameters, overlap = folder.parameters(number), folder.job().overlap
        executor = Executor(plan, number, link, tape, kernels, parameters, inputs, timeline, None, overlap)
        with PeakMemory() as peak:
            marks = [_mark()]
            await executor.prepare()
            marks.append(_mark())
            meter.reset()
            outputs = await executor.online()
            marks.append(_mark())
        await _agree(link, {"end": "of the run"})
    finally:
        tape.close()
    if number == 0:
        folder.save_outputs(outputs)
    if folder.events.exists():
        save_side(Side.of(timeline), folder.events / f"p{number}.json")
    (t0, c0), (t1, c1), (t2, c2) = marks
    return {
        "open": opened, "prepare": t1 - t0, "online": t2 - t1, "cpu": {"prepare": c1 - c0, "online": c2 - c1},
        "peak": peak.bytes, "rounds": len(link.rounds), "bytes_sent": link.sent["online"],
        "prepare_bytes": link.sent["prepare"], "tape_bytes": tape.header.body, "kernels": meter.seconds,
        "lanes": _lanes(timeline), "calls": _calls(timeline),
    }  # fmt: skip


def _mark() -> tuple[float, float]:
    """Wall clock and processor seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def _tape_file(folder: BenchFolder, number: int) -> Path:
    found = sorted(folder.tapes.glob(f"*.p{number}"))
    if len(found) != 1:
        raise LocalError(f"{folder.tapes} holds {len(found)} tapes of party {number} where one run has one")
    return found[0]


async def _agree(link: Link, mine: dict[str, str]) -> None:
    await link.control(mine)
    theirs = await link.message("what the other side is about to run")
    for name, value in mine.items():
        if theirs.get(name) != value:
            raise PeerMismatch(f"the two sides of the benchmark disagree about the {name}")


def _lanes(timeline: Timeline) -> dict[str, float]:
    lanes = sorted({e.lane for e in timeline.events})
    return {lane: timeline.seconds(lane) for lane in lanes}


def _calls(timeline: Timeline) -> dict[str, list[float]]:
    """When each call's evaluation began and ended online, on the machine's one monotonic clock."""
    spans: dict[str, list[float]] = {}
    for e in timeline.events:
        if e.lane in ("evaluate", "wait"):
            span = spans.setdefault(e.what, [e.start, e.stop])
            span[0], span[1] = min(span[0], e.start), max(span[1], e.stop)
    return spans


# ---------------------------------------------------------------------- processes
async def owner(folder: BenchFolder, address: str = "") -> Report:
    """P1: listens, on the loopback unless told where, says where, and runs with whoever connects."""
    job, plan = folder.job(), folder.plan()
    address = address or LOOPBACK.get(job.transport, "tcp://127.0.0.1:0")
    async with await open_transport(job.transport).listen(address, _options(folder, 1)) as listener:
        print(json.dumps({"listening": listener.address}), flush=True)
        async with _behind(job, 1, await listener.accept(job.deadline)) as channel:
            return await party(folder, plan, 1, channel)


async def client(folder: BenchFolder, address: str) -> Report:
    """P0: connects and runs."""
    job, plan = folder.job(), folder.plan()
    connected = await open_transport(job.transport).connect(address, _options(folder, 0))
    async with _behind(job, 0, connected) as channel:
        return await party(folder, plan, 0, channel)


async def both(folder: BenchFolder) -> Report:
    """Two parties in this one process. Processor time and memory are those of both together."""
    address = LOOPBACK.get(folder.job().transport, "")
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(owner(folder))
        asking = group.create_task(client(folder, address))
    return {"parties": [asking.result(), serving.result()]}


def _behind(job: Job, number: int, channel: Channel) -> Channel:
    """The channel behind the job's network: each party delays what it sends itself."""
    return channel if job.network is None else real_time(channel, job.network.links()[number])


def _options(folder: BenchFolder, number: int) -> ChannelOptions:
    """Each side pins the other's key, where the transport authenticates."""
    job = folder.job()
    if job.transport in LOOPBACK:
        return ChannelOptions(deadline=job.deadline)
    from engine.transport.identity import load  # needs a library that in-process runs do without

    mine, other = load(folder.path / f"p{number}"), load(folder.path / f"p{1 - number}")
    return ChannelOptions(identity=mine, peers=(other.public,), deadline=job.deadline)


def main(role: str, path: str, address: str = "") -> int:
    """Run a role; its report, or one sentence on stderr and an exit code."""
    folder = BenchFolder(Path(path))
    try:
        match role:
            case "deal":
                report = deal(folder)
            case "owner":
                report = run(owner(folder, address))
            case "client":
                report = run(client(folder, address))
            case _:
                report = run(both(folder))
    except BaseException as group:
        error = _deliberate(group)
        if error is None:
            raise
        print(f"{role}: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(report))
    return 0


def _deliberate(error: BaseException) -> RoundelayError | None:
    """What a group of errors comes down to, if all of them are deliberate: the first that does not blame the peer."""
    if isinstance(error, RoundelayError):
        return error
    inner = [_deliberate(e) for e in error.exceptions] if isinstance(error, BaseExceptionGroup) else [None]
    found = [e for e in inner if e is not None]
    return min(found, key=lambda e: e.exit_code == PeerError.exit_code) if len(found) == len(inner) else None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
