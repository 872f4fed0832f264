"""GPT-2 as segments: the embedding, a block, the head. Shapes at the ends of lines: S tokens of the whole batch, D
hidden, H heads, dh = D / H, F intermediate; `lengths` are the public lengths of the sequences.

Pre-norm blocks carry x, the residual stream at scale 2f, as a masked wire that is opened once a half block; what joins
it is added to its share, so that nothing of the stream is ever rounded. Whatever joins the stream has no mean in a row
(`Gpt2Checkpoint.centred`), which its readers, the norms, would take away: x is centred as it is. Gains and biases of
the norms fold into the linear layers that read n. Attention is causal (engine/gates/causal.py). 20 rounds a block when
the weights are owned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from engine.errors import InputError
from engine.gates.causal import causal_softmax_times
from engine.gates.gelu_new import gelu_new
from engine.gates.matmul import bias, gain, matmul
from engine.gates.norm import NormRange, rows_of_mean_zero
from engine.gates.softmax import Q_SCALE, SoftmaxRange
from engine.graph import Graph, WireType
from engine.models.bert import BlockRange
from engine.models.layers import (
    EMBED,
    V_SCALE,
    WEIGHT,
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
from engine.scheduler.plan import Program
from engine.variants import DEFAULT, Variants
from engine.wires import Masked, Share, concat, fail, magnitude

__all__ = ["GPT2_SHAPES", "Gpt2Ranges", "Gpt2Shape", "gpt2_program"]


@dataclass(frozen=True, slots=True)
class Gpt2Shape:
    """The sizes of a decoder. Raises InputError for a size below 1, or heads that do not divide hidden."""

    layers: int
    heads: int
    hidden: int
    intermediate: int
    vocab: int
    max_positions: int
    eps: float = 1e-5

    def __post_init__(self) -> None:
        sizes = (self.layers, self.heads, self.hidden, self.intermediate, self.vocab, self.max_positions)
        if min(sizes) < 1 or self.hidden % self.heads:
            raise InputError(f"no GPT-2 has these sizes: {self}")

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


GPT2_SHAPES = {"gpt2": Gpt2Shape(12, 12, 768, 3072, 50257, 1024)}


@dataclass(frozen=True, slots=True)
class Gpt2Ranges:
    """Calibrated magnitudes. In a block's range `attention` and `output` are the norms before attention and before the
    feed-forward layers: (y, low, high), of the stream there and of its mean square. `norm`: the last one; `out`: log2
    of the bound of what is revealed."""

    blocks: tuple[BlockRange, ...]
    norm: tuple[int, int, int]
    out: int


@dataclass(frozen=True, slots=True)
class _Model:
    """What every segment needs."""

    shape: Gpt2Shape
    ranges: Gpt2Ranges
    lengths: tuple[int, ...]
    owner: int | str
    head: str
    variants: Variants

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    @property
    def bands(self) -> tuple[tuple[int, int], ...]:
        return row_bands(self.tokens, self.variants.bands)

    def stream(self, i: int) -> WireType:
        """x into block i, or into the head: one ring for all, as wide as the largest takes, and as products with it
        before it is scaled."""
        norms = [n for b in self.ranges.blocks for n in (b.attention, b.output)] + [self.ranges.norm]
        ring = max(max(y for y, _, _ in norms) + F + W + 2, *self._products(), 0)
        y = (self.ranges.blocks[i].attention if i < self.shape.layers else self.ranges.norm)[0]
        return WireType("masked", (self.tokens, self.shape.hidden), ring, F + W, magnitude(y + F + W))

    def _products(self) -> Iterator[int]:
        """The rings that products with x ask for."""
        for b in self.ranges.blocks:
            if self.variants.scores == "before":
                yield y_ring(b.v, b.attention[2], F + W, W)
            if self.variants.up == "before":
                yield y_ring(b.up, b.output[2], F + W, W)

    def norm(self, at: tuple[int, int, int], ring: int, x: Masked) -> NormRange:
        """`ring`: of n after truncation."""
        return norm_range(at, self.shape.hidden, ring, x.ring, F)


def gpt2_program(
    shape: Gpt2Shape,
    ranges: Gpt2Ranges,
    lengths: Sequence[int],
    owner: int | str = 1,
    head: str = "logits",
    *,
    embedding: bool = True,
    variants: Variants = DEFAULT,
) -> Program:
    """The program of a batch of sequences. head: 'logits' of the last token, or 'hidden', all last hidden states.

    Without `embedding` the first wire is an input: the client's own embedded tokens. Raises InputError, for a variant
    that a causal block cannot have too; TraceError where one needs more bits than there are for these ranges."""
    if head not in ("logits", "hidden"):
        raise InputError(f"a GPT-2 ends in 'logits' or 'hidden', not in {head!r}")
    if not lengths or not all(1 <= n <= shape.max_positions for n in lengths):
        raise InputError(f"texts of 1 to {shape.max_positions} tokens are needed, not of {list(lengths)}")
    if variants.maximum == "tournament":
        raise InputError(
            "a causal model has no maximum=tournament, since its rows of scores have every length: take "
            "maximum=histogram or maximum=direct"
        )
    m = _Model(shape, ranges, tuple(lengths), owner, head, variants)
    steps: list[Step] = [("embedding", partial(_embedding if embedding else _embedded, m), "embedding", "embeddings.")]
    for i in range(shape.layers):
        key = (ranges.blocks[i], m.stream(i), m.stream(i + 1))
        steps.append((key, partial(_block, m, i), f"layer {i}", f"layer.{i}."))
    return chain([*steps, ("head", partial(_head, m), "head", "head.")], variants)


# ---------------------------------------------------------------------- into the stream
def _embedding(m: _Model) -> Graph:
    """One-hot rows of the client times the owner's table, plus positions."""
    if m.owner == "public":
        raise fail("a public embedding table is looked up by the client: trace without the embedding")
    g, kind = Graph("embedding"), m.stream(0)
    one_hot = WireType("masked", (m.tokens, m.shape.vocab), kind.ring, 0, 1)
    ids = Masked(g, g.add("input", (), one_hot, owner=0, name="one-hot tokens"))  # (S, vocab)
    words, places = (
        parameter(m.owner, g, name, (rows, m.shape.hidden), EMBED, kind.ring)
        for name, rows in (("words", m.shape.vocab), ("places", m.shape.max_positions))
    )
    x = matmul(ids, words, kind.bound >> F + W - EMBED)  # (S, D)
    table = Share(g, g.add("weight_share", (places.index,), WireType("share", places.shape, kind.ring, EMBED, WEIGHT)))
    x = concat([part + table.slice(0, 0, part.shape[0]) for part in texts(m.lengths, x)])
    x = x.times(1 << F + W - EMBED, F + W)
    g.outputs = tuple(x.slice(0, a, b).open(kind.ring, kind.bound).index for a, b in m.bands)
    return g


