"""One party's run of a plan: prefetch, prepare, evaluate, send and receive, in task groups, joined by bounded queues.

prepare   messages that depend on no opened value are computed and exchanged; steps, tables and the beginning of the
          tape are made ready
online    prefetch  tape to memory, ahead of its use, within a budget of bytes
          evaluate  the steps of every segment, on a worker thread, each as soon as its own openings are in
          send      the only owner of its direction: frames in plan order, as their openings become ready
          receive   the only owner of its direction: every frame is compared with the plan before it is used
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import LocalError
from engine.fss.prg import SeedStream
from engine.graph import Node
from engine.kernels.interface import Kernels
from engine.parameters import Parameters
from engine.party import PartyCall, warm
from engine.scheduler.frames import FrameSpec, frames, largest_frame
from engine.scheduler.link import Link
from engine.scheduler.pieces import PREFETCH_BYTES, PREPARE_BYTES, tape_blocks
from engine.scheduler.plan import Plan, PlannedCall, Segment
from engine.scheduler.shelf import EMPTY, Cursor, Shelf
from engine.scheduler.steps import Step, static_nodes, steps
from engine.scheduler.timeline import Timeline
from engine.tape import TapeHeader

__all__ = ["Executor", "Tape"]

Bytes = NDArray[np.uint8]
Place = tuple[int, int]  # call, node
Work = tuple[FrameSpec, list[memoryview]] | None


class Tape(Protocol):
    """A tape that is read front to back."""

    header: TapeHeader

    def read(self, count: int) -> Bytes: ...


@lru_cache(maxsize=64)
def _steps(segment: Segment, party: int) -> tuple[Step, ...]:
    return steps(segment, party)


@lru_cache(maxsize=64)
def _static(segment: Segment, party: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    return static_nodes(segment, party)


@dataclass(slots=True)
class _Inbox:
    """The peer's message of one opening, as it fills."""

    missing: int
    data: Bytes = field(default_factory=lambda: EMPTY, repr=False)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, piece: Bytes, start: int) -> None:
        """A message that comes in one piece is not copied."""
        if piece.size == self.missing and not self.data.size:
            self.data = piece
        else:
            if not self.data.size:
                self.data = np.empty(self.missing, np.uint8)
            self.data[start : start + piece.size] = piece
        self.missing -= piece.size


