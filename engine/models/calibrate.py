"""From a checkpoint and sample texts to what a plan needs: public magnitudes in whole bits, and the owner's integers.

A magnitude is the largest value seen on the samples, with two bits of margin, rounded up to a power of two. Scores
alone take one and a half: a histogram twice as long for half a bit is a bad bargain, and their spread has its own two
bits. The magnitudes are public functions of private weights; the threat model says what that reveals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from engine.errors import InputError
from engine.gates.softmax import SoftmaxRange
from engine.models.bert import BertRanges, BlockRange, HeadRange
from engine.models.checkpoint import Array, Checkpoint
from engine.models.layers import BIAS, EMBED, WEIGHT, F, W
from engine.models.shapes import BertShape
from engine.models.taps import Range, Ranges, measure
from engine.models.text import Tokenizer
from engine.parameters import Small, small_integers
from engine.variants import DEFAULT, Variants

__all__ = [
    "DEFAULT_BLOCK",
    "bound_bits",
    "calibrated",
    "default_ranges",
    "measured",
    "norm_magnitudes",
    "put_integers",
    "put_linear",
    "put_vectors",
    "quantise",
    "widened",
]

MARGIN = 2.0
SCORE_MARGIN = 1.5


def bound_bits(magnitude: float, margin: float = MARGIN) -> int:
    """log2 of the bound: `margin` bits above the magnitude, rounded up to whole bits."""
    return math.ceil(math.log2(max(magnitude, 2.0**-20)) + margin)


def norm_magnitudes(residual: float, seen: Range) -> tuple[int, int, int]:
    """(|y|, lowest and highest mean square) of a norm, from the residual and the range of its variance."""
    low = math.floor(math.log2(max(seen.low, 2.0**-24)) - MARGIN)
    return max(bound_bits(residual), 1), low, max(bound_bits(seen.high), low + 3)


def calibrated(checkpoint: Checkpoint, ranges: Ranges) -> BertRanges:
    """The public magnitudes of a model from the ranges observed on sample texts."""
    c = checkpoint.config
    blocks = tuple(_block(ranges, i) for i in range(c.layers))
    embedding = max(ranges.overall("embedding").magnitude, ranges.overall("embedding.centred").magnitude)
    tables = ("embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight")
    largest = max(embedding, *(float(np.abs(checkpoint.parameters[t]).max()) for t in tables))
    return BertRanges(norm_magnitudes(largest, ranges.overall("embedding.variance")), blocks, _head(checkpoint, ranges))


def _block(ranges: Ranges, i: int) -> BlockRange:
    def top(*names: str) -> float:
        return max(ranges.layer(name, i).magnitude for name in names)

    hidden = ranges.layer("embedding.hidden", 0) if i == 0 else ranges.layer("output.hidden", i - 1)
    first = max(hidden.magnitude, top("attention.residual", "attention.centred", "attention.dense"))
    second = top("attention.hidden", "output.residual", "output.centred", "down")
    softmax = SoftmaxRange(
        score=max(bound_bits(top("score") + 2, SCORE_MARGIN), 4),
        spread=max(bound_bits(top("rowspread") + 4), 5),
        product=max(bound_bits(top("softmax.product")), 1),
        o=max(bound_bits(top("context")), 1),
    )
    return BlockRange(
        softmax,
        v=max(bound_bits(top("query", "key", "value")), 1),
        up=max(bound_bits(top("up", "activation")), 3),
        attention=norm_magnitudes(first, ranges.layer("attention.variance", i)),
        output=norm_magnitudes(second, ranges.layer("output.variance", i)),
    )


def _head(checkpoint: Checkpoint, ranges: Ranges) -> HeadRange:
    last = ranges.layer("output.hidden", checkpoint.config.layers - 1).magnitude
    if checkpoint.head is None:
        return HeadRange(bound_bits(last))
    dense = bound_bits(max(ranges.overall("head.dense").magnitude, last))
    return HeadRange(max(bound_bits(ranges.overall("logits").magnitude), 2), max(dense, 4))


DEFAULT_BLOCK = BlockRange(
    SoftmaxRange(score=6, spread=7, product=8, o=4), v=4, up=5, attention=(6, -4, 6), output=(6, -4, 6)
)
"""The magnitudes of a well-behaved trained block (see docs/protocols.md)."""


def default_ranges(shape: BertShape) -> BertRanges:
    """Named defaults for bare shapes of encoders."""
    return BertRanges((4, -10, -2), (DEFAULT_BLOCK,) * shape.layers, HeadRange(out=5, dense=5))


def widened(ranges: BertRanges, classes: int = 1) -> BertRanges:
    """Every block as wide as the widest in each magnitude: one segment for all of them."""
    if classes != 1:
        raise InputError("blocks are widened to one class or left as they are")
    first, *others = ranges.blocks
    for b in others:
        first = _join(first, b)
    return replace(ranges, blocks=(first,) * len(ranges.blocks))


def _join(a: BlockRange, b: BlockRange) -> BlockRange:
    s, t = a.softmax, b.softmax
    softmax = SoftmaxRange(max(s.score, t.score), max(s.spread, t.spread), max(s.product, t.product), max(s.o, t.o))

    def norm(x: tuple[int, int, int], y: tuple[int, int, int]) -> tuple[int, int, int]:
        return max(x[0], y[0]), min(x[1], y[1]), max(x[2], y[2])

    return BlockRange(softmax, max(a.v, b.v), max(a.up, b.up), norm(a.attention, b.attention), norm(a.output, b.output))


# ---------------------------------------------------------------------- the owner's integers
def quantise(checkpoint: Checkpoint, variants: Variants = DEFAULT) -> dict[str, Small]:
    """The integers of every weight under the names that `engine.models.bert` declares, gains and biases folded.

    Columns of what multiplies a row before its norm (variants `before`) are centred in place of the row: n (W - 1 m^T)
    is n W, since the entries of n add up to 0."""
    p, c = checkpoint.parameters, checkpoint.config
    out: dict[str, Small] = {}
    e = "embeddings."
    put_integers(out, e + "words", p[e + "word_embeddings.weight"], EMBED, WEIGHT)
    places = p[e + "position_embeddings.weight"] + p[e + "token_type_embeddings.weight"][0]
    put_integers(out, e + "places", places, EMBED, WEIGHT)
    gain, shift = _affine(checkpoint, e + "LayerNorm")
    for i in range(c.layers):
        gain, shift = _block_integers(checkpoint, i, gain, shift, out, variants)
    if checkpoint.head is None:
        put_vectors(out, "head.hidden", gain, shift)
    else:
        h = checkpoint.head
        put_linear(out, "head.dense", h.dense_weight, h.dense_bias, gain, shift)
        put_linear(out, "head.classifier", h.weight, h.bias, np.ones(c.hidden), np.zeros(c.hidden))
    return out


def _block_integers(
    m: Checkpoint, i: int, gain: Array, shift: Array, out: dict[str, Small], variants: Variants
) -> tuple[Array, Array]:
    """Put the integers of block i, which reads n with (gain, shift); returns those of its output norm."""
    p, c, old, new = m.parameters, m.config, f"encoder.layer.{i}.", f"layer.{i}."
    for name, factor in (("query", c.head_dim**-0.5), ("key", 1.0), ("value", 1.0)):
        at, early = f"{old}attention.self.{name}", variants.scores == "before" and name != "value"
        put_linear(out, new + name, p[at + ".weight"] * factor, p[at + ".bias"] * factor, gain, shift, early)
    at = old + "attention.output.dense"
    put_integers(out, new + "dense.weight", p[at + ".weight"].T, W, WEIGHT)
    put_vectors(out, new + "attention", gain, shift + p[at + ".bias"])
    gain, shift = _affine(m, old + "attention.output.LayerNorm")
    at = old + "intermediate.dense"
    put_linear(out, new + "up", p[at + ".weight"], p[at + ".bias"], gain, shift, variants.up == "before")
    at = old + "output.dense"
    put_integers(out, new + "down.weight", p[at + ".weight"].T, W, WEIGHT)
    put_vectors(out, new + "output", gain, shift + p[at + ".bias"])
    return _affine(m, old + "output.LayerNorm")


def _affine(m: Checkpoint, name: str) -> tuple[Array, Array]:
    return m.parameters[name + ".weight"], m.parameters[name + ".bias"]


def put_linear(
    out: dict[str, Small], name: str, weight: Array, b: Array, gain: Array, shift: Array, centred: bool = False
) -> None:
    """(n gain + shift) W^T + b = n (gain W^T) + (shift W^T + b), the columns of the product's weight centred or not."""
    folded = gain[:, None] * weight.T
    put_integers(out, name + ".weight", folded - folded.mean(0) if centred else folded, W, WEIGHT)
    put_integers(out, name + ".bias", shift @ weight.T + b, F + W, BIAS)


