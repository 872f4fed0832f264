"""What is known of one or more runs, as plain data: what the page and the trace are made from.

Times are seconds of the parties' clocks. Two processes of one machine share a clock; the clocks of two machines are
aligned by what crossed (`aligned`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from engine.cost import Cost, by_gate
from engine.errors import InputError
from engine.scheduler.plan import Plan
from engine.scheduler.timeline import Event, Timeline

__all__ = [
    "ROLES",
    "GateCost",
    "Rates",
    "RecordedRun",
    "Recording",
    "Side",
    "Sides",
    "aligned",
    "beside",
    "gate_costs",
    "merged",
]

ROLES = ("P0, client", "P1, model owner")


@dataclass(frozen=True, slots=True)
class Side:
    """What one party did. `phases`: when `prepare` and `online` began and ended."""

    events: Sequence[Event] = field(repr=False)
    phases: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @staticmethod
    def of(timeline: Timeline) -> Side:
        return Side(tuple(timeline.events), dict(timeline.phases))

    @property
    def online(self) -> tuple[float, float]:
        """When the online phase began and ended; without a mark, everything."""
        if "online" in self.phases:
            return self.phases["online"]
        return min((e.start for e in self.events), default=0.0), max((e.stop for e in self.events), default=0.0)

    def moved(self, by: float) -> Side:
        """The same on a clock that shows `by` seconds more."""
        if by == 0:
            return self
        events = tuple(replace(e, start=e.start + by, stop=e.stop + by) for e in self.events)
        return Side(events, {name: (a + by, b + by) for name, (a, b) in self.phases.items()})


Sides = tuple[Side | None, Side | None]
Rates = tuple[float, float]


@dataclass(frozen=True, slots=True)
class GateCost:
    """Planned costs of one file of gates in one call."""

    call: str
    cost: Cost

    def as_dict(self) -> dict[str, object]:
        row = self.cost.as_dict()
        del row["headroom"]
        return {"call": self.call, "gate": row.pop("name"), **row}


def gate_costs(plan: Plan) -> tuple[GateCost, ...]:
    """Every gate of every call, in plan order. Their sums are those of `cost.by_layer`."""
    known = {id(c.segment): by_gate(c.segment) for c in plan.calls}
    return tuple(GateCost(c.call.name, cost) for c in plan.calls for cost in known[id(c.segment)])


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One run. `totals` are the fields of its --json; `predicted` is a simulator's word on it, if one was asked, on a
    clock of its own; `tape` identifies the run on both sides; `rates`: bits per second that the network carries from P0
    and from P1, where that is known."""

    name: str
    costs: tuple[GateCost, ...] = field(repr=False)
    sides: Sides = field(repr=False)
    totals: Mapping[str, Any] = field(repr=False)
    predicted: Sides = field(default=(None, None), repr=False)
    tape: str = ""
    rates: Rates | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """`title`, `what` and `facts` say what ran; `result` is the command's JSON without texts and outputs. `simulated`:
    no run, only a prediction of one."""

    title: str
    what: str
    facts: Mapping[str, str]
    result: Mapping[str, Any] = field(repr=False)
    runs: tuple[RecordedRun, ...] = field(repr=False)
    simulated: bool = False


def beside(recording: Recording, predicted: Sides, said: str) -> Recording:
    """The recording with one prediction for all its runs; `said`: what it says, in a phrase."""
    runs = tuple(replace(run, predicted=predicted) for run in recording.runs)
    return replace(recording, runs=runs, facts={**recording.facts, "predicted online": said})


def aligned(sides: Sides) -> Sides:
    """Both sides on P0's clock. The k-th frame that one sends is the k-th that the other receives: if some frame
    arrived before it was sent, the clocks differ, and P1's is moved so that the quickest frames of both directions took
    equally long."""
    first, second = sides
    if first is None or second is None:
        return sides
    there, back = _quickest(first, second), _quickest(second, first)
    if there is None or back is None or (there >= 0 and back >= 0):
        return sides
    return first, second.moved((back - there) / 2)


def _quickest(sender: Side, receiver: Side) -> float | None:
    sent = (e.start for e in sender.events if e.lane == "send")
    received = (e.start for e in receiver.events if e.lane == "receive")
    return min((b - a for a, b in zip(sent, received, strict=False)), default=None)


def merged(recordings: Sequence[Recording]) -> Recording:
    """The runs of the first, with what the others know of the same runs' other sides. Raises InputError."""
    first, *others = recordings
    theirs = {run.tape: run for r in others for run in r.runs if run.tape}
    runs = tuple(_joined(run, theirs[run.tape]) if run.tape in theirs else run for run in first.runs)
    if others and not any(run.tape in theirs for run in runs):
        raise InputError("these traces are of different runs: none of their tapes is in both")
    return replace(first, runs=runs)


def _joined(run: RecordedRun, other: RecordedRun) -> RecordedRun:
    if [c.as_dict() for c in islice(run.costs, 8)] != [c.as_dict() for c in islice(other.costs, 8)]:
        raise InputError(f"the two traces of the run {run.name!r} are of different plans")
    sides = (run.sides[0] or other.sides[0], run.sides[1] or other.sides[1])
    return replace(run, sides=aligned(sides))
