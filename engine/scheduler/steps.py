"""A party's work in one segment, cut into steps: what to wait for, what to evaluate, and the opening that it ends in.

A step starts when its own openings are in, never "when the round is over". Nodes that only serve a message which was
sent in the prepare phase are left out: online, a party does no work for weights that the other one owns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from engine.fuse import Chain, chains
from engine.graph import Graph, Node
from engine.scheduler.plan import Opening, Segment

__all__ = ["Step", "before", "static_nodes", "steps", "working_bytes"]


@dataclass(frozen=True, slots=True)
class Step:
    """waits: openings to complete first; nodes: to evaluate in order, some of them as chains; forget: values last used
    here; opening: what it ends in, -1 in the last step, which completes `outputs`, what is revealed to this party."""

    waits: tuple[int, ...]
    nodes: tuple[int, ...]
    forget: tuple[int, ...]
    opening: int
    outputs: tuple[int, ...] = ()
    chains: tuple[tuple[int, Chain], ...] = field(default=(), compare=False)


def steps(s: Segment, party: int) -> tuple[Step, ...]:
    """The online steps of a party, in plan order."""
    needed, graph = _needed(s, party), s.graph
    # A receiver adds its own share when the other's arrives, whoever else the share is revealed to before.
    kept = {i for n in graph if n.op == "reveal" and n["to"] == party for i in n.inputs}
    out: list[Step] = []
    opened: set[int] = set()
    batch: list[int] = []
    dying: list[int] = []
    for position, index in enumerate(s.schedule.order):
        node = graph[index]
        if node.op == "reveal":
            batch += [index] if index in needed else []
        elif not node.opening and index in needed:
            batch.append(index)
        dying += [i for i in node.inputs if s.last_use.get(i) == position and i not in kept]
        if node.opening and party in s.opening_of[index].senders:
            out.append(_step(graph, batch, dying, index, opened))
            batch, dying = [], []
    ends = [i for i in graph.outputs if graph[i].opening]
    last = _step(graph, batch, [], -1, opened)
    waits = tuple(dict.fromkeys([*last.waits, *(i for i in ends if i not in opened)]))
    outputs = tuple(n.index for n in graph if n.op == "reveal" and n["to"] == party)
    return (*out, replace(last, waits=waits, outputs=outputs))


def before(s: Segment, step: Step) -> tuple[Opening, ...]:
    """Openings of the round before a step's own: where rounds end in a barrier, the step waits for all of them."""
    number = s.opening_of[step.opening].round if step.opening >= 0 else s.rounds + 1
    return tuple(o for o in s.openings if o.round == number - 1)


def working_bytes(s: Segment, party: int) -> int:
    """About what a party's values and messages of one call of a segment take in memory, where most of them live."""
    held: dict[int, int] = {}
    most = 0
    for step in steps(s, party):
        for index in (*step.waits, *step.nodes):
            held[index] = _value_bytes(s.graph[index])
        sent = s.opening_of[step.opening].bytes if step.opening >= 0 else 0
        most = max(most, sum(held.values()) + sent + sum(s.opening_of[i].bytes for i in step.waits))
        for index in step.forget:
            held.pop(index, None)
    return most


def _value_bytes(node: Node) -> int:
    if node.type.kind in ("key", "weight"):
        return 0
    return node.type.size * (1 if node.type.kind == "bit" else 8)


def _step(graph: Graph, batch: list[int], dying: list[int], opening: int, opened: set[int]) -> Step:
    used = [i for n in batch for i in graph[n].inputs]
    used += list(graph[opening].inputs) if opening >= 0 else []
    waits = tuple(dict.fromkeys(i for i in used if graph[i].op in ("input", "open") and i not in opened))
    opened.update(waits)
    nodes, fused = chains(graph, batch)
    return Step(waits, nodes, tuple(dying), opening, chains=fused)


def _needed(s: Segment, party: int) -> set[int]:
    """Nodes that this party evaluates online: those that its messages, outputs or tape ask for."""
    roots: list[int] = [*s.graph.outputs]
    for o in s.openings:
        if party in o.senders or s.graph[o.node].op == "reveal":
            roots.append(o.node)
    roots += [i for i in s.schedule.order if s.needs[i].tape[party]]
    return _ancestors(s, roots, party)


def _ancestors(s: Segment, roots: Iterable[int], party: int) -> set[int]:
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        index = stack.pop()
        if index in seen:
            continue
        seen.add(index)
        opening = s.opening_of.get(index)
        if opening is None or party not in opening.static:
            stack += s.graph[index].inputs
    return seen


def static_nodes(s: Segment, party: int) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """For each opening that the party sends in the prepare phase: (opening, nodes to evaluate for it, in order)."""
    out = []
    done: set[int] = set()
    for o in s.openings:
        if party in o.static:
            wanted = _static_ancestors(s.graph, s.graph[o.node].inputs[0])
            nodes = tuple(i for i in s.schedule.order if i in wanted and i not in done)
            done.update(nodes)
            out.append((o.node, nodes))
    return tuple(out)


def _static_ancestors(graph: Graph, root: int) -> set[int]:
    """What a static share is made of; values of wires do not enter it, only shares of their masks."""
    seen: set[int] = set()
    stack = [root]
    while stack:
        index = stack.pop()
        node = graph[index]
        if index in seen or node.type.kind in ("masked", "weight"):
            continue
        seen.add(index)
        stack += node.inputs
    return seen
