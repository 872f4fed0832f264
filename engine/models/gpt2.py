"""GPT-2 as segments: the embedding, a block, the head. Shapes at the ends of lines: S tokens of the whole batch, D
hidden, H heads, dh = D / H, F intermediate; `lengths` are the public lengths of the sequences.

Pre-norm blocks carry x, the residual stream at scale 2f, as a masked wire that is opened once a half block; what joins
it is added to its share, so that nothing of the stream is ever rounded. Gains and biases of the norms fold into the
linear layers that read n. Attention is causal (engine/gates/causal.py). 20 rounds a block when the weights are owned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine.errors import InputError
from engine.gates.causal import causal_softmax_times
from engine.gates.gelu_new import gelu_new
from engine.gates.matmul import bias, gain, matmul, weight
from engine.gates.norm import NormRange, layer_norm
from engine.gates.softmax import Q_SCALE
from engine.graph import Graph, WireType
from engine.models.bert import BIAS, EMBED, V_SCALE, WEIGHT, BlockRange, F, W
from engine.models.layers import norm_range
from engine.scheduler.plan import Call, Program, Segment, segment
from engine.wires import Masked, Share, Weight, concat, fail, magnitude

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

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    @property
    def log_d(self) -> int:
        return (self.shape.hidden - 1).bit_length()

    def stream(self, i: int) -> WireType:
        """x into block i, or into the head: one ring for all, as wide as centring the largest takes."""
        norms = [n for b in self.ranges.blocks for n in (b.attention, b.output)] + [self.ranges.norm]
        ring = max(y for y, _, _ in norms) + F + W + self.log_d + 2
        y = (self.ranges.blocks[i].attention if i < self.shape.layers else self.ranges.norm)[0]
        return WireType("masked", (self.tokens, self.shape.hidden), ring, F + W, magnitude(y + F + W))

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
) -> Program:
    """The program of a batch of sequences. head: 'logits' of the last token, or 'hidden', all last hidden states.

    Without `embedding` the first wire is an input: the client's own embedded tokens. Raises InputError."""
    if head not in ("logits", "hidden"):
        raise InputError(f"a GPT-2 ends in 'logits' or 'hidden', not in {head!r}")
    if not lengths or not all(1 <= n <= shape.max_positions for n in lengths):
        raise InputError(f"texts of 1 to {shape.max_positions} tokens are needed, not of {list(lengths)}")
    m = _Model(shape, ranges, tuple(lengths), owner, head)
    steps: list[tuple[Any, Callable[[], Graph], str, str]] = [
        ("embedding", partial(_embedding if embedding else _embedded, m), "embedding", "embeddings.")
    ]
    for i in range(shape.layers):
        key = (ranges.blocks[i], m.stream(i), m.stream(i + 1))
        steps.append((key, partial(_block, m, i), f"layer {i}", f"layer.{i}."))
    return _program([*steps, ("head", partial(_head, m), "head", "head.")])


def _program(steps: Sequence[tuple[Any, Callable[[], Graph], str, str]]) -> Program:
    """A chain of calls; those of one key share a segment."""
    segments: list[Segment] = []
    calls: list[Call] = []
    index: dict[Any, int] = {}
    for key, build, name, prefix in steps:
        if key not in index:
            index[key] = len(segments)
            segments.append(segment(build()))
        calls.append(Call(index[key], name, prefix, ((len(calls) - 1, 0),) if calls else ()))
    return Program(tuple(segments), tuple(calls))


# ---------------------------------------------------------------------- into the stream
def _embedding(m: _Model) -> Graph:
    """One-hot rows of the client times the owner's table, plus positions."""
    if m.owner == "public":
        raise fail("a public embedding table is looked up by the client: trace without the embedding")
    g, kind = Graph("embedding"), m.stream(0)
    one_hot = WireType("masked", (m.tokens, m.shape.vocab), kind.ring, 0, 1)
    ids = Masked(g, g.add("input", (), one_hot, owner=0, name="one-hot tokens"))  # (S, vocab)
    words, places = (
        weight(g, name, (rows, m.shape.hidden), owner=m.owner, scale=EMBED, bound=WEIGHT, ring=kind.ring)
        for name, rows in (("words", m.shape.vocab), ("places", m.shape.max_positions))
    )
    x = matmul(ids, words, kind.bound >> F + W - EMBED)  # (S, D)
    table = Share(g, g.add("weight_share", (places.index,), WireType("share", places.shape, kind.ring, EMBED, WEIGHT)))
    x = concat([part + table.slice(0, 0, part.shape[0]) for part in _texts(m, x)])
    g.outputs = (x.times(1 << F + W - EMBED, F + W).open(kind.ring, kind.bound).index,)
    return g


def _embedded(m: _Model) -> Graph:
    """x as the client's input: a public embedding table, or a bare shape measured from its embedded input."""
    g = Graph("embedded")
    g.outputs = (g.add("input", (), m.stream(0), owner=0, name="x"),)
    return g


