"""What a party does, counted: features of the plan's nodes whose costs a device is calibrated for.

Work is a mapping from feature to amount. The feature's first word is the operation: `dpf` counts nodes,
`dpf.aes` the AES steps of them, `dpf.tape` the bytes of their keys. What one unit of a feature takes is the device's
business (simulators/device.py); nothing here knows how fast anything is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from engine.cost import aes_steps
from engine.fuse import Chain
from engine.gates.polynomial import Lowered, lower
from engine.graph import Node
from engine.kernels.interface import leaf_levels, tree_levels
from engine.scheduler.plan import Segment

__all__ = ["Work", "chained", "evaluated", "message", "opened"]

Work = Mapping[str, float]


def message(node: Node) -> Work:
    """Masking and packing of what a party sends for an opening."""
    kind = "bits" if node.type.kind == "bit" else "input" if node.op == "input" else "message"
    return {kind: 1, f"{kind}.words": node.type.size, f"{kind}.bits": node.type.size * node.type.ring}


def opened(s: Segment, index: int, party: int) -> Work:
    """Both messages unpacked and added."""
    node, opening = s.graph[index], s.opening_of[index]
    messages = len({*opening.senders, *opening.static})
    if node.op == "reveal":
        messages = int(node["to"] == party)
    kind = "unpack_bits" if node.type.kind == "bit" else "unpack"
    return {kind: 1, f"{kind}.words": node.type.size * messages, f"{kind}.sums": node.type.size * (messages - 1)}


def evaluated(s: Segment, index: int, party: int) -> Work:
    """One node that is no opening."""
    node = s.graph[index]
    match node.op:
        case "dpf":
            return _dpf(s, node)
        case "leaf":
            return _leaf(s, node)
        case "poly":
            return _poly(node, lower(node, s.graph), party)
        case "matmul" | "weight_matmul" | "public_matmul":
            return _products(s, node, party)
        case "onehot":
            size = node.type.size * node.integer("buckets") * (node.type.ring // 8)
            return {"onehot": 1, f"onehot.{_source(party)}": size}
        case "counts":
            return {"counts": 1, "counts.bytes": s.graph[node.inputs[0]].integer("buckets") * _inputs(s, node)}
        case "mask_share":
            return _mask_share(node, party)
        case "reveal":
            return {"reveal": 1, "reveal.words": node.type.size} if node["to"] == party else {}
        case "truncate" if not s.left(node):
            return {}  # as the wire was opened
        case "wire" | "weight" | "interval" | "half_line" | "equal" | "lookup" | "piece" | "input" | "open":
            return {}
    return {node.op: 1, f"{node.op}.words": max(node.type.size, _inputs(s, node))}


def chained(node: Node, chain: Chain) -> Work:
    """A chain of linear operations: a polynomial of first degree, in which nothing is dealt."""
    n = node.type.size
    return {"poly": 1, "poly.words": n, "poly.operands": n * len(chain.sources)}


def _source(party: int) -> str:
    """Where what was dealt comes from: P0 expands its seed, P1 reads its tape."""
    return "tape" if party else "stream"


def _inputs(s: Segment, node: Node) -> int:
    """Elements of the largest operand that is no weight."""
    return max((s.graph[i].type.size for i in node.inputs if s.graph[i].type.kind != "weight"), default=0)


def _dpf(s: Segment, node: Node) -> Work:
    n = node.type.size
    asked = [s.graph[q] for q in s.schedule.questions.get(node.index, ())]
    entries = sum(len(q.integers("values")) for q in asked if q.op == "lookup")
    return {
        "dpf": 1, "dpf.keys": n, "dpf.aes": aes_steps(node, s), "dpf.tape": 16 * n * (tree_levels(node.type.ring) + 1),
        "dpf.entries": n * entries,
    }  # fmt: skip


def _leaf(s: Segment, node: Node) -> Work:
    n, points = node.type.size, node.integer("points")
    asked = [s.graph[q] for q in s.schedule.questions.get(node.index, ())]
    entries = sum(len(q.integers("values")) for q in asked)
    words = (1 << points) * (2 if node.integer("rest") else 1)
    tape = n * (16 * leaf_levels(node.type.ring, points) + 8 * words)
    return {"leaf": 1, "leaf.keys": n, "leaf.aes": aes_steps(node, s), "leaf.tape": tape, "leaf.entries": n * entries}


def _mask_share(node: Node, party: int) -> Work:
    if node["known"] not in (None, party):
        return {}
    source = _source(party) if node["known"] is None else "stream"
    return {"mask_share": 1, f"mask_share.{source}": node.type.size}


def _poly(node: Node, lowered: Lowered, party: int) -> Work:
    n = node.type.size
    terms = [symbols for _, symbols in lowered.free] if party == 0 else []
    terms += [c.public for c in lowered.coefficients]
    dealt = sum(math.prod(c.shape) for c in lowered.coefficients)
    return {
        "poly": 1, "poly.words": n, "poly.operands": n * len({s for t in terms for s in t}),
        "poly.products": n * sum(len(t) for t in terms), f"poly.{_source(party)}": dealt,
    }  # fmt: skip


def _products(s: Segment, node: Node, party: int) -> Work:
    """Every matrix product that a party takes for a node: (rows x inner) @ (inner x columns), `batch` times."""
    x, w = node.inputs[0], node.inputs[1]
    left, right, ring = s.graph[x].type.shape, s.graph[w].type.shape, node.type.ring
    shared = len(right) == 2
    batch = 1 if shared else math.prod(left[:-2])
    rows = math.prod(left[:-1]) // batch
    sizes = (batch, rows, left[-1], right[-1])
    return _total(_product(*sizes, ring, narrow) for narrow in _factors(s, node, party))


def _factors(s: Segment, node: Node, party: int) -> list[bool]:
    """The right factor of each product: whether it is a weight's own integers, which are narrow, or words."""
    if node.op == "matmul":
        known = [s.graph[i]["known"] for i in node.inputs[2:]]
        return [False] if party == 0 else [False for k in known if k in (None, party)]
    weight = s.graph[node.inputs[1]]
    if node.op == "public_matmul" or weight["owner"] == party:
        return [weight.type.bound <= 1 << 31]
    masked = s.graph[node.inputs[2]]["known"] in (None, party)
    return [False] * (masked + (weight["owner"] == "shared"))


def _product(batch: int, rows: int, inner: int, columns: int, ring: int, narrow: bool) -> Work:
    kind = f"{'narrow_' if narrow else ''}product{52 if ring <= 52 else 64}"
    return {
        kind: batch, f"{kind}.macs": batch * rows * inner * columns, f"{kind}.right": batch * inner * columns,
        f"{kind}.left": batch * rows * inner, f"{kind}.out": batch * rows * columns,
    }  # fmt: skip


def _total(parts: Iterable[Work]) -> Work:
    """The sum."""
    out: dict[str, float] = {}
    for part in parts:
        for feature, amount in part.items():
            out[feature] = out.get(feature, 0) + amount
    return out
