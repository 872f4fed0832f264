"""What a check of a gate found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

__all__ = ["GateReport"]


@dataclass(frozen=True, slots=True)
class GateReport:
    """evaluations: values compared; mismatches: examples that differ from clear; max_error: distance to the reference.

    For one example: rounds from the inputs to the opened result; online and prepare bytes by party without the result's
    own opening; tape bytes by party. failures: one sentence each, with what it takes to see it again."""

    name: str
    seed: int
    evaluations: int = 0
    mismatches: int = 0
    max_error: float | None = None
    rounds: int = 0
    online_bytes: tuple[float, float] = (0.0, 0.0)
    prepare_bytes: tuple[float, float] = (0.0, 0.0)
    tape_bytes: tuple[float, float] = (0.0, 0.0)
    failures: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.failures

    def joined(self, other: GateReport) -> GateReport:
        """Both checks of the same gate as one."""
        errors = [e for e in (self.max_error, other.max_error) if e is not None]
        return replace(
            self,
            evaluations=self.evaluations + other.evaluations,
            mismatches=self.mismatches + other.mismatches,
            max_error=max(errors, default=None),
            failures=self.failures + other.failures,
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "ok": self.ok}

    def __str__(self) -> str:
        error = "" if self.max_error is None else f", error {self.max_error:.2g}"
        head = f"{self.name}: {self.evaluations} evaluations, {self.mismatches} mismatches{error}, {self.rounds} rounds"
        return "\n  ".join([head, *self.failures])
