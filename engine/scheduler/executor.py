"""One party's run of a plan: prefetch, prepare, evaluate, send and receive, in task groups, joined by bounded queues.

prepare   messages that depend on no opened value are computed and exchanged; steps, tables, memory and the beginning
          of the tape are made ready
online    prefetch  tape to memory, ahead of its use, within a budget of bytes
          evaluate  the steps of every segment, each as soon as its own openings are in: a brief one on the loop, a
                    longer one on a worker thread, which goes on until a step has to wait
          send      the only owner of its direction: frames in plan order, as their openings become ready
          receive   the only owner of its direction: every frame is compared with the plan before it is used

Without overlap a round's frames leave when all of the round has been evaluated, and the next round is evaluated when
all of the round is in.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import LocalError
from engine.fss.prg import SeedStream
from engine.graph import Node
from engine.kernels.interface import Kernels
from engine.memory import reserve, touch
from engine.parameters import Parameters
from engine.party import PartyCall, warm
from engine.scheduler.brief import brief
from engine.scheduler.frames import FrameSpec, frames
from engine.scheduler.link import Link
from engine.scheduler.mail import Inbox, Outbox
from engine.scheduler.pieces import PREFETCH_BYTES, PREPARE_BYTES, tape_blocks
from engine.scheduler.plan import Opening, Plan, PlannedCall, Segment
from engine.scheduler.shelf import Cursor, Shelf
from engine.scheduler.steps import Step, before, static_nodes, steps, working_bytes
from engine.scheduler.timeline import Timeline
from engine.scheduler.walk import Wire, walk
from engine.tape import TapeHeader

__all__ = ["Executor", "Run", "Tape"]

Bytes = NDArray[np.uint8]
Integers = dict[str, NDArray[np.int64]]
QUEUED = {"prepare": 8, "online": 64}
"""Frames that wait for the sender before evaluation waits for it."""
WORKING = 2
"""Times the memory that values take which is held ready: there are intermediate ones, frames, and gaps between them."""


class Tape(Protocol):
    """A tape that is read front to back."""

    header: TapeHeader

    def read(self, count: int) -> Bytes: ...


@lru_cache(maxsize=64)
def _static(segment: Segment, party: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    return static_nodes(segment, party)


@dataclass(slots=True)
class Run:
    """Where the online evaluation stands: `at` one of its `steps`, None after the last; `calls` are done, and some of
    them `told`. `over`: nobody waits for it any more."""

    outbox: Outbox
    steps: Iterator[tuple[PartyCall, Step]] = field(default=iter(()), repr=False)
    at: tuple[PartyCall, Step] | None = field(default=None, repr=False)
    outputs: Integers = field(default_factory=dict, repr=False)
    calls: int = 0
    told: int = 0
    over: bool = False

    def go_on(self) -> None:
        """To the next step."""
        self.at = next(self.steps, None)


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
    online_now: ClassVar[int] = 0
    """Runs of this process in their online phase."""
    _shelf: Shelf = field(init=False, repr=False)
    _specs: dict[tuple[int, str], tuple[FrameSpec, ...]] = field(default_factory=dict, repr=False)
    _own: dict[tuple[int, int], Bytes] = field(default_factory=dict, repr=False)
    _inbox: Inbox = field(default_factory=Inbox, repr=False)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "evaluate"), repr=False)
    _disk: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "prefetch"), repr=False)

    def __post_init__(self) -> None:
        for sender in (0, 1):
            for phase in QUEUED:
                self._specs[sender, phase] = tuple(frames(self.plan, sender, phase == "prepare"))
        self.link.allow(max((spec.size for specs in self._specs.values() for spec in specs), default=0))
        self._shelf = Shelf(tape_blocks(self.plan, self.party), self._read)

    async def prepare(self) -> None:
        """Exchange what does not depend on the input, then agree that the online phase begins."""
        outbox, memory = self._outbox("prepare"), list[Bytes]()
        try:
            with self.timeline.phase("prepare"):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._prepare_messages(outbox, memory))
                    group.create_task(self._fill())
                    group.create_task(self._send("prepare", outbox))
                    group.create_task(self._receive("prepare"))
                memory.clear()
                await self.link.control({"phase": "online"})
                await self.link.message("word that the other side is prepared")
        except BaseException:
            self._end_threads()
            raise

    async def online(self) -> Integers:
        """Run the plan; this party's outputs by name."""
        outbox = self._outbox("online")
        Executor.online_now += 1
        try:
            with self.timeline.phase("online"):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._prefetch())
                    evaluated = group.create_task(self._evaluate(outbox))
                    group.create_task(self._send("online", outbox))
                    group.create_task(self._receive("online"))
        finally:
            Executor.online_now -= 1
            self._end_threads()
        return evaluated.result()

    def _outbox(self, phase: str) -> Outbox:
        barrier = phase == "online" and not self.overlap
        return Outbox(self._specs[self.party, phase], QUEUED[phase], barrier)

    def _end_threads(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._disk.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------------ prepare
    async def _prepare_messages(self, outbox: Outbox, memory: list[Bytes]) -> None:
        segments = tuple(dict.fromkeys(call.segment for call in self.plan.calls))
        for segment in segments:
            await self._on(self._pool, self._warm, segment)
        memory += await self._on(self._pool, self._touched, segments)
        for call in self.plan.calls:
            state = self._state(call)
            for opening, nodes in _static(call.segment, self.party):
                message = await self._on(self._pool, self._static_message, state, opening, nodes)
                self._own[call.index, opening] = message
                outbox.put(call.index, opening, message)
                await outbox.room()

    def _warm(self, segment: Segment) -> None:
        for step in steps(segment, self.party):
            brief(segment, step)
        warm(segment)

    def _touched(self, segments: tuple[Segment, ...]) -> list[Bytes]:
        """Memory for the online phase, which nothing else takes as long as it is held."""
        memory = reserve(WORKING * max((working_bytes(s, self.party) for s in segments), default=0))
        touch(memory)
        return memory

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

    async def _evaluate(self, outbox: Outbox) -> Integers:
        run = Run(outbox)
        run.steps = self._steps(run)
        run.go_on()
        try:
            while run.at is not None:
                await self._arrive(*run.at)
                await outbox.room()
                await self._go_on(run)
                self._tell(run)
        finally:
            run.over = True
        return run.outputs

    def _steps(self, run: Run) -> Iterator[tuple[PartyCall, Step]]:
        """The steps of all calls, with the values of the wires between them."""
        states: dict[int, PartyCall] = {}
        known: dict[Wire, Any] = {}
        readers = Counter(wire for call in self.plan.calls for wire in call.call.inputs)
        for due in walk(self.plan, self.party, self.overlap):
            call, step = due.call, due.step
            if call.index not in states:
                states[call.index] = self._state(call)
            state = states.pop(call.index) if due.last else states[call.index]
            for index, wire in due.takes:
                readers[wire] -= 1
                state.values[index] = known[wire] if readers[wire] else known.pop(wire)
            yield state, step
            if due.gives is not None:
                known[due.gives] = state.values[call.segment.graph.outputs[step.wire]]
            run.outputs.update(state.outputs)
            run.calls = max(run.calls, call.index)
        run.calls = len(self.plan.calls)

    async def _go_on(self, run: Run) -> None:
        """Evaluate the step that is due: a brief one here, and what it sends leaves before the next; else on the
        thread, with those after it that are due as well."""
        assert run.at is not None
        state, step = run.at
        if self._for_loop(state.call.segment, step):
            self._evaluate_next(run)
            await asyncio.sleep(0)
        else:
            await self._on(self._pool, self._evaluate_due, run)

    def _for_loop(self, segment: Segment, step: Step) -> bool:
        """Whether the loop evaluates a step: a brief one, while this run is the only one that it serves."""
        return Executor.online_now == 1 and brief(segment, step)

    def _evaluate_due(self, run: Run) -> None:
        """On the evaluating thread."""
        while self._evaluate_next(run):
            pass

    def _evaluate_next(self, run: Run) -> bool:
        """A step; whether the next one is due. What comes next is found before a message leaves: the loop then has the
        processor to itself."""
        if run.at is None or run.over:
            return False
        state, step = run.at
        message = self._work(state, step)
        run.go_on()
        due = run.at is not None and not run.outbox.full and not any(self._awaited(*run.at))
        if message is not None:
            run.outbox.put(state.call.index, step.opening, message)
        return due

    def _tell(self, run: Run) -> None:
        for done in range(run.told + 1, run.calls + 1):
            if self.progress is not None:
                self.progress(done, len(self.plan.calls))
        run.told = run.calls

    async def _arrive(self, state: PartyCall, step: Step) -> None:
        """Until everything that a step needs of the peer is in."""
        call = state.call
        for o in self._awaited(state, step):
            number, gate = call.first_round + o.round, call.segment.graph[o.node].gate
            with self.timeline.span("wait", call.call.name, number, o.bytes, gate):
                await self._inbox.until((call.index, o.node))

    def _awaited(self, state: PartyCall, step: Step) -> Iterator[Opening]:
        """What a step needs of the peer and is not in yet."""
        segment, peer = state.call.segment, 1 - self.party
        needed = (segment.opening_of[index] for index in (*step.waits, *step.outputs))
        for o in needed if self.overlap else (*before(segment, step), *needed):
            if peer in (*o.senders, *o.static) and not self._inbox.has((state.call.index, o.node)):
                yield o

    def _work(self, state: PartyCall, step: Step) -> Bytes | None:
        call, graph = state.call, state.call.segment.graph
        number = call.segment.opening_of[step.opening].round if step.opening >= 0 else call.segment.rounds
        with self.timeline.stretch("evaluate", call.call.name, call.first_round + number) as stretch:
            for index in step.waits:
                stretch.next(graph[index].gate)
                self._complete(state, graph[index])
            chains = dict(step.chains)
            for index in step.nodes:
                stretch.next(graph[index].gate)
                if index in chains:
                    state.evaluate_chain(graph[index], chains[index])
                else:
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
        state.opened(node, self._own.pop(place, None), self._inbox.take(place))

    # ------------------------------------------------------------------ the wire
    async def _send(self, phase: str, outbox: Outbox) -> None:
        while outbox.left:
            spec, payload = await outbox.take()
            with self.timeline.span("send", self.plan.calls[spec.call].call.name, spec.round, spec.size):
                await self.link.data(phase, spec.round, spec.index, *payload)

    async def _receive(self, phase: str) -> None:
        for spec in self._specs[1 - self.party, phase]:
            call = self.plan.calls[spec.call]
            what = f"the openings of round {spec.round} ({call.call.name})"
            payload = await self.link.opening(what, spec.round, spec.index, spec.size)
            with self.timeline.span("receive", call.call.name, spec.round, spec.size):
                self._inbox.put(spec, payload, call.segment.opening_of)
            if phase == "online":
                self.link.rounds.add(spec.round)

    # ------------------------------------------------------------------ helpers
    def _state(self, call: PlannedCall) -> PartyCall:
        header = self.tape.header
        stream = SeedStream(self.kernels, header.seed)
        return PartyCall(self.party, call, self.kernels, stream, header.tape, self.parameters, dict(self.inputs))

    async def _on(self, pool: ThreadPoolExecutor, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *args)


def _no_tape(_count: int) -> Bytes:
    raise LocalError("a static message asks for tape: a bug in the planner")
