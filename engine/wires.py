"""The handles that gate authors write arithmetic on.

    Masked   x_hat = x + r mod 2^w: both parties hold x_hat, only the dealer knows r. Free: truncate, reduce, split, and
             every Z-linear map. Products of masked values are an `Expr`, made a share by `polynomial`.
    Share    [y]_0 + [y]_1 = y mod 2^w. Z-linear maps, sums (the smallest ring of the terms), `open`, `reveal`.
    BitShare, Bit        the same for bits under xor.
    AnswerShare, Answer  the answer sigma T[x] of a range lookup; the sign is the dealer's to remove.
    Rest     x mod 2^g against r mod 2^g: what an index leaves over, exactly.
    Weight   a parameter: public, owned by party 0 or 1, or shared.

`open` and `reveal` are the only operations in the package that reach the network. Shapes, rings, scales and bounds are
checked here, at trace time; errors carry the author's file:line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from engine.errors import TraceError
from engine.expr import Arithmetic, Expr, Operand
from engine.graph import Graph, Kind, Node, Shape, WireType, author

__all__ = [
    "Answer", "AnswerShare", "Bit", "BitShare", "Masked", "Rest", "Share", "Weight", "Wire",
    "concat", "fail", "magnitude", "same_graph",
]  # fmt: skip


def fail(message: str) -> TraceError:
    return TraceError(f"{author()}: {message}")


@dataclass(frozen=True, slots=True, eq=False)
class Wire:
    """A node of a graph, as its author holds it."""

    graph: Graph
    index: int

    @property
    def node(self) -> Node:
        return self.graph[self.index]

    @property
    def type(self) -> WireType:
        return self.node.type

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def ring(self) -> int:
        return self.type.ring

    @property
    def scale(self) -> int:
        return self.type.scale

    @property
    def bound(self) -> int:
        return self.type.bound

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.node.type})"

    def _unopened(self, *_: Any) -> Any:
        raise fail(f"a {type(self).__name__} cannot enter arithmetic as it is: open it first")

    # Kinds that have an arithmetic define it themselves.
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __neg__ = _unopened

    def _axis(self, axis: int) -> int:
        if not -len(self.shape) <= axis < len(self.shape):
            raise fail(f"shape {self.shape} has no axis {axis}")
        return axis % len(self.shape)

    def _sliced(self, axis: int, start: int, stop: int) -> tuple[Shape, dict[str, int]]:
        """Shape and attributes of a slice."""
        axis = self._axis(axis)
        if not 0 <= start < stop <= self.shape[axis]:
            raise fail(f"slice {start}:{stop} leaves axis {axis} of {self.shape}")
        shape = (*self.shape[:axis], stop - start, *self.shape[axis + 1 :])
        return shape, {"axis": axis, "start": start, "stop": stop}

    def _reshaped(self, shape: Shape) -> Shape:
        if _size(shape) != self.type.size:
            raise fail(f"cannot reshape {self.shape} into {shape}")
        return shape


class Linear(Wire):
    """Z-linear maps, alike on masked wires and on shares: no key, no bits, no round."""

    __slots__ = ()

    def _map(self, op: str, others: tuple[Wire, ...] = (), /, shape: Shape | None = None, **changes: Any) -> Self:
        attrs = changes.pop("attrs", {})
        same_graph(self, *others)
        kind = replace(self.type, shape=self.shape if shape is None else shape, **changes)
        return type(self)(self.graph, self.graph.add(op, (self.index, *(o.index for o in others)), kind, **attrs))

    def reshape(self, *shape: int) -> Self:
        return self._map("reshape", shape=self._reshaped(shape))

    def transpose(self, *axes: int) -> Self:
        if sorted(axes) != list(range(len(self.shape))):
            raise fail(f"axes {axes} do not permute the {len(self.shape)} dimensions of {self.shape}")
        return self._map("transpose", shape=tuple(self.shape[a] for a in axes), attrs={"axes": axes})

    def slice(self, axis: int, start: int, stop: int) -> Self:
        shape, attrs = self._sliced(axis, start, stop)
        return self if shape == self.shape else self._map("slice", shape=shape, attrs=attrs)

    def broadcast_to(self, *shape: int) -> Self:
        if broadcast_shapes(self.shape, shape) != shape:
            raise fail(f"cannot broadcast {self.shape} to {shape}")
        return self if shape == self.shape else self._map("broadcast", shape=shape)

    def sum(self, axis: int = -1) -> Self:
        """Sum along an axis, which stays with length 1."""
        axis = self._axis(axis)
        shape = (*self.shape[:axis], 1, *self.shape[axis + 1 :])
        return self._map("sum", shape=shape, bound=self.bound * self.shape[axis], attrs={"axis": axis})

    def suffix_sum(self) -> Self:
        """s_k = sum over j >= k of x_j along the last axis."""
        return self._map("suffix_sum", bound=self.bound * self.shape[self._axis(-1)])

    def times(self, factor: int, scale: int | None = None) -> Self:
        """Product with a public integer; `scale` restates what the integers mean."""
        if type(factor) is not int:
            raise fail(f"a wire is multiplied by an integer, not by {factor!r}")
        new = self.scale if scale is None else scale
        return self._map("scale", bound=self.bound * abs(factor), scale=new, attrs={"factor": factor})

    def bounded(self, bound: int) -> Self:
        """The author's claim that |x| <= bound; the clear interpreter checks it."""
        return self if bound >= self.bound else self._map("claim", bound=bound)

    def plus(self, constant: Sequence[int] | int) -> Self:
        """Sum with a public integer, or with one for each entry of the last axis."""
        values = tuple(constant) if isinstance(constant, Sequence) else (constant,)
        if not all(type(v) is int for v in values):
            raise fail("integers are added to a wire, at its scale")
        if len(values) not in (1, self.shape[-1] if self.shape else 1):
            raise fail(f"{len(values)} constants do not match the last axis of {self.shape}")
        return self._map("add_const", bound=self.bound + max(map(abs, values)), attrs={"values": values})

    def _plus(self, other: Linear, op: str) -> Self:
        if self.scale != other.scale:
            raise fail(f"terms of a sum have scales {self.scale} and {other.scale}")
        shape = broadcast_shapes(self.shape, other.shape)
        a, b = self.broadcast_to(*shape), other.broadcast_to(*shape)
        return a._map(op, (b,), ring=min(self.ring, other.ring), bound=self.bound + other.bound)


