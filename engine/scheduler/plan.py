"""The plan: a pure function from segments and calls to rounds, messages, tape layout and seed layout.

A `Program` is a list of calls of segments, joined by masked wires. Its `Plan` is public: both parties and the dealer
compute it and compare the digest. Nobody writes a byte count by hand; all of them are derived here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from engine.errors import TraceError
from engine.fuse import dropped
from engine.gates.polynomial import lower
from engine.graph import Graph, Node
from engine.kernels.interface import leaf_levels, tree_words
from engine.narrow import narrowed
from engine.ring import byte_width, packed_bytes
from engine.scheduler.rounds import Schedule, schedule
from engine.variants import DEFAULT, Variants

__all__ = ["Call", "Need", "Opening", "Plan", "PlannedCall", "Program", "Segment", "segment"]

FORMAT = "roundelay plan 1"


@dataclass(frozen=True, slots=True)
class Opening:
    """A message of a node: `senders` send online, `static` in the prepare phase."""

    node: int
    round: int
    bytes: int
    senders: tuple[int, ...]
    static: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Need:
    """What a node takes from each party's tape (bytes) and seed (words)."""

    tape: tuple[int, int] = (0, 0)
    seed: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class Segment:
    """A traced graph with its schedule, needs and openings. graph: as parties and dealer read it, its shares no wider
    than need be; traced: as the author wrote it."""

    graph: Graph
    traced: Graph = field(repr=False)
    schedule: Schedule
    needs: tuple[Need, ...]
    openings: tuple[Opening, ...]
    seed_offset: tuple[tuple[int, int], ...]
    tape: tuple[int, int]
    seed: tuple[int, int]

    @property
    def rounds(self) -> int:
        return self.schedule.rounds

    @cached_property
    def digest(self) -> bytes:
        return self.graph.digest()

    @cached_property
    def last_use(self) -> dict[int, int]:
        """Position in the order after which a node's value may be dropped."""
        last = {}
        for position, index in enumerate(self.schedule.order):
            for i in self.graph[index].inputs:
                last[i] = position
        return {i: p for i, p in last.items() if i not in self.graph.outputs}

    @cached_property
    def dropped(self) -> dict[int, int]:
        """Bits that an opened value is truncated by as it is opened."""
        return dropped(self.graph)

    def left(self, truncation: Node) -> int:
        """Bits that a truncation takes from its input as it was opened."""
        return truncation.integer("bits") - self.dropped.get(truncation.inputs[0], 0)

    @cached_property
    def opening_of(self) -> dict[int, Opening]:
        return {o.node: o for o in self.openings}


