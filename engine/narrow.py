"""Shares in rings no wider than what their readers take of them.

Reduction mod 2^v commutes with every operation on shares, so that a share which is only opened mod 2^v need not be
known mod more: its coefficients on the tape, the products and keystreams that make it get narrower, and no bit that is
sent changes. What is claimed of values stays as it was traced, and so do the cleartext reading and its checks, which
read the graph before this."""

from __future__ import annotations

from dataclasses import replace

from engine.graph import LINEAR, Graph, Node

__all__ = ["narrowed"]

_NARROW = LINEAR | {
    "add_const", "add_public", "as_share", "mask_share", "piece", "poly", "matmul", "weight_matmul", "weight_gain",
    "weight_share",
}  # fmt: skip
"""Operations whose results are shares modulo any ring up to the traced one."""


def narrowed(graph: Graph) -> Graph:
    """The graph with every share, and every share of a mask, in the widest ring that a reader of it takes: of an
    opening or output its own, of what is made from it the narrowed one. Nodes keep their numbers."""
    taken = [0] * len(graph)
    nodes = list(graph)
    for node in reversed(graph.nodes):
        ring = node.type.ring
        if _may_narrow(node) and taken[node.index]:
            ring = min(ring, taken[node.index])
            nodes[node.index] = replace(node, type=replace(node.type, ring=ring))
        for i in node.inputs:
            taken[i] = max(taken[i], ring if _passes(node) else graph[i].type.ring)
    result = Graph(graph.name)
    result.nodes, result.outputs = nodes, graph.outputs
    return result


def _may_narrow(node: Node) -> bool:
    return node.op in _NARROW and node.type.kind in ("share", "key")


def _passes(node: Node) -> bool:
    """Whether it takes no more of a share than its own ring."""
    return _may_narrow(node) or node.op in ("open", "reveal")
