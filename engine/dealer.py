"""The dealer's reading of a plan: masks, DPF keys and corrections, written to two tapes in plan order.

The dealer never sees data. Everything that it draws comes from the two parties' seeds and the model key, so the tapes
are a deterministic function of those. For each masked wire it knows the mask r; for each share the offset: the parties'
shares sum to y - offset, and the mask of the opening that consumes the share, r = z_0 + z_1 - offset, absorbs it.
No branch and no memory index depends on a mask: Gen and the one-hot kernels are constant-time, the rest is arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from engine.basis import Shaped, Symbol, evaluate, secret_value
from engine.buffers import Buffers
from engine.fss.prg import SeedStream
from engine.gates.polynomial import lower
from engine.graph import LINEAR, Node
from engine.kernels.interface import Kernels, Operand, Tweak, leaf_levels, tree_words
from engine.linear import apply_linear, matmul_words
from engine.parameters import DealerParameters
from engine.ring import U64, Words, byte_width, reduce, reduce_into, ring_mask
from engine.scheduler.pieces import tape_slices
from engine.scheduler.plan import Plan, PlannedCall
from engine.tape import TapeSink

__all__ = ["Observer", "deal"]

Observer = Callable[[int, int, Words], None]
"""Called with (call, node, mask) for every input and opening: how a test lets `clear` predict the run."""

MINUS = 2**64 - 1
SHARE: Symbol = ("share", -1, 0)
"""P0's share of a coefficient, in the arithmetic that leaves P1's."""
KEEP_BYTES = 32 << 20
"""Memory that keys are written to, again and again."""


def deal(
    plan: Plan,
    kernels: Kernels,
    seeds: tuple[bytes, bytes],
    tape_id: bytes,
    parameters: DealerParameters,
    sinks: tuple[TapeSink, TapeSink],
    observer: Observer | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the bodies of both tapes of one run."""
    streams, buffers = (SeedStream(kernels, seeds[0]), SeedStream(kernels, seeds[1])), Buffers(KEEP_BYTES)
    outputs: list[list[Words]] = []
    for call in plan.calls:
        state = _Dealing(call, kernels, streams, tape_id, parameters, sinks, buffers, observer)
        for wire, (source, position) in zip(call.segment.graph.inputs(), call.call.inputs, strict=True):
            state.r[wire.index] = outputs[source][position]
        state.run()
        outputs.append([state.r[i] for i in call.segment.graph.outputs])
        if progress is not None:
            progress(call.index + 1, len(plan.calls))


