"""The intermediate representation: a typed graph of a closed set of operations, recorded by the handles of
`engine.wires`.

A `Graph` is one segment: traced once, reused by every identical layer. Nodes are hash-consed, so that two gates which
ask the same wire for the same thing (a truncation, a DPF key, a share of its mask) share one node. The canonical text
of a graph, and so its digest, holds nothing that differs between two machines; the author's file:line is kept beside
it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import cast

from engine.errors import TraceError
from engine.spec import Kind, Shape, WireType, violation

__all__ = ["LINEAR", "OPS", "Attr", "Graph", "Kind", "Node", "Shape", "WireType", "author"]

Attr = int | str | None | tuple["Attr", ...]

# The closed set of operations, with what they take and give. `->` marks the only ones that reach the network.
OPS: dict[str, str] = {
    "input": "-> a private input of one party, masked by that party",
    "wire": "a masked wire that another segment computed",
    "weight": "a parameter: public, owned by one party, or shared by both",
    "add": "linear", "sub": "linear", "scale": "linear", "reshape": "linear", "transpose": "linear", "slice": "linear",
    "concat": "linear", "broadcast": "linear", "sum": "linear", "suffix_sum": "linear", "claim": "linear",
    "public_matmul": "linear", "public_gain": "linear", "add_const": "affine", "add_public": "affine",
    "truncate": "masked -> masked, free", "reduce": "masked -> masked, free",
    "as_share": "masked -> share, free",
    "mask_share": "key: additive shares of a wire's mask",
    "dpf": "key: one DPF for all questions on a wire", "leaf": "key: DPF with arithmetic leaves",
    "onehot": "key: additive one-hot vectors of a wire's mask",
    "interval": "dpf -> bit share", "half_line": "dpf -> bit share",
    "equal": "dpf -> bit share", "lookup": "dpf -> answer share",
    "piece": "leaf -> share", "counts": "onehot -> share",
    "poly": "polynomial of opened values -> share",
    "matmul": "masked x masked -> share", "weight_matmul": "masked x weight -> share",
    "weight_gain": "masked x weight vector -> share", "weight_share": "weight -> share",
    "open": "-> share -> masked, or bit share -> bit, or answer share -> answer",
    "reveal": "-> share -> output of one party",
}  # fmt: skip
LINEAR = frozenset(op for op, what in OPS.items() if what == "linear")
_HERE = os.path.dirname(__file__)
_PLUMBING = {os.path.join(_HERE, *name.split("/")) for name in
             ("graph.py", "wires.py", "expr.py", "gates/fss.py", "gates/polynomial.py", "gates/matmul.py",
              "models/layers.py")}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. `attrs` is a tuple of (name, value) in a fixed order; `origin` is the author's file:line."""

    index: int
    op: str
    inputs: tuple[int, ...]
    attrs: tuple[tuple[str, Attr], ...]
    type: WireType
    origin: str = field(compare=False)

    def __getitem__(self, name: str) -> Attr:
        for key, value in self.attrs:
            if key == name:
                return value
        raise KeyError(name)

    def integer(self, name: str) -> int:
        value = self[name]
        assert isinstance(value, int)
        return value

    def text(self, name: str) -> str:
        value = self[name]
        assert isinstance(value, str)
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        value = self[name]
        assert isinstance(value, tuple)
        return cast("tuple[int, ...]", value)

    def operands(self) -> tuple[tuple[str, int], ...]:
        """Of a `poly` node: (kind, bits) of every input (see `engine.expr.Operand`)."""
        return cast("tuple[tuple[str, int], ...]", self["operands"])

    def terms(self) -> tuple[tuple[tuple[int, ...], int], ...]:
        """Of a `poly` node: (positions of the operands in a product, integer coefficient)."""
        return cast("tuple[tuple[tuple[int, ...], int], ...]", self["terms"])

    @property
    def opening(self) -> bool:
        return self.op in ("input", "open", "reveal")

    @property
    def gate(self) -> str:
        """The author's file, without folder and suffix: what costs and times are added up by."""
        return _stem(self.origin)

    def canonical(self) -> str:
        attrs = ",".join(f"{k}={v!r}" for k, v in self.attrs)
        return f"{self.index}:{self.op}({','.join(map(str, self.inputs))};{attrs})->{self.type}"


@lru_cache(maxsize=4096)
def _stem(origin: str) -> str:
    name = origin.partition(":")[0].rpartition("/")[2]
    return name.rpartition(".")[0] or name


class Graph:
    """A segment under construction, or finished. `outputs` are the masked wires that the next segment takes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[Node] = []
        self.outputs: tuple[int, ...] = ()
        self._names: dict[tuple[Attr, ...], tuple[Attr, ...]] = {}
        self._seen: dict[tuple[str, tuple[int, ...], tuple[tuple[str, Attr], ...], WireType], int] = {}

    def add(self, op: str, inputs: tuple[int, ...], kind: WireType, **attrs: Attr) -> int:
        """Index of the node, an older one if the very same operation was recorded before.

        Raises TraceError if the operation is unknown or breaks the spec."""
        if op not in OPS:
            raise TraceError(f"{author()}: no operation is called '{op}'")
        items = tuple(attrs.items())
        wrong = violation(op, [self.nodes[i].type for i in inputs], kind, items) or self._renamed(op, kind, attrs)
        if wrong is not None:
            raise TraceError(f"{author()}: {wrong}")
        key = (op, inputs, items, kind)
        if op not in ("input", "wire", "open", "reveal") and key in self._seen:
            return self._seen[key]
        index = len(self.nodes)
        self.nodes.append(Node(index, op, inputs, items, kind, author()))
        self._seen[key] = index
        return index

    def _renamed(self, op: str, kind: WireType, attrs: dict[str, Attr]) -> str | None:
        """A name means one input, one weight, one output of a party."""
        if op not in ("input", "weight", "reveal") or "name" not in attrs:
            return None
        key, meaning = (op, attrs["name"], attrs.get("to")), (kind.shape, kind.scale, attrs.get("owner"))
        known = self._names.setdefault(key, meaning)
        self._names[key] = () if op == "reveal" else known
        return None if known == meaning else f"the name '{attrs['name']}' is taken by another {op}"

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, index: int) -> Node:
        return self.nodes[index]

    def __len__(self) -> int:
        return len(self.nodes)

    def inputs(self) -> list[Node]:
        """The masked wires that come from other segments, in order."""
        return [n for n in self.nodes if n.op == "wire"]

    def weights(self) -> list[Node]:
        return [n for n in self.nodes if n.op == "weight"]

    def digest(self) -> bytes:
        """SHA-256 of the canonical text."""
        h = hashlib.sha256()
        for node in self.nodes:
            h.update(node.canonical().encode() + b"\n")
        h.update(f"outputs {self.outputs}".encode())
        return h.digest()


def author() -> str:
    """file:line of the innermost caller that is not the engine's plumbing: the gate, the model, or the user's
    script."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename in _PLUMBING:
        frame = frame.f_back
    return f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}"


def _short(path: str) -> str:
    parts = path.replace(os.sep, "/").split("/")
    if "engine" in parts:
        return "/".join(parts[len(parts) - 1 - parts[::-1].index("engine") :])
    return parts[-1]