@dataclass(frozen=True, slots=True)
class Call:
    """One use of a segment: `prefix` completes the names of its weights; inputs are (call, output) of earlier calls."""

    segment: int
    name: str
    prefix: str = ""
    inputs: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class Program:
    segments: tuple[Segment, ...]
    calls: tuple[Call, ...]
    variants: Variants = DEFAULT


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call with its place in the run: rounds before it, words of each seed before it, bytes of each tape before
    it."""

    index: int
    call: Call
    segment: Segment
    first_round: int
    seed: tuple[int, int]
    tape: tuple[int, int]

    def gate(self, node: int) -> int:
        """Number of a gate, unique in the run: it enters the key derivation of its DPFs."""
        return self.index << 32 | node


class Plan:
    """The calls in order, with totals and the digest.

    Raises TraceError where two calls give one party outputs of the same name."""

    def __init__(self, program: Program) -> None:
        self.program = program
        _check_outputs(program)
        calls: list[PlannedCall] = []
        rounds, seed, tape = 0, (0, 0), (0, 0)
        for i, call in enumerate(program.calls):
            s = program.segments[call.segment]
            calls.append(PlannedCall(i, call, s, rounds, seed, tape))
            rounds += s.rounds
            seed = (seed[0] + s.seed[0], seed[1] + s.seed[1])
            tape = (tape[0] + s.tape[0], tape[1] + s.tape[1])
        self.calls = tuple(calls)
        self.rounds, self.seed_words, self.tape_bytes = rounds, seed, tape

    @cached_property
    def digest(self) -> bytes:
        h = hashlib.sha256(FORMAT.encode())
        for s in self.program.segments:
            h.update(s.digest)
        for c in self.program.calls:
            h.update(f"{c.segment} {c.name} {c.prefix} {c.inputs}\n".encode())
        if self.program.variants != DEFAULT:
            h.update(f"variants {self.program.variants}\n".encode())
        return h.digest()


def _check_outputs(program: Program) -> None:
    """A name means one output of a party: the later of two would take the place of the earlier."""
    known: dict[tuple[int, str], str] = {}
    for call in program.calls:
        for node in program.segments[call.segment].graph:
            if node.op == "reveal":
                to, name = node.integer("to"), node.text("name")
                here = f"call '{call.name}' ({node.origin})"
                if (to, name) in known:
                    raise TraceError(
                        f"two outputs of party {to} are named '{name}': of {known[to, name]} and of {here}; rename one"
                    )
                known[to, name] = here


def segment(graph: Graph) -> Segment:
    """Plan a traced graph."""
    traced, graph = graph, narrowed(graph)
    s = schedule(graph)
    needs = tuple(_need(n, graph) for n in graph)
    offsets: list[tuple[int, int]] = [(0, 0)] * len(graph)
    seed = (0, 0)
    for i in s.order:
        offsets[i] = seed
        seed = tuple(a + _even(b) for a, b in zip(seed, needs[i].seed, strict=True))  # type: ignore[assignment]
    used = set(s.order)
    tape = tuple(sum(n.tape[p] for i, n in enumerate(needs) if i in used) for p in (0, 1))
    openings = tuple(_opening(graph[i], graph, s) for i in s.order if graph[i].opening)
    return Segment(graph, traced, s, needs, openings, tuple(offsets), tape, seed)  # type: ignore[arg-type]


def _even(words: int) -> int:
    """Seed offsets are multiples of an AES block."""
    return words + (words & 1)


def _opening(node: Node, graph: Graph, s: Schedule) -> Opening:
    if node.op == "input":
        senders: tuple[int, ...] = (node.integer("owner"),)
        static: tuple[int, ...] = ()
    else:
        candidates = (0, 1) if node.op == "open" else (1 - node.integer("to"),)
        static = tuple(p for p in candidates if s.static[p][node.inputs[0]])
        senders = tuple(p for p in candidates if p not in static)
    return Opening(node.index, s.depth[node.index], packed_bytes(node.type.size, node.type.ring), senders, static)


def _need(node: Node, graph: Graph) -> Need:
    n, w = node.type.size, node.type.ring
    match node.op:
        case "input":
            return Need(seed=(n, 0) if node.integer("owner") == 0 else (0, n))
        case "open" if node.type.kind == "bit":
            return Need(seed=(-(-n // 64), -(-n // 64)))
        case "open":
            return Need(seed=(n, n))
        case "reveal":
            tape, seed = n * byte_width(w), n
            return Need((tape, 0), (0, seed)) if node.integer("to") == 0 else Need((0, tape), (seed, 0))
        case "dpf":
            cw = 16 * n * (tree_words(w) + 1)
            return Need((cw, cw), (2 * n, 2 * n))
        case "leaf":
            words = (1 << node.integer("points")) * (2 if node.integer("rest") else 1)
            cw = n * (16 * leaf_levels(w, node.integer("points")) + 8 * words)
            return Need((cw, cw), (2 * n, 2 * n))
        case "onehot":
            size = n * node.integer("buckets") * (w // 8)
            return Need((0, size), (-(-size // 8), 0))
        case "mask_share" if node["known"] is None:
            return Need((0, n * byte_width(w)), (n, 0))
        case "mask_share":
            return Need()
        case "poly":
            cs = [(_size(c.shape), c.bits) for c in lower(node, graph).coefficients]
            return Need((0, sum(k * byte_width(b) for k, b in cs)), (sum(k for k, _ in cs), 0))
    return Need()


def _size(shape: tuple[int, ...]) -> int:
    n = 1
    for d in shape:
        n *= d
    return n
