"""The cleartext reading of a plan: what the protocol computes, rings and rounding coins included, without shares.

Given the dealer's masks (`Masks`) it predicts the protocol's result bit for bit: the functionality F(inputs; coins),
whose coins are the opened values. Without them it draws its own. With `check`, a value beyond its declared bound is an
error that names the author's line: that is how calibration and sample data are tested.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import BoundError
from engine.fss.prg import SeedStream
from engine.graph import LINEAR, Node
from engine.kernels.interface import Kernels
from engine.linear import apply_linear, constants, matmul_words
from engine.ring import U64, Words, reduce, ring_mask, to_ring, to_signed
from engine.scheduler.plan import Plan, PlannedCall

__all__ = ["Masks", "Seen", "clear", "fresh_masks"]

Masks = Callable[[int, Node], Words]
Seen = Callable[[PlannedCall, Node, NDArray[np.int64]], None]


def fresh_masks(kernels: Kernels, seed: bytes | None = None) -> Masks:
    """Uniform masks from a CSPRNG (or from a given seed, for a run that can be repeated)."""
    stream, position = SeedStream(kernels, seed or secrets.token_bytes(16)), 0

    def draw(_call: int, node: Node) -> Words:
        nonlocal position
        position += node.type.size + (node.type.size & 1)
        return stream.words(position - node.type.size - (node.type.size & 1), node.type.shape, node.type.ring)

    return draw


def clear(
    plan: Plan,
    kernels: Kernels,
    inputs: Mapping[str, NDArray[np.int64]],
    weights: Mapping[str, NDArray[Any]],
    masks: Masks | None = None,
    *,
    check: bool = False,
    seen: Seen | None = None,
) -> dict[str, NDArray[np.int64]]:
    """Outputs by name, signed integers at their wires' scales. `seen` is shown every value as it is computed."""
    draw = masks or fresh_masks(kernels)
    outputs: dict[str, NDArray[np.int64]] = {}
    wires: list[list[tuple[Words, Words]]] = []
    for call in plan.calls:
        state = _Clear(call, kernels, inputs, weights, draw, check, seen, outputs)
        for wire, (source, position) in zip(call.segment.graph.inputs(), call.call.inputs, strict=True):
            state.x[wire.index], state.r[wire.index] = wires[source][position]
        state.run()
        wires.append([(state.x[i], state.r[i]) for i in call.segment.graph.outputs])
    return outputs


