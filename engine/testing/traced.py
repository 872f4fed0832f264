"""A declared gate as a plan of its own: inputs before it, its results revealed to both parties after it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from engine.errors import InputError
from engine.gates.matmul import weight
from engine.gates.polynomial import polynomial
from engine.graph import Graph, WireType
from engine.scheduler.plan import Call, Plan, Program, Segment, segment
from engine.testing.declare import GateSpec, MaskedInput, WeightInput
from engine.testing.report import GateReport
from engine.wires import Answer, AnswerShare, Bit, BitShare, Masked, Share, Wire

__all__ = ["TracedGate", "trace"]


@dataclass(frozen=True)
class TracedGate:
    """wires: the nodes of the masked inputs; scales: of the results; inside, rounds: what is the gate's own."""

    plan: Plan
    wires: tuple[int, ...]
    scales: tuple[int, ...]
    inside: range
    rounds: int

    @property
    def graph(self) -> Graph:
        return self.segment.graph

    @property
    def segment(self) -> Segment:
        return self.plan.program.segments[0]

    def account(self, report: GateReport, examples: int) -> GateReport:
        """The gate's own costs for one example, from the plan."""
        openings = [o for o in self.segment.openings if o.node in self.inside]
        used = [i for i in self.segment.schedule.order if i in self.inside]

        def pair(of: Any) -> tuple[float, float]:
            return of(0) / examples, of(1) / examples

        return replace(
            report,
            rounds=self.rounds,
            online_bytes=pair(lambda p: sum(o.bytes for o in openings if p in o.senders)),
            prepare_bytes=pair(lambda p: sum(o.bytes for o in openings if p in o.static)),
            tape_bytes=pair(lambda p: sum(self.segment.needs[i].tape[p] for i in used)),
        )


def trace(spec: GateSpec, examples: int) -> TracedGate:
    """Trace and plan the gate on `examples` examples. Raises TraceError, and InputError for what is no gate."""
    graph = Graph(spec.name)
    handles = _handles(spec, graph, examples)
    start = len(graph)
    results = spec.function(*handles)
    results = results if isinstance(results, tuple) else (results,)
    shares = [_opened_bits(spec, y) for y in results]
    inside = range(start, len(graph))
    scales = tuple(_reveal(spec, graph, k, y) for k, y in enumerate(shares))
    planned = segment(graph)
    wires = tuple(h.index for h in handles if isinstance(h, Masked))
    depth = planned.schedule.depth
    before = max(depth[w] for w in wires)
    after = max(depth[y.index] + isinstance(y, Share) for y in shares)
    return TracedGate(Plan(Program((planned,), (Call(0, spec.name),))), wires, scales, inside, after - before)


def _handles(spec: GateSpec, graph: Graph, examples: int) -> list[Any]:
    handles: list[Any] = []
    names = {MaskedInput: 0, WeightInput: 0}
    for i in spec.inputs:
        k = names[type(i)]
        names[type(i)] += 1
        if isinstance(i, WeightInput):
            handles.append(weight(graph, f"w{k}", i.shape, owner=i.owner, scale=i.scale, bound=i.bound, ring=i.ring))
        else:
            handles.append(_masked(graph, f"x{k}", i, examples))
    return handles


def _masked(graph: Graph, name: str, i: MaskedInput, examples: int) -> Masked:
    kind = WireType("masked", (examples, *i.shape), i.ring, i.scale, i.limit)
    if kind.headroom < 0:
        raise InputError(f"an input of |x| <= {i.limit} does not fit a ring of {i.ring} bits")
    x = Masked(graph, graph.add("input", (), kind, owner=i.owner or 0, name=name))
    return x if i.owner is not None else x.as_share().open()


def _opened_bits(spec: GateSpec, y: Any) -> Wire:
    """Bits and answers opened: they are revealed as polynomials."""
    if isinstance(y, BitShare | AnswerShare):
        return y.open()
    if isinstance(y, Masked | Share | Bit | Answer):
        return y
    kind = type(y).__name__
    raise InputError(f"{spec.name} gives a value of type {kind}: a gate gives shares, masked wires, bits or answers")


def _reveal(spec: GateSpec, graph: Graph, number: int, y: Any) -> int:
    if y.graph is not graph or not math.prod(y.shape):
        raise InputError(f"result {number} of {spec.name} does not come from its inputs")
    if isinstance(y, Bit | Answer):
        y = polynomial(y.operand(), 2 if isinstance(y, Bit) else y.ring)
    share: Share = y.as_share() if isinstance(y, Masked) else y
    for p in (0, 1):
        share.reveal(p, f"y{number} to {p}")
    return share.scale
