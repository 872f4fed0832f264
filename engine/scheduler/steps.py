"""A party's work in one segment, cut into steps: what to wait for, what to evaluate, and what it ends in: an opening,
an output to this party, or a wire out of the segment.

A step starts when its own openings are in, never "when the round is over". Nodes that only serve a message which was
sent in the prepare phase are left out: online, a party does no work for weights that the other one owns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from engine.fuse import Chain, chains, readers
from engine.graph import Graph, Node
from engine.scheduler.plan import Opening, Segment

__all__ = ["Step", "before", "static_nodes", "steps", "working_bytes"]


@dataclass(frozen=True, slots=True)
class Step:
    """waits: openings to complete first; nodes: to evaluate in order, some of them as chains; forget: values last used
    here; opening: what it ends in, or -1; outputs: what is revealed to this party and complete after it; wires: the
    segment's inputs that are first used here; wire: which of the segment's outputs is known after it, or -1."""

    waits: tuple[int, ...]
    nodes: tuple[int, ...]
    forget: tuple[int, ...]
    opening: int = -1
    outputs: tuple[int, ...] = ()
    wires: tuple[int, ...] = ()
    wire: int = -1
    chains: tuple[tuple[int, Chain], ...] = field(default=(), compare=False)


@lru_cache(maxsize=128)
def steps(s: Segment, party: int) -> tuple[Step, ...]:
    """The online steps of a party: its openings in plan order, then its outputs, then wires out of the segment, each as
    a step of its own, since one may be known long before the others."""
    return tuple(_Cutter(s, party).steps())


class _Cutter:
    """`batch`: nodes to evaluate since the last step, `dying`: their inputs that nobody uses later."""

    def __init__(self, s: Segment, party: int) -> None:
        self._s, self._party, self._needed = s, party, _needed(s, party)
        self._readers = readers(s.graph)
        self._revealed = [n.index for n in s.graph if n.op == "reveal" and n["to"] == party]
        # A receiver adds its own share when the other's arrives, whoever else the share is revealed to before.
        self._kept = {i for index in self._revealed for i in s.graph[index].inputs}
        self._batch: list[int] = []
        self._dying: list[int] = []
        self._opened: set[int] = set()
        self._wires: set[int] = set()

    def steps(self) -> Iterable[Step]:
        s = self._s
        for position, index in enumerate(s.schedule.order):
            self._add(position, s.graph[index])
            if s.graph[index].opening and self._party in s.opening_of[index].senders:
                yield self._cut(len(self._batch), index, opening=index)
        for index in self._revealed:
            yield self._cut(self._until(index), -1, outputs=(index,))
        for k, index in enumerate(s.graph.outputs, 1):
            yield self._cut(len(self._batch) if k == len(s.graph.outputs) else self._until(index), index, wire=k - 1)
        if self._batch:
            yield self._cut(len(self._batch), -1)

    def _add(self, position: int, node: Node) -> None:
        evaluated = node.op == "reveal" or not node.opening
        self._batch += [node.index] if evaluated and node.index in self._needed else []
        self._dying += [i for i in node.inputs if self._s.last_use.get(i) == position and i not in self._kept]

    def _until(self, index: int) -> int:
        """Nodes of the batch up to this one."""
        return self._batch.index(index) + 1 if index in self._batch else 0

    def _cut(self, count: int, end: int, opening: int = -1, outputs: tuple[int, ...] = (), wire: int = -1) -> Step:
        """A step of the next `count` nodes, which ends in node `end`."""
        graph, batch = self._s.graph, self._batch[:count]
        del self._batch[:count]
        used = [i for n in batch for i in graph[n].inputs]
        used += [*graph[end].inputs] if opening >= 0 else [end] if end >= 0 else []
        waits = _new((i for i in used if graph[i].op in ("input", "open")), self._opened)
        wires = _new((i for i in used if graph[i].op == "wire"), self._wires)
        dying, self._dying = ([], self._dying) if self._batch else (self._dying, [])
        nodes, fused = chains(graph, batch, self._readers)
        return Step(waits, nodes, tuple(dying), opening, outputs, wires, wire, fused)


def _new(found: Iterable[int], known: set[int]) -> tuple[int, ...]:
    """Those not known before; they are from now on."""
    new = tuple(dict.fromkeys(i for i in found if i not in known))
    known.update(new)
    return new


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
