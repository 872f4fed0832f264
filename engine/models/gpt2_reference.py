"""GPT-2 in float64: a checkpoint in memory, seeded random weights, and the forward pass with taps.

Taps are called with (name, layer, array), names as in `reference` where they mean the same: embedding; per layer
attention.{residual,centred,variance} (the stream before the first norm), query (divided by sqrt(dh)), key, value,
score, rowspread, softmax.product, context, attention.dense, output.{residual,centred,variance} (before the second
norm), up, activation, down; then head.{residual,centred,variance}, hidden, logits. Of scores only the triangle exists.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError
from engine.models.activations import activation
from engine.models.checkpoint import Array, read_only
from engine.models.gpt2 import Gpt2Shape
from engine.models.reference import Tap, TokenIds

__all__ = ["Gpt2Checkpoint", "embed_tokens", "gpt2_forward", "gpt2_logits", "gpt2_parameters", "random_gpt2"]


@dataclass(frozen=True, slots=True, eq=False)
class Gpt2Checkpoint:
    """A model under the names that GPT-2 files use; a matrix is (inputs, outputs), as there.

    Without `lm_head.weight` (vocab, D) the head is tied to the table of embeddings."""

    name: str
    config: Gpt2Shape
    parameters: Mapping[str, Array] = field(repr=False)

    @property
    def head(self) -> Array:
        """(vocab, D)."""
        return self.parameters.get("lm_head.weight", self.parameters["wte.weight"])

    def centred(self) -> Gpt2Checkpoint:
        """The same function of its tokens: rows of the stream have no mean, which every norm takes away, since nothing
        that joins them has one."""
        joins = re.compile(r"w[tp]e\.weight|h\.\d+\.(attn|mlp)\.c_proj\.(weight|bias)")
        less = {n: a - a.mean(-1, keepdims=True) for n, a in self.parameters.items() if joins.fullmatch(n)}
        rows = {**self.parameters, **less, "lm_head.weight": self.head}
        return Gpt2Checkpoint(self.name, self.config, read_only(rows.items()))


def gpt2_parameters(shape: Gpt2Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every array, in order of use."""
    d, f = shape.hidden, shape.intermediate
    yield "wte.weight", (shape.vocab, d)
    yield "wpe.weight", (shape.max_positions, d)
    for i in range(shape.layers):
        sizes = {"ln_1": (d,), "attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d), "ln_2": (d,), "mlp.c_fc": (d, f),
                 "mlp.c_proj": (f, d)}  # fmt: skip
        for name, size in sizes.items():
            yield f"h.{i}.{name}.weight", size
            yield f"h.{i}.{name}.bias", size[-1:]
    yield "ln_f.weight", (d,)
    yield "ln_f.bias", (d,)


# Standard deviation of a layer's output for inputs of mean square 1: scores spread over 6 to 12 nats in a row of 128,
# inputs of the activation stay within about +-8, and the stream grows from block to block, as in a trained model.
_OUTPUT_STD = {"attn.c_attn": 1.1, "attn.c_proj": 0.6, "mlp.c_fc": 1.2, "mlp.c_proj": 0.6}
_EMBEDDING_STD, _BIAS_STD = 0.5, 0.1


def random_gpt2(shape: Gpt2Shape, seed: int, name: str = "random") -> Gpt2Checkpoint:
    """A model with random weights that behave like trained ones. The same seed gives the same weights."""
    rng = np.random.default_rng(seed)
    drawn = read_only((n, _draw(rng, n, size)) for n, size in gpt2_parameters(shape))
    return Gpt2Checkpoint(f"{name} (random weights, seed {seed})", shape, drawn)


def _draw(rng: np.random.Generator, name: str, size: tuple[int, ...]) -> Array:
    layer, kind = name.rsplit(".", 1)
    if ".ln_" in f".{layer}":
        return rng.uniform(0.6, 1.4, size) if kind == "weight" else rng.normal(0, _BIAS_STD, size)
    if layer in ("wte", "wpe"):
        return rng.normal(0, _EMBEDDING_STD, size)
    if kind == "bias":
        return rng.normal(0, _BIAS_STD, size)
    return rng.normal(0, _OUTPUT_STD[layer.split(".", 2)[2]] / math.sqrt(size[0]), size)