@dataclass(slots=True)
class Executor:
    """Call `prepare`, then `online`, once each. `inputs` are this party's private integers by name; `ahead` bytes of
    the tape are read in the prepare phase."""

    plan: Plan
    party: int
    link: Link
    tape: Tape
    kernels: Kernels = field(repr=False)
    parameters: Parameters = field(repr=False)
    inputs: Mapping[str, NDArray[np.int64]] = field(repr=False)
    timeline: Timeline = field(default_factory=Timeline)
    progress: Callable[[int, int], None] | None = None
    overlap: bool = True
    ahead: int = PREPARE_BYTES
    _shelf: Shelf = field(init=False, repr=False)
    _own: dict[Place, Bytes] = field(default_factory=dict, repr=False)
    _inbox: dict[Place, _Inbox] = field(default_factory=dict, repr=False)
    _completed: set[Place] = field(default_factory=set, repr=False)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "evaluate"), repr=False)
    _disk: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "prefetch"), repr=False)

    def __post_init__(self) -> None:
        self.link.allow(largest_frame(self.plan))
        self._shelf = Shelf(tape_blocks(self.plan, self.party), self._read)

    async def prepare(self) -> None:
        """Exchange what does not depend on the input, then agree that the online phase begins."""
        outgoing: asyncio.Queue[Work] = asyncio.Queue(8)
        try:
            with self.timeline.phase("prepare"):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._prepare_messages(outgoing))
                    group.create_task(self._fill())
                    group.create_task(self._send("prepare", outgoing))
                    group.create_task(self._receive(static=True))
                await self.link.control({"phase": "online"})
                await self.link.message("word that the other side is prepared")
        except BaseException:
            self._end_threads()
            raise

    async def online(self) -> dict[str, NDArray[np.int64]]:
        """Run the plan; this party's outputs by name."""
        outgoing: asyncio.Queue[Work] = asyncio.Queue(64)
        try:
            with self.timeline.phase("online"):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._prefetch())
                    evaluated = group.create_task(self._evaluate(outgoing))
                    group.create_task(self._send("online", outgoing))
                    group.create_task(self._receive(static=False))
        finally:
            self._end_threads()
        return evaluated.result()

    def _end_threads(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._disk.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------------ prepare
    async def _prepare_messages(self, outgoing: asyncio.Queue[Work]) -> None:
        sender = _Frames(self.plan, self.party, True, outgoing)
        for segment in dict.fromkeys(call.segment for call in self.plan.calls):
            await self._on(self._pool, self._warm, segment)
        for call in self.plan.calls:
            state = self._state(call)
            for opening, nodes in _static(call.segment, self.party):
                message = await self._on(self._pool, self._static_message, state, opening, nodes)
                self._own[call.index, opening] = message
                await sender.ready(call.index, opening, message)
        await outgoing.put(None)

    def _warm(self, segment: Segment) -> None:
        _steps(segment, self.party)
        warm(segment)

    async def _fill(self) -> None:
        while self._shelf.fits(self.ahead):
            await self._on(self._disk, self._shelf.fetch)

    def _static_message(self, state: PartyCall, opening: int, nodes: tuple[int, ...]) -> Bytes:
        with self.timeline.span("prepare", state.call.call.name):
            graph = state.call.segment.graph
            for index in nodes:
                state.evaluate(graph[index], _no_tape)
            return state.message(graph[opening])

    # ------------------------------------------------------------------ online
    async def _prefetch(self) -> None:
        while await self._shelf.room(PREFETCH_BYTES):
            await self._on(self._disk, self._shelf.fetch)

    def _read(self, call: int, size: int) -> Bytes:
        with self.timeline.span("prefetch", self.plan.calls[call].call.name, size=size):
            return self.tape.read(size)

    async def _evaluate(self, outgoing: asyncio.Queue[Work]) -> dict[str, NDArray[np.int64]]:
        sender = _Frames(self.plan, self.party, False, outgoing)
        outputs: dict[str, NDArray[np.int64]] = {}
        wires: list[list[Any]] = []
        for call in self.plan.calls:
            state, segment = self._state(call), call.segment
            for wire, (source, position) in zip(segment.graph.inputs(), call.call.inputs, strict=True):
                state.values[wire.index] = wires[source][position]
            for step in _steps(segment, self.party):
                message = await self._step(state, step)
                if message is not None:
                    await sender.ready(call.index, step.opening, message)
            wires.append([state.values[i] for i in segment.graph.outputs])
            outputs.update(state.outputs)
            if self.progress is not None:
                self.progress(call.index + 1, len(self.plan.calls))
        await outgoing.put(None)
        return outputs

    async def _step(self, state: PartyCall, step: Step) -> Bytes | None:
        call = state.call
        if not self.overlap and step.opening >= 0:
            await self._round_over(call, call.segment.opening_of[step.opening].round - 1)
        for index in (*step.waits, *step.outputs):
            await self._arrived(call, index)
        message: Bytes | None = await self._on(self._pool, self._work, state, step)
        return message

    async def _arrived(self, call: PlannedCall, index: int) -> None:
        opening = call.segment.opening_of[index]
        if (call.index, index) in self._completed:
            return
        if 1 - self.party in (*opening.senders, *opening.static):
            box = self._box(call.index, index)
            if not box.done.is_set():
                number, gate = call.first_round + opening.round, call.segment.graph[index].gate
                with self.timeline.span("wait", call.call.name, number, opening.bytes, gate):
                    await box.done.wait()

    async def _round_over(self, call: PlannedCall, number: int) -> None:
        """The barrier of --no-overlap: everything of a round is in before the next one is evaluated."""
        for o in call.segment.openings:
            if o.round == number:
                await self._arrived(call, o.node)

    def _work(self, state: PartyCall, step: Step) -> Bytes | None:
        call, graph = state.call, state.call.segment.graph
        number = call.segment.opening_of[step.opening].round if step.opening >= 0 else call.segment.rounds
        with self.timeline.stretch("evaluate", call.call.name, call.first_round + number) as stretch:
            for index in step.waits:
                stretch.next(graph[index].gate)
                self._complete(state, graph[index])
            for index in step.nodes:
                stretch.next(graph[index].gate)
                state.evaluate(graph[index], Cursor(self._shelf, call.segment.needs[index].tape[self.party]).read)
            for index in step.outputs:
                stretch.next(graph[index].gate)
                self._complete(state, graph[index])
            message = None
            if step.opening >= 0:
                stretch.next(graph[step.opening].gate)
                message = state.message(graph[step.opening])
                self._own[call.index, step.opening] = message
            for index in step.forget:
                state.forget(index)
        return message

    def _complete(self, state: PartyCall, node: Node) -> None:
        place = state.call.index, node.index
        box = self._inbox.pop(place, None)
        self._completed.add(place)
        state.opened(node, self._own.pop(place, None), None if box is None else box.data)

    # ------------------------------------------------------------------ the wire
    async def _send(self, phase: str, outgoing: asyncio.Queue[Work]) -> None:
        while (work := await outgoing.get()) is not None:
            spec, payload = work
            with self.timeline.span("send", self.plan.calls[spec.call].call.name, spec.round, spec.size):
                await self.link.data(phase, spec.round, spec.index, *payload)

    async def _receive(self, static: bool) -> None:
        for spec in frames(self.plan, 1 - self.party, static):
            name = self.plan.calls[spec.call].call.name
            what = f"the openings of round {spec.round} ({name})"
            payload = await self.link.opening(what, spec.round, spec.index, spec.size)
            with self.timeline.span("receive", name, spec.round, spec.size):
                self._distribute(spec, payload)
            if not static:
                self.link.rounds.add(spec.round)

    def _distribute(self, spec: FrameSpec, payload: memoryview) -> None:
        at, data = 0, np.frombuffer(payload, np.uint8)
        for part in spec.parts:
            box, size = self._box(spec.call, part.node), part.stop - part.start
            box.take(data[at : at + size], part.start)
            at += size
            if box.missing == 0:
                box.done.set()

    def _box(self, call: int, node: int) -> _Inbox:
        place = call, node
        if place not in self._inbox:
            size = self.plan.calls[call].segment.opening_of[node].bytes
            self._inbox[place] = _Inbox(size)
        return self._inbox[place]

    # ------------------------------------------------------------------ helpers
    def _state(self, call: PlannedCall) -> PartyCall:
        header = self.tape.header
        stream = SeedStream(self.kernels, header.seed)
        return PartyCall(self.party, call, self.kernels, stream, header.tape, self.parameters, dict(self.inputs))

    async def _on(self, pool: ThreadPoolExecutor, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *args)


class _Frames:
    """Collects the messages of one direction into frames and queues each when it is whole."""

    def __init__(self, plan: Plan, sender: int, static: bool, outgoing: asyncio.Queue[Work]) -> None:
        self._specs = deque(frames(plan, sender, static))
        self._ready: dict[Place, Bytes] = {}
        self._outgoing = outgoing

    async def ready(self, call: int, node: int, message: Bytes) -> None:
        self._ready[call, node] = message
        while self._specs and all((self._specs[0].call, p.node) in self._ready for p in self._specs[0].parts):
            spec = self._specs.popleft()
            views = [self._ready[spec.call, p.node].data[p.start : p.stop] for p in spec.parts]
            for p in spec.parts:
                if p.stop == self._ready[spec.call, p.node].size:
                    del self._ready[spec.call, p.node]
            await self._outgoing.put((spec, views))


def _no_tape(_count: int) -> Bytes:
    raise LocalError("a static message asks for tape: a bug in the planner")