def _embedded(m: _Model) -> Graph:
    """x as the client's input: a public embedding table, or a bare shape measured from its embedded input."""
    g = Graph("embedded")
    x = Masked(g, g.add("input", (), m.stream(0), owner=0, name="x"))
    g.outputs = tuple(x.slice(0, a, b).index for a, b in m.bands)
    return g


# ---------------------------------------------------------------------- a block
def _block(m: _Model, i: int) -> Graph:
    """Everything but k and v is row by row: bands of rows flow through the rounds independently of one another."""
    g, at = Graph("block"), m.ranges.blocks[i]
    rows = band_wires(g, m.stream(i), m.bands)  # (s, D) each, as all that follows
    q, k, v = zip(*(_heads(m, x, at) for x in rows), strict=True)
    k, v = concat(k), concat(v)  # (S, D)
    o = [_attention(m, band, x, k, v, at.softmax, rows[0].ring + 14) for band, x in zip(m.bands, q, strict=True)]
    out = [_after_attention(m, i, x, y.open().truncate(F)) for x, y in zip(rows, o, strict=True)]
    g.outputs = tuple(x.index for x in out)
    return g


def _heads(m: _Model, x: Masked, at: BlockRange) -> tuple[Masked, Masked, Masked]:
    """q, k and v of a band. With `scores=before` q and k are opened beside n, not after it."""
    d, room = m.shape.hidden, at.softmax.score_ring - Q_SCALE
    q_ring, v_ring = room + F + W, at.softmax.product_ring(V_SCALE) + F + W - V_SCALE
    norm = m.norm(at.attention, max(q_ring, v_ring), x)
    known = rows_of_mean_zero(x, norm, m.shape.eps)
    n = known.normalised(norm, F, m.variants.scaling)

    def product(name: str) -> Masked:
        if m.variants.scores == "before":
            return linear_before(m.owner, x, known, norm, name, d, at.v, room, Q_SCALE)
        return linear(m.owner, n, name, d, at.v).open(q_ring)

    q, k = (product(name).truncate(Q_SCALE) for name in ("query", "key"))
    return q, k, linear(m.owner, n, "value", d, at.v).open(v_ring).truncate(V_SCALE)


