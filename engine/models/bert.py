"""BERT-family encoders as segments: the embedding, a block, the head. Shapes at the ends of lines: S tokens of the
whole batch, D hidden, H heads, dh = D / H, F intermediate; `lengths` are the public lengths of the sequences.

Post-norm blocks carry n, the normalised wire before gain and bias; both fold into the linear layers that read n, and
into the residual, which is one more product at share level on the same n. 20 rounds a block when the weights are owned.
With `scores=before` a block begins with the norm of the one before it, so that q and k are had beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine.gates.gelu import gelu
from engine.gates.matmul import bias, gain, matmul
from engine.gates.norm import NormRange, centred_rows, layer_norm
from engine.gates.relu import relu
from engine.gates.silu import silu
from engine.gates.softmax import Q_SCALE, SoftmaxRange, softmax_times
from engine.gates.tanh import tanh
from engine.graph import Graph, WireType
from engine.models.layers import (
    EMBED,
    V_SCALE,
    F,
    Step,
    W,
    band_wires,
    chain,
    linear,
    linear_before,
    norm_range,
    parameter,
    pieces,
    row_bands,
    texts,
    y_ring,
)
from engine.models.shapes import BertShape
from engine.scheduler.plan import Program
from engine.variants import DEFAULT, Variants
from engine.wires import Masked, Share, Weight, concat, fail, magnitude

__all__ = ["BertRanges", "BlockRange", "HeadRange", "bert"]


@dataclass(frozen=True, slots=True)
class BlockRange:
    """Calibrated magnitudes of a block, as powers of two (docs/protocols.md, section 8). They are public.

    v: |q|, |k|, |v| < 2^v; up: before the activation; attention and output: (y, low, high) of each norm, where the
    residual and the centred residual are below 2^y, and the mean square of the latter is in [2^low, 2^high)."""

    softmax: SoftmaxRange
    v: int
    up: int
    attention: tuple[int, int, int]
    output: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class HeadRange:
    """Magnitudes of what is revealed, and of the classification head's hidden values before tanh."""

    out: int
    dense: int = 0


@dataclass(frozen=True, slots=True)
class BertRanges:
    """Magnitudes of a whole model: (|y|, lowest and highest mean square) of the embedding norm, the blocks, the
    head."""

    embedding: tuple[int, int, int]
    blocks: tuple[BlockRange, ...]
    head: HeadRange


@dataclass(frozen=True, slots=True)
class _Model:
    """What every segment needs: shape, ranges, who owns the weights, and the ring of every n wire."""

    shape: BertShape
    ranges: BertRanges
    lengths: tuple[int, ...]
    owner: int | str
    head: str
    variants: Variants
    embedding: bool

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    @property
    def bands(self) -> tuple[tuple[int, int], ...]:
        return row_bands(self.tokens, self.variants.bands)

    @property
    def log_d(self) -> int:
        return (self.shape.hidden - 1).bit_length()

    def from_y(self, i: int) -> bool:
        """Whether block i begins with the norm before it: its wire is y. An input is normalised already."""
        return self.variants.scores == "before" and i < self.shape.layers and (i > 0 or self.embedding)

    def ends(self, i: int) -> tuple[Any, ...]:
        """What block i has beside its own ranges: how it begins and ends."""
        if self.variants.scores == "after":
            return ()
        return self.from_y(i), self.from_y(i + 1), self.y_type(i), self.y_type(i + 1), self.norm_before(i)

    def norm_before(self, i: int) -> tuple[int, int, int]:
        """Of the norm that leads into block i."""
        return self.ranges.blocks[i - 1].output if i else self.ranges.embedding

    def y_type(self, i: int) -> WireType:
        """y into block i, or out of it before the norm: wide enough for its products with the weights of q and k."""
        (y, _, high), scale = self.norm_before(i), F + W if i else EMBED
        ring = y + scale + self.log_d + 2
        if self.from_y(i):
            ring = max(ring, y_ring(self.ranges.blocks[i].v, high, scale, W))
        return WireType("masked", (self.tokens, self.shape.hidden), ring, scale, magnitude(y + scale))

    def n_type(self, i: int) -> WireType:
        """n into block i, or into the head."""
        bound = 1 << F + (self.log_d + 1) // 2
        return WireType("masked", (self.tokens, self.shape.hidden), self.block_ring(i), F, bound)

    def into(self, g: Graph, i: int) -> list[Masked]:
        """The bands that come into block i, or into the head."""
        return band_wires(g, self.y_type(i) if self.from_y(i) else self.n_type(i), self.bands)

    def middle_y_ring(self, i: int) -> int:
        """Ring of y between the halves of block i."""
        (y, _, high), up = self.ranges.blocks[i].attention, self.ranges.blocks[i].up
        ring = self.residual_ring(y)
        return ring if self.variants.up == "after" else max(ring, y_ring(up, high, F + W, W))

    def residual_ring(self, y: int) -> int:
        """Ring of the shares of a residual at scale 24: the sum of a row has log2 D bits more."""
        return y + F + W + self.log_d + 2

    def block_ring(self, i: int) -> int:
        """Ring of n into block i (or into the head): the widest of its readers."""
        if i == self.shape.layers:
            return max(self.ranges.head.out, self.ranges.head.dense) + F + W + max(self.lengths).bit_length() + 2
        b = self.ranges.blocks[i]
        q = b.softmax.score_ring + F + W - Q_SCALE
        v = b.softmax.product_ring(V_SCALE) + F + W - V_SCALE
        return max(q, v, self.middle_y_ring(i))

    def middle_ring(self, i: int) -> int:
        """Ring of n between the halves of block i."""
        b = self.ranges.blocks[i]
        return max(b.up + F + W + 2, self.y_type(i + 1).ring)

    def norm(self, at: tuple[int, int, int], ring: int, wire: int) -> NormRange:
        """`ring`: of n after truncation."""
        return norm_range(at, self.shape.hidden, ring, wire, F)


