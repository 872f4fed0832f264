"""Rounds by dataflow depth: an opening's round is 1 + the deepest opening before it; all openings at one depth share
it.

Also the order in which nodes are evaluated, which is the order of the tape: round by round, critical openings first.
And which openings are one-way: a party's message that depends on no opened value is sent in the prepare phase.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.graph import LINEAR, Graph, Node

__all__ = ["Schedule", "schedule"]

_STATIC_SHARE = {"weight_matmul", "weight_gain"}


@dataclass(frozen=True, slots=True)
class Schedule:
    """depth[i]: rounds before node i is known; order: evaluation order; static[p][i]: p's share of i needs no opened
    value; questions[key]: the nodes that a key answers."""

    depth: tuple[int, ...]
    order: tuple[int, ...]
    static: tuple[tuple[bool, ...], tuple[bool, ...]]
    questions: dict[int, tuple[int, ...]]

    @property
    def rounds(self) -> int:
        return max(self.depth, default=0)


def schedule(graph: Graph) -> Schedule:
    """The schedule of a segment: a pure function of its graph."""
    depth, height = _depths(graph), _heights(graph)
    static = (_static(graph, 0), _static(graph, 1))
    order = _order(graph, depth, height)
    questions: dict[int, list[int]] = {}
    for node in (graph[i] for i in order):
        if node.op in ("interval", "half_line", "equal", "lookup", "piece", "counts"):
            questions.setdefault(node.inputs[0], []).append(node.index)
    return Schedule(depth, order, static, {k: tuple(v) for k, v in questions.items()})


def _depths(graph: Graph) -> tuple[int, ...]:
    depth: list[int] = []
    for node in graph:
        before = max((depth[i] for i in node.inputs), default=0)
        depth.append(before + node.opening)
    return tuple(depth)


def _heights(graph: Graph) -> tuple[int, ...]:
    """Openings on the longest path from a node to the end."""
    height = [0] * len(graph)
    for node in reversed(graph.nodes):
        for i in node.inputs:
            height[i] = max(height[i], height[node.index] + node.opening)
    return tuple(height)


def _order(graph: Graph, depth: tuple[int, ...], height: tuple[int, ...]) -> tuple[int, ...]:
    """Openings by (round, criticality), each preceded by what it needs and nothing else has needed yet."""
    openings = sorted((n for n in graph if n.opening), key=lambda n: (depth[n.index], -height[n.index], n.index))
    order: list[int] = []
    seen: set[int] = set()
    for target in [*(n.index for n in openings), *graph.outputs]:
        _emit(graph, target, order, seen)
    return tuple(order)


def _emit(graph: Graph, target: int, order: list[int], seen: set[int]) -> None:
    stack = [(target, False)]
    while stack:
        index, ready = stack.pop()
        if index in seen:
            continue
        if ready:
            seen.add(index)
            order.append(index)
            continue
        stack.append((index, True))
        stack += [(i, False) for i in reversed(graph[index].inputs)]


def _static(graph: Graph, party: int) -> tuple[bool, ...]:
    out: list[bool] = []
    for node in graph:
        out.append(_is_static(node, graph, party, out))
    return tuple(out)


def _is_static(node: Node, graph: Graph, party: int, known: list[bool]) -> bool:
    if node.op in _STATIC_SHARE:
        # Party 1 reads its shares of masks from the tape, which is read in plan order: its part waits for the online
        # phase.
        return graph[node.inputs[1]]["owner"] == 1 - party and party == 0
    if node.op == "weight_share" or (node.op == "as_share" and party == 0):
        return True
    linear = node.op in LINEAR or node.op in ("add_const", "add_public")
    operands = [i for i in node.inputs if graph[i].type.kind != "weight"]
    return linear and node.type.kind == "share" and all(known[i] for i in operands)
