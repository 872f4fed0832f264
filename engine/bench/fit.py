"""From measured pieces of work to what a unit of each feature takes: non-negative least squares, operation by
operation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Fitted", "Sample", "fit", "fitted", "non_negative"]

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """One piece of work and the seconds that it took."""

    work: Mapping[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """How well one operation's costs explain its samples: seconds measured in all, and the sum of the absolute
    differences."""

    operation: str
    samples: int
    seconds: float
    missed: float

    def as_dict(self) -> dict[str, object]:
        return {"operation": self.operation, "pieces": self.samples, "seconds": self.seconds, "missed": self.missed}


def fit(samples: Iterable[Sample]) -> dict[str, float]:
    """Seconds for a unit of every feature that occurs. Every sample is of one operation: the first word of its
    features."""
    groups: dict[str, list[Sample]] = {}
    for s in samples:
        groups.setdefault(_operation(s), []).append(s)
    costs: dict[str, float] = {}
    for rows in groups.values():
        names = sorted({name for s in rows for name in s.work})
        matrix = np.array([[s.work.get(name, 0.0) for name in names] for s in rows])
        costs |= zip(names, non_negative(matrix, np.array([s.seconds for s in rows])).tolist(), strict=True)
    return costs


def fitted(samples: Sequence[Sample], costs: Mapping[str, float]) -> list[Fitted]:
    """How good `costs` are, by operation."""
    out = []
    for operation in sorted({_operation(s) for s in samples}):
        rows = [s for s in samples if _operation(s) == operation]
        missed = sum(abs(s.seconds - sum(costs[k] * v for k, v in s.work.items())) for s in rows)
        out.append(Fitted(operation, len(rows), sum(s.seconds for s in rows), missed))
    return out


def _operation(s: Sample) -> str:
    return next(iter(s.work)).partition(".")[0]


def non_negative(matrix: Matrix, seconds: Matrix) -> Matrix:
    """argmin |(A x - t) / sqrt(t)| with x >= 0: long samples count more than short ones, but these are not lost.

    Columns whose coefficient comes out negative are left out, the worst first."""
    weight = 1 / np.sqrt(np.maximum(seconds, 1e-7))
    scale = np.maximum(np.abs(matrix).max(0), 1.0)
    a, t = matrix / scale * weight[:, None], seconds * weight
    kept = [j for j in range(a.shape[1]) if a[:, j].any()]
    out = np.zeros(a.shape[1])
    while kept:
        x = np.linalg.lstsq(a[:, kept], t, rcond=None)[0]
        if (x >= 0).all():
            out[kept] = x
            break
        kept.pop(int(np.argmin(x)))
    costs: Matrix = out / scale
    return costs