@dataclass(slots=True)
class _Clear:
    """x: values mod 2^ring by node; r: masks of masked wires and bits."""

    call: PlannedCall
    kernels: Kernels
    inputs: Mapping[str, NDArray[np.int64]]
    weights: Mapping[str, NDArray[Any]]
    masks: Masks
    check: bool
    seen: Seen | None
    outputs: dict[str, NDArray[np.int64]]
    x: dict[int, Words] = field(default_factory=dict)
    r: dict[int, Words] = field(default_factory=dict)

    def run(self) -> None:
        s = self.call.segment
        for position, index in enumerate(s.schedule.order):
            node = s.traced[index]
            if node.type.kind not in ("weight", "key") and node.op != "wire":
                self.x[index] = reduce(self._value(node), node.type.ring)
                self._look(node)
            for i in node.inputs:
                if s.last_use.get(i) == position:
                    self.x.pop(i, None)
                    self.r.pop(i, None)

    def _look(self, node: Node) -> None:
        if node.type.kind in ("bit", "bit share") or not (self.check or self.seen):
            return
        signed = to_signed(self.x[node.index], node.type.ring)
        if self.seen is not None:
            self.seen(self.call, node, signed)
        if self.check and signed.size and max(int(signed.max()), -int(signed.min())) > node.type.bound:
            raise BoundError(
                f"{node.origin}: in {self.call.call.name} a value of '{node.op}' exceeds the bound "
                f"2^{node.type.bound.bit_length()} that the plan declares for it: calibrate on data like this"
            )

    def _value(self, node: Node) -> Words:
        if node.op in LINEAR:
            return self._linear(node)
        return _METHODS[node.op](self, node)

    def _node(self, index: int) -> Node:
        return self.call.segment.traced[index]

    def _weight(self, index: int) -> NDArray[Any]:
        return self.weights[self.call.call.prefix + self._node(index).text("name")]

    def _masked(self, node: Node, op: Callable[[Words], Words]) -> Words:
        """A free operation on x_hat and on r; the value is their difference."""
        x, r = self.x[node.inputs[0]], self.r[node.inputs[0]]
        w = self._node(node.inputs[0]).type.ring
        self.r[node.index] = reduce(op(r), node.type.ring)
        return op(reduce(x + r, w)) - self.r[node.index]

    def _linear(self, node: Node) -> Words:
        wires = [i for i in node.inputs if self._node(i).type.kind != "weight"]
        weight = self._weight(node.inputs[1]) if node.op in ("public_matmul", "public_gain") else None
        if node.type.kind in ("masked", "bit"):
            self.r[node.index] = apply_linear(node, [self.r[i] for i in wires], self.kernels, weight)
        return apply_linear(node, [self.x[i] for i in wires], self.kernels, weight)

    def _input(self, node: Node) -> Words:
        self.r[node.index] = self.masks(self.call.index, node)
        return to_ring(self.inputs[node.text("name")], node.type.ring).reshape(node.type.shape)

    def _open(self, node: Node) -> Words:
        self.r[node.index] = self.masks(self.call.index, node)
        return self.x[node.inputs[0]]

    def _reveal(self, node: Node) -> Words:
        y = reduce(self.x[node.inputs[0]], node.type.ring)
        self.outputs[node.text("name")] = to_signed(y, node.type.ring)
        return y

    def _keep(self, node: Node, c: Words) -> Words:
        if node.inputs[0] in self.r:
            self.r[node.index] = self.r[node.inputs[0]]
        return self.x[node.inputs[0]] + c

    def _point(self, node: Node) -> Words:
        """x of a question, as an element of the key's domain."""
        return self.x[node.inputs[1]]

    def _interval(self, node: Node) -> Words:
        x, m = to_signed(self._point(node), self._node(node.inputs[0]).type.ring), self._node(node.inputs[0]).type.ring
        lo, hi = node.integer("lo"), node.integer("hi")
        inside = reduce(x.view(U64) - U64(lo % (1 << 64)), m) < U64(hi - lo)
        return inside.astype(U64)

    def _half_line(self, node: Node) -> Words:
        """[x >= lo], or [x < lo] if not `above`; the bound on which one walk relies is the wire's own."""
        x = to_signed(self._point(node), self._node(node.inputs[0]).type.ring)
        found: Words = ((x >= node.integer("lo")) == bool(node.integer("above"))).astype(U64)
        return found

    def _equal(self, node: Node) -> Words:
        m = self._node(node.inputs[0]).type.ring
        same = self._point(node) == U64(node.integer("value") % (1 << m))
        return np.asarray(same).astype(U64)

    def _table(self, node: Node, name: str) -> Words:
        m = self._node(node.inputs[0]).type.ring
        values = np.array(node.integers(name), np.int64)
        j = reduce(self._point(node) - U64(node.integer("first") % (1 << 64)), m)
        inside = j < U64(len(values))
        return np.where(inside, values[np.minimum(j, U64(len(values) - 1)).astype(np.int64)], 0).view(U64)

    def _piece(self, node: Node) -> Words:
        y = self._table(node, "values")
        bits = self._node(node.inputs[0]).integer("rest")
        return y if not bits else y + self._table(node, "slopes") * self._rest(node.inputs[2], bits)

    def _rest(self, wire: int, bits: int) -> Words:
        x_hat = reduce(self.x[wire] + self.r[wire], self._node(wire).type.ring)
        return (x_hat & ring_mask(bits)) - (self.r[wire] & ring_mask(bits))

    def _counts(self, node: Node) -> Words:
        buckets = node.type.shape[-1]
        at = (self._point(node) + U64(buckets // 2)) % U64(buckets)
        counted: Words = np.asarray(at[..., None] == np.arange(buckets, dtype=U64)).sum(axis=-2, dtype=U64)
        return counted

    def _poly(self, node: Node) -> Words:
        shape, arrays = node.type.shape, []
        for i, (kind, bits) in zip(node.inputs, node.operands(), strict=True):
            value = self._operand(i, kind, bits, node.type.ring)
            arrays.append(np.ascontiguousarray(np.broadcast_to(value, shape)).reshape(-1))
        terms = [(c % (1 << 64), m) for m, c in node.terms()]
        out = np.empty(node.type.size, U64)
        self.kernels.poly(arrays, terms, node.type.ring, out)
        return out.reshape(shape)

    def _operand(self, i: int, kind: str, bits: int, out: int) -> Words:
        if kind == "rest":
            return self._rest(i, bits)
        x, w = self.x[i], self._node(i).type.ring
        if kind == "bit" or w >= out:
            return x
        if self._node(i).type.kind == "answer":
            return to_signed(x, w).view(U64)
        r = self.r[i]
        h = reduce(x + r + U64(1 << (w - 2)), w)
        u = U64(1) - (h >> U64(w - 1))
        return h - U64(1 << (w - 2)) - r + ((r >> U64(w - 1)) * u << U64(w))

    def _matmul(self, node: Node) -> Words:
        return matmul_words(self.x[node.inputs[0]], self.x[node.inputs[1]], node.type.ring, self.kernels)

    def _weight_matmul(self, node: Node) -> Words:
        return matmul_words(self.x[node.inputs[0]], self._weight(node.inputs[1]), node.type.ring, self.kernels)

    def _weight_words(self, index: int, node: Node) -> Words:
        return np.broadcast_to(to_ring(self._weight(index), 64), node.type.shape)


_METHODS: dict[str, Callable[[_Clear, Node], Words]] = {
    "input": _Clear._input, "open": _Clear._open, "reveal": _Clear._reveal,
    "add_const": lambda s, n: s._keep(n, constants(n)),
    "add_public": lambda s, n: s._keep(n, s._weight_words(n.inputs[1], n)),
    "truncate": lambda s, n: s._masked(n, lambda v: v >> U64(n.integer("bits"))),
    "reduce": lambda s, n: s._masked(n, lambda v: reduce(v, n.type.ring)),
    "as_share": lambda s, n: s.x[n.inputs[0]],
    "interval": _Clear._interval, "half_line": _Clear._half_line,
    "equal": _Clear._equal, "lookup": lambda s, n: s._table(n, "values"),
    "piece": _Clear._piece, "counts": _Clear._counts, "poly": _Clear._poly, "matmul": _Clear._matmul,
    "weight_matmul": _Clear._weight_matmul,
    "weight_gain": lambda s, n: s.x[n.inputs[0]] * s._weight_words(n.inputs[1], n),
    "weight_share": lambda s, n: s._weight_words(n.inputs[0], n),
}  # fmt: skip
