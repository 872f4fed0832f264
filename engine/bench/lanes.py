"""What a run spends beside its kernels: frames at either end of a transport, tape from the disk, steps beside
their work, and how late timers fire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from engine.bench.fit import Sample
from engine.bench.lockstep import SEEDS, TAPE, Lockstep, drawn_values, drawn_weights
from engine.dealer import deal
from engine.kernels.interface import Kernels
from engine.scheduler.brief import brief
from engine.scheduler.executor import Executor
from engine.scheduler.link import Link
from engine.scheduler.plan import Plan, Segment
from engine.scheduler.steps import Step, steps
from engine.tape import FileTapeWriter, MemoryTape, TapeHeader, TapeReader
from engine.testing.local import setup_weights
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.linkmodel import Link as Delay
from engine.transport.loop import run
from engine.transport.memory import memory_pair
from engine.transport.registry import open_transport
from engine.transport.sleep import precise_sleep
from engine.transport.wan import real_time

__all__ = ["delayed_costs", "frame_costs", "lateness", "prefetch_costs", "step_cost"]

Line = tuple[float, float]
LARGE, SMALL, BLOCKS = 1 << 20, 64, 64
REPEATS = 3
SHORT = Delay(2e-4)
"""So short that no processor goes to sleep meanwhile: what that costs is part of `wake`."""


def _line(small: float, large: float) -> Line:
    """(seconds each, seconds a byte) through two points."""
    byte = max(large - small, 0.0) / (LARGE - SMALL)
    return max(small - SMALL * byte, 0.0), byte


# ---------------------------------------------------------------------- frames
def frame_costs(transport: str) -> Line:
    """Processor seconds of one end, for a frame and for a byte of it: both ends run here, and share evenly."""
    return run(_frame_costs(transport, None))


def delayed_costs(plain: Line) -> Line:
    """What the delayed channel takes besides, at either end of a tcp connection: its belts, and a timer a frame."""
    each, byte = run(_frame_costs("tcp", SHORT))
    return max(each - plain[0], 0.0), max(byte - plain[1], 0.0)


async def _frame_costs(transport: str, delay: Delay | None) -> Line:
    with TemporaryDirectory() as folder:
        sides = _options(transport, Path(folder))
        address = "calibrate" if transport == "memory" else "tcp://127.0.0.1:0"
        async with await open_transport(transport).listen(address, sides[1]) as listener:
            reached = open_transport(transport).connect(listener.address, sides[0])
            near, far = await asyncio.gather(reached, listener.accept(10))
            if delay is not None:
                near, far = real_time(near, delay), real_time(far, delay)
            async with near, far:
                links = (Link(near), Link(far))
                for link in links:
                    link.allow(LARGE)
                small = min([await _frame_seconds(links, SMALL, 100) for _ in range(REPEATS)])
                large = min([await _frame_seconds(links, LARGE, 12) for _ in range(REPEATS)])
    return _line(small, large)


def _options(transport: str, folder: Path) -> tuple[ChannelOptions, ChannelOptions]:
    if transport == "memory":
        return ChannelOptions(), ChannelOptions()
    from engine.transport.identity import create  # needs a library that in-process runs do without

    keys = create(folder / "p0"), create(folder / "p1")
    near, far = (ChannelOptions(identity=keys[p], peers=(keys[1 - p].public,)) for p in (0, 1))
    return near, far


async def _frame_seconds(links: tuple[Link, Link], size: int, count: int) -> float:
    """Of one end, for a frame; each waits for the one before, as those of a round do."""
    payload = bytes(size)

    async def one_by_one() -> None:
        for i in range(count):
            await asyncio.gather(links[0].data("bulk", 1, i, payload), links[1].opening("a frame", 1, i, size))
            await asyncio.gather(links[1].data("bulk", 1, i, payload), links[0].opening("a frame", 1, i, size))

    return await _used(one_by_one) / (4 * count)


async def _used(work: Callable[[], Awaitable[object]]) -> float:
    """Processor seconds of this process, all threads together."""
    start = time.process_time()
    await work()
    return time.process_time() - start


# ---------------------------------------------------------------------- tape
def prefetch_costs() -> Line:
    """Processor seconds that bring a block of tape into memory, by way of a thread as the executor does it, and a byte
    of it, verified."""
    with TemporaryDirectory() as folder:
        header = TapeHeader(0, bytes(32), TAPE, SEEDS[0], BLOCKS * (SMALL + LARGE))
        writer = FileTapeWriter(Path(folder) / "tape", header)
        for _ in range(BLOCKS):
            writer.write(np.zeros(SMALL + LARGE, np.uint8))
        path = writer.finish()
        return _line(*min(run(_read_seconds(path)) for _ in range(REPEATS)))


async def _read_seconds(path: Path) -> Line:
    """For a small and for a large block."""
    reader, loop = TapeReader.open(path, 0), asyncio.get_running_loop()

    async def blocks(size: int) -> None:
        for _ in range(BLOCKS):
            await loop.run_in_executor(pool, reader.read, size)

    with ThreadPoolExecutor(1) as pool:
        times = [await _used(lambda size=size: blocks(size)) / BLOCKS for size in (SMALL, LARGE)]  # type: ignore[misc]
    reader.close()
    return times[0], times[1]


# ---------------------------------------------------------------------- steps
def step_cost(plan: Plan, kernels: Kernels, frame: Line, costs: Callable[[Sample], float]) -> float:
    """Seconds by which a step takes longer than its work: queues and bookkeeping. Only steps so long that the hand-over
    does not count go to a thread.

    A small plan runs over channels in memory, and what is known of it is taken off."""
    pieces = Lockstep(plan, kernels)
    pieces.run()
    known = sum(costs(s) for s in pieces.samples())
    whole, count, frames = min(run(_run_small(plan, kernels)) for _ in range(REPEATS + 2))
    return max(whole - known - 2 * frame[0] * frames, 0.0) / count


class _ForLoop(Executor):
    """An executor that evaluates brief steps on the loop though there is another one, which stands for a process of its
    own."""

    def _for_loop(self, segment: Segment, step: Step) -> bool:
        return brief(segment, step)


async def _run_small(plan: Plan, kernels: Kernels) -> tuple[float, int, int]:
    """Processor seconds of a run by two executors in this process, their steps and the frames that crossed."""
    rng = np.random.default_rng(1)
    setup = setup_weights(plan, drawn_weights(plan, rng), kernels, bytes(16))
    tapes = [MemoryTape(TapeHeader(p, plan.digest, TAPE, SEEDS[p], plan.tape_bytes[p])) for p in (0, 1)]
    deal(plan, kernels, SEEDS, TAPE, setup.dealer, (tapes[0], tapes[1]))
    inputs = {n.text("name"): drawn_values(n, rng) for s in plan.program.segments for n in s.graph if n.op == "input"}
    channels = memory_pair()
    sides = [
        _ForLoop(plan, p, Link(channels[p]), tapes[p], kernels, setup.parties[p], inputs if p == 0 else {})
        for p in (0, 1)
    ]
    await asyncio.gather(*(side.prepare() for side in sides))
    used = await _used(lambda: asyncio.gather(*(side.online() for side in sides)))
    count = sum(len(steps(call.segment, p)) for call in plan.calls for p in (0, 1))
    return used, count, _messages(channels)


def _messages(channels: tuple[Channel, Channel]) -> int:
    return sum(c.sent.messages for c in channels)


# ---------------------------------------------------------------------- timers
def lateness() -> float:
    """By how much a timer as the delayed channel uses it fires late, on median."""
    return run(_lateness())


async def _lateness() -> float:
    loop, late = asyncio.get_running_loop(), []
    for i in range(40):
        due = loop.time() + 2e-3 + i * 1.3e-4
        await precise_sleep(due - loop.time())
        late.append(loop.time() - due)
    return max(median(late), 0.0)
