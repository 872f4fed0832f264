"""Why a plan costs what it does: of every opening its width, of every key and table its form, of every polynomial the
widths of its coefficients; and beside each what it would have cost otherwise. Read off the graph, nothing runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine.cost import aes_steps, leaf_steps, lookup_steps, question_steps
from engine.gates.fss import LEAF_POINTS
from engine.gates.polynomial import lower
from engine.graph import LINEAR, Node
from engine.kernels.interface import leaf_levels, tree_words
from engine.ring import byte_width, packed_bytes
from engine.scheduler.plan import Segment

__all__ = ["Alternative", "Coefficients", "Key", "Width", "coefficients", "keys", "widths"]

FULL = 64
"""Bits of the ring, and of the domain, that nobody narrowed."""
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Width:
    """An opening. `ring` bits an element: `bound_bits` of the bound, and what `reason` names, `spare` of them not for
    the value itself. `full_width_bytes` is what a sender would send in a ring of 64 bits (bits stay bits)."""

    gate: str
    origin: str
    round: int
    kind: str
    elements: int
    ring: int
    bound_bits: int
    spare: int
    reason: str
    bytes_sent: Pair
    prepare_bytes: Pair
    full_width_bytes: int


@dataclass(frozen=True, slots=True)
class Alternative:
    """The same key in another form: its entries, bytes of each tape, AES calls of a party, bytes each side opens."""

    form: str
    entries: int
    tape_bytes: int
    aes_steps: int
    opened_bytes: int


@dataclass(frozen=True, slots=True)
class Key:
    """A DPF on one wire and all questions to it; `entries` of all its tables. The figures are those of `Alternative`,
    of which the first is what was chosen."""

    gate: str
    origin: str
    form: str
    elements: int
    domain: int
    reason: str
    comparisons: int
    tables: tuple[str, ...]
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class Coefficients:
    """A polynomial's dealt coefficients: `widths[b]` of them take b bytes on the tape of party 1, `tape_bytes` in all;
    `full_width_bytes` at eight bytes each. `terms` are products of the author's, `ring` is that of the result."""

    gate: str
    origin: str
    ring: int
    terms: int
    widths: dict[int, int]
    tape_bytes: int
    full_width_bytes: int


# ---------------------------------------------------------------------- openings
def widths(s: Segment) -> list[Width]:
    """Every opening of a segment, in the order in which they are sent."""
    return [_width(s, s.graph[o.node]) for o in s.openings]


def _width(s: Segment, node: Node) -> Width:
    opening, kind = s.opening_of[node.index], node.type
    bits, reason = _needed(s, node)
    spare = kind.ring - bits
    if spare > 0:
        reason += f"; {spare} for {_widened(s, node) if kind.kind == 'masked' else 'the ring that it is computed in'}"
    return Width(
        node.gate, node.origin, opening.round, "input" if node.op == "input" else kind.kind, kind.size, kind.ring,
        kind.bound.bit_length(), max(spare, 0), reason, _pair(opening.bytes, opening.senders),
        _pair(opening.bytes, opening.static),
        packed_bytes(kind.size, 1 if kind.kind == "bit" else FULL),
    )  # fmt: skip


def _pair(size: int, senders: tuple[int, ...]) -> Pair:
    return (size * (0 in senders), size * (1 in senders))


def _needed(s: Segment, node: Node) -> tuple[int, str]:
    """The least ring, and what it is made of."""
    kind = node.type
    if kind.kind == "bit":
        return 1, "a bit"
    if kind.bound == (1 << kind.ring) - 1:
        return kind.ring, "any residue"
    bits = kind.bound.bit_length()
    if kind.kind == "answer":
        return bits + 2, f"{bits} of the table, its sign, one for +-T"
    if _lifted(s, node.index):
        return bits + 2, f"{bits} of the bound, a sign, one to lift"
    return bits + 1, f"{bits} of the bound, a sign"


def _reach(s: Segment, index: int) -> dict[int, int]:
    """The masked wires that are linear in an opening or truncations of it, and how many bits each has dropped."""
    reached = {index: 0}
    for node in s.graph:
        if node.type.kind == "masked" and node.op in {*LINEAR, "truncate", "add_const", "add_public"}:
            before = [reached[i] for i in node.inputs if i in reached]
            if before:
                reached[node.index] = max(before) + (node.integer("bits") if node.op == "truncate" else 0)
    return reached


