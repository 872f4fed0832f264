"""Choosing the variants of a plan by predicted time: every combination is planned and predicted, none is assumed.

Rounds do not simply add up: where only one party sends in a round, the other is ahead by half a round trip, and a
variant that removes a round may give back nothing, or two together more than each alone. So combinations are compared,
not variants one by one. Then one thing after another of the best is changed, until no single change helps; this brings
in what has little to do with rounds, such as bands and frames. What comes out is a name in a compiled model; nobody
needs to find it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.cost import Cost, plan_cost
from engine.errors import InputError
from engine.scheduler.plan import Plan
from engine.variants import BANDS, DEFAULT, FRAMES, NAMED, OPTIONS, Variants, combinations

__all__ = ["SHORT_ROW", "Candidate", "Choice", "choose", "sensible"]

SHORT_ROW = 8
"""Scores of a row for which a tournament is thought of: it takes two rounds for every doubling."""

KINDS: Mapping[str, Sequence[str | int]] = {**OPTIONS, "bands": BANDS, "frame": FRAMES}

Build = Callable[[Variants], Plan]
Predict = Callable[[Plan], float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan of one set of variants: its costs, and the seconds that it is predicted to take online."""

    variants: Variants
    cost: Cost
    seconds: float

    @property
    def rank(self) -> tuple[int, int, int, str]:
        """Time in whole microseconds, so that the last bit of a float decides nothing; then rounds, tape, the name."""
        return round(self.seconds * 1e6), self.cost.rounds, sum(self.cost.tape), str(self.variants)

    def as_dict(self) -> dict[str, Any]:
        c = self.cost
        return {
            "variants": str(self.variants), "rounds": c.rounds, "bytes_sent": list(c.online),
            "tape_bytes": list(c.tape), "aes_steps": c.aes, "seconds": self.seconds,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """The best candidate, all that were predicted by name, and why others could not be planned."""

    best: Candidate
    candidates: dict[str, Candidate]
    refused: dict[str, str]

    def instead(self) -> list[tuple[str, str, Candidate | None]]:
        """(kind, variant, the plan that is otherwise the best) for every variant of every kind; None if impossible."""
        return [
            (kind, str(name), self.candidates.get(str(_but(self.best.variants, kind, name))))
            for kind, names in KINDS.items()
            for name in names
        ]


def sensible(lengths: Sequence[int]) -> list[Variants]:
    """The combinations to compare for sequences of these lengths. What is left out (opened factors, tournaments of long
    rows, bands, frames) changes little with the rest, and comes in as single changes of the best."""
    short = max(lengths) <= SHORT_ROW
    every = [v for v in combinations() if v.scaling == DEFAULT.scaling and (short or v.maximum != "tournament")]
    return list(dict.fromkeys([*every, *NAMED.values()]))


def choose(
    build: Build, predict: Predict, among: Iterable[Variants], progress: Callable[[int, int], None] | None = None
) -> Choice:
    """The fastest of `among` as predicted, changed in one thing at a time as long as that makes it faster.

    `build` raises InputError where a model cannot have a combination, or where one needs more bits than a ring has
    (TraceError): it is left out. The defaults can always be planned; what is wrong with them is raised."""
    sets = list(dict.fromkeys([DEFAULT, *among]))
    judge = _Judge(build, predict, progress, len(sets))
    for v in sets:
        judge(v)
    while True:
        best = judge.best()
        for kind, names in KINDS.items():
            for name in names:
                judge(_but(best.variants, kind, name))
        if judge.best() == best:
            return Choice(best, judge.found, judge.refused)


@dataclass(slots=True)
class _Judge:
    """Plans and predicts each set of variants once. `expected` grows where more are asked for."""

    build: Build
    predict: Predict
    progress: Callable[[int, int], None] | None
    expected: int
    found: dict[str, Candidate] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def __call__(self, v: Variants) -> None:
        if str(v) in self.found or str(v) in self.refused:
            return
        try:
            plan = self.build(v)
            self.found[str(v)] = Candidate(v, plan_cost(plan), self.predict(plan))
        except InputError as error:
            if v == DEFAULT:
                raise
            self.refused[str(v)] = str(error)
        self._tell(len(self.found) + len(self.refused))

    def _tell(self, done: int) -> None:
        self.expected = max(self.expected, done)
        if self.progress is not None:
            self.progress(done, self.expected)

    def best(self) -> Candidate:
        return min(self.found.values(), key=lambda c: c.rank)


def _but(v: Variants, kind: str, value: str | int) -> Variants:
    """The same with one thing otherwise."""
    change: dict[str, Any] = {kind: value}
    return replace(v, **change)
