"""What a benchmark runs: a program, the client's input, the owner's weights, and the float64 answer to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.parameters import Small
from engine.result import Accuracy, Array
from engine.scheduler.plan import Plan, Program

__all__ = ["Array", "Inputs", "Workload"]

Inputs = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Workload:
    """`what` says in a phrase what is measured. `counted` names the calls that the headline figures count; the rest
    (how the input comes in, how the output goes out) is in the totals alone. `reference`: real outputs by name, to
    which the client divides what it learns by `divisor` (a mean comes as a sum)."""

    name: str
    what: str
    program: Program
    counted: tuple[str, ...]
    inputs: Inputs = field(repr=False)
    weights: Mapping[str, Small] = field(repr=False)
    reference: Mapping[str, Array] = field(repr=False)
    divisor: int = 1

    def accuracy(self, outputs: Inputs) -> Accuracy:
        """Of what the client learned, at the scales that the plan reveals it at, against the reference."""
        scales = output_scales(Plan(self.program))
        results = [outputs[name] / 2.0 ** scales[name] / self.divisor for name in self.reference]
        return Accuracy.of(results, list(self.reference.values()))


def output_scales(plan: Plan) -> dict[str, int]:
    """The scale of every revealed output, by name."""
    nodes = [node for call in plan.calls for node in call.segment.graph]
    return {node.text("name"): node.type.scale for node in nodes if node.op == "reveal"}
