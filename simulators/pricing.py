"""What every part of a plan takes on a device: steps, static messages, blocks of tape and frames, each found once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.scheduler.pieces import tape_blocks
from engine.scheduler.plan import Plan, Segment
from engine.scheduler.steps import Step, static_nodes, steps
from engine.scheduler.timeline import Event
from simulators.device import Device
from simulators.work import Work, chained, evaluated, message, opened

__all__ = ["Priced", "Pricing"]

Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Priced:
    """A step, its seconds, the pieces of these that belong to one gate after another, and the bytes of tape that it
    takes."""

    step: Step
    seconds: float
    gates: tuple[tuple[str, float], ...]
    tape: int

    @property
    def gate(self) -> str:
        """Whose message it ends in, or else whose work came last."""
        return self.gates[-1][0] if self.gates else ""

    def events(self, call: str, round: int, start: float, stop: float) -> Iterator[Event]:
        """Of a step that took from `start` to `stop`: one for each gate that it worked for, in proportion."""
        whole = sum(seconds for _, seconds in self.gates)
        slower = (stop - start) / whole if whole else 0.0
        for gate, seconds in self.gates:
            until = start + slower * seconds
            yield Event("evaluate", call, start, until, round, 0, gate)
            start = until


class Pricing:
    """Layers share segments, so that most calls are priced already."""

    def __init__(self, plan: Plan, device: Device, transport: str, emulated: bool = False) -> None:
        self.plan, self.device, self.transport, self.emulated = plan, device, transport, emulated
        self._number = {id(s): i for i, s in enumerate(plan.program.segments)}
        self._steps: dict[Key, tuple[Priced, ...]] = {}
        self._static: dict[Key, tuple[tuple[int, float], ...]] = {}
        self._blocks: dict[int, tuple[tuple[int, int], ...]] = {}

    def frame(self, size: int) -> float:
        return self.device.frame(self.transport, size, self.emulated)

    def steps(self, s: Segment, party: int) -> tuple[Priced, ...]:
        """The online steps of a party."""
        key = (self._number[id(s)], party)
        if key not in self._steps:
            self._steps[key] = tuple(self._priced(s, step, party) for step in steps(s, party))
        return self._steps[key]

    def _priced(self, s: Segment, step: Step, party: int) -> Priced:
        parts: list[tuple[int, Work]] = [(i, opened(s, i, party)) for i in step.waits]
        chains = dict(step.chains)
        parts += [(i, chained(s.graph[i], chains[i]) if i in chains else evaluated(s, i, party)) for i in step.nodes]
        parts += [(i, opened(s, i, party)) for i in step.outputs]
        parts += [(step.opening, message(s.graph[step.opening]))] if step.opening >= 0 else []
        cuts: list[tuple[str, float]] = []
        for index, work in parts:
            gate, seconds = s.graph[index].gate, self.device.seconds(work)
            before = cuts.pop()[1] if cuts and cuts[-1][0] == gate else 0.0
            cuts.append((gate, before + seconds))
        total = self.device.seconds({"step": 1}) + sum(seconds for _, seconds in cuts)
        return Priced(step, total, tuple(cuts), sum(s.needs[i].tape[party] for i in step.nodes))

    def static(self, s: Segment, party: int) -> tuple[tuple[int, float], ...]:
        """Openings that a party sends in the prepare phase, and the seconds of each."""
        key = (self._number[id(s)], party)
        if key not in self._static:
            found = static_nodes(s, party)
            self._static[key] = tuple((o, self._message(s, o, nodes, party)) for o, nodes in found)
        return self._static[key]

    def _message(self, s: Segment, opening: int, nodes: tuple[int, ...], party: int) -> float:
        parts: list[Work] = [{"step": 1}, *(evaluated(s, i, party) for i in nodes), message(s.graph[opening])]
        return sum(self.device.seconds(work) for work in parts)

    def blocks(self, party: int) -> tuple[tuple[int, int], ...]:
        """(call that it begins in, bytes) of the blocks in which a tape is read."""
        if party not in self._blocks:
            self._blocks[party] = tuple(tape_blocks(self.plan, party))
        return self._blocks[party]
