"""Spans of a replay, each with what it had to wait for, and the critical path that they add up to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Leg", "Span", "critical_path", "latest"]


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Something that took time. lane: evaluate, prefetch, send, transmit, delay or receive; party: who did it, or whose
    message travels; cause: what ended last of all that it waited for."""

    lane: str
    call: str
    gate: str
    party: int
    start: float
    stop: float
    cause: Span | None


@dataclass(frozen=True, slots=True)
class Leg:
    """A part of the critical path: how long the run was bound by a lane for a gate of a call, and how often."""

    lane: str
    call: str
    gate: str
    seconds: float
    times: int

    def as_dict(self) -> dict[str, object]:
        return {
            "lane": self.lane, "call": self.call, "gate": self.gate, "seconds": self.seconds, "times": self.times,
        }  # fmt: skip


def latest(*spans: Span | None) -> Span | None:
    """The one that ended last; the first of several."""
    found = [s for s in spans if s is not None]
    return max(found, key=lambda s: s.stop, default=None)


def critical_path(last: Span | None, begin: float) -> tuple[Leg, ...]:
    """The chain of causes that ends in `last`, back to `begin`, summed by lane, call and gate, in the order of the run.

    Each span counts from the end of its cause on, so that the legs add up to the whole time."""
    legs: dict[tuple[str, str, str], tuple[float, int]] = {}
    for span, since in reversed(list(_chain(last, begin))):
        key = (span.lane, span.call, span.gate)
        seconds, times = legs.get(key, (0.0, 0))
        legs[key] = (seconds + span.stop - since, times + 1)
    return tuple(Leg(*key, *value) for key, value in legs.items())


def _chain(last: Span | None, begin: float) -> Iterator[tuple[Span, float]]:
    """Spans from the last one back, each with the time from which it counts."""
    span = last
    while span is not None and span.stop > begin:
        before = span.cause.stop if span.cause is not None else span.start
        yield span, max(before, begin)
        span = span.cause
