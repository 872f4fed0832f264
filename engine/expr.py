"""Polynomials in opened values, as their author wrote them: sums of products with integer coefficients at one scale."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from engine.errors import TraceError
from engine.graph import Graph, Shape, WireType, author

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Arithmetic", "Expr", "Operand"]


class Arithmetic(ABC):
    """What an author may write on an opened value: sums and products that become an `Expr`."""

    __slots__ = ()

    @abstractmethod
    def operand(self) -> Expr:
        """The value as a polynomial of degree one."""

    def __add__(self, other: Any) -> Any:
        return self.operand() + other

    def __sub__(self, other: Any) -> Any:
        return self.operand() - other

    def __rsub__(self, other: Any) -> Expr:
        difference: Expr = self.operand() - other
        return -difference

    def __mul__(self, other: Any) -> Expr:
        product: Expr = self.operand() * other
        return product

    __radd__, __rmul__ = __add__, __mul__


@dataclass(frozen=True, slots=True, order=True)
class Operand:
    """A masked wire or answer (`wire`), a masked bit (`bit`), or what an index left over (`rest`, g = bits)."""

    kind: Literal["wire", "bit", "rest"] | str
    node: int
    bits: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Expr:
    """sum_k c_k prod(operands of k), an integer that stands for itself / 2^scale; |value| <= bound."""

    terms: Mapping[tuple[Operand, ...], int]
    scale: int
    shape: Shape
    bound: int
    graph: Graph

    @staticmethod
    def of(operand: Operand, kind: WireType, graph: Graph) -> Expr:
        return Expr({(operand,): 1}, kind.scale, kind.shape, kind.bound, graph)

    def shifted(self, scale: int) -> Expr:
        """The same value at a finer scale."""
        k = scale - self.scale
        if k < 0:
            raise TraceError(
                f"{author()}: a polynomial cannot go from scale {self.scale} down to {scale}: truncate a wire"
            )
        return Expr({m: c << k for m, c in self.terms.items()}, scale, self.shape, self.bound << k, self.graph)

    def _coerce(self, other: Any) -> Expr:
        if isinstance(other, Expr):
            return other
        if isinstance(other, int):
            scale = max(self.scale, 0)
            return Expr({(): other << scale}, scale, (), abs(other) << scale, self.graph)
        if hasattr(other, "operand"):
            expr = other.operand()
            assert isinstance(expr, Expr)
            return expr
        raise TraceError(f"{author()}: {type(other).__name__} cannot enter a polynomial: open it first")

    def _operand(self, other: Any) -> Expr:
        b = self._coerce(other)
        if b.graph is not self.graph:
            raise TraceError(f"{author()}: these handles belong to different segments")
        return b

    def _combine(self, other: Any, sign: int) -> Expr:
        b = self._operand(other)
        scale = max(self.scale, b.scale)
        left, right = self.shifted(scale), b.shifted(scale)
        terms = dict(left.terms)
        for m, c in right.terms.items():
            terms[m] = terms.get(m, 0) + sign * c
        return Expr(terms, scale, _broadcast(left.shape, right.shape), left.bound + right.bound, self.graph)

    def __add__(self, other: Any) -> Expr:
        return self._combine(other, 1)

    def __sub__(self, other: Any) -> Expr:
        return self._combine(other, -1)

    def __rsub__(self, other: Any) -> Expr:
        return self._coerce(other)._combine(self, -1)

    def __neg__(self) -> Expr:
        return self * -1

    def __mul__(self, other: Any) -> Expr:
        if isinstance(other, int):
            terms = {m: c * other for m, c in self.terms.items()}
            return Expr(terms, self.scale, self.shape, self.bound * abs(other), self.graph)
        b = self._operand(other)
        terms = {}
        for m, c in self.terms.items():
            for n, d in b.terms.items():
                key = tuple(sorted(m + n))
                terms[key] = terms.get(key, 0) + c * d
        shape = _broadcast(self.shape, b.shape)
        return Expr(terms, self.scale + b.scale, shape, self.bound * b.bound, self.graph)

    __radd__, __rmul__ = __add__, __mul__


def _broadcast(a: Shape, b: Shape) -> Shape:
    n = max(len(a), len(b))
    pairs = list(zip((1,) * (n - len(a)) + a, (1,) * (n - len(b)) + b, strict=True))
    if any(x != y and 1 not in (x, y) for x, y in pairs):
        raise TraceError(f"{author()}: shapes {a} and {b} do not broadcast")
    return tuple(y if x == 1 else x for x, y in pairs)
