"""From a GPT-2 checkpoint to what a plan needs: public magnitudes in whole bits, and the owner's integers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from engine.gates.softmax import SoftmaxRange
from engine.models.bert import BlockRange
from engine.models.calibrate import (
    DEFAULT_BLOCK,
    SCORE_MARGIN,
    bound_bits,
    norm_magnitudes,
    put_integers,
    put_linear,
    put_vectors,
)
from engine.models.checkpoint import Array
from engine.models.gpt2 import Gpt2Ranges, Gpt2Shape
from engine.models.gpt2_reference import Gpt2Checkpoint, gpt2_logits
from engine.models.layers import EMBED, WEIGHT
from engine.models.reference import TokenIds
from engine.models.taps import Ranges
from engine.parameters import Small
from engine.variants import DEFAULT, Variants

__all__ = ["calibrated_gpt2", "default_gpt2_ranges", "measured_gpt2", "quantise_gpt2"]


def measured_gpt2(m: Gpt2Checkpoint, sequences: Iterable[TokenIds]) -> Ranges:
    """The ranges of every tap over token sequences, of the centred model."""
    ranges, centred = Ranges(), m.centred()
    for ids in sequences:
        gpt2_logits(centred, ids, ranges)
    return ranges


def default_gpt2_ranges(shape: Gpt2Shape) -> Gpt2Ranges:
    """Named defaults for bare shapes of decoders: blocks as those of encoders."""
    return Gpt2Ranges((DEFAULT_BLOCK,) * shape.layers, DEFAULT_BLOCK.output, 5)


def calibrated_gpt2(m: Gpt2Checkpoint, ranges: Ranges, head: str) -> Gpt2Ranges:
    """The public magnitudes of a model from what was observed, for the head 'logits' or 'hidden'."""
    blocks = tuple(_block(ranges, i) for i in range(m.config.layers))
    largest = max(ranges.overall(f"head.{what}").magnitude for what in ("residual", "centred"))
    norm = norm_magnitudes(max(largest, ranges.layer("down", m.config.layers - 1).magnitude),
                           ranges.overall("head.variance"))  # fmt: skip
    return Gpt2Ranges(blocks, norm, max(bound_bits(ranges.overall(head).magnitude), 2))


def _block(ranges: Ranges, i: int) -> BlockRange:
    def top(*names: str) -> float:
        return max(ranges.layer(name, i).magnitude for name in names)

    # The integers of an embedding are checked against the first norm's bound; a branch against the one that it joins.
    before = ranges.overall("embedding").magnitude if i == 0 else ranges.layer("down", i - 1).magnitude
    softmax = SoftmaxRange(
        score=max(bound_bits(top("score") + 2, SCORE_MARGIN), 4),
        spread=max(bound_bits(top("rowspread") + 4), 5),
        product=max(bound_bits(top("softmax.product")), 1),
        o=max(bound_bits(top("context")), 1),
    )
    attention = max(before, top("attention.residual", "attention.centred"))
    output = top("output.residual", "output.centred", "attention.dense")
    return BlockRange(
        softmax,
        v=max(bound_bits(top("query", "key", "value")), 1),
        up=max(bound_bits(top("up", "activation")), 3),
        attention=norm_magnitudes(attention, ranges.layer("attention.variance", i)),
        output=norm_magnitudes(output, ranges.layer("output.variance", i)),
    )


# ---------------------------------------------------------------------- the owner's integers
def quantise_gpt2(m: Gpt2Checkpoint, variants: Variants = DEFAULT) -> dict[str, Small]:
    """The integers of every weight of the centred model under the names that `engine.models.gpt2` declares, gains and
    biases folded; columns centred as in `quantise`, where they multiply a row before its norm."""
    m = m.centred()
    p, out = m.parameters, dict[str, Small]()
    put_integers(out, "embeddings.words", p["wte.weight"], EMBED, WEIGHT)
    put_integers(out, "embeddings.places", p["wpe.weight"], EMBED, WEIGHT)
    for i in range(m.config.layers):
        _block_integers(m, i, out, variants)
    gain, shift = _affine(m, "ln_f")
    put_vectors(out, "head.hidden", gain, shift)
    put_linear(out, "head.logits", m.head, np.zeros(m.config.vocab), gain, shift)
    return out


def _block_integers(m: Gpt2Checkpoint, i: int, out: dict[str, Small], variants: Variants) -> None:
    p, old, new = m.parameters, f"h.{i}.", f"layer.{i}."
    weights = np.split(p[old + "attn.c_attn.weight"], 3, axis=-1)
    biases = np.split(p[old + "attn.c_attn.bias"], 3)
    factors = (m.config.head_dim**-0.5, 1.0, 1.0)
    for name, w, b, factor in zip(("query", "key", "value"), weights, biases, factors, strict=True):
        early = variants.scores == "before" and name != "value"
        put_linear(out, new + name, w.T * factor, b * factor, *_affine(m, old + "ln_1"), early)
    up = (p[f"{old}mlp.c_fc.{part}"] for part in ("weight", "bias"))
    put_linear(out, new + "up", next(up).T, next(up), *_affine(m, old + "ln_2"), variants.up == "before")
    for name, at in (("dense", "attn.c_proj"), ("down", "mlp.c_proj")):
        w = p[f"{old}{at}.weight"]
        put_linear(out, new + name, w.T, p[f"{old}{at}.bias"], np.ones(len(w)), np.zeros(len(w)))


def _affine(m: Gpt2Checkpoint, name: str) -> tuple[Array, Array]:
    return m.parameters[f"{name}.weight"], m.parameters[f"{name}.bias"]