def bert(
    shape: BertShape,
    ranges: BertRanges,
    lengths: Sequence[int],
    *,
    owner: int | str = 1,
    head: str = "mean",
    embedding: bool = True,
    variants: Variants = DEFAULT,
) -> Program:
    """The program of a batch of sequences. head: 'mean' or 'cls' embedding, 'classify', 'none' (hidden states).

    Without `embedding` the first wire is an input: the client's own embedded and normalised tokens. Raises TraceError
    where a variant needs more bits than there are for these ranges."""
    model = _Model(shape, ranges, tuple(lengths), owner, head, variants, embedding)
    steps: list[Step] = [
        ("embedding", partial(_embedding if embedding else _embedded, model), "embedding", "embeddings.")
    ]
    for i in range(shape.layers):
        key = (ranges.blocks[i], model.block_ring(i), model.block_ring(i + 1), *model.ends(i))
        steps.append((key, partial(_block, model, i), f"layer {i}", f"layer.{i}."))
    return chain([*steps, ("head", partial(_head, model), "head", "head.")], variants)


def _embedding(m: _Model) -> Graph:
    """One-hot rows of the client times the owner's table, plus positions and token type; then LayerNorm."""
    g, (y, _, _), d = Graph("embedding"), m.ranges.embedding, m.shape.hidden
    ring = m.y_type(0).ring
    kind = WireType("masked", (m.tokens, m.shape.vocab), ring, 0, 1)
    ids = Masked(g, g.add("input", (), kind, owner=0, name="one-hot tokens"))  # (S, vocab)
    if m.owner == "public":
        raise fail("a public embedding table is looked up by the client: trace without the embedding")
    words = parameter(m.owner, g, "words", (m.shape.vocab, d), EMBED, ring)
    places = parameter(m.owner, g, "places", (m.shape.max_positions, d), EMBED, ring)
    x = matmul(ids, words, magnitude(y + EMBED))  # (S, D)
    x = concat([_at_positions(part, places) for part in texts(m.lengths, x)])
    g.outputs = tuple(_into_block(m, 0, x.slice(0, a, b)).index for a, b in m.bands)
    return g


def _into_block(m: _Model, i: int, y: Share | Masked) -> Masked:
    """What block i or the head takes, of a band: y opened, or normalised."""
    kind = m.y_type(i)
    if m.from_y(i):
        return y.open(kind.ring, kind.bound)
    return layer_norm(y, m.norm(m.norm_before(i), m.block_ring(i), kind.ring), m.shape.eps, F, m.variants.scaling)


