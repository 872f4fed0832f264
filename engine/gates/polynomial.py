"""Gate `polynomial`: any polynomial of opened values is local (docs/protocols.md, section 4).

Each operand is affine in public basis values with secret coefficients that the dealer knows; multiplying out leaves a
sum of (public monomial) x (secret coefficient). `lower` derives that sum from the arithmetic that the author wrote:

    wire, ring >= out   x = x_hat - r
    wire, lifted        x = h - 2^(w-2) - r + 2^w msb(r) u         h = x_hat + 2^(w-2) mod 2^w, u = 1 - msb(h)
    bit                 b = b_hat + rho - 2 rho b_hat
    answer              T = sigma A, A as a wire (ring or lifted)
    rest                d = (x_hat mod 2^g) - (r mod 2^g)

The constant term is never dealt: the dealer keeps it as the offset of the share, and the mask of the opening that
consumes the share absorbs it. This is the same distribution as dealing shares of it, since an opening's mask is defined
as the sum of two values expanded from the parties' seeds, minus the offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from engine.expr import Expr, Operand
from engine.graph import Attr, Graph, Node, Shape, WireType
from engine.wires import Masked, Rest, Share, Wire, broadcast_shapes, fail

__all__ = ["Coefficient", "Lowered", "lower", "polynomial", "square"]

Symbol = tuple[str, int, int]  # kind, node, bits: public x h u d b; secret r m l rho s
Poly = dict[tuple[Symbol, ...], int]


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A dealt coefficient: (sum of `secret`) = 2^shift c, c in a ring of `bits`, multiplying the monomial `public`."""

    public: tuple[Symbol, ...]
    shift: int
    bits: int
    secret: tuple[tuple[int, tuple[Symbol, ...]], ...]
    shape: Shape


@dataclass(frozen=True, slots=True)
class Lowered:
    """A polynomial node as party and dealer read it."""

    free: tuple[tuple[int, tuple[Symbol, ...]], ...]
    coefficients: tuple[Coefficient, ...]
    offset: tuple[tuple[int, tuple[Symbol, ...]], ...]


def polynomial(value: Expr | Wire | Rest, ring: int, bound: int | None = None) -> Share:
    """Shares of `value` in Z_(2^ring). Operands of narrower rings are lifted, which takes |x| < 2^(w-2). No round."""
    if not isinstance(value, Expr) and not hasattr(value, "operand"):
        raise fail(f"a {type(value).__name__} cannot enter a polynomial: open it first")
    expr = value if isinstance(value, Expr) else value.operand()
    graph, operands = expr.graph, sorted({o for m in expr.terms for o in m})
    for o in operands:
        _check_operand(graph[o.node], o, ring)
    position = {o: i for i, o in enumerate(operands)}
    terms = tuple(sorted((tuple(position[o] for o in m), c) for m, c in expr.terms.items() if c))
    bound = expr.bound if bound is None else min(bound, expr.bound)
    kind = WireType("share", expr.shape, ring, expr.scale, bound)
    if kind.headroom < 0:
        raise fail(f"|y| <= {bound} does not fit the output ring of {ring} bits: give a tighter bound or a wider ring")
    spec: tuple[Attr, ...] = tuple((o.kind, o.bits) for o in operands)
    nodes = tuple(o.node for o in operands)
    return Share(graph, graph.add("poly", nodes, kind, operands=spec, terms=terms))


def square(x: Masked, ring: int, bound: int | None = None) -> Share:
    """Shares of x^2."""
    return polynomial(x * x, ring, bound)


def _check_operand(node: Node, o: Operand, ring: int) -> None:
    w = node.type.ring
    if o.kind == "wire" and w < ring and (w < 2 or node.type.bound >= 1 << w - 2):
        raise fail(
            f"|x| <= {node.type.bound} cannot be lifted from ring {w} to {ring}: two bits of head-room are needed"
        )


@lru_cache(maxsize=4096)
def _lower(node: Node, rings: tuple[int, ...], sigmas: tuple[int, ...], shapes: tuple[Shape, ...]) -> Lowered:
    w = node.type.ring
    forms = [
        _affine(kind, i, g, rings[j], sigmas[j], w)
        for j, (i, (kind, g)) in enumerate(zip(node.inputs, node.operands(), strict=True))
    ]
    total: dict[tuple[Symbol, ...], Poly] = {}
    for monomial, c in node.terms():
        parts: dict[tuple[Symbol, ...], Poly] = {(): {(): c}}
        for position in monomial:
            parts = _multiply(parts, forms[position])
        for public, secret in parts.items():
            _accumulate(total.setdefault(public, {}), secret)
    shape_of = dict(zip(node.inputs, shapes, strict=True))
    shape_of |= {key: shape for key, shape in zip(sigmas, shapes, strict=True) if key >= 0}
    return _collect(total, w, shape_of)


