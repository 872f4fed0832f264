"""What a run is doing now, from its plan and its timeline: what the live view shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from engine.scheduler.plan import Plan
from engine.scheduler.timeline import Timeline

__all__ = ["Observer", "Status"]

WINDOW = 1.0
"""Seconds over which bytes per second are averaged."""


@dataclass(frozen=True, slots=True)
class Status:
    """Round `round` of `rounds`; `doing` in words; bytes per second in both directions over the last second; share of
    the work done; seconds that are left at this pace, None while nobody can say."""

    round: int
    rounds: int
    doing: str
    rate: float
    share: float
    left: float | None


class Observer:
    """Looks at one party's run. Safe while other threads append to the timeline."""

    def __init__(self, plan: Plan, party: int, timeline: Timeline) -> None:
        self.plan, self.party, self.timeline = plan, party, timeline
        self._round, self._heard, self._seen = 0, 0, 0

    def status(self) -> Status:
        """As of now, on the timeline's clock."""
        now, active = self.timeline.clock(), dict(self.timeline.active)
        self._look()
        current = max((number for _, number in active.values()), default=0)
        if "prepare" in self.timeline.phases:
            lanes = ("wait", "evaluate")
            current = max((active[lane][1] for lane in lanes if lane in active), default=current)
            self._round = max(self._round, current)
        share = self._share()
        return Status(
            self._round, self.plan.rounds, self._doing(active), self._rate(now), share, self._left(now, share)
        )

    def _look(self) -> None:
        """Take note of the events since the last look."""
        events = self.timeline.events
        while self._seen < len(events):
            e = events[self._seen]
            self._seen += 1
            if e.lane == "receive" and "prepare" in self.timeline.phases:
                self._heard = max(self._heard, e.round)
            elif e.lane == "evaluate":
                self._round = max(self._round, e.round)

    def _doing(self, active: dict[str, tuple[str, int]]) -> str:
        me, peer = f"P{self.party}", f"P{1 - self.party}"
        if "online" in self.timeline.phases:
            return "done"
        if "prepare" not in self.timeline.phases:
            return "preparing"
        if "wait" in active:
            return f"{me} waits for {peer}: {active['wait'][0]}"
        if "evaluate" in active:
            waits = f", {peer} waits" if self._heard >= active["evaluate"][1] else ""
            return f"{me} evaluates {active['evaluate'][0]}{waits}"
        return f"{me} waits for its tape"

    def _rate(self, now: float) -> float:
        total = 0
        for e in reversed(self.timeline.events):
            if e.stop < now - WINDOW:
                break
            if e.lane in ("send", "receive"):
                total += e.bytes
        return total / WINDOW

    @cached_property
    def _weights(self) -> list[float]:
        """Work up to the end of each round: tape of a call spread evenly over its rounds, and a little for a round."""
        whole, least = [0.0], max(sum(self.plan.tape_bytes), 1) / max(self.plan.rounds, 1) / 10
        for call in self.plan.calls:
            rounds = max(call.segment.rounds, 1)
            for _ in range(call.segment.rounds):
                whole.append(whole[-1] + sum(call.segment.tape) / rounds + least)
        return whole

    def _share(self) -> float:
        if "online" in self.timeline.phases:
            return 1.0
        done = min(max(self._round - 1, 0), len(self._weights) - 1)
        return self._weights[done] / max(self._weights[-1], 1e-12)

    def _left(self, now: float, share: float) -> float | None:
        if "prepare" not in self.timeline.phases or share <= 0:
            return None
        since = now - self.timeline.phases["prepare"][1]
        return max(0.0, since * (1 - share) / share)