def _at_positions(x: Any, places: Weight) -> Any:
    """Word embeddings of one sequence plus the first rows of the position table (token type 0 is folded into it)."""
    g, (s, d) = x.graph, x.shape
    kind = WireType("share", (places.shape[0], d), x.ring, places.scale, places.bound)
    return x + Share(g, g.add("weight_share", (places.index,), kind)).slice(0, 0, s)


def _embedded(m: _Model) -> Graph:
    """n as the client's input: a public embedding table, or a bare shape measured from its embedded input."""
    g = Graph("embedded")
    n = Masked(g, g.add("input", (), m.n_type(0), owner=0, name="n"))
    g.outputs = tuple(n.slice(0, a, b).index for a, b in m.bands)
    return g


def _block(m: _Model, i: int) -> Graph:
    """Everything but k and v is row by row: bands of rows flow through the rounds independently of one another."""
    g, at, d = Graph("block"), m.ranges.blocks[i], m.shape.hidden
    begin = _from_y if m.from_y(i) else _from_n
    rows, q, k = zip(*(begin(m, x, i) for x in m.into(g, i)), strict=True)  # (s, D) each, as all that follows
    k = concat(k)  # (S, D)
    v_ring = at.softmax.product_ring(V_SCALE) + F + W - V_SCALE
    v = concat([linear(m.owner, x, "value", d, at.v).open(v_ring).truncate(V_SCALE) for x in rows])
    ring = m.middle_y_ring(i) + 14
    o = [_attention(m, band, x, k, v, at.softmax, ring).open().truncate(F) for band, x in zip(m.bands, q, strict=True)]
    g.outputs = tuple(_after_attention(m, i, x, y).index for x, y in zip(rows, o, strict=True))
    return g


def _from_n(m: _Model, n: Masked, i: int) -> tuple[Masked, Masked, Masked]:
    """n, q and k of a band."""
    at, d = m.ranges.blocks[i], m.shape.hidden
    ring = at.softmax.score_ring + F + W - Q_SCALE
    q, k = (linear(m.owner, n, name, d, at.v).open(ring).truncate(Q_SCALE) for name in ("query", "key"))
    return n, q, k


def _from_y(m: _Model, y: Masked, i: int) -> tuple[Masked, Masked, Masked]:
    """n of the norm that leads into block i, q and k of a band: opened in one round, the third."""
    at = m.ranges.blocks[i]
    norm = m.norm(m.norm_before(i), m.block_ring(i), y.ring)
    rows = centred_rows(y, norm, m.shape.eps)
    room = at.softmax.score_ring - Q_SCALE
    q, k = (
        linear_before(m.owner, y, rows, norm, name, m.shape.hidden, at.v, room, Q_SCALE).truncate(Q_SCALE)
        for name in ("query", "key")
    )
    return rows.normalised(norm, F, m.variants.scaling), q, k


def _after_attention(m: _Model, i: int, n: Masked, o: Masked) -> Masked:
    """Projection, norm, feed-forward layers, norm, of a band: n into the block, o of the attention; n out of the
    block."""
    at, d = m.ranges.blocks[i], m.shape.hidden
    ring = m.middle_y_ring(i)
    y = _residual(m, n, "attention", ring, at.attention[0])
    y = y + linear(m.owner, o, "dense", d, at.attention[0], shifted=False)
    n, h = _norm_and_up(m, i, y, m.norm(at.attention, m.middle_ring(i), ring))  # (s, D), (s, F)

    ring = m.y_type(i + 1).ring
    a = _activation(m, h, ring, magnitude(at.up + F + W)).open().truncate(F)  # (s, F)
    y = _residual(m, n, "output", ring, at.output[0]) + linear(m.owner, a, "down", d, at.output[0], shifted=False)
    return _into_block(m, i + 1, y)  # (s, D)