def lower(node: Node, graph: Graph) -> Lowered:
    """The dealt form of a `poly` node."""
    inputs = [graph[i] for i in node.inputs]
    rings = tuple(n.type.ring for n in inputs)
    sigmas = tuple(_sigma(n, graph) for n in inputs)
    return _lower(node, rings, sigmas, tuple(n.type.shape for n in inputs))


def _sigma(node: Node, graph: Graph) -> int:
    """The DPF key whose sign an answer carries, -1 if none."""
    return graph[node.inputs[0]].inputs[0] if node.type.kind == "answer" else -1


def _affine(kind: str, i: int, g: int, w: int, sigma: int, out: int) -> dict[tuple[Symbol, ...], Poly]:
    """public monomial -> secret polynomial, for one operand."""
    if kind == "bit":
        rho = ("rho", i, 0)
        return {(("b", i, 0),): {(): 1, (rho,): -2}, (): {(rho,): 1}}
    if kind == "rest":
        return {(("d", i, g),): {(): 1}, (): {(("l", i, g),): -1}}
    r, m = ("r", i, 0), ("m", i, 0)
    if w >= out:
        form: dict[tuple[Symbol, ...], Poly] = {(("x", i, 0),): {(): 1}, (): {(r,): -1}}
    else:
        form = {(("h", i, w),): {(): 1}, (("u", i, w),): {(m,): 1 << w}, (): {(r,): -1, (): -(1 << (w - 2))}}
    return form if sigma < 0 else _multiply(form, {(): {(("s", sigma, 0),): 1}})


def _multiply(a: dict[tuple[Symbol, ...], Poly], b: dict[tuple[Symbol, ...], Poly]) -> dict[tuple[Symbol, ...], Poly]:
    out: dict[tuple[Symbol, ...], Poly] = {}
    for p, s in a.items():
        for q, t in b.items():
            product: Poly = {}
            for m, c in s.items():
                for n, d in t.items():
                    _accumulate(product, {_join(m + n): c * d})
            _accumulate(out.setdefault(_join(p + q), {}), product)
    return out


def _join(symbols: tuple[Symbol, ...]) -> tuple[Symbol, ...]:
    """Sorted product; bits are idempotent (u^2 = u, rho^2 = rho, msb^2 = msb) and sigma^2 = 1."""
    out: list[Symbol] = []
    for s in sorted(symbols):
        if out and out[-1] == s and s[0] in ("u", "b", "rho", "m"):
            continue
        if out and out[-1] == s and s[0] == "s":
            out.pop()
            continue
        out.append(s)
    return tuple(out)


def _accumulate(into: Poly, add: Poly) -> None:
    for m, c in add.items():
        into[m] = into.get(m, 0) + c


def _collect(total: dict[tuple[Symbol, ...], Poly], w: int, shapes: dict[int, Shape]) -> Lowered:
    free: list[tuple[int, tuple[Symbol, ...]]] = []
    dealt: list[Coefficient] = []
    offset: list[tuple[int, tuple[Symbol, ...]]] = []
    for public in sorted(total):
        poly = {m: c % (1 << w) for m, c in total[public].items() if c % (1 << w)}
        secret = tuple((c, m) for m, c in sorted(poly.items()))
        if public == ():
            free += [(c, ()) for c, m in secret if not m]
            offset += [(c, m) for c, m in secret if m]
        elif all(not m for _, m in secret):
            free += [(c, public) for c, _ in secret]
        elif secret:
            dealt.append(_coefficient(public, secret, w, shapes))
    return Lowered(tuple(free), tuple(dealt), tuple(offset))


def _coefficient(
    public: tuple[Symbol, ...], secret: tuple[tuple[int, tuple[Symbol, ...]], ...], w: int, shapes: dict[int, Shape]
) -> Coefficient:
    shift = min((c & -c).bit_length() - 1 for c, _ in secret)
    reduced = tuple((c >> shift, m) for c, m in secret)
    shape: Shape = ()
    for _, m in secret:
        for _kind, node, _g in m:
            shape = broadcast_shapes(shape, shapes[node])
    return Coefficient(public, shift, w - shift, reduced, shape)
