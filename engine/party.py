"""A party's reading of one call of a plan: synchronous, no I/O. What it sends is `message`; what arrives goes to
`opened`.

    state = PartyCall(...)          values of earlier segments set in state.values
    state.message(node)             y_b + z_b mod 2^w, packed, for an opening (static ones in the prepare phase)
    state.opened(node, own, peer)   both hold x_hat
    state.evaluate(node)            everything in between

Branches and memory indices depend on public values only: shapes, the plan, and the x_hat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.basis import Formula, compute, formula, public_value
from engine.errors import LocalError
from engine.fss.prg import SeedStream
from engine.fuse import Chain
from engine.gates.polynomial import Coefficient, lower
from engine.graph import LINEAR, Node
from engine.kernels.interface import (
    Equal,
    HalfLine,
    Interval,
    Kernels,
    Lookup,
    Operand,
    Question,
    Tweak,
    leaf_levels,
    tree_words,
)
from engine.linear import apply_linear, constants, matmul_words
from engine.parameters import Parameters
from engine.ring import U64, Words, byte_width, packed_bytes, reduce, reduce_into, ring_mask, to_ring
from engine.scheduler.pieces import tape_slices
from engine.scheduler.plan import PlannedCall, Segment

__all__ = ["PartyCall", "ReadTape", "warm"]

ReadTape = Callable[[int], NDArray[np.uint8]]


@dataclass(slots=True)
class PartyCall:
    """One party's state in one call. `tape` gives the next bytes; `own_input` the integers of this party's inputs."""

    party: int
    call: PlannedCall
    kernels: Kernels
    stream: SeedStream = field(repr=False)
    tape_id: bytes
    parameters: Parameters = field(repr=False)
    inputs: dict[str, NDArray[np.int64]] = field(default_factory=dict, repr=False)
    values: dict[int, Any] = field(default_factory=dict, repr=False)
    outputs: dict[str, NDArray[np.int64]] = field(default_factory=dict, repr=False)

    # ------------------------------------------------------------------ messages
    def message(self, node: Node) -> NDArray[np.uint8]:
        """What this party sends for an opening, packed to w bits an element."""
        if node.type.kind == "bit":
            masked = self.values[node.inputs[0]] ^ self.stream.bits(self._seed(node), node.type.shape)
            return np.packbits(masked.reshape(-1), bitorder="little")
        share = self._own_input(node) if node.op == "input" else self.values[node.inputs[0]]
        out = np.empty(packed_bytes(node.type.size, node.type.ring), np.uint8)
        flat = np.ascontiguousarray(share).reshape(-1)
        self.kernels.mask(flat, self.stream.seed, self._seed(node), node.type.ring, out)
        return out

    def _own_input(self, node: Node) -> Words:
        return to_ring(self.inputs[node.text("name")], node.type.ring).reshape(node.type.shape)

    def opened(self, node: Node, own: NDArray[np.uint8] | None, peer: NDArray[np.uint8] | None) -> None:
        """Both messages are known: x_hat, or this party's output."""
        if node.op == "reveal":
            if node.integer("to") == self.party:
                assert peer is not None
                self._output(node, peer)
            return
        messages = [m for m in (own, peer) if m is not None]
        if node.type.kind == "bit":
            n = node.type.size
            bits = messages[0] if len(messages) == 1 else messages[0] ^ messages[1]
            self.values[node.index] = np.unpackbits(bits, bitorder="little")[:n].reshape(node.type.shape)
            return
        total, drop = np.empty(node.type.shape, U64), self.call.segment.dropped.get(node.index, 0)
        if len(messages) == 2:
            self.kernels.combine(messages[0], messages[1], node.type.ring, total.reshape(-1), drop)
        else:
            self.kernels.unpack(messages[0], node.type.ring, total.reshape(-1))
            total >>= U64(drop)
        self.values[node.index] = total

    def _output(self, node: Node, peer: NDArray[np.uint8]) -> None:
        w = node.type.ring
        correction = self.values.pop(~node.index)
        y = reduce(self.values[node.inputs[0]].reshape(-1) + self._unpack(peer, node) + correction, w)
        shift = np.int64(64 - w)
        signed = (y << U64(64 - w)).view(np.int64) >> shift
        self.outputs[node.text("name")] = signed.reshape(node.type.shape)

    # ------------------------------------------------------------------ evaluation
    def evaluate(self, node: Node, tape: ReadTape) -> None:
        """Compute a node whose inputs are known. `tape` is called for exactly the bytes that the plan gives the
        node."""
        if node.op in LINEAR:
            self._linear(node)
        elif (method := _METHODS.get(node.op)) is not None:
            method(self, node, tape)

    def evaluate_chain(self, node: Node, chain: Chain) -> None:
        """Compute a node from the values that its chain begins with."""
        shaped = [public_value(symbol, _compact(self.values[symbol[1]])) for symbol in chain.formula.symbols]
        total = compute(chain.formula, shaped, node.type.shape, chain.ring, self.kernels)
        self.values[node.index] = np.right_shift(total, U64(chain.drop), out=total) if chain.drop else total

    def forget(self, index: int) -> None:
        self.values.pop(index, None)

    def _seed(self, node: Node) -> int:
        return self.call.seed[self.party] + self.call.segment.seed_offset[node.index][self.party]

    def _words(self, node: Node, shape: tuple[int, ...], ring: int, skip: int = 0) -> Words:
        return self.stream.words(self._seed(node) + skip, shape, ring)

    def _node(self, index: int) -> Node:
        return self.call.segment.graph[index]

    def _name(self, weight: Node) -> str:
        return self.call.call.prefix + weight.text("name")

    def _unpack(self, data: NDArray[np.uint8], node: Node) -> Words:
        out = np.empty(node.type.size, U64)
        self.kernels.unpack(data, node.type.ring, out)
        return out

    def _from_tape(self, tape: ReadTape, shape: tuple[int, ...], bits: int) -> Words:
        width = byte_width(bits)
        out = np.empty(shape, U64)
        self.kernels.unpack(tape(out.size * width), 8 * width, out.reshape(-1))
        return out

    def _dealt(self, node: Node, tape: ReadTape, shape: tuple[int, ...], bits: int, skip: int = 0) -> Words:
        """This party's share of something dealt: from the seed (P0) or the tape (P1)."""
        return self._words(node, shape, bits, skip) if self.party == 0 else self._from_tape(tape, shape, bits)

    # ------------------------------------------------------------------ free operations
    def _linear(self, node: Node) -> None:
        wires = [i for i in node.inputs if self._node(i).type.kind != "weight"]
        weight = None
        if node.op in ("public_matmul", "public_gain"):
            weight = self.parameters.plain(self._name(self._node(node.inputs[1])))
        result = apply_linear(node, [self.values[i] for i in wires], self.kernels, weight)
        self.values[node.index] = result.astype(np.uint8, copy=False) if node.type.kind == "bit" else result

    def _add_const(self, node: Node, _tape: ReadTape) -> None:
        self._add_public_words(node, constants(node))

    def _add_public(self, node: Node, _tape: ReadTape) -> None:
        weight = self.parameters.plain(self._name(self._node(node.inputs[1])))
        self._add_public_words(node, to_ring(weight, 64))

    def _add_public_words(self, node: Node, c: Words) -> None:
        x = self.values[node.inputs[0]]
        adds = node.type.kind == "masked" or self.party == 0
        self.values[node.index] = reduce_into(x + c, node.type.ring) if adds else x

    def _truncate(self, node: Node, _tape: ReadTape) -> None:
        x, left = self.values[node.inputs[0]], self.call.segment.left(node)
        self.values[node.index] = x >> U64(left) if left else x

    def _reduce(self, node: Node, _tape: ReadTape) -> None:
        self.values[node.index] = reduce(self.values[node.inputs[0]], node.type.ring)

    def _as_share(self, node: Node, _tape: ReadTape) -> None:
        # Party 0's part does not depend on x_hat, like its part of a product with a weight of party 1: their sum is
        # computed, and its opening sent, in the prepare phase.
        zero = np.zeros(node.type.shape, U64)
        self.values[node.index] = self.values[node.inputs[0]] if self.party == 1 else zero

    # ------------------------------------------------------------------ keys
    def _dpf(self, node: Node, tape: ReadTape) -> None:
        """Read the key, slice by slice, and answer every question that the segment asks of it."""
        m, n, words = node.type.ring, node.type.size, tree_words(node.type.ring) + 1
        asked = [self._node(q) for q in self.call.segment.schedule.questions.get(node.index, ())]
        questions = _questions(self.call.segment, node.index)
        outs: list[NDArray[Any]] = [np.empty(n, U64 if q.op == "lookup" else np.uint8) for q in asked]
        x_hat = np.ascontiguousarray(self.values[node.inputs[0]]).reshape(-1)
        for a, b in tape_slices(n, 16 * words):
            key = tape(16 * words * (b - a)).view(U64).reshape(words, b - a, 2)
            root, tweak = self._words(node, (b - a, 2), 64, 2 * a), Tweak(self.tape_id, self.call.gate(node.index), a)
            parts = [o[a:b] for o in outs]
            self.kernels.dpf_eval(self.party, m, root, key[:-1], key[-1], tweak, x_hat[a:b], questions, parts)
        for q, out in zip(asked, outs, strict=True):
            value = out if q.type.ring == 1 else reduce_into(out, q.type.ring)
            self.values[q.index] = value.reshape(q.type.shape)

    def _leaf(self, node: Node, tape: ReadTape) -> None:
        m, n, points, bits = node.type.ring, node.type.size, node.integer("points"), node.integer("rest")
        levels, words = leaf_levels(m, points), (1 << points) * (2 if bits else 1)
        asked = [self._node(q) for q in self.call.segment.schedule.questions.get(node.index, ())]
        outs = [np.empty(n, U64) for _ in asked]
        x_hat = np.ascontiguousarray(self.values[node.inputs[0]]).reshape(-1)
        d_hat = np.ascontiguousarray(self.values[node.inputs[1]] & ring_mask(bits)).reshape(-1) if bits else None
        for a, b in tape_slices(n, 16 * levels + 8 * words):
            key = tape((16 * levels + 8 * words) * (b - a)).view(U64)
            cw, leaf = key[: 2 * levels * (b - a)], key[2 * levels * (b - a) :]
            root, tweak = self._words(node, (b - a, 2), 64, 2 * a), Tweak(self.tape_id, self.call.gate(node.index), a)
            keys = (root, cw.reshape(levels, b - a, 2), leaf.reshape(b - a, words), tweak)
            for q, out in zip(asked, outs, strict=True):
                at = (x_hat[a:b], None if d_hat is None else d_hat[a:b], q.integer("first"))
                tables = _tables(self.call.segment, q.index, bits > 0)
                self.kernels.leaf_eval(self.party, m, points, *keys, *at, *tables, q.type.ring, out[a:b])
        for q, out in zip(asked, outs, strict=True):
            self.values[q.index] = out.reshape(q.type.shape)

    def _onehot(self, node: Node, tape: ReadTape) -> None:
        shape = (*node.type.shape, node.integer("buckets"))
        ring = node.type.ring
        if self.party == 0:
            self.values[node.index] = self.stream.counters(self._seed(node), shape, ring)
        else:
            size = prod(shape) * (ring // 8)
            self.values[node.index] = tape(size).view(np.uint8 if ring == 8 else np.uint16).reshape(shape)

    def _counts(self, node: Node, _tape: ReadTape) -> None:
        hot, t_hat = self.values[node.inputs[0]], self.values[node.inputs[1]]
        rows = prod(t_hat.shape[:-1])
        length, buckets = t_hat.shape[-1], hot.shape[-1]
        out = np.empty((rows, buckets), hot.dtype)
        t = np.ascontiguousarray(t_hat).reshape(rows, length)
        self.kernels.onehot_counts(hot.reshape(rows, length, buckets), t, out)
        self.values[node.index] = out.astype(U64).reshape(node.type.shape)

    def _mask_share(self, node: Node, tape: ReadTape) -> None:
        if node["known"] is None:
            self.values[node.index] = self._dealt(node, tape, node.type.shape, node.type.ring)
        elif node["known"] == self.party:
            wire = self._node(node.inputs[0])
            self.values[node.index] = self._words(wire, node.type.shape, node.type.ring)
        else:
            self.values[node.index] = None

    # ------------------------------------------------------------------ gates
    def _poly(self, node: Node, tape: ReadTape) -> None:
        coefficients, f = _formula(self.call.segment, node.index, self.party)
        shaped, seed = [public_value(symbol, self.values[symbol[1]]) for symbol in f.symbols], self._seed(node)
        for c in coefficients:
            size = prod(c.shape)
            source = tape(size * byte_width(c.bits)) if self.party else self.stream.lazy(seed, size)
            shaped.append((Operand(source, c.bits, shift=c.shift), c.shape))
            seed += size
        self.values[node.index] = compute(f, shaped, node.type.shape, node.type.ring, self.kernels)

    def _matmul(self, node: Node, _tape: ReadTape) -> None:
        x, y, sx, sy = (self.values[i] for i in node.inputs)
        w = node.type.ring
        if self.party == 0:
            self.values[node.index] = matmul_words(_less(x, sx), _less(y, sy), w, self.kernels)
            return
        known = [(a, b) for a, b in ((sx, y), (x, sy)) if a is not None and b is not None]
        self.values[node.index] = _minus([matmul_words(a, b, w, self.kernels) for a, b in known], node.type.shape, w)

    def _weight_matmul(self, node: Node, _tape: ReadTape) -> None:
        def product(a: Words, b: Any) -> Words:
            return matmul_words(a, b, node.type.ring, self.kernels)

        self._weight_product(node, product)

    def _weight_gain(self, node: Node, _tape: ReadTape) -> None:
        def product(a: Words, b: Any) -> Words:
            return reduce_into(a * (b if b.dtype == U64 else to_ring(b, 64)), node.type.ring)

        self._weight_product(node, product)

    def _weight_product(self, node: Node, product: Callable[[Words, Any], Words]) -> None:
        x, w, key = node.inputs
        weight, share, ring = self._node(w), self.values[key], node.type.ring
        name, owner = self._name(weight), weight["owner"]
        if owner == self.party:
            self.values[node.index] = product(_less(self.values[x], share), self.parameters.plain(name))
            return
        less = [] if share is None else [product(share, self.parameters.masked(name, ring))]
        total = _minus(less, node.type.shape, ring)
        if owner == "shared":
            total = reduce_into(total + product(self.values[x], self.parameters.share(name, ring)), ring)
        self.values[node.index] = total

    def _weight_share(self, node: Node, _tape: ReadTape) -> None:
        weight = self._node(node.inputs[0])
        name, owner = self._name(weight), weight["owner"]
        if owner == "shared":
            value = self.parameters.share(name, node.type.ring)
        elif owner == self.party:
            value = to_ring(self.parameters.plain(name), node.type.ring)
        else:
            value = np.zeros(weight.type.shape, U64)
        self.values[node.index] = np.broadcast_to(value, node.type.shape)

    def _reveal(self, node: Node, tape: ReadTape) -> None:
        if node.integer("to") == self.party:
            self.values[~node.index] = self._from_tape(tape, (node.type.size,), node.type.ring)


def _compact(x: Words) -> Words:
    """Without what was only broadcast."""
    return x[tuple(slice(1) if stride == 0 else slice(None) for stride in x.strides)]


def _less(x: Words, share: Words | None) -> Words:
    return x if share is None else x - share


def _minus(products: list[Words], shape: tuple[int, ...], w: int) -> Words:
    """Minus the sum of fresh arrays, in the first of them."""
    if not products:
        return np.zeros(shape, U64)
    total, *others = products
    for other in others:
        total += other
    return reduce_into(np.negative(total, out=total), w)


def warm(segment: Segment) -> None:
    """Make what the evaluation of a segment needs beside tape and values: tables, questions, lowered polynomials."""
    for node in segment.graph:
        if node.op == "dpf":
            _questions(segment, node.index)
        elif node.op == "leaf":
            for question in segment.schedule.questions.get(node.index, ()):
                _tables(segment, question, node.integer("rest") > 0)
        elif node.op == "poly":
            for party in (0, 1):
                _formula(segment, node.index, party)


@lru_cache(maxsize=2048)
def _formula(segment: Segment, index: int, party: int) -> tuple[tuple[Coefficient, ...], Formula]:
    """A polynomial's coefficients on the tape, and what a party makes of them: P0 adds what is public."""
    lowered = lower(segment.graph[index], segment.graph)
    free = lowered.free if party == 0 else ()
    return lowered.coefficients, formula(free, [c.public for c in lowered.coefficients])


@lru_cache(maxsize=1024)
def _questions(segment: Segment, key: int) -> tuple[Question, ...]:
    return tuple(_question(segment, segment.graph[q]) for q in segment.schedule.questions.get(key, ()))


@lru_cache(maxsize=1024)
def _tables(segment: Segment, question: int, sloped: bool) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Values and, where a leaf has a rest, slopes."""
    node = segment.graph[question]
    values = np.array(node.integers("values"), np.int64)
    return values, np.array(node.integers("slopes"), np.int64) if sloped else None


def _question(segment: Segment, node: Node) -> Question:
    match node.op:
        case "interval":
            return Interval(node.integer("lo"), node.integer("hi"))
        case "half_line":
            bound = segment.graph[node.inputs[1]].type.bound
            return HalfLine(node.integer("lo"), bound, bool(node.integer("above")))
        case "equal":
            return Equal(node.integer("value"))
        case "lookup":
            return Lookup(node.integer("first"), np.array(node.integers("values"), np.int64))
    raise LocalError(f"'{node.op}' is no question to a DPF")


_METHODS: dict[str, Callable[[PartyCall, Node, ReadTape], None]] = {
    "add_const": PartyCall._add_const, "add_public": PartyCall._add_public, "truncate": PartyCall._truncate,
    "reduce": PartyCall._reduce, "as_share": PartyCall._as_share, "dpf": PartyCall._dpf, "leaf": PartyCall._leaf,
    "onehot": PartyCall._onehot, "counts": PartyCall._counts, "mask_share": PartyCall._mask_share,
    "poly": PartyCall._poly, "matmul": PartyCall._matmul, "weight_matmul": PartyCall._weight_matmul,
    "weight_gain": PartyCall._weight_gain, "weight_share": PartyCall._weight_share, "reveal": PartyCall._reveal,
}  # fmt: skip
