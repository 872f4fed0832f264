"""The one result object of every command that reports (docs/results.md): what ran, what it cost, how good it was."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.cost import by_layer
from engine.scheduler.plan import Plan
from engine.scheduler.timeline import Timeline

__all__ = ["Accuracy", "RunResult"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Against a float64 reference: |error| and, for vectors, the cosine."""

    max_error: float
    mean_error: float
    cosines: tuple[float, ...]

    @staticmethod
    def of(results: list[Array], references: list[Array]) -> Accuracy:
        errors = [np.abs(a - b) for a, b in zip(results, references, strict=True)]
        cosines = tuple(_cosine(a, b) for a, b in zip(results, references, strict=True))
        joined = np.concatenate([e.reshape(-1) for e in errors])
        return Accuracy(float(joined.max()), float(joined.mean()), cosines)

    def as_dict(self) -> dict[str, Any]:
        return {
            "error": {"max": self.max_error, "mean": self.mean_error},
            "cosine": {"min": min(self.cosines), "mean": sum(self.cosines) / len(self.cosines)},
        }


def _cosine(a: Array, b: Array) -> float:
    x, y = a.reshape(-1), b.reshape(-1)
    return float(x @ y / max(float(np.linalg.norm(x) * np.linalg.norm(y)), 1e-300))


@dataclass(slots=True)
class RunResult:
    """One run. `outputs` are the real numbers that the client learned; pairs are [P0, P1]. `tokens`: of each sequence;
    `tape`: id of the pair of tapes that it took."""

    outputs: list[Array] = field(repr=False)
    rounds: int
    rounds_per_layer: list[int]
    bytes_sent: list[int]
    prepare_bytes: list[int]
    tape_bytes: list[int]
    seconds: dict[str, float]
    peak_anon_bytes: list[int]
    layers: list[dict[str, object]]
    timeline: Timeline = field(repr=False)
    plan: Plan = field(repr=False)
    tokens: list[int]
    tape: str
    setup_bytes: int = 0

    @staticmethod
    def of(
        plan: Plan, outputs: list[Array], mine: dict[str, Any], peer: dict[str, Any], deal: float, timeline: Timeline,
        tokens: list[int], tape: str,
    ) -> RunResult:  # fmt: skip
        """Measured figures of both sides: the client's own, and those of the owner's report, 0 where it has none."""

        def pair(name: str) -> list[int]:
            theirs = peer.get(name)
            return [int(mine[name]), theirs if type(theirs) is int else 0]

        layers = [c.as_dict() for c in by_layer(plan)]
        seconds = {"deal": deal, "prepare": float(mine["prepare"]), "online": float(mine["online"])}
        rounds = [c.segment.rounds for c in plan.calls if c.call.name.startswith("layer")]
        return RunResult(
            outputs, int(mine["rounds"]), rounds, pair("bytes_sent"), pair("prepare_bytes"), pair("tape_bytes"),
            seconds, pair("peak"), layers, timeline, plan, tokens, tape,
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints, without the outputs."""
        return {
            "rounds": self.rounds, "rounds_per_layer": self.rounds_per_layer, "bytes_sent": self.bytes_sent,
            "prepare_bytes": self.prepare_bytes, "setup_bytes": self.setup_bytes, "tape_bytes": self.tape_bytes,
            "seconds": self.seconds, "peak_anon_bytes": self.peak_anon_bytes, "layers": self.layers,
        }  # fmt: skip