@dataclass(slots=True)
class _Dealing:
    """One call: r and offset by node (no offset: zero), sigma by key (answers carry it on), shares of masks by key."""

    call: PlannedCall
    kernels: Kernels
    streams: tuple[SeedStream, SeedStream] = field(repr=False)
    tape_id: bytes
    parameters: DealerParameters = field(repr=False)
    sinks: tuple[TapeSink, TapeSink] = field(repr=False)
    buffers: Buffers = field(repr=False)
    observer: Observer | None
    r: dict[int, Words] = field(default_factory=dict, repr=False)
    offset: dict[int, Words] = field(default_factory=dict, repr=False)
    sigma: dict[int, Words] = field(default_factory=dict, repr=False)
    shares: dict[int, tuple[Words | None, Words | None]] = field(default_factory=dict, repr=False)

    def run(self) -> None:
        s = self.call.segment
        for position, index in enumerate(s.schedule.order):
            node = s.graph[index]
            if node.op in LINEAR:
                self._linear(node)
            elif (method := _METHODS.get(node.op)) is not None:
                method(self, node)
            for i in node.inputs:
                if s.last_use.get(i) == position:
                    self.r.pop(i, None)
                    self.offset.pop(i, None)
                    self.shares.pop(i, None)

    # ------------------------------------------------------------------ helpers
    def _seed(self, node: Node, party: int) -> int:
        return self.call.seed[party] + self.call.segment.seed_offset[node.index][party]

    def _words(self, node: Node, party: int, shape: tuple[int, ...], ring: int, skip: int = 0) -> Words:
        return self.streams[party].words(self._seed(node, party) + skip, shape, ring)

    def _lazy(self, node: Node, party: int, size: int, skip: int = 0) -> Operand:
        return Operand(self.streams[party].lazy(self._seed(node, party) + skip, size))

    def _write(self, party: int, values: Words, bits: int) -> None:
        width = byte_width(bits)
        out = self.buffers.take(values.size * width)
        self.kernels.pack(np.ascontiguousarray(values).reshape(-1), 8 * width, out)
        self.sinks[party].write(out)

    def _see(self, node: Node) -> None:
        if self.observer is not None:
            self.observer(self.call.index, node.index, self.r[node.index])

    def _mask(self, weight: Node, ring: int) -> Words:
        return self.parameters.masks.mask(self.call.call.prefix + weight.text("name"), weight.type.shape, ring)

    def _graph(self, index: int) -> Node:
        return self.call.segment.graph[index]

    def _public(self, node: Node) -> Words | None:
        if node.op not in ("public_matmul", "public_gain"):
            return None
        return self.parameters.plain(self.call.call.prefix + self._graph(node.inputs[1]).text("name"))

    # ------------------------------------------------------------------ free operations
    def _linear(self, node: Node) -> None:
        wires = [i for i in node.inputs if self._graph(i).type.kind != "weight"]
        if node.type.kind == "bit":
            self.r[node.index] = apply_linear(node, [self.r[i] for i in wires], self.kernels).astype(np.uint8)
        elif node.type.kind == "masked":
            self.r[node.index] = apply_linear(node, [self.r[i] for i in wires], self.kernels, self._public(node))
        elif any(i in self.offset for i in wires):
            zero = np.zeros(1, U64)
            args = [
                self.offset[i] if i in self.offset else np.broadcast_to(zero, self._graph(i).type.shape) for i in wires
            ]
            self.offset[node.index] = apply_linear(node, args, self.kernels, self._public(node))

    def _same(self, node: Node) -> None:
        """A public constant added: the mask and the offset stay."""
        for table in (self.r, self.offset):
            if node.inputs[0] in table:
                table[node.index] = reduce(table[node.inputs[0]], node.type.ring)

    def _truncate(self, node: Node) -> None:
        self.r[node.index] = self.r[node.inputs[0]] >> U64(node.integer("bits"))

    def _reduce(self, node: Node) -> None:
        self.r[node.index] = reduce(self.r[node.inputs[0]], node.type.ring)

    def _as_share(self, node: Node) -> None:
        self.offset[node.index] = reduce(U64(0) - self.r[node.inputs[0]], node.type.ring)

    # ------------------------------------------------------------------ openings
    def _input(self, node: Node) -> None:
        self.r[node.index] = self._words(node, node.integer("owner"), node.type.shape, node.type.ring)
        self._see(node)

    def _open(self, node: Node) -> None:
        if node.type.kind == "bit":
            a, b = (self.streams[p].bits(self._seed(node, p), node.type.shape) for p in (0, 1))
            self.r[node.index] = a ^ b
        else:
            self.r[node.index] = self._mask_of(node)
        self._see(node)

    def _mask_of(self, node: Node) -> Words:
        """z_0 + z_1 - offset."""
        operands: list[Words | Operand] = [self._lazy(node, p, node.type.size) for p in (0, 1)]
        if node.inputs[0] in self.offset:
            operands.append(np.ascontiguousarray(self.offset[node.inputs[0]]).reshape(-1))
        out = np.empty(node.type.shape, U64)
        terms = [(1, (0,)), (1, (1,)), (MINUS, (2,))][: len(operands)]
        self.kernels.poly(operands, terms, node.type.ring, out.reshape(-1))
        return out

    def _reveal(self, node: Node) -> None:
        to = node.integer("to")
        z = self._words(node, 1 - to, node.type.shape, 64)
        self._write(to, reduce(self._offset(node.inputs[0]) - z, node.type.ring), node.type.ring)

    def _offset(self, index: int) -> Words:
        return self.offset.get(index, np.zeros((), U64))

    # ------------------------------------------------------------------ keys
    def _dpf(self, node: Node) -> None:
        m, n, words = node.type.ring, node.type.size, tree_words(node.type.ring) + 1
        alpha, sigma = np.ascontiguousarray(self.r[node.inputs[0]]).reshape(-1), np.empty(n, np.uint8)
        for a, b in tape_slices(n, 16 * words):
            out = self.buffers.take(16 * words * (b - a)).view(U64).reshape(words, b - a, 2)
            tweak = Tweak(self.tape_id, self.call.gate(node.index), a)
            self.kernels.dpf_gen(m, alpha[a:b], *self._roots(node, a, b), tweak, out[:-1], out[-1], sigma[a:b])
            self._both(out)
        self.sigma[node.index] = (sigma.astype(U64) * U64(2) - U64(1)).reshape(node.type.shape)

    def _leaf(self, node: Node) -> None:
        m, n, points = node.type.ring, node.type.size, node.integer("points")
        alpha = np.ascontiguousarray(self.r[node.inputs[0]]).reshape(-1)
        payload = np.ones((n, 2 if node.integer("rest") else 1), U64)
        if node.integer("rest"):
            payload[:, 1] = self.r[node.inputs[1]].reshape(-1) & ring_mask(node.integer("rest"))
        levels, words = leaf_levels(m, points), (1 << points) * payload.shape[1]
        for a, b in tape_slices(n, 16 * levels + 8 * words):
            out = self.buffers.take((16 * levels + 8 * words) * (b - a)).view(U64)
            cw, leaf = np.split(out, [2 * levels * (b - a)])
            secret = (alpha[a:b], payload[a:b], *self._roots(node, a, b))
            tweak = Tweak(self.tape_id, self.call.gate(node.index), a)
            self.kernels.leaf_gen(m, points, *secret, tweak, cw.reshape(levels, b - a, 2), leaf.reshape(b - a, words))
            self._both(out)

    def _roots(self, node: Node, a: int, b: int) -> tuple[Words, Words]:
        """Both parties' roots of keys a to b of a gate."""
        return self._words(node, 0, (b - a, 2), 64, 2 * a), self._words(node, 1, (b - a, 2), 64, 2 * a)

    def _both(self, part: Words) -> None:
        for sink in self.sinks:
            sink.write(part.view(np.uint8).reshape(-1))

    def _onehot(self, node: Node) -> None:
        buckets, ring = node.integer("buckets"), node.type.ring
        r = np.ascontiguousarray(self.r[node.inputs[0]]).reshape(-1)
        hot0 = self.streams[0].counters(self._seed(node, 0), (r.size, buckets), ring)
        out: NDArray[np.unsignedinteger] = np.empty_like(hot0)
        self.kernels.onehot_share(r, hot0, out)
        self.sinks[1].write(out.view(np.uint8).reshape(-1))

    def _mask_share(self, node: Node) -> None:
        r, ring = self.r[node.inputs[0]], node.type.ring
        if node["known"] is not None:
            self.shares[node.index] = (r, None) if node["known"] == 0 else (None, r)
            return
        s0 = self._words(node, 0, node.type.shape, ring)
        s1 = reduce_into(r - s0, ring)
        self._write(1, s1, ring)
        self.shares[node.index] = (s0, s1)

    # ------------------------------------------------------------------ gates
    def _poly(self, node: Node) -> None:
        lowered, ring = lower(node, self.call.segment.graph), node.type.ring
        skip = 0
        for c in lowered.coefficients:
            size = int(np.prod(c.shape, dtype=np.int64))
            value = partial(self._secret_or, (self._lazy(node, 0, size, skip), c.shape))
            self._write(1, evaluate((*c.secret, (MINUS, (SHARE,))), value, c.shape, c.bits, self.kernels), c.bits)
            skip += size
        if lowered.offset:
            self.offset[node.index] = evaluate(lowered.offset, self._secret, node.type.shape, ring, self.kernels)

    def _secret_or(self, share: Shaped, symbol: Symbol) -> Shaped:
        """P0's share of what is dealt, or a secret."""
        return share if symbol == SHARE else self._secret(symbol)

    def _secret(self, symbol: Symbol) -> Shaped:
        if symbol[0] == "s":
            return secret_value(symbol, self.sigma[symbol[1]], 64)
        return secret_value(symbol, self.r[symbol[1]], self._graph(symbol[1]).type.ring)

    def _matmul(self, node: Node) -> None:
        x, y, kx, ky = node.inputs
        product = matmul_words(self.r[x], self.r[y], node.type.ring, self.kernels)
        (x0, _), (y0, _) = self.shares[kx], self.shares[ky]
        if x0 is not None and y0 is not None:
            product = reduce_into(product - matmul_words(x0, y0, node.type.ring, self.kernels), node.type.ring)
        self.offset[node.index] = product

    def _weight_matmul(self, node: Node) -> None:
        x, w, key = node.inputs
        r = self._weight_operand(x, w, key)
        if r is not None:
            mask = self._mask(self._graph(w), node.type.ring)
            self.offset[node.index] = matmul_words(r, mask, node.type.ring, self.kernels)

    def _weight_gain(self, node: Node) -> None:
        x, w, key = node.inputs
        r = self._weight_operand(x, w, key)
        if r is not None:
            self.offset[node.index] = reduce(r * self._mask(self._graph(w), node.type.ring), node.type.ring)

    def _weight_operand(self, x: int, w: int, key: int) -> Words | None:
        """What multiplies R_W in the offset: the other party's share of r_X, or r_X itself for a shared weight."""
        owner = self._graph(w)["owner"]
        return self.r[x] if owner == "shared" else self.shares[key][1 - int(str(owner))]


_METHODS: dict[str, Callable[[_Dealing, Node], None]] = {
    "input": _Dealing._input, "open": _Dealing._open, "reveal": _Dealing._reveal,
    "add_const": _Dealing._same, "add_public": _Dealing._same, "truncate": _Dealing._truncate,
    "reduce": _Dealing._reduce, "as_share": _Dealing._as_share, "dpf": _Dealing._dpf, "leaf": _Dealing._leaf,
    "onehot": _Dealing._onehot, "mask_share": _Dealing._mask_share, "poly": _Dealing._poly, "matmul": _Dealing._matmul,
    "weight_matmul": _Dealing._weight_matmul, "weight_gain": _Dealing._weight_gain,
}  # fmt: skip
