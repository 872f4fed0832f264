"""Both parties of a plan in lockstep, each piece of their work timed: what a device is calibrated from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.bench.fit import Sample
from engine.dealer import deal
from engine.fss.prg import SeedStream
from engine.graph import Node
from engine.kernels.interface import Kernels
from engine.parameters import Small, small_integers
from engine.party import PartyCall
from engine.ring import to_signed
from engine.scheduler.plan import Plan, PlannedCall, Segment
from engine.tape import MemoryTape, TapeHeader
from engine.testing.local import Setup, setup_weights
from simulators.work import Work, evaluated, message, opened

__all__ = ["Lockstep", "drawn_values", "drawn_weights"]

SEEDS = (b"lockstep seed 00", b"lockstep seed 01")
TAPE = b"lockstep tape id"
Place = tuple[int, int, int, str]  # call, node, party, which piece


@dataclass(slots=True)
class Lockstep:
    """A plan with drawn inputs and weights, and two tapes that are dealt anew for each run. Values do not change what
    a piece of work takes: no branch depends on them.

    `least`: of every piece, the least seconds over the runs; `dealt`: of dealing, likewise."""

    plan: Plan
    kernels: Kernels = field(repr=False)
    clock: Callable[[], float] = time.thread_time
    least: dict[Place, tuple[Work, float]] = field(default_factory=dict, repr=False)
    dealt: float = float("inf")
    _drawn: tuple[Setup, dict[str, Any]] | None = field(default=None, repr=False)

    def run(self) -> None:
        """Deal, and walk through the plan once."""
        self._drawn = self._drawn or self._draw()
        setup, inputs = self._drawn
        tapes = self._deal(setup)
        wires: list[list[list[Any]]] = []
        for call in self.plan.calls:
            states = [self._state(p, call, setup, inputs) for p in (0, 1)]
            for p, state in enumerate(states):
                for wire, (source, position) in zip(call.segment.graph.inputs(), call.call.inputs, strict=True):
                    state.values[wire.index] = wires[source][p][position]
            self._walk(call, states, tapes)
            wires.append([[s.values[i] for i in call.segment.graph.outputs] for s in states])

    def samples(self) -> list[Sample]:
        return [Sample(work, seconds) for work, seconds in self.least.values() if work]

    def _draw(self) -> tuple[Setup, dict[str, Any]]:
        """Weights, masked as at pairing, and inputs: the same in every run."""
        rng = np.random.default_rng(1)
        setup = setup_weights(self.plan, drawn_weights(self.plan, rng), self.kernels, bytes(16))
        return setup, {n.text("name"): drawn_values(n, rng) for n in _nodes(self.plan) if n.op == "input"}

    def _deal(self, setup: Setup) -> list[MemoryTape]:
        headers = [TapeHeader(p, self.plan.digest, TAPE, SEEDS[p], self.plan.tape_bytes[p]) for p in (0, 1)]
        tapes = [MemoryTape(h) for h in headers]
        start = self.clock()
        deal(self.plan, self.kernels, SEEDS, TAPE, setup.dealer, (tapes[0], tapes[1]))
        self.dealt = min(self.dealt, self.clock() - start)
        return tapes

    def _state(self, p: int, call: PlannedCall, setup: Setup, inputs: Mapping[str, Any]) -> PartyCall:
        stream = SeedStream(self.kernels, SEEDS[p])
        return PartyCall(p, call, self.kernels, stream, TAPE, setup.parties[p], dict(inputs))

    def _walk(self, call: PlannedCall, states: list[PartyCall], tapes: list[MemoryTape]) -> None:
        s = call.segment
        for position, index in enumerate(s.schedule.order):
            node = s.graph[index]
            for p, state in enumerate(states):
                size = s.needs[index].tape[p]
                chunk = tapes[p].read(size) if size else np.empty(0, np.uint8)
                self._timed((call.index, index, p, "evaluate"), s, state.evaluate, node, _reader(chunk))
            if node.opening:
                self._exchange(call, node, states)
            for i in (i for i in node.inputs if s.last_use.get(i) == position):
                for state in states:
                    state.forget(i)

    def _exchange(self, call: PlannedCall, node: Node, states: list[PartyCall]) -> None:
        opening = call.segment.opening_of[node.index]
        sent: list[Any] = [None, None]
        for p in (*opening.senders, *opening.static):
            sent[p] = self._timed((call.index, node.index, p, "message"), call.segment, states[p].message, node)
        for p in (0, 1):
            place = (call.index, node.index, p, "open")
            self._timed(place, call.segment, states[p].opened, node, sent[p], sent[1 - p])

    def _timed(self, place: Place, s: Segment, function: Callable[..., Any], *args: Any) -> Any:
        start = self.clock()
        result = function(*args)
        seconds = self.clock() - start
        work, least = self.least.get(place) or (_work(s, place), seconds)
        self.least[place] = work, min(seconds, least)
        return result


def _work(s: Segment, place: Place) -> Work:
    """Of a piece that is timed for the first time."""
    _, index, party, piece = place
    if piece == "message":
        return message(s.graph[index])
    if piece == "open":
        return opened(s, index, party)
    return {} if s.graph[index].op in ("input", "open") else evaluated(s, index, party)


def _reader(chunk: Any) -> Callable[[int], Any]:
    at = 0

    def read(count: int) -> Any:
        nonlocal at
        at += count
        return chunk[at - count : at]

    return read


def _nodes(plan: Plan) -> list[Node]:
    return [n for s in plan.program.segments for n in s.graph]


def drawn_values(node: Node, rng: np.random.Generator) -> Any:
    """Integers within a wire's bound."""
    words = rng.integers(0, 1 << 64, node.type.shape, np.uint64, endpoint=False) if node.type.ring == 64 else None
    bits = max(min(node.type.bound, 1 << 62).bit_length() - 1, 1)
    words = rng.integers(0, 1 << bits, node.type.shape, np.uint64) if words is None else words >> np.uint64(64 - bits)
    return to_signed(words, bits)


def drawn_weights(plan: Plan, rng: np.random.Generator) -> dict[str, Small]:
    """By complete name, as narrow as trained ones are."""
    out: dict[str, Small] = {}
    for call in plan.calls:
        for node in call.segment.graph.weights():
            bits = min(node.type.bound.bit_length() - 1, 15)
            values = rng.integers(-(1 << bits), 1 << bits, node.type.shape)
            out[call.call.prefix + node.text("name")] = small_integers(values)
    return out
