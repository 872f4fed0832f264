"""One party's part of a benchmark: a run, or several at the same time on streams of one channel."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.bench.folder import BenchFolder
from engine.bench.metered import metered
from engine.errors import LocalError, PeerMismatch
from engine.kernels import get_kernels
from engine.kernels.interface import Kernels
from engine.meter import PeakMemory
from engine.report.recording import Side
from engine.report.relay import relayed
from engine.report.status import Observer
from engine.report.store import save_side
from engine.scheduler.executor import Executor
from engine.scheduler.link import Link
from engine.scheduler.pieces import PREPARE_BYTES
from engine.scheduler.plan import Plan
from engine.scheduler.timeline import Timeline
from engine.service import streams as multiplexed
from engine.tape import TapeReader
from engine.transport.channel import Channel

__all__ = ["requests"]

Report = dict[str, Any]


async def requests(folder: BenchFolder, plan: Plan, number: int, channel: Channel) -> Report:
    """All requests of the job: open their tapes, agree on them, prepare all, then go online with all."""
    count, (kernels, meter) = folder.job().concurrent, metered(get_kernels())
    async with AsyncExitStack() as stack:
        streams, channels = None, [channel]
        if count > 1:
            streams = await stack.enter_async_context(multiplexed(channel, connector=number == 0))
            channels = [await (streams.accept(channel.deadline) if number else streams.open()) for _ in range(count)]
        files = _tape_files(folder, number, count)
        start = time.perf_counter()
        tapes = [stack.enter_context(closing(await asyncio.to_thread(TapeReader.open, f, number))) for f in files]
        opened = time.perf_counter() - start
        runs = [_Request(folder, plan, number, Link(c), t, kernels) for c, t in zip(channels, tapes, strict=True)]
        await asyncio.gather(*(r.agree() for r in runs))
        await stack.enter_async_context(_watched(folder, number, runs))
        with PeakMemory() as peak:
            marks = [_mark()]
            await _all(r.executor.prepare() for r in runs)
            marks.append(_mark())
            meter.reset()
            outputs = await _all(r.executor.online() for r in runs)
            marks.append(_mark())
        await asyncio.gather(*(r.end() for r in runs))
    if number == 0:
        folder.save_outputs(outputs[-1])
    if folder.events.exists():
        save_side(Side.of(runs[-1].timeline), folder.events / f"p{number}.json")
    (t0, c0), (t1, c1), (t2, c2) = marks
    shared = None if streams is None else {"frames": streams.entries, "messages": streams.bundles}
    return {
        "open": opened, "prepare": t1 - t0, "online": t2 - t1, "cpu": {"prepare": c1 - c0, "online": c2 - c1},
        "peak": peak.bytes, "kernels": meter.seconds, "shared": shared, **_same(runs), "lanes": _lanes(runs),
        "calls": _calls(runs),
    }  # fmt: skip


def _watched(folder: BenchFolder, number: int, runs: Sequence[_Request]) -> AbstractAsyncContextManager[None]:
    """Within it the client's requests say what they do, where somebody wants to see it."""
    if number or not folder.live.exists():
        return nullcontext()
    return relayed([Observer(r.plan, number, r.timeline) for r in runs], folder.statuses)


@dataclass(slots=True)
class _Request:
    """One run of the plan."""

    folder: BenchFolder
    plan: Plan
    number: int
    link: Link
    tape: TapeReader
    kernels: Kernels = field(repr=False)
    timeline: Timeline = field(default_factory=Timeline)
    executor: Executor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        job = self.folder.job()
        inputs = self.folder.inputs() if self.number == 0 else {}
        self.executor = Executor(
            self.plan, self.number, self.link, self.tape, self.kernels, self.folder.parameters(self.number), inputs,
            self.timeline, None, job.overlap, PREPARE_BYTES // job.concurrent,
        )  # fmt: skip

    async def agree(self) -> None:
        await _agree(self.link, {"plan": self.plan.digest.hex(), "tape": self.tape.header.tape.hex()})

    async def end(self) -> None:
        await _agree(self.link, {"end": "of the run"})

    def counts(self) -> Report:
        sent = self.link.sent
        return {
            "rounds": len(self.link.rounds), "bytes_sent": sent["online"], "prepare_bytes": sent["prepare"],
            "tape_bytes": self.tape.header.body,
        }  # fmt: skip


async def _all(work: Any) -> list[Any]:
    """Results in order; the first failure ends the others."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(w) for w in work]
    return [task.result() for task in tasks]


def _same(runs: Sequence[_Request]) -> Report:
    """What one request took: the same for each, since all follow one plan. Raises LocalError if it was not."""
    counts = [r.counts() for r in runs]
    if any(c != counts[0] for c in counts):
        raise LocalError("requests of one plan sent different numbers of bytes: a bug in the engine")
    return counts[0]


def _mark() -> tuple[float, float]:
    """Wall clock and processor seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def _tape_files(folder: BenchFolder, number: int, count: int) -> list[Path]:
    """In the order of the names, which are the same on both sides."""
    found = sorted(folder.tapes.glob(f"*.p{number}"))
    if len(found) != count:
        raise LocalError(f"{folder.tapes} holds {len(found)} tapes of party {number} where {count} are needed")
    return found


async def _agree(link: Link, mine: dict[str, str]) -> None:
    await link.control(mine)
    theirs = await link.message("what the other side is about to run")
    for name, value in mine.items():
        if theirs.get(name) != value:
            raise PeerMismatch(f"the two sides of the benchmark disagree about the {name}")


def _lanes(runs: Sequence[_Request]) -> dict[str, float]:
    """Seconds that each lane was busy, of all requests together."""
    lanes = sorted({e.lane for r in runs for e in r.timeline.events})
    return {lane: sum(r.timeline.seconds(lane) for r in runs) for lane in lanes}


def _calls(runs: Sequence[_Request]) -> dict[str, list[float]]:
    """When each call's evaluation began and ended online, on the machine's one monotonic clock."""
    spans: dict[str, list[float]] = {}
    for e in (e for r in runs for e in r.timeline.events):
        if e.lane in ("evaluate", "wait"):
            span = spans.setdefault(e.what, [e.start, e.stop])
            span[0], span[1] = min(span[0], e.start), max(span[1], e.stop)
    return spans