def _after_attention(m: _Model, i: int, x: Masked, o: Masked) -> Masked:
    """Projection and feed-forward layers of a band: x into the block and o of the attention; x out of the block."""
    at, d, out = m.ranges.blocks[i], m.shape.hidden, m.stream(i + 1)
    x = (x + linear(m.owner, o, "dense", d, at.output[0])).open(x.ring, magnitude(at.output[0] + F + W))
    h = _up(m, x, at)  # (s, F)
    a = gelu_new(h, x.ring + W, bound=magnitude(at.up + F + W), how=m.variants.activation).open().truncate(F)
    return (x + linear(m.owner, a, "down", d, _bits(out))).open(out.ring, out.bound)  # type: ignore[no-any-return]


def _up(m: _Model, x: Masked, at: BlockRange) -> Masked:
    """The first feed-forward layer of the norm of x. With `up=before` n is never opened: nothing else reads it."""
    norm, width = m.norm(at.output, at.up + F + W + 2, x), m.shape.intermediate
    known = rows_of_mean_zero(x, norm, m.shape.eps)
    if m.variants.up == "before":
        return linear_before(m.owner, x, known, norm, "up", width, at.up, at.up + 2, F)
    return linear(m.owner, known.normalised(norm, F, m.variants.scaling), "up", width, at.up).open(at.up + F + W + 2)


def _bits(kind: WireType) -> int:
    """log2 of the real magnitude that the bound stands for."""
    return kind.bound.bit_length() - kind.scale


def _attention(m: _Model, band: tuple[int, int], q: Masked, k: Masked, v: Masked, at: SoftmaxRange, ring: int) -> Share:
    """Rows of a band, heads on their own, each row on those before it in its sequence and itself."""
    h, dh = m.shape.heads, m.shape.head_dim
    parts = []
    for (first, _), (start, stop) in pieces(m.lengths, band):
        q_i = q.slice(0, start - band[0], stop - band[0]).reshape(stop - start, h, dh).transpose(1, 0, 2)  # (H, s, dh)
        k_t = k.slice(0, first, stop).reshape(stop - first, h, dh).transpose(1, 2, 0)  # (H, dh, t)
        v_i = v.slice(0, first, stop).reshape(stop - first, h, dh).transpose(1, 0, 2)  # (H, t, dh)
        o = causal_softmax_times(matmul(q_i, k_t, at.score_bound), v_i, at, ring, m.variants)  # (H, s, dh)
        parts.append(o.transpose(1, 0, 2).reshape(stop - start, h * dh))  # (s, D)
    return concat(parts)  # type: ignore[no-any-return]


# ---------------------------------------------------------------------- out of the stream
def _head(m: _Model) -> Graph:
    """The last norm, and what is revealed to the client alone."""
    g = Graph("head")
    stream = concat(band_wires(g, m.stream(m.shape.layers), m.bands))
    for i, x in enumerate(texts(m.lengths, stream)):
        last = x.slice(0, x.shape[0] - 1, x.shape[0]) if m.head == "logits" else x
        norm = m.norm(m.ranges.norm, m.ranges.out + F + W + 2, last)
        n = rows_of_mean_zero(last, norm, m.shape.eps).normalised(norm, F, m.variants.scaling)
        y = linear(m.owner, n, "logits", m.shape.vocab, m.ranges.out) if m.head == "logits" else _hidden(m, n)
        share = y if isinstance(y, Share) else y.as_share()
        share.bounded(magnitude(m.ranges.out + F + W)).reveal(0, f"output {i}")
    return g


def _hidden(m: _Model, n: Masked) -> Share | Masked:
    """n times gain plus shift."""
    limit, shape = magnitude(m.ranges.out + F + W), (n.shape[-1],)
    y = gain(n, parameter(m.owner, n.graph, "hidden.gain", shape, W, n.ring), limit)
    return bias(y, parameter(m.owner, n.graph, "hidden.shift", shape, F + W, n.ring), limit)