def _takes(s: Segment, node: Node, reached: Mapping[int, int]) -> Iterator[int]:
    """The reached wires that a polynomial takes whole."""
    kinds = dict(zip(node.inputs, node.operands(), strict=True))
    return (i for i in node.inputs if i in reached and kinds[i][0] == "wire")


def _lifted(s: Segment, index: int) -> bool:
    """Whether a polynomial takes the wire, or what is linear in it, into a wider ring."""
    whole = {i: dropped for i, dropped in _reach(s, index).items() if not dropped}
    polynomials = (n for n in s.graph if n.op == "poly")
    return any(s.graph[i].type.ring < n.type.ring for n in polynomials for i in _takes(s, n, whole))


def _widened(s: Segment, node: Node) -> str:
    """What needs the bits that the value itself does not: a product in whose ring it is taken, or the next segment."""
    reached = _reach(s, node.index)
    for other in s.graph:
        if "matmul" in other.op or other.op in ("poly", "weight_gain", "public_gain", "as_share"):
            taken = _takes(s, other, reached) if other.op == "poly" else (i for i in other.inputs if i in reached)
            if any(other.type.ring + reached[i] >= node.type.ring for i in taken):
                return f"{other.op} at {other.origin.rpartition('/')[2]}"
    return "the next segment" if any(i in reached for i in s.graph.outputs) else "head-room"


# ---------------------------------------------------------------------- keys and tables
def keys(s: Segment) -> list[Key]:
    """Every key that questions are put to, in the order of the tape."""
    found = (s.graph[i] for i in s.schedule.order if s.graph[i].op in ("dpf", "leaf"))
    return [_key(s, node, [s.graph[q] for q in s.schedule.questions.get(node.index, ())]) for node in found]


def _key(s: Segment, node: Node, asked: list[Node]) -> Key:
    tables = [q for q in asked if q.op in ("lookup", "piece")]
    sloped = _sloped(s, tables)
    form = "leaf" if node.op == "leaf" else "comparison" if not tables else "interpolated" if sloped else "plain"
    chosen = Alternative(
        form, _entries(tables), s.needs[node.index].tape[0], aes_steps(node, s), sum(_opened(q) for q in asked)
    )
    return Key(
        node.gate, node.origin, form, node.type.size, node.type.ring, _domain_reason(s, node, tables),
        len(asked) - len(tables), tuple(f"{q.text('table')}: {len(q.integers('values'))}" for q in tables),
        (chosen, *_others(s, node, tables, asked, form)),
    )  # fmt: skip


def _entries(tables: list[Node]) -> int:
    return sum(len(q.integers("values")) for q in tables)


def _opened(q: Node) -> int:
    """Bytes that a side sends to open the answer; a piece is opened with what is computed from it."""
    return 0 if q.op == "piece" else packed_bytes(q.type.size, q.type.ring)


def _domain_reason(s: Segment, node: Node, tables: list[Node]) -> str:
    m, bound = node.type.ring, s.graph[node.inputs[0]].type.bound.bit_length()
    longest = max((len(q.integers("values")) for q in tables), default=1)
    if m <= bound + 1:
        return f"{bound} of the bound, a sign"
    if m == (longest - 1).bit_length():
        return f"a table of {longest} entries"
    return f"{bound} of the bound, a sign, {m - bound - 1} spare"


def _sloped(s: Segment, tables: list[Node]) -> bool:
    """Whether an answer is multiplied by a rest: a table of slopes, or one that is its own slope."""
    answers = {n.index for n in s.graph if n.op == "open" and n.inputs[0] in {q.index for q in tables}}
    for node in s.graph:
        if node.op == "poly" and not answers.isdisjoint(node.inputs):
            kinds = [(i, kind) for i, (kind, _) in zip(node.inputs, node.operands(), strict=True)]
            for product, _ in node.terms():
                factors = [kinds[p] for p in product]
                if any(i in answers for i, _ in factors) and any(kind == "rest" for _, kind in factors):
                    return True
    return False


