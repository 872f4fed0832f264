"""The cost reading of a plan: rounds, bytes, tape, AES steps and head-room per node, gate and layer, before anything
runs.

Everything is derived from the same description that runs; tests demand that the wire and the tape agree exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine.graph import Node
from engine.kernels.interface import leaf_levels, tree_levels, tree_words
from engine.scheduler.plan import Plan, Segment

__all__ = [
    "Cost",
    "aes_steps",
    "by_gate",
    "by_layer",
    "leaf_steps",
    "lookup_steps",
    "node_costs",
    "plan_cost",
    "question_steps",
    "transcript",
]

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Cost:
    """rounds; bytes that P0 and P1 send online and in prepare; bytes of their tapes; AES steps that one party
    evaluates; head-room: bits free above the bound in the tightest opened wire."""

    name: str
    rounds: int = 0
    online: Pair = (0, 0)
    prepare: Pair = (0, 0)
    tape: Pair = (0, 0)
    aes: int = 0
    headroom: int | None = None

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name, "rounds": self.rounds, "bytes_sent": list(self.online),
            "prepare_bytes": list(self.prepare), "tape_bytes": list(self.tape), "aes_steps": self.aes,
            "headroom": self.headroom,
        }  # fmt: skip


def node_costs(s: Segment) -> list[tuple[Node, Cost]]:
    """Every node that costs something, in plan order; an opening's round counts with the first opening that shares
    it."""
    out, rounds = [], set()
    for index in s.schedule.order:
        node, need, opening = s.graph[index], s.needs[index], s.opening_of.get(index)
        first = opening is not None and opening.round not in rounds
        if opening is not None:
            rounds.add(opening.round)
        cost = Cost(
            node.op,
            int(first),
            _bytes(opening.bytes, opening.senders) if opening else (0, 0),
            _bytes(opening.bytes, opening.static) if opening else (0, 0),
            need.tape,
            aes_steps(node, s),
            node.type.headroom if opening and node.type.kind == "masked" else None,
        )
        out.append((node, cost))
    return out


def _bytes(size: int, senders: Iterable[int]) -> Pair:
    return (size * (0 in tuple(senders)), size * (1 in tuple(senders)))


def aes_steps(node: Node, s: Segment) -> int:
    """AES calls that a party makes to answer all questions of a key, each walked on its own. Kernels expand several
    keys at once, and so the nodes that a table may need wherever its window begins."""
    m, n = node.type.ring, node.type.size
    asked = [s.graph[q] for q in s.schedule.questions.get(node.index, ())]
    if node.op == "dpf":
        return n * sum(question_steps(q, m) for q in asked)
    if node.op == "leaf":
        points, words = node.integer("points"), 2 if node.integer("rest") else 1
        per = sum(_leaves(q, points, words, leaf_levels(m, points)) for q in asked)
        return n * per
    return 0


def question_steps(q: Node, m: int) -> int:
    """AES calls of one question to a key on m bits."""
    if q.op == "lookup":
        return lookup_steps(len(q.integers("values")), m)
    return (tree_levels(m) + 1) * (2 if q.op == "interval" else 1)


def lookup_steps(entries: int, m: int) -> int:
    """AES calls of one range lookup: each block of 128 points that may hold an entry, and the nodes above."""
    blocks = min(_runs(entries, 128), 1 << tree_words(m))
    return blocks + _parents(blocks, tree_words(m), tree_levels(m))


def _runs(entries: int, points: int) -> int:
    """Aligned runs of `points` points that `entries` consecutive ones touch at most."""
    return (entries + points - 2) // points + 1


def _parents(count: int, depth: int, levels: int) -> int:
    """Nodes of the first `levels` levels above `count` consecutive ones at `depth`, at most: one AES call each."""
    if count == 1:
        return levels
    return sum(min(1 << level, (count - 2 >> depth - level) + 2) for level in range(levels))


def _leaves(q: Node, points: int, words: int, levels: int) -> int:
    return leaf_steps(len(q.integers("values")), points, words, levels)


def leaf_steps(entries: int, points: int, words: int, levels: int) -> int:
    """AES calls of one table among arithmetic leaves of 2^points points, each of `words` words."""
    leaves = min(_runs(entries, 1 << points), 1 << levels)
    return leaves * ((1 << points) * words // 2 or 1) + _parents(leaves, levels, levels)


def plan_cost(plan: Plan) -> Cost:
    """The whole run."""
    return total("total", by_layer(plan))


def by_layer(plan: Plan) -> list[Cost]:
    """One line a call: embedding, every layer, head."""
    cache: dict[int, Cost] = {}
    out = []
    for c in plan.calls:
        key = c.call.segment
        if key not in cache:
            cache[key] = total("", [cost for _, cost in node_costs(c.segment)])
        k = cache[key]
        out.append(Cost(c.call.name, k.rounds, k.online, k.prepare, k.tape, k.aes, k.headroom))
    return out


def by_gate(s: Segment) -> list[Cost]:
    """One line for each file of the gates that a segment uses, in order of first use."""
    groups: dict[str, list[Cost]] = {}
    for node, cost in node_costs(s):
        groups.setdefault(node.gate, []).append(cost)
    lines = [total(name, costs) for name, costs in groups.items()]
    return [c for c in lines if c.rounds or c.tape != (0, 0) or c.online != (0, 0) or c.prepare != (0, 0)]


def total(name: str, costs: Iterable[Cost]) -> Cost:
    """Sums; the head-room of the tightest."""
    rows = list(costs)
    rooms = [c.headroom for c in rows if c.headroom is not None]
    return Cost(
        name,
        sum(c.rounds for c in rows),
        _sum(c.online for c in rows),
        _sum(c.prepare for c in rows),
        _sum(c.tape for c in rows),
        sum(c.aes for c in rows),
        min(rooms, default=None),
    )


def _sum(pairs: Iterable[Pair]) -> Pair:
    rows = list(pairs)
    return (sum(a for a, _ in rows), sum(b for _, b in rows))


def transcript(s: Segment, origins: bool = True) -> str:
    """The segment as a protocol transcript: per round its bytes, per node shape, ring and key bytes, file and line."""
    lines: list[str] = []
    at = 0
    for index in s.schedule.order:
        node, opening = s.graph[index], s.opening_of.get(index)
        if opening is not None and opening.round > at:
            at = opening.round
            here = [o for o in s.openings if o.round == at]
            online = [sum(o.bytes for o in here if p in o.senders) for p in (0, 1)]
            early = [sum(o.bytes for o in here if p in o.static) for p in (0, 1)]
            lines.append(
                f"round {at}: P0 -> P1 {online[0]} B, P1 -> P0 {online[1]} B, in prepare {early[0]} B, {early[1]} B"
            )
        lines.append("  " + _line(node, s, origins))
    head = f"segment {s.graph.name}: {s.rounds} rounds, tape {s.tape[0]} B, {s.tape[1]} B"
    return "\n".join([head, *lines, f"digest {s.digest.hex()}", ""])


def _line(node: Node, s: Segment, origins: bool) -> str:
    shown = []
    for key, value in node.attrs:
        text = f"{len(value)} entries" if isinstance(value, tuple) and len(value) > 8 else str(value)
        shown.append(f"{key} {text}")
    tape = s.needs[node.index].tape
    parts = [f"%{node.index} = {node.op}({', '.join(f'%{i}' for i in node.inputs)})"]
    parts += [" ".join(shown)] if shown else []
    parts.append(str(node.type))
    parts += [f"tape {tape[0]} B, {tape[1]} B"] if tape != (0, 0) else []
    parts += [node.origin] if origins else []
    return "; ".join(parts)
