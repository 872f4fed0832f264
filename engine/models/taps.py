"""The ranges of every tapped value over many texts: what bounds, widths and table spans are chosen from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.errors import InputError
from engine.models.checkpoint import Array, Checkpoint
from engine.models.reference import TokenIds, answer

__all__ = ["Range", "Ranges", "measure"]


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest value seen, both finite."""

    low: float
    high: float

    @property
    def magnitude(self) -> float:
        """The largest |x| seen."""
        return max(-self.low, self.high)

    def union(self, other: Range) -> Range:
        """The smallest range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


@dataclass(slots=True)
class Ranges:
    """Ranges by tap and layer (see the table in `reference`). An instance is itself a tap: it widens as it observes.

    Iterating gives (tap, layer, range) sorted by tap and layer; two instances are equal if they hold the same ranges.
    """

    _seen: dict[tuple[str, int], Range] = field(default_factory=dict)

    def __call__(self, name: str, layer: int, array: Array) -> None:
        """Takes in one tapped array. Raises InputError if a value is not finite."""
        low, high = float(np.min(array)), float(np.max(array))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InputError(f"{name} of layer {layer} is not finite: the weights overflow")
        self._widen((name, layer), Range(low, high))

    def __iter__(self) -> Iterator[tuple[str, int, Range]]:
        for (name, layer), seen in sorted(self._seen.items()):
            yield name, layer, seen

    def layer(self, name: str, layer: int) -> Range:
        """The range of one tap in one layer. Raises InputError if it was never observed."""
        if (name, layer) not in self._seen:
            raise InputError(f"no range was observed for {name} of layer {layer}")
        return self._seen[name, layer]

    def overall(self, name: str) -> Range:
        """The range of one tap over all layers. Raises InputError if it was never observed."""
        layers = [seen for (tap, _), seen in self._seen.items() if tap == name]
        if not layers:
            raise InputError(f"no range was observed for {name}")
        return Range(min(r.low for r in layers), max(r.high for r in layers))

    def merge(self, other: Ranges) -> None:
        """Widens this by everything that the other has seen."""
        for name, layer, seen in other:
            self._widen((name, layer), seen)

    def to_json(self) -> str:
        """{tap: {layer: [low, high]}}, sorted; equal ranges give equal text, and no digit is lost."""
        taps: dict[str, dict[str, list[float]]] = {}
        for name, layer, seen in self:
            taps.setdefault(name, {})[str(layer)] = [seen.low, seen.high]
        return json.dumps(taps, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Ranges:
        """The inverse of `to_json`. Raises InputError for anything else."""
        try:
            taps = json.loads(text)
            return cls({(n, int(layer)): _range(pair) for n, layers in taps.items() for layer, pair in layers.items()})
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"these are not saved ranges: {error}") from error

    def _widen(self, key: tuple[str, int], seen: Range) -> None:
        old = self._seen.get(key)
        self._seen[key] = seen if old is None else old.union(seen)


def measure(checkpoint: Checkpoint, sequences: Iterable[TokenIds]) -> Ranges:
    """The ranges of the float model over token sequences, pooling and head included. Raises InputError."""
    ranges = Ranges()
    for ids in sequences:
        answer(checkpoint, ids, ranges)
    return ranges


def _range(pair: Any) -> Range:
    low, high = pair
    if not all(isinstance(x, float | int) and math.isfinite(x) for x in (low, high)) or low > high:
        raise ValueError("a range must be two finite numbers, the smaller first")
    return Range(float(low), float(high))
