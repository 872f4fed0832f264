"""Sets of instants: unions of intervals, and how much of an interval a union covers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Union"]

Times = NDArray[np.float64]


class Union:
    """The union of intervals (start, stop) within a window, as disjoint ones in order."""

    def __init__(self, intervals: Iterable[tuple[float, float]], window: tuple[float, float]) -> None:
        rows = np.clip(np.array(sorted(intervals), np.float64).reshape(-1, 2), *window)
        reach = np.maximum.accumulate(rows[:, 1]) if rows.size else rows[:, 1]
        first = np.flatnonzero(np.r_[True, rows[1:, 0] > reach[:-1]]) if rows.size else np.zeros(0, np.int64)
        self.start: Times = rows[first, 0]
        self.stop: Times = reach[np.r_[first[1:] - 1, len(rows) - 1]] if rows.size else rows[:, 1]
        self._edges = np.column_stack([self.start, self.stop]).reshape(-1)
        grown = np.cumsum(self.stop - self.start)
        self._covered = np.column_stack([np.r_[0.0, grown[:-1]], grown]).reshape(-1) if rows.size else self._edges

    @property
    def total(self) -> float:
        return float((self.stop - self.start).sum())

    def until(self, t: Times) -> Times:
        """How much of the union lies before each of these instants."""
        if not self._edges.size:
            return np.zeros_like(t)
        covered: Times = np.interp(t, self._edges, self._covered)
        return covered

    def free(self, start: Times, stop: Times) -> Times:
        """How much of each interval [start, stop) the union leaves uncovered."""
        left: Times = (stop - start) - (self.until(stop) - self.until(start))
        return np.maximum(left, 0.0)
