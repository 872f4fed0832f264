"""About how long a step takes on one core: whether the loop can evaluate it itself, or a thread should.

Handing a step to a thread and its message back wakes two threads and costs their caches some 0.3 to 1 ms, which for a
small gate is as much as its arithmetic. A longer step would keep the loop from what it has to receive. Nothing that
crosses the wire depends on the choice.
"""

from __future__ import annotations

from functools import lru_cache

from engine.cost import aes_steps
from engine.graph import Node
from engine.scheduler.plan import Segment
from engine.scheduler.steps import Step

__all__ = ["BRIEF", "brief", "nanoseconds"]

BRIEF = 4e6
"""Nanoseconds that a step may take on the loop."""
AES, PRODUCT, POLYNOMIAL, WORD, OPENED, SENT = 2, 0.06, 12, 2, 3, 4
"""Nanoseconds of an AES call, of a multiplication in a matrix product, and of an element in a polynomial, in a linear
operation or a table's answer, in an opening that came in, and in one that leaves (docs/performance.md)."""


@lru_cache(maxsize=4096)
def brief(segment: Segment, step: Step) -> bool:
    """Whether the step is for the loop."""
    return nanoseconds(segment, step) <= BRIEF


def nanoseconds(s: Segment, step: Step) -> float:
    """An estimate from the sizes alone."""
    total = sum(_evaluated(s, s.graph[i]) for i in step.nodes)
    total += sum(OPENED * s.graph[i].type.size for i in (*step.waits, *step.outputs))
    return total + (SENT * s.graph[step.opening].type.size if step.opening >= 0 else 0)


def _evaluated(s: Segment, node: Node) -> float:
    size, inputs = node.type.size, [s.graph[i].type for i in node.inputs]
    if node.op == "truncate" and not s.left(node):
        return 0
    if node.op in ("dpf", "leaf"):
        return AES * aes_steps(node, s)
    if node.op == "poly":
        return POLYNOMIAL * size
    if node.op.endswith("matmul"):
        return PRODUCT * size * inputs[0].shape[-1]
    return WORD * max([size, *(t.size for t in inputs if t.kind not in ("key", "weight"))])