class Masked(Arithmetic, Linear):
    """x_hat = x + r mod 2^w, known to both parties."""

    __slots__ = ()

    def truncate(self, to_scale: int) -> Masked:
        """floor(x / 2^t) + coin at scale `to_scale`, ring w - t: free (docs/protocols.md, section 2)."""
        t = self.scale - to_scale
        if t == 0:
            return self
        if not 0 < t < self.ring:
            raise fail(f"cannot truncate scale {self.scale}, ring {self.ring}, to scale {to_scale}")
        bound = -(-self.bound >> t)
        return self._map("truncate", ring=self.ring - t, scale=to_scale, bound=bound, attrs={"bits": t})

    def reduce(self, bits: int) -> Masked:
        """The same value in a ring of `bits` bits: free, exact while |x| < 2^(bits-1)."""
        if bits == self.ring:
            return self
        if bits > self.ring:
            raise fail(f"cannot reduce ring {self.ring} to the wider ring {bits}: lift it in a polynomial")
        if self.bound.bit_length() > bits - 1:
            raise fail(f"|x| <= {self.bound} does not fit {bits} bits")
        return self._map("reduce", ring=bits)

    def narrow(self, spare: int = 0) -> Masked:
        """The same value in the smallest ring that holds its bound, and `spare` bits more."""
        return self.reduce(min(self.ring, self.bound.bit_length() + 1 + spare))

    def split(self, to_scale: int) -> tuple[Masked, Rest]:
        """index = x truncated to `to_scale`, and the rest d with x = index 2^g + d exactly, |d| < 2^g."""
        return self.truncate(to_scale), Rest(self, self.scale - to_scale)

    def as_share(self) -> Share:
        """[x]: party 0 holds x_hat; the dealer accounts for the mask. Free."""
        return Share(self.graph, self.graph.add("as_share", (self.index,), replace(self.type, kind="share")))

    def open(self, ring: int | None = None, bound: int | None = None) -> Masked:
        """Already open (a product with public weights): narrows and claims like `Share.open`, at no cost."""
        x = self if bound is None else self.bounded(bound)
        return x if ring is None else x.reduce(ring)

    def operand(self) -> Expr:
        return Expr.of(Operand("wire", self.index), self.type, self.graph)

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Masked):
            return self._plus(other, "add")
        return self.as_share()._plus(other, "add") if isinstance(other, Share) else self.operand() + other

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, Masked):
            return self._plus(other, "sub")
        return self.as_share()._plus(other, "sub") if isinstance(other, Share) else self.operand() - other


class Share(Linear):
    """[y]_0 + [y]_1 = y mod 2^w."""

    __slots__ = ()

    def __add__(self, other: Share | Masked) -> Share:
        return self._plus(_as_share(other), "add")

    def __sub__(self, other: Share | Masked) -> Share:
        return self._plus(_as_share(other), "sub")

    def open(self, ring: int | None = None, bound: int | None = None) -> Masked:
        """Both parties send their share plus their share of a fresh mask, mod 2^ring. One round."""
        return Masked(self.graph, _open(self, "masked", ring, bound))

    def reveal(self, to: int, name: str = "output", ring: int | None = None, bound: int | None = None) -> None:
        """An opening whose mask only party `to` knows. One round, one way."""
        if to not in (0, 1):
            raise fail(f"an output is revealed to party 0 or 1, not {to}")
        ring, bound = self.ring if ring is None else ring, self.bound if bound is None else bound
        kind = replace(self.type, kind="output", ring=ring, bound=bound)
        _check_open(self, kind)
        self.graph.add("reveal", (self.index,), kind, to=to, name=name)


