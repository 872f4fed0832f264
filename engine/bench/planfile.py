"""A program as text, so that a party's process needs nothing but files: JSON, and the digest that proves it whole."""

from __future__ import annotations

import json
from typing import Any, cast

from engine.errors import InputError
from engine.graph import Attr, Graph, Node
from engine.scheduler.plan import Call, Plan, Program, segment
from engine.spec import WireType
from engine.variants import parse

__all__ = ["plan_from_text", "plan_to_text"]


def plan_to_text(plan: Plan) -> str:
    """Segments, calls and digest as JSON. A plan is public."""
    program = plan.program
    segments = [{"name": s.traced.name, "nodes": [_node(n) for n in s.traced], "outputs": s.traced.outputs}
                for s in program.segments]  # fmt: skip
    calls = [[c.segment, c.name, c.prefix, c.inputs] for c in program.calls]
    variants = str(program.variants)
    return json.dumps({"digest": plan.digest.hex(), "segments": segments, "calls": calls, "variants": variants})


def plan_from_text(text: str) -> Plan:
    """The inverse of `plan_to_text`. Raises InputError if the text is not that of a whole plan."""
    try:
        data = json.loads(text)
        segments = tuple(segment(_graph(s)) for s in data["segments"])
        calls = tuple(Call(i, name, prefix, _tuples(inputs)) for i, name, prefix, inputs in data["calls"])
        plan = Plan(Program(segments, calls, parse(data["variants"])))
        if plan.digest.hex() != data["digest"]:
            raise InputError("the plan in this file is not the one that was written: its digest differs")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"this is not a saved plan: {type(error).__name__}") from error
    return plan


def _node(n: Node) -> list[Any]:
    t = n.type
    return [n.op, n.inputs, n.attrs, [t.kind, t.shape, t.ring, t.scale, t.bound], n.origin]


def _graph(data: dict[str, Any]) -> Graph:
    graph = Graph(data["name"])
    for index, (op, inputs, attrs, (kind, shape, ring, scale, bound), origin) in enumerate(data["nodes"]):
        wire = WireType(kind, tuple(shape), ring, scale, bound)
        graph.nodes.append(Node(index, op, tuple(inputs), _tuples(attrs), wire, origin))
    graph.outputs = tuple(data["outputs"])
    return graph


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else cast(Attr, value)
