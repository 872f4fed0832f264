"""How the Z-linear operations act on words: alike on values, masked values, masks and shares, in every interpreter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.graph import Node
from engine.kernels.interface import Kernels
from engine.ring import U64, Words, reduce_into

__all__ = ["apply_linear", "constants", "matmul_words"]


def apply_linear(node: Node, args: Sequence[Words], kernels: Kernels, weight: Words | None = None) -> Words:
    """The result of a LINEAR operation mod 2^ring; `weight` is the public parameter of a public product."""
    if node.op == "scale" and node.integer("factor") == 1:
        return args[0]
    result = _OPS[node.op](node, args, kernels, weight)
    return result if node.op in _VIEWS else reduce_into(result, node.type.ring)


def constants(node: Node) -> Words:
    """The public integers of `add_const`, which broadcast along the last axis."""
    return np.array(node.integers("values"), dtype=np.int64).view(U64)


def matmul_words(a: Words, b: np.ndarray[tuple[int, ...], np.dtype[np.generic]], w: int, kernels: Kernels) -> Words:
    """a (..., M, K) @ b (..., K, N) mod 2^w; a weight b (K, N) serves every batch."""
    if b.ndim == 2:
        a3, b3 = a.reshape(1, -1, a.shape[-1]), b[None]
    else:
        a3, b3 = a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:])
    out = np.empty((a3.shape[0], a3.shape[1], b3.shape[2]), U64)
    kernels.matmul(np.ascontiguousarray(a3), np.ascontiguousarray(b3), w, out)
    return out.reshape(*a.shape[:-1], b.shape[-1])


def _slice(node: Node, args: Sequence[Words], *_: object) -> Words:
    index = [slice(None)] * args[0].ndim
    index[node.integer("axis")] = slice(node.integer("start"), node.integer("stop"))
    return args[0][tuple(index)]


def _suffix(_n: Node, args: Sequence[Words], *_: object) -> Words:
    return np.cumsum(args[0][..., ::-1], axis=-1, dtype=U64)[..., ::-1]


def _public_matmul(node: Node, args: Sequence[Words], kernels: Kernels, weight: Words | None) -> Words:
    assert weight is not None
    return matmul_words(args[0], weight, node.type.ring, kernels)


def _public_gain(_n: Node, args: Sequence[Words], _k: Kernels, weight: Words | None) -> Words:
    assert weight is not None
    return args[0] * weight.astype(np.int64).view(U64)


_VIEWS = frozenset({"claim", "reshape", "transpose", "slice", "broadcast"})
"""Results that keep the ring of their argument and may share its memory; all others are arrays of their own."""

_OPS = {
    "add": lambda n, a, k, w: a[0] + a[1],
    "sub": lambda n, a, k, w: a[0] - a[1],
    "scale": lambda n, a, k, w: a[0] * U64(n.integer("factor") % (1 << 64)),
    "claim": lambda n, a, k, w: a[0],
    "reshape": lambda n, a, k, w: a[0].reshape(n.type.shape),
    "transpose": lambda n, a, k, w: a[0].transpose(n.integers("axes")),
    "slice": _slice,
    "concat": lambda n, a, k, w: np.concatenate(a, axis=n.integer("axis")),
    "broadcast": lambda n, a, k, w: np.broadcast_to(a[0], n.type.shape),
    "sum": lambda n, a, k, w: a[0].sum(axis=n.integer("axis"), keepdims=True, dtype=U64),
    "suffix_sum": _suffix,
    "public_matmul": _public_matmul,
    "public_gain": _public_gain,
}