class BitShare(Wire):
    """<b>_0 xor <b>_1 = b."""

    __slots__ = ()

    def open(self) -> Bit:
        """One bit each way. One round."""
        return Bit(self.graph, _open(self, "bit", 1, 1))


class AnswerShare(Wire):
    """A_0 + A_1 = sigma T[x] mod 2^k."""

    __slots__ = ()

    def open(self) -> Answer:
        """k bits each way. One round."""
        return Answer(self.graph, _open(self, "answer", None, None))


class _Value(Arithmetic, Wire):
    """An opened value that only polynomials use."""

    __slots__ = ()
    _kind = "wire"

    def operand(self) -> Expr:
        return Expr.of(Operand(self._kind, self.index), self.type, self.graph)


class Bit(_Value):
    """b_hat = b xor rho."""

    __slots__ = ()
    _kind = "bit"

    def reshape(self, *shape: int) -> Bit:
        kind = replace(self.type, shape=self._reshaped(shape))
        return Bit(self.graph, self.graph.add("reshape", (self.index,), kind))

    def slice(self, axis: int, start: int, stop: int) -> Bit:
        shape, attrs = self._sliced(axis, start, stop)
        return Bit(self.graph, self.graph.add("slice", (self.index,), replace(self.type, shape=shape), **attrs))


class Answer(_Value):
    """A_hat = sigma T[x] + r mod 2^k."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, eq=False)
class Rest(Arithmetic):
    """d = (x_hat mod 2^g) - (r mod 2^g): exactly x - 2^g index for the index truncated from the same x_hat."""

    wire: Masked
    bits: int

    def operand(self) -> Expr:
        kind = replace(self.wire.type, bound=(1 << self.bits) - 1)
        return Expr.of(Operand("rest", self.wire.index, self.bits), kind, self.wire.graph)


class Weight(Wire):
    """A parameter of the model, as integers at a scale; its mask R_W lives in the ring of the type."""

    __slots__ = ()

    @property
    def owner(self) -> int | str:
        """0, 1, 'public' or 'shared'."""
        owner = self.node["owner"]
        assert isinstance(owner, int | str)
        return owner


def concat(wires: Sequence[Linear], axis: int = 0) -> Any:
    """Join wires of one kind and scale along an axis; the smallest ring wins."""
    if not wires:
        raise fail("there is nothing to join")
    first = wires[0]
    if len(wires) == 1:
        return first
    axis = first._axis(axis)
    if any(type(w) is not type(first) or w.scale != first.scale for w in wires):
        raise fail("only wires of one kind and one scale can be joined")
    if any(_without(w.shape, axis) != _without(first.shape, axis) for w in wires):
        raise fail(f"shapes {', '.join(str(w.shape) for w in wires)} cannot be joined along axis {axis}")
    length = sum(w.shape[axis] for w in wires)
    shape = (*first.shape[:axis], length, *first.shape[axis + 1 :])
    ring, bound = min(w.ring for w in wires), max(w.bound for w in wires)
    return first._map("concat", tuple(wires[1:]), shape=shape, ring=ring, bound=bound, attrs={"axis": axis})


def magnitude(bits: int) -> int:
    """The bound that a calibrated |x| < 2^bits stands for: a sixty-fourth below, so that rounding up stays below
    2^bits, also in an index of seven bits: a bit more would double the domain of its key."""
    return (1 << bits) - (1 << max(bits - 6, 0)) if bits > 0 else 1


def broadcast_shapes(a: Shape, b: Shape) -> Shape:
    n = max(len(a), len(b))
    out = []
    for x, y in zip((1,) * (n - len(a)) + a, (1,) * (n - len(b)) + b, strict=True):
        if x != y and 1 not in (x, y):
            raise fail(f"shapes {a} and {b} do not broadcast")
        out.append(max(x, y) if 0 not in (x, y) else 0)
    return tuple(out)


def _open(share: Wire, kind: Kind, ring: int | None, bound: int | None) -> int:
    bound = share.bound if bound is None else min(bound, share.bound)
    to = replace(share.type, kind=kind, ring=share.ring if ring is None else ring, bound=bound)
    if kind != "bit":
        _check_open(share, to)
    return share.graph.add("open", (share.index,), to)


def _check_open(share: Wire, to: WireType) -> None:
    if to.ring > share.ring:
        raise fail(f"the share is known mod 2^{share.ring} only, it cannot be opened in {to.ring} bits")


def same_graph(first: Wire, *others: Wire) -> None:
    """Handles of two segments never meet in one operation: a wire passes between segments as a `wire`."""
    if any(o.graph is not first.graph for o in others):
        raise fail("these handles belong to different segments")


def _as_share(other: Any) -> Share:
    if isinstance(other, Masked):
        return other.as_share()
    if isinstance(other, Share):
        return other
    raise fail(f"a {type(other).__name__} cannot be added to a Share: integers take `plus`, bits and answers `open`")


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


def _size(shape: Shape) -> int:
    n = 1
    for d in shape:
        n *= d
    return n
