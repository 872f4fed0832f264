"""Runs in virtual time: dealer and both parties in this process, real bits over a simulated network, while the clock
says what the run would have taken on a calibrated device.

The virtual clock stands still while this process computes, and moves by what the device says of the work that was done
and by what the link takes. Two runs from one seed agree in every bit: outputs, messages and times.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.dealer import deal
from engine.kernels import get_kernels
from engine.kernels.interface import Kernels
from engine.parameters import Small
from engine.party import PartyCall
from engine.scheduler.executor import Executor, Run
from engine.scheduler.link import Link
from engine.scheduler.plan import Plan
from engine.scheduler.timeline import Event, Timeline
from engine.tape import FileTapeWriter, TapeHeader, TapeReader
from engine.testing.local import Setup, setup_weights
from engine.transport.channel import Channel, ChannelOptions
from engine.transport.framing import HEADER_BYTES
from engine.transport.memory import memory_pair
from engine.transport.wan import WanChannel
from simulators import clock
from simulators.device import Device
from simulators.events import Answer, Processors, Wait
from simulators.pricing import Pricing
from simulators.profiles import Network
from simulators.tapelane import TapeLane

__all__ = ["VirtualRun", "run_virtual"]

T = TypeVar("T")
Integers = dict[str, NDArray[np.int64]]
FOREVER = 1e7
"""Virtual seconds that a wait may take: a deadlock is found by the clock, not by a deadline."""


@dataclass(frozen=True, slots=True)
class VirtualRun:
    """What a run gave and, in virtual seconds, what it took; pairs are (P0, P1). `digest`: SHA-256 of all outputs,
    times and counters, equal for two runs from one seed."""

    outputs: Integers = field(repr=False)
    deal: float
    prepare: float
    online: float
    rounds: int
    bytes_sent: tuple[int, int]
    prepare_bytes: tuple[int, int]
    timelines: tuple[Timeline, Timeline] = field(repr=False)
    digest: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "seconds": {"deal": self.deal, "prepare": self.prepare, "online": self.online}, "rounds": self.rounds,
            "bytes_sent": list(self.bytes_sent), "prepare_bytes": list(self.prepare_bytes), "digest": self.digest,
        }  # fmt: skip


def run_virtual(
    plan: Plan, inputs: Mapping[str, NDArray[np.int64]], weights: Mapping[str, Small], network: Network, device: Device,
    overlap: bool = True, cores: float | None = None, *, transport: str = "tcp", seed: bytes = bytes(16),
    kernels: Kernels | None = None, folder: Path | None = None, progress: Callable[[int, int], None] | None = None,
) -> VirtualRun:  # fmt: skip
    """Deal and run `plan` behind `network`, in virtual time; `seed` decides masks, keys and jitter. Other arguments are
    those of simulators.replay.predict. `folder`: where the tapes lie meanwhile. Raises InputError for impossible
    numbers, and whatever a run raises."""
    kernels = kernels or get_kernels()
    session = _Session(plan, inputs, network, device, overlap, cores or device.cores, transport, seed, kernels)
    setup = setup_weights(plan, weights, kernels, _derive(seed, "model key"))
    with TemporaryDirectory(prefix="roundelay-virtual-", dir=folder) as place:
        tapes = session.deal(setup, Path(place))
        return clock.run(session.run(setup, tapes, progress))


def _derive(seed: bytes, purpose: str) -> bytes:
    return hashlib.blake2b(purpose.encode(), key=seed, digest_size=16, person=b"roundelay time").digest()


@dataclass(slots=True)
class _Session:
    """One run and what it needs."""

    plan: Plan
    inputs: Mapping[str, NDArray[np.int64]] = field(repr=False)
    network: Network
    device: Device
    overlap: bool
    cores: float
    transport: str
    seed: bytes = field(repr=False)
    kernels: Kernels = field(repr=False)

    def deal(self, setup: Setup, folder: Path) -> list[Path]:
        """Both tapes, as files: memory does not grow with them."""
        seeds, tape_id = (_derive(self.seed, "seed 0"), _derive(self.seed, "seed 1")), _derive(self.seed, "tape")
        headers = [TapeHeader(p, self.plan.digest, tape_id, seeds[p], self.plan.tape_bytes[p]) for p in (0, 1)]
        writers = [FileTapeWriter(folder / f"p{h.party}", h) for h in headers]
        deal(self.plan, self.kernels, seeds, tape_id, setup.dealer, (writers[0], writers[1]))
        return [writer.finish() for writer in writers]

    async def run(self, setup: Setup, tapes: list[Path], progress: Callable[[int, int], None] | None) -> VirtualRun:
        processors = Processors(asyncio.get_running_loop(), self.cores)
        pricing = Pricing(self.plan, self.device, self.transport)
        ends, links = memory_pair(ChannelOptions(deadline=FOREVER)), self.network.links(self.seed[0])
        channels = [_Charged(WanChannel(ends[p], links[p], sleep=self._sleep), processors, pricing) for p in (0, 1)]
        readers = [TapeReader.open(tapes[p], p, self.plan.digest) for p in (0, 1)]
        sides = [self._executor(p, channels[p], readers[p], setup, processors, pricing) for p in (0, 1)]
        sides[0].progress = progress
        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(_both_phases(side)) for side in sides]
        finally:
            for channel, reader in zip(channels, readers, strict=True):
                await channel.aclose()
                reader.close()
        return self._result(sides, running[0].result())

    async def _sleep(self, seconds: float) -> None:
        """Until a message is in and its receiver awake."""
        await asyncio.sleep(seconds + self.device.wake)

    def _executor(
        self, p: int, channel: Channel, tape: TapeReader, setup: Setup, processors: Processors, pricing: Pricing
    ) -> _ChargedExecutor:
        timeline = Timeline(asyncio.get_running_loop().time)
        mine = dict(self.inputs) if p == 0 else {}
        parts = (Link(channel), tape, self.kernels, setup.parties[p], mine, timeline, None, self.overlap)
        executor = _ChargedExecutor(self.plan, p, *parts)
        executor.charge(processors, pricing)
        return executor

    def _result(self, sides: list[_ChargedExecutor], outputs: Integers) -> VirtualRun:
        lines = (sides[0].timeline, sides[1].timeline)
        prepare, online = (max(t.phases[n][1] - t.phases[n][0] for t in lines) for n in ("prepare", "online"))
        sent = [side.link.sent for side in sides]
        run = VirtualRun(
            outputs, self.device.deal * sum(self.plan.tape_bytes), prepare, online,
            len(sides[0].link.rounds | sides[1].link.rounds), (sent[0]["online"], sent[1]["online"]),
            (sent[0]["prepare"], sent[1]["prepare"]), lines,
        )  # fmt: skip
        return replace(run, digest=_digest(run))


def _digest(run: VirtualRun) -> str:
    h = hashlib.sha256(repr((run.deal, run.prepare, run.online, run.rounds, run.bytes_sent)).encode())
    for line in run.timelines:
        h.update(repr((line.events, line.phases)).encode())
    for name in sorted(run.outputs):
        h.update(name.encode() + run.outputs[name].tobytes())
    return h.hexdigest()


async def _both_phases(side: Executor) -> Integers:
    await side.prepare()
    return await side.online()


def _finished(process: Answer[T]) -> asyncio.Future[T]:
    """A process of simulators/events.py as a future of the running loop."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def go_on() -> None:
        try:
            wait = next(process)
        except StopIteration as end:
            if not done.done():
                done.set_result(end.value)
        else:
            wait(resume)

    def resume() -> None:
        loop.call_soon(go_on)

    go_on()
    return done