def _others(s: Segment, node: Node, tables: list[Node], asked: list[Node], form: str) -> Iterator[Alternative]:
    if node.op == "leaf":
        for points in sorted({0, LEAF_POINTS, 7} - {node.integer("points")}):
            if points < node.type.ring:
                yield _as_leaves(
                    node, tables, points, 2 if node.integer("rest") else 1, f"leaf of {1 << points} points"
                )
        yield _as_lookups(node, tables)
        return
    if len(asked) > 1:
        yield _apart(node, asked)
    if form == "interpolated":
        yield _as_plain(s, node, tables, asked)
    if tables:
        yield _as_leaves(node, tables[:1], LEAF_POINTS, 2 if form == "interpolated" else 1, "leaf")
    yield _wide(node, asked)


def _dpf(elements: int, domain: int) -> int:
    """Bytes of the keys on each tape."""
    return 16 * elements * (tree_words(domain) + 1)


def _apart(node: Node, asked: list[Node]) -> Alternative:
    """Each question with a key of its own."""
    n, m = node.type.size, node.type.ring
    tape, steps = len(asked) * _dpf(n, m), n * sum(question_steps(q, m) for q in asked)
    return Alternative("a key a question", _entries_of(asked), tape, steps, sum(map(_opened, asked)))


def _wide(node: Node, asked: list[Node]) -> Alternative:
    """The same questions in a domain that nobody narrowed."""
    n = node.type.size
    steps = n * sum(question_steps(q, FULL) for q in asked)
    return Alternative(f"{FULL}-bit domain", _entries_of(asked), _dpf(n, FULL), steps, sum(map(_opened, asked)))


def _entries_of(asked: list[Node]) -> int:
    return _entries([q for q in asked if q.op == "lookup"])


def _as_plain(s: Segment, node: Node, tables: list[Node], asked: list[Node]) -> Alternative:
    """One table of values as exact as the interpolated one: at step 2^-2s where that has 2^-s, in as many bits more."""
    n, finer = node.type.size, max(s.graph[node.inputs[0]].type.scale, 0)
    values, m = tables[0], min(node.type.ring + finer, FULL)
    entries = len(values.integers("values")) << finer
    rest = [q for q in asked if q.op != "lookup"]
    steps = n * (lookup_steps(entries, m) + sum(question_steps(q, m) for q in rest))
    return Alternative("plain", entries, _dpf(n, m), steps, _opened(values) + sum(map(_opened, rest)))


def _as_leaves(node: Node, tables: list[Node], points: int, words: int, form: str) -> Alternative:
    """Arithmetic leaves of 2^points points: nothing to open, an AES call for every entry or two."""
    n, m = node.type.size, node.type.ring
    points = min(points, m)
    levels = leaf_levels(m, points)
    tape = n * (16 * levels + 8 * (words << points))
    steps = n * sum(leaf_steps(len(q.integers("values")), points, words, levels) for q in tables)
    return Alternative(form, _entries(tables), tape, steps, 0)


def _as_lookups(node: Node, tables: list[Node]) -> Alternative:
    """Bit leaves: one answer a table, two with slopes, opened a round earlier."""
    n, m = node.type.size, node.type.ring
    steps = opened = entries = 0
    for q in tables:
        for values in (q.integers("values"), q["slopes"]):
            if isinstance(values, tuple):
                entries += len(values)
                steps += lookup_steps(len(values), m)
                opened += packed_bytes(n, max(abs(int(str(v))) for v in values).bit_length() + 2)
    return Alternative("lookups", entries, _dpf(n, m), n * steps, opened)


# ---------------------------------------------------------------------- coefficients
def coefficients(s: Segment) -> list[Coefficients]:
    """Every polynomial that has coefficients to deal, in the order of the tape."""
    rows = (_coefficients(s, s.graph[i]) for i in s.schedule.order if s.graph[i].op == "poly")
    return [row for row in rows if row.tape_bytes]


def _coefficients(s: Segment, node: Node) -> Coefficients:
    found: Counter[int] = Counter()
    for c in lower(node, s.graph).coefficients:
        size = 1
        for d in c.shape:
            size *= d
        found[byte_width(c.bits)] += size
    tape = sum(width * count for width, count in found.items())
    return Coefficients(
        node.gate, node.origin, node.type.ring, len(node.terms()), dict(sorted(found.items())), tape,
        8 * found.total(),
    )  # fmt: skip
