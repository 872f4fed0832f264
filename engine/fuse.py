"""Linear operations one after another as one: a chain of them is a sum of multiples of the values that it begins with.

A value that only the next operation of a step wants is never written to memory: (d y - s) / 2^t, the centring of a
LayerNorm's rows, is one pass over y. Sums of multiples are exact mod 2^v of whatever is known mod 2^v. An opened value
that is only ever truncated is written truncated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.basis import Formula, formula
from engine.graph import Graph, Node

__all__ = ["Chain", "Readers", "chains", "dropped", "readers"]

Readers = Mapping[int, set[int]]

_LINEAR = frozenset({"add", "sub", "scale", "broadcast", "claim"})
_LAST = frozenset({"truncate", "reduce"})
LEAST = 4096
"""Elements from which on a chain is shorter than its links."""


@dataclass(frozen=True, slots=True)
class Chain:
    """(sum of multiples of `sources` mod 2^ring) >> drop. `formula` takes them as its symbols."""

    sources: tuple[int, ...]
    formula: Formula
    ring: int
    drop: int


def dropped(graph: Graph) -> dict[int, int]:
    """The lowest bits of opened values, by node, that every reader truncates away."""
    least: dict[int, int] = {}
    for node in graph:
        bits = node.integer("bits") if node.op == "truncate" else 0
        for i in node.inputs:
            least[i] = min(least.get(i, bits), bits)
    opened = (i for i, bits in least.items() if bits and graph[i].opening and i not in graph.outputs)
    return {i: least[i] for i in opened}


def readers(graph: Graph) -> Readers:
    """Of every node that has any, the nodes that it is an input of."""
    found: dict[int, set[int]] = {}
    for node in graph:
        for i in node.inputs:
            found.setdefault(i, set()).add(node.index)
    return found


def chains(graph: Graph, nodes: Sequence[int], read: Readers) -> tuple[tuple[int, ...], tuple[tuple[int, Chain], ...]]:
    """Of nodes that are evaluated in this order, those that are left to evaluate, and what those at a chain's end are
    instead. `read`: the graph's readers."""
    inner = _inner(graph, nodes, read)
    left = tuple(i for i in nodes if i not in inner)
    found = ((i, _chain(graph, i, inner)) for i in left)
    return left, tuple((i, c) for i, c in found if c is not None)


def _inner(graph: Graph, nodes: Sequence[int], read: Readers) -> set[int]:
    """Nodes that one other of `nodes` takes into its chain, and nothing else wants."""
    here, inner = set(nodes), set[int]()
    for i in reversed(nodes):  # a reader comes before what it reads
        after = read.get(i, set())
        if len(after) != 1 or i in graph.outputs or not after <= here:
            continue
        (reader,) = after
        if _joins(graph[i], graph[reader], reader in inner):
            inner.add(i)
    return inner


def _joins(node: Node, reader: Node, within: bool) -> bool:
    """Whether the reader's result, mod its ring, follows from what the node is made of; within: whether the reader is
    not a chain's end. A broadcast alone is a view, and costs nothing."""
    if node.op not in _LINEAR or reader.op not in _LINEAR | _LAST or reader.type.size < LEAST:
        return False
    ring = node.type.ring if reader.op == "truncate" else reader.type.ring
    fits = node.type.kind in ("masked", "share") and node.type.ring >= ring
    return fits and (within or reader.op != "broadcast")


def _chain(graph: Graph, index: int, inner: set[int]) -> Chain | None:
    """None where the node takes no other into itself."""
    node = graph[index]
    if node.op not in _LINEAR | _LAST or not any(i in inner for i in node.inputs):
        return None
    times: dict[int, int] = {}
    _collect(graph, index, 1, inner | {index}, times)
    sum_of = formula([(c % (1 << 64), (("x", i, 0),)) for i, c in times.items()])
    truncates = node.op == "truncate"
    ring = graph[node.inputs[0]].type.ring if truncates else node.type.ring
    return Chain(tuple(i for _, i, _ in sum_of.symbols), sum_of, ring, node.integer("bits") if truncates else 0)


def _collect(graph: Graph, index: int, factor: int, inside: set[int], times: dict[int, int]) -> None:
    """Adds factor times the node's value, as multiples of values that are not inside."""
    if index not in inside:
        times[index] = times.get(index, 0) + factor
        return
    node = graph[index]
    factor *= node.integer("factor") if node.op == "scale" else 1
    for k, i in enumerate(node.inputs):
        _collect(graph, i, -factor if node.op == "sub" and k else factor, inside, times)
