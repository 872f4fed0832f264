"""Gate `matmul`: products of matrices (docs/protocols.md, section 5), and what else a weight does: gains and biases.

With [r] shares of a wire's mask, dealt once for all uses (`mask_share`), and party o the owner of W:

    owned    o sends (X_hat - [r_X]_o) W; the other, in the prepare phase, -[r_X]_q W_hat with W_hat = W + R_W, kept
             from pairing. The sum is X W - [r_X]_q R_W: the offset is the dealer's, no correction is dealt.
    shared   b sends X_hat [W]_b - [r_X]_b W_hat; offset r_X R_W.
    secret   0 sends (X_hat - [r_X]_0)(Y_hat - [r_Y]_0), 1 sends -[r_X]_1 Y_hat - X_hat [r_Y]_1;
             offset r_X r_Y - [r_X]_0 [r_Y]_0. Three products instead of four.
    public   x_hat W is a masked wire already.

This departs from the paper's Beaver form, where shares of r_X R_W + R_out are dealt: here the offset is absorbed by the
mask of the opening that follows, which is uniform and independent of it, so a tape holds only [r_X] and [r_Y].
"""

from __future__ import annotations

from dataclasses import replace

from engine.graph import Graph, Shape, WireType
from engine.wires import Linear, Masked, Share, Weight, broadcast_shapes, fail, same_graph

__all__ = ["bias", "gain", "matmul", "weight"]

OWNERS = (0, 1, "public", "shared")


def weight(
    graph: Graph, name: str, shape: Shape, *, owner: int | str, scale: int, bound: int, ring: int = 52
) -> Weight:
    """Declare a parameter: integers |W| <= bound at `scale`; owner 0, 1, 'public' or 'shared'; its mask has `ring`
    bits."""
    if owner not in OWNERS:
        raise fail(f"weight {name} is owned by 0, 1, 'public' or 'shared', not {owner!r}")
    kind = WireType("weight", shape, ring, scale, bound)
    return Weight(graph, graph.add("weight", (), kind, name=name, owner=owner))


def matmul(x: Masked, y: Masked | Weight, bound: int | None = None) -> Masked | Share:
    """x (..., M, K) times y (..., K, N), or a weight (K, N). A share; with public weights a masked wire. No round.

    The result lies in the smaller ring of the two factors, at the sum of their scales.
    """
    if len(x.shape) < 2 or len(y.shape) < 2 or x.shape[-1] != y.shape[-2]:
        raise fail(f"cannot multiply matrices {x.shape} and {y.shape}")
    same_graph(x, y)
    inner = x.shape[-1]
    exact = x.bound * y.bound * inner
    limit = exact if bound is None else min(bound, exact)
    if isinstance(y, Weight):
        return _with_weight(x, y, limit)
    if x.shape[:-2] != y.shape[:-2]:
        raise fail(f"batches of {x.shape} and {y.shape} differ")
    kind = WireType("share", (*x.shape[:-1], y.shape[-1]), min(x.ring, y.ring), x.scale + y.scale, limit)
    keys = (_mask_share(x), _mask_share(y))
    return Share(x.graph, x.graph.add("matmul", (x.index, y.index, *keys), kind))


def gain(x: Masked, w: Weight, bound: int | None = None) -> Masked | Share:
    """x times a weight vector along the last axis."""
    same_graph(x, w)
    if w.shape != x.shape[-1:]:
        raise fail(f"gain {w.shape} does not match the last axis of {x.shape}")
    exact = x.bound * w.bound
    kind = WireType("share", x.shape, x.ring, x.scale + w.scale, exact if bound is None else min(bound, exact))
    if w.owner == "public":
        return Masked(x.graph, x.graph.add("public_gain", (x.index, w.index), replace(kind, kind="masked")))
    _check_ring(x, w)
    return Share(x.graph, x.graph.add("weight_gain", (x.index, w.index, _mask_share(x)), kind))


def bias(y: Masked | Share, w: Weight, bound: int | None = None) -> Masked | Share:
    """y plus a weight that broadcasts to its shape; free, whoever owns it. `bound` is the author's claim of the sum."""
    same_graph(y, w)
    if broadcast_shapes(w.shape, y.shape) != y.shape:
        raise fail(f"bias {w.shape} does not broadcast to {y.shape}")
    if w.scale != y.scale:
        raise fail(f"bias at scale {w.scale} added to a value at scale {y.scale}")
    if w.owner == "public":
        exact = y.bound + w.bound
        kind = replace(y.type, bound=exact if bound is None else min(bound, exact))
        return type(y)(y.graph, y.graph.add("add_public", (y.index, w.index), kind))
    kind = WireType("share", y.shape, y.ring, w.scale, w.bound)
    share = Share(y.graph, y.graph.add("weight_share", (w.index,), kind))
    total = y + share
    return total if bound is None else total.bounded(bound)


def _with_weight(x: Masked, w: Weight, bound: int) -> Masked | Share:
    if len(w.shape) != 2:
        raise fail(f"a weight matrix has two dimensions, not {w.shape}")
    kind = WireType("share", (*x.shape[:-1], w.shape[-1]), x.ring, x.scale + w.scale, bound)
    if w.owner == "public":
        return Masked(x.graph, x.graph.add("public_matmul", (x.index, w.index), replace(kind, kind="masked")))
    _check_ring(x, w)
    return Share(x.graph, x.graph.add("weight_matmul", (x.index, w.index, _mask_share(x)), kind))


def _check_ring(x: Linear, w: Weight) -> None:
    if x.ring > w.ring:
        raise fail(f"the mask of weight {w.node['name']} has {w.ring} bits, the wire's ring {x.ring}: it would leak W")


def _mask_share(x: Masked) -> int:
    """Shares of the mask of x. An input's mask is known to its owner whole: nothing is dealt for it."""
    node = x.node
    known = node["owner"] if node.op == "input" else None
    kind = WireType("key", x.shape, x.ring)
    return x.graph.add("mask_share", (x.index,), kind, known=known)
