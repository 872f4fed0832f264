"""One role of a benchmark, as a process of its own: python -m engine.bench.worker ROLE FOLDER [ADDRESS].

ROLE is deal, owner (prints where it listens, first), client (reads where from its stdin), or both (two parties in one
process). The last line on stdout is a report in JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from engine.bench.folder import BenchFolder, Job
from engine.bench.requests import requests
from engine.dealing import deal_files
from engine.errors import PeerError, RoundelayError
from engine.kernels import get_kernels
from engine.ledger import ModelKey
from engine.memory import keep_memory
from engine.meter import PeakMemory
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.loop import run
from engine.transport.registry import open_transport
from engine.transport.wan import real_time

__all__ = ["main"]

Report = dict[str, Any]
LOOPBACK = {"memory": "bench"}
"""Where a transport listens, if not on a port of the system's choice."""


def deal(folder: BenchFolder) -> Report:
    """Deal a fresh pair of tapes to disk for every request."""
    key = ModelKey("bench", "bench", "bench", folder.key())
    plan = folder.plan()
    with PeakMemory() as peak:
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(folder.job().concurrent):
            tape, _ = deal_files(plan, key, get_kernels(), (folder.tapes, folder.tapes))
        stop, used = time.perf_counter(), time.process_time() - cpu
    return {"tape": tape.hex(), "deal": stop - start, "cpu": used, "peak": peak.bytes}


# ---------------------------------------------------------------------- processes
async def owner(folder: BenchFolder, address: str = "") -> Report:
    """P1: listens, on the loopback unless told where, says where, and runs with whoever connects."""
    job, plan = folder.job(), folder.plan()
    address = address or LOOPBACK.get(job.transport, "tcp://127.0.0.1:0")
    async with await open_transport(job.transport).listen(address, _options(folder, 1)) as listener:
        print(json.dumps({"listening": listener.address}), flush=True)
        async with _behind(job, 1, await listener.accept(job.deadline)) as channel:
            return await requests(folder, plan, 1, channel)


async def client(folder: BenchFolder, address: str) -> Report:
    """P0: connects and runs."""
    job, plan = folder.job(), folder.plan()
    connected = await open_transport(job.transport).connect(address, _options(folder, 0))
    async with _behind(job, 0, connected) as channel:
        return await requests(folder, plan, 0, channel)


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
    keep_memory()
    folder = BenchFolder(Path(path))
    try:
        match role:
            case "deal":
                report = deal(folder)
            case "owner":
                report = run(owner(folder, address))
            case "client":
                report = run(client(folder, sys.stdin.readline().strip()))
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