# ---------------------------------------------------------------------- forward
def embed_tokens(m: Gpt2Checkpoint, ids: TokenIds) -> Array:
    """Words plus positions (n, D). Raises InputError."""
    array = np.asarray(ids)
    if array.ndim != 1 or not 1 <= array.size <= m.config.max_positions or array.dtype.kind not in "iu":
        raise InputError(f"{m.name} takes 1 to {m.config.max_positions} token ids")
    if array.min() < 0 or array.max() >= m.config.vocab:
        raise InputError(f"a token id lies outside the vocabulary of {m.name} (0 to {m.config.vocab - 1})")
    x: Array = m.parameters["wte.weight"][array] + m.parameters["wpe.weight"][: len(array)]
    return x


def gpt2_forward(m: Gpt2Checkpoint, ids: TokenIds, tap: Tap | None = None) -> Array:
    """Last hidden states (n, D), after the last norm. Raises InputError."""
    tap = tap or _ignore
    x = embed_tokens(m, ids)
    tap("embedding", 0, x)
    for i in range(m.config.layers):
        x = x + _attention(m, i, _layer_norm(m, f"h.{i}.ln_1", x, "attention", i, tap), tap)
        x = x + _feed_forward(m, i, _layer_norm(m, f"h.{i}.ln_2", x, "output", i, tap), tap)
    hidden = _layer_norm(m, "ln_f", x, "head", 0, tap)
    tap("hidden", 0, hidden)
    return hidden


def gpt2_logits(m: Gpt2Checkpoint, ids: TokenIds, tap: Tap | None = None) -> Array:
    """Logits (vocab,) of the token after the last. Raises InputError."""
    logits: Array = m.head @ gpt2_forward(m, ids, tap)[-1]
    (tap or _ignore)("logits", 0, logits)
    return logits


def _attention(m: Gpt2Checkpoint, i: int, n: Array, tap: Tap) -> Array:
    shape = m.config
    q, k, v = (
        part.reshape(len(n), shape.heads, shape.head_dim).transpose(1, 0, 2)  # (H, n, dh)
        for part in np.split(_dense(m, f"h.{i}.attn.c_attn", n), 3, axis=-1)
    )
    q = q / math.sqrt(shape.head_dim)
    for name, array in (("query", q), ("key", k), ("value", v)):
        tap(name, i, array)
    o = _causal(q @ k.transpose(0, 2, 1), v, i, tap)
    context = o.transpose(1, 0, 2).reshape(n.shape)
    tap("context", i, context)
    dense = _dense(m, f"h.{i}.attn.c_proj", context)
    tap("attention.dense", i, dense)
    return dense


def _causal(score: Array, v: Array, i: int, tap: Tap) -> Array:
    below = np.tril(np.ones(score.shape[-2:], bool))
    tap("score", i, score[:, below])
    largest = np.where(below, score, -np.inf).max(-1, keepdims=True)
    tap("rowspread", i, largest - np.where(below, score, np.inf).min(-1, keepdims=True))
    e = np.where(below, np.exp(np.where(below, score - largest, 0.0)), 0.0)
    product = e @ v
    tap("softmax.product", i, product)
    o: Array = product / e.sum(-1, keepdims=True)
    return o


def _feed_forward(m: Gpt2Checkpoint, i: int, n: Array, tap: Tap) -> Array:
    up = _dense(m, f"h.{i}.mlp.c_fc", n)
    tap("up", i, up)
    active = activation("gelu_new")(up)
    tap("activation", i, active)
    down = _dense(m, f"h.{i}.mlp.c_proj", active)
    tap("down", i, down)
    return down


def _dense(m: Gpt2Checkpoint, name: str, x: Array) -> Array:
    y: Array = x @ m.parameters[f"{name}.weight"] + m.parameters[f"{name}.bias"]
    return y


def _layer_norm(m: Gpt2Checkpoint, name: str, x: Array, place: str, layer: int, tap: Tap) -> Array:
    tap(f"{place}.residual", layer, x)
    centred = x - x.mean(-1, keepdims=True)
    tap(f"{place}.centred", layer, centred)
    variance = np.square(centred).mean(-1, keepdims=True)
    tap(f"{place}.variance", layer, variance)
    n: Array = centred / np.sqrt(variance + m.config.eps)
    return n * m.parameters[f"{name}.weight"] + m.parameters[f"{name}.bias"]


def _ignore(name: str, layer: int, array: NDArray[np.float64]) -> None:
    """The tap that nobody listens to."""
