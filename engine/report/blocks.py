"""Events as blocks for drawing: as they are where they are few, gathered at several resolutions where they are many.

A level divides the run into bins; consecutive events of a lane that begin in one bin become one block, which knows how
many they were, how long they were busy, their bytes and rounds. A level has at most one block a bin and lane, so that a
page of a million events is as small as one of a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.scheduler.timeline import LANES, Event

__all__ = ["Names", "levels"]

Ints = NDArray[np.int64]
WHOLE = 24_000
"""Events of one party's run that a page holds as they are."""
BINS = (1 << 10, 1 << 13)
"""Bins of the coarser levels."""


class Names:
    """Strings by number, in order of first use."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def number(self, name: str) -> int:
        return self.known.setdefault(name, len(self.known))


@dataclass(frozen=True, slots=True)
class _Columns:
    """The events of one lane by start; times in whole microseconds from the origin."""

    start: Ints
    stop: Ints
    call: Ints
    gate: Ints
    round: Ints
    bytes: Ints


def levels(
    events: Sequence[Event], origin: float, span: float, names: Names, whole: int = WHOLE, bins: Sequence[int] = BINS
) -> list[dict[str, Any]]:
    """One entry a level, coarse to fine: {"bin": microseconds (0: events as they are), "lanes": {lane: columns}}.

    Columns are lists of equal length: start, duration, busy (microseconds), call, gate (numbers in `names`), round,
    last (round), bytes, count. The last level holds the events themselves if there are at most `whole` of them."""
    lanes = {lane: _columns([e for e in events if e.lane == lane], origin, names) for lane in LANES}
    sizes = [max(1, round(span * 1e6 / count)) for count in bins]
    if len(events) <= whole:
        sizes = [size for size, count in zip(sizes, bins, strict=True) if len(events) > count] + [0]
    return [{"bin": size, "lanes": {lane: _gathered(c, size) for lane, c in lanes.items()}} for size in sizes]


def _columns(events: list[Event], origin: float, names: Names) -> _Columns:
    events.sort(key=lambda e: e.start)
    times = np.array([(e.start, e.stop) for e in events], np.float64).reshape(-1, 2)
    start, stop = np.rint((times - origin) * 1e6).astype(np.int64).T
    rest = [(names.number(e.what), names.number(e.gate), e.round, e.bytes) for e in events]
    call, gate, number, size = np.array(rest, np.int64).reshape(-1, 4).T
    return _Columns(start, stop, call, gate, number, size)


def _gathered(c: _Columns, size: int) -> dict[str, list[int]]:
    """Blocks of one lane. size: microseconds of a bin, 0 for every event on its own."""
    if not c.start.size:
        return {}
    bin_of = c.start // size if size else np.arange(c.start.size)
    first = np.flatnonzero(np.r_[True, bin_of[1:] != bin_of[:-1]])
    count = np.diff(np.r_[first, c.start.size])
    stop = np.maximum.reduceat(c.stop, first)
    columns = {
        "start": c.start[first], "duration": stop - c.start[first],
        "busy": np.minimum(np.add.reduceat(c.stop - c.start, first), stop - c.start[first]),
        "call": c.call[first], "gate": c.gate[first], "round": np.minimum.reduceat(c.round, first),
        "last": np.maximum.reduceat(c.round, first), "bytes": np.add.reduceat(c.bytes, first), "count": count,
    }  # fmt: skip
    return {name: values.tolist() for name, values in columns.items()}