def _norm_and_up(m: _Model, i: int, y: Share | Masked, norm: NormRange) -> tuple[Masked, Masked]:
    """n between the halves of block i, and its product with the first feed-forward layer."""
    bound, width = m.ranges.blocks[i].up, m.shape.intermediate
    if m.variants.up == "after":
        n = layer_norm(y, norm, m.shape.eps, F, m.variants.scaling)
        return n, linear(m.owner, n, "up", width, bound).open(bound + F + W + 2)
    opened = y.open(norm.wire, magnitude(norm.y + y.scale))
    rows = centred_rows(opened, norm, m.shape.eps)
    h = linear_before(m.owner, opened, rows, norm, "up", width, bound, bound + 2, F)
    return rows.normalised(norm, F, m.variants.scaling), h


def _residual(m: _Model, n: Masked, name: str, ring: int, bound: int) -> Any:
    """n times gain plus bias: the hidden state, with the bias of the branch that joins it folded in."""
    n, d = n.reduce(min(n.ring, ring)), n.shape[-1]
    limit = magnitude(bound + F + W)
    y = gain(n, parameter(m.owner, n.graph, f"{name}.gain", (d,), W, n.ring), limit)
    return bias(y, parameter(m.owner, n.graph, f"{name}.shift", (d,), F + W, n.ring), limit)


def _attention(m: _Model, band: tuple[int, int], q: Masked, k: Masked, v: Masked, at: SoftmaxRange, ring: int) -> Share:
    """Rows of a band against the sequences that they belong to: no padding, no work between sequences."""
    h, dh = m.shape.heads, m.shape.head_dim
    parts = []
    for (first, last), (start, stop) in pieces(m.lengths, band):
        q_i = q.slice(0, start - band[0], stop - band[0]).reshape(stop - start, h, dh).transpose(1, 0, 2)  # (H, s, dh)
        k_t = k.slice(0, first, last).reshape(last - first, h, dh).transpose(1, 2, 0)  # (H, dh, S)
        v_i = v.slice(0, first, last).reshape(last - first, h, dh).transpose(1, 0, 2)  # (H, S, dh)
        scores = matmul(q_i, k_t, at.score_bound).open(at.score_ring)  # (H, s, S)
        o = softmax_times(scores, v_i, at, ring, m.variants)  # (H, s, dh)
        parts.append(o.transpose(1, 0, 2).reshape(stop - start, h * dh))  # (s, D)
    return concat(parts)  # type: ignore[no-any-return]


def _activation(m: _Model, h: Masked, ring: int, bound: int) -> Share:
    """A share that, opened and truncated to scale F, is a wire of `ring` bits."""
    if m.shape.activation == "relu":
        return relu(h.truncate(F), ring, bound >> W)
    return _SMOOTH[m.shape.activation](h, ring + W, bound=bound, how=m.variants.activation)


# gelu_new, the approximation by tanh, lies within 5e-4 of gelu: less than the error of either gate.
_SMOOTH = {"gelu": gelu, "gelu_new": gelu, "silu": silu, "tanh": tanh}


def _head(m: _Model) -> Graph:
    """Pooling or classification; the result is revealed to the client alone."""
    g = Graph("head")
    n = concat(m.into(g, m.shape.layers))
    hidden: Any = _residual(m, n, "hidden", n.ring, m.ranges.head.out) if m.head != "classify" else None
    for i, rows in enumerate(texts(m.lengths, n if hidden is None else hidden)):
        if m.head == "mean":
            out = rows.sum(0)  # (1, D): the client divides by the length
        elif m.head == "cls":
            out = rows.slice(0, 0, 1)
        elif m.head == "classify":
            out = _classify(m, rows.slice(0, 0, 1))
        else:
            out = rows
        limit = magnitude(m.ranges.head.out + F + W + (m.lengths[i] - 1).bit_length() * (m.head == "mean"))
        share = out if isinstance(out, Share) else out.as_share()
        share.bounded(limit).reveal(0, f"output {i}")
    return g


def _classify(m: _Model, first: Masked) -> Share | Masked:
    """logits = tanh(n W_d + b_d) W_c + b_c."""
    dense = linear(m.owner, first, "dense", m.shape.hidden, m.ranges.head.dense).open(m.ranges.head.dense + F + W + 2)
    t = tanh(dense, first.ring + W, bound=1 << F + W + 1).open().truncate(F)
    return linear(m.owner, t, "classifier", m.shape.labels, m.ranges.head.out)