def put_vectors(out: dict[str, Small], name: str, gain: Array, shift: Array) -> None:
    """A gain at scale W and a shift at scale F + W."""
    put_integers(out, name + ".gain", gain, W, WEIGHT)
    put_integers(out, name + ".shift", shift, F + W, BIAS)


def put_integers(out: dict[str, Small], name: str, a: Array, scale: int, bound: int) -> None:
    """round(a 2^scale), checked against the bound that the plan declares for every weight."""
    top = float(np.abs(a).max(initial=0.0)) * 2.0**scale
    if top >= bound:
        raise InputError(f"weight {name} reaches {top / 2.0**scale:.3g}, more than fixed point of scale {scale} holds")
    out[name] = small_integers(np.ascontiguousarray(np.rint(a * 2.0**scale).astype(np.int64)))


def measured(
    checkpoint: Checkpoint,
    texts: list[str],
    progress: Callable[[int, int], None] | None = None,
    *,
    cut: bool = False,
) -> Ranges:
    """The ranges of every tap over sample texts. One longer than the model takes is an InputError, or `cut` to fit."""
    tokenizer, ranges = Tokenizer(checkpoint), Ranges()
    for i, text in enumerate(texts):
        ranges.merge(measure(checkpoint, [tokenizer.encode(text, cut=cut)]))
        if progress is not None:
            progress(i + 1, len(texts))
    return ranges