# ---------------------------------------------------------------------- a block
def _block(m: _Model, i: int) -> Graph:
    g, at, d = Graph("block"), m.ranges.blocks[i], m.shape.hidden
    x = Masked(g, g.add("wire", (), m.stream(i)))  # (S, D)
    q_ring = at.softmax.score_ring + F + W - Q_SCALE
    v_ring = at.softmax.product_ring(V_SCALE) + F + W - V_SCALE
    n = layer_norm(x, m.norm(at.attention, max(q_ring, v_ring), x), m.shape.eps, F)
    q = _linear(m, n, "query", d, at.v).open(q_ring).truncate(Q_SCALE)  # (S, D)
    k = _linear(m, n, "key", d, at.v).open(q_ring).truncate(Q_SCALE)
    v = _linear(m, n, "value", d, at.v).open(v_ring).truncate(V_SCALE)
    o = _attention(m, i, q, k, v, x.ring + 14).open().truncate(F)  # (S, D)
    x = (x + _linear(m, o, "dense", d, at.output[0])).open(x.ring, magnitude(at.output[0] + F + W))

    n = layer_norm(x, m.norm(at.output, at.up + F + W + 2, x), m.shape.eps, F)
    h = _linear(m, n, "up", m.shape.intermediate, at.up).open(at.up + F + W + 2)  # (S, F)
    a = gelu_new(h, x.ring + W, bound=magnitude(at.up + F + W)).open().truncate(F)
    out = m.stream(i + 1)
    g.outputs = ((x + _linear(m, a, "down", d, _bits(out))).open(out.ring, out.bound).index,)
    return g


def _bits(kind: WireType) -> int:
    """log2 of the real magnitude that the bound stands for."""
    return kind.bound.bit_length() - kind.scale


def _linear(m: _Model, x: Masked, name: str, out: int, bound: int) -> Share | Masked:
    """x W + b at scale 24; |result| < 2^bound."""
    limit = magnitude(bound + F + W)
    y = matmul(x, _parameter(m, x, f"{name}.weight", (x.shape[-1], out), W), limit)
    return bias(y, _parameter(m, x, f"{name}.bias", (out,), F + W), limit)


def _parameter(m: _Model, x: Masked, name: str, shape: tuple[int, ...], scale: int) -> Weight:
    bound = min(BIAS if scale > W else WEIGHT, (1 << x.ring - 1) - 1)
    return weight(x.graph, name, shape, owner=m.owner, scale=scale, bound=bound, ring=x.ring)


def _attention(m: _Model, i: int, q: Masked, k: Masked, v: Masked, ring: int) -> Share:
    """Heads of every sequence on their own, each token on those before it and itself."""
    at, h, dh = m.ranges.blocks[i].softmax, m.shape.heads, m.shape.head_dim
    parts = []
    for q_i, k_i, v_i in zip(_texts(m, q), _texts(m, k), _texts(m, v), strict=True):
        s = q_i.shape[0]
        q_i = q_i.reshape(s, h, dh).transpose(1, 0, 2)  # (H, s, dh)
        k_t = k_i.reshape(s, h, dh).transpose(1, 2, 0)  # (H, dh, s)
        v_i = v_i.reshape(s, h, dh).transpose(1, 0, 2)  # (H, s, dh)
        o = causal_softmax_times(matmul(q_i, k_t, at.score_bound), v_i, at, ring)  # (H, s, dh)
        parts.append(o.transpose(1, 0, 2).reshape(s, h * dh))  # (s, D)
    return concat(parts)  # type: ignore[no-any-return]


def _texts(m: _Model, x: Any) -> Iterator[Any]:
    """The rows of each sequence."""
    first = 0
    for length in m.lengths:
        yield x.slice(0, first, first + length)
        first += length


# ---------------------------------------------------------------------- out of the stream
def _head(m: _Model) -> Graph:
    """The last norm, and what is revealed to the client alone."""
    g = Graph("head")
    stream = Masked(g, g.add("wire", (), m.stream(m.shape.layers)))
    for i, x in enumerate(_texts(m, stream)):
        last = x.slice(0, x.shape[0] - 1, x.shape[0]) if m.head == "logits" else x
        n = layer_norm(last, m.norm(m.ranges.norm, m.ranges.out + F + W + 2, last), m.shape.eps, F)
        y = _linear(m, n, "logits", m.shape.vocab, m.ranges.out) if m.head == "logits" else _hidden(m, n)
        share = y if isinstance(y, Share) else y.as_share()
        share.bounded(magnitude(m.ranges.out + F + W)).reveal(0, f"output {i}")
    return g


def _hidden(m: _Model, n: Masked) -> Share | Masked:
    """n times gain plus shift."""
    limit, shape = magnitude(m.ranges.out + F + W), (n.shape[-1],)
    y = gain(n, _parameter(m, n, "hidden.gain", shape, W), limit)
    return bias(y, _parameter(m, n, "hidden.shift", shape, F + W), limit)