class _ChargedExecutor(Executor):
    """An executor whose jobs take no virtual time on their threads, and afterwards what the device says of them."""

    def charge(self, processors: Processors, pricing: Pricing) -> None:
        """Before the run."""
        self._processors, self._pricing = processors, pricing
        self._tape_lane = TapeLane(processors.clock, processors, pricing, self.party, self.timeline.events.append)
        steps = {id(s): pricing.steps(s, self.party) for s in self.plan.program.segments}
        self._priced = {(s, priced.step): priced for s, found in steps.items() for priced in found}

    async def _fill(self) -> None:
        filled = _finished(self._tape_lane.fill())
        await super()._fill()
        await filled

    async def _prefetch(self) -> None:
        read = _finished(self._tape_lane.prefetch())
        await super()._prefetch()
        await read

    async def _on(self, pool: ThreadPoolExecutor, work: Callable[..., Any], *args: Any) -> Any:
        """The one place where an executor hands work to a thread: of no duration, for the clock stands still."""
        start, known = self.timeline.clock(), len(self.timeline.events)
        result = await super()._on(pool, work, *args)
        del self.timeline.events[known:]
        if work == self._static_message:
            await self._prepared(start, *args)
        return result

    async def _prepared(self, start: float, state: PartyCall, opening: int, *_: Any) -> None:
        seconds = dict(self._pricing.static(state.call.segment, self.party))[opening]
        await _finished(_alone(self._processors.job(seconds, self._pricing.device.workers)))
        self.timeline.events.append(Event("prepare", state.call.call.name, start, self.timeline.clock()))

    async def _go_on(self, run: Run) -> None:
        """A step at a time: its message leaves when its time has passed."""
        assert run.at is not None
        (state, step), start = run.at, self.timeline.clock()
        message = await self._on(self._pool, self._work, state, step)
        call, name = state.call, state.call.call.name
        priced = self._priced[id(call.segment), step]
        await _finished(self._tape_lane.work(priced, name, None))
        number = call.segment.opening_of[step.opening].round if step.opening >= 0 else call.segment.rounds
        self.timeline.events += priced.events(name, call.first_round + number, start, self.timeline.clock())
        run.go_on()
        if message is not None:
            run.outbox.put(call.index, step.opening, message)


def _alone(wait: Wait) -> Answer[None]:
    yield wait


class _Charged(Channel):
    """A channel whose frames take their time at either end."""

    def __init__(self, inner: Channel, processors: Processors, pricing: Pricing) -> None:
        options = ChannelOptions(limit=inner.limit, ceiling=inner.ceiling, deadline=FOREVER)
        super().__init__(inner.peer, options)
        inner.limit = inner.ceiling
        self._inner, self._processors, self._pricing = inner, processors, pricing

    async def _send(self, message: memoryview) -> None:
        await self._charge(message)
        await self._inner.send(message)

    async def _recv(self) -> memoryview:
        message = await self._inner.recv()
        await self._charge(message)
        return message

    async def _charge(self, message: memoryview) -> None:
        await _finished(_alone(self._processors.job(self._pricing.frame(message.nbytes - HEADER_BYTES))))

    async def _close(self) -> None:
        await self._inner.aclose()
