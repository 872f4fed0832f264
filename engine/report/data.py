"""What the page draws, as one JSON object: lanes in blocks, rounds, costs beside measured seconds, and what bounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from engine.report.blocks import BINS, WHOLE, Names, levels
from engine.report.bound import what_bounds
from engine.report.recording import GateCost, RecordedRun, Recording, Side, Sides

__all__ = ["page_data"]

Pair = list[float | None]


def page_data(recording: Recording) -> dict[str, Any]:
    """Everything but the result itself. Its size is bounded whatever the number of events: runs share a budget."""
    names, plans = Names(), dict[tuple[GateCost, ...], int]()
    shown = []
    share = max(1, len(recording.runs))
    whole, bins = WHOLE // share, [max(64, count // share) for count in BINS]
    for run in recording.runs:
        key = tuple(run.costs)
        number = plans.setdefault(key, len(plans))
        shown.append(_run(run, number, names, whole, bins))
    return {
        "title": recording.title, "what": recording.what, "facts": dict(recording.facts),
        "simulated": recording.simulated, "plans": [[c.as_dict() for c in costs] for costs in plans],
        "names": list(names.known), "runs": shown,
    }  # fmt: skip


def _run(run: RecordedRun, plan: int, names: Names, whole: int, bins: list[int]) -> dict[str, Any]:
    timed = [s for s in run.sides if s is not None and s.events]
    origin, online, end = _times(timed)
    predicted = _beside(run.predicted, online)
    end = max([end, *(s.online[1] for s in predicted if s is not None)])
    bound = what_bounds(run.sides, run.rates)

    def drawn(sides: Sides) -> list[Any]:
        return [None if s is None else levels(s.events, origin, end - origin, names, whole, bins) for s in sides]

    return {
        "name": run.name, "plan": plan, "totals": dict(run.totals), "span": end - origin, "online": online - origin,
        "sides": drawn(run.sides), "predicted": drawn(predicted),
        "rounds": _rounds(timed, origin, online), "seconds": _seconds(run.sides), "calls": _calls(timed, run, origin),
        "bound": None if bound is None else bound.as_dict(), "foretold": _foretold(run.predicted),
        "events": sum(len(s.events) for s in timed),
    }  # fmt: skip


def _times(sides: Iterable[Side]) -> tuple[float, float, float]:
    """When the first event began, when the online phase did, and when the last event ended."""
    known = list(sides)
    if not known:
        return 0.0, 0.0, 1e-6
    first = min(e.start for s in known for e in s.events)
    begins = [*(a for s in known for a, _ in s.phases.values()), first]
    ends = [*(b for s in known for _, b in s.phases.values()), *(e.stop for s in known for e in s.events)]
    return min(begins), min(s.online[0] for s in known), max(max(ends), first + 1e-6)


def _foretold(predicted: Sides) -> float | None:
    """Predicted seconds of the online phase, of the slower side."""
    return max((s.online[1] - s.online[0] for s in predicted if s is not None), default=None)


def _beside(predicted: Sides, online: float) -> Sides:
    """A prediction, whose clock is its own, from where the measured online phase begins."""
    known = [s for s in predicted if s is not None]
    if not known:
        return predicted
    by = online - min(s.online[0] for s in known)
    first, second = (None if s is None else s.moved(by) for s in predicted)
    return first, second


def _rounds(sides: list[Side], origin: float, online: float) -> list[dict[str, Any]]:
    """Each online round, when its last frame was in, and the bytes that each side sent, where it is known."""
    over: dict[int, float] = {}
    sent: dict[int, list[int]] = defaultdict(lambda: [0] * len(sides))
    for number, side in enumerate(sides):
        begin = side.online[0]
        for e in side.events:
            if e.lane in ("send", "receive") and e.start >= begin:
                over[e.round] = max(over.get(e.round, online), e.stop)
                if e.lane == "send":
                    sent[e.round][number] += e.bytes
    marks, latest = [], online
    for number in sorted(over):
        latest = max(latest, over[number])
        marks.append({"round": number, "over": round((latest - origin) * 1e6), "bytes": sent[number]})
    return marks


def _seconds(sides: Sides) -> list[dict[str, Any]]:
    """Measured seconds by call and gate: evaluating, and waiting for its openings, of each side."""
    found: dict[tuple[str, str], dict[str, Pair]] = {}
    for number, side in enumerate(sides):
        for e in side.events if side is not None else ():
            if e.lane in ("evaluate", "wait"):
                row = found.setdefault((e.what, e.gate), {"evaluate": [None, None], "wait": [None, None]})
                row[e.lane][number] = (row[e.lane][number] or 0.0) + e.stop - e.start
    return [{"call": call, "gate": gate, **row} for (call, gate), row in found.items()]


def _calls(sides: list[Side], run: RecordedRun, origin: float) -> list[dict[str, Any]]:
    """Of every call: from the first to the last instant that a side evaluated it or waited for it, as measured and as
    predicted."""
    spans, foretold = _spans(sides), _spans(s for s in run.predicted if s is not None)
    names = dict.fromkeys([*(c.call for c in run.costs), *spans, *foretold])
    return [
        {
            "call": name, "at": [round((t - origin) * 1e6) for t in spans[name]] if name in spans else None,
            "elapsed": _length(spans.get(name)), "predicted": _length(foretold.get(name)),
        }
        for name in names
    ]  # fmt: skip


def _spans(sides: Iterable[Side]) -> dict[str, tuple[float, float]]:
    spans: dict[str, tuple[float, float]] = {}
    for side in sides:
        for e in side.events:
            if e.lane in ("evaluate", "wait"):
                start, stop = spans.get(e.what, (e.start, e.stop))
                spans[e.what] = min(start, e.start), max(stop, e.stop)
    return spans


def _length(span: tuple[float, float] | None) -> float | None:
    return None if span is None else span[1] - span[0]
