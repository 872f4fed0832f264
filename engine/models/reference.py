"""The float64 forward pass that the secure model is measured against, with taps on every value that needs a bound.

An observer `tap(name, layer, array)` is called with (n tokens, D hidden, F intermediate, H heads):

    name                              array        what
    embedding                         (n, D)       word + position + token type, before its LayerNorm
    attention.residual                (n, D)       hidden state + attention branch, before its LayerNorm
    output.residual                   (n, D)       hidden state + feed-forward branch, before its LayerNorm
    {embedding,attention,output}.centred    (n, D) residual minus its row's mean
    {embedding,attention,output}.variance   (n, 1) mean square of the centred row, without eps
    {embedding,attention,output}.n          (n, D) normalised, before gain and bias
    {embedding,attention,output}.hidden     (n, D) after gain and bias
    query                             (H, n, D/H)  already divided by sqrt(D/H)
    key, value                        (H, n, D/H)
    score                             (H, n, n)    query key^T
    rowmax, rowspread                 (H, n, 1)    of a row of scores: the largest; largest minus smallest
    softmax.sum                       (H, n, 1)    sum of exp(score - rowmax)
    softmax.product                   (H, n, D/H)  exp(score - rowmax) value, before the division
    context                           (n, D)       attention output o, heads side by side
    attention.dense                   (n, D)       the projection of o: what joins the hidden state
    up, activation                    (n, F)       before and after the activation function
    down                              (n, D)       the second dense layer: what joins the hidden state
    pooled                            (D,)         sentence embedding before its normalisation
    head.dense, head.tanh             (D,)         pooler of the classification head before and after tanh
    logits                            (labels,)

Layers count from 0; what stands before the layers or after them is called with layer 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError
from engine.models.activations import activation
from engine.models.checkpoint import Array, Checkpoint

__all__ = ["Tap", "TokenIds", "answer", "classify", "embed", "forward"]

Tap = Callable[[str, int, Array], None]
TokenIds = Sequence[int] | NDArray[np.int64]


def forward(checkpoint: Checkpoint, ids: TokenIds, tap: Tap | None = None) -> Array:
    """Last hidden states (n, D) of one sequence of n token ids, 1 <= n <= max_positions. Raises InputError."""
    array, tap = _checked(checkpoint, ids), tap or _ignore
    with np.errstate(over="ignore", invalid="ignore"):
        x = _embedding(checkpoint, array, tap)
        for layer in range(checkpoint.config.layers):
            x = _block(checkpoint, layer, x, tap)
    if not np.isfinite(x).all():
        raise InputError(f"the weights of {checkpoint.name} overflow: its hidden states are not finite")
    return x


def embed(checkpoint: Checkpoint, ids: TokenIds, tap: Tap | None = None) -> Array:
    """Sentence embedding (D,), of unit length if the model says so. Raises InputError for a model without pooling."""
    if checkpoint.pooling == "none":
        raise InputError(f"{checkpoint.name} has no pooling, so it gives no sentence embedding")
    hidden = forward(checkpoint, ids, tap)
    pooled: Array = hidden.mean(0) if checkpoint.pooling == "mean" else hidden[0]
    (tap or _ignore)("pooled", 0, pooled)
    # The floor keeps a zero embedding from becoming NaN.
    return pooled / max(float(np.linalg.norm(pooled)), 1e-12) if checkpoint.normalize else pooled


def classify(checkpoint: Checkpoint, ids: TokenIds, tap: Tap | None = None) -> Array:
    """Logits (labels,). Raises InputError for a model without a classification head."""
    head, tap = checkpoint.head, tap or _ignore
    if head is None:
        raise InputError(f"{checkpoint.name} has no classification head")
    dense = head.dense_weight @ forward(checkpoint, ids, tap)[0] + head.dense_bias
    tap("head.dense", 0, dense)
    first = np.tanh(dense)
    tap("head.tanh", 0, first)
    logits: Array = head.weight @ first + head.bias
    tap("logits", 0, logits)
    return logits


def answer(checkpoint: Checkpoint, ids: TokenIds, tap: Tap | None = None) -> Array:
    """What the model is for: logits with a head, else a sentence embedding with pooling, else the hidden states."""
    if checkpoint.head is not None:
        return classify(checkpoint, ids, tap)
    return (forward if checkpoint.pooling == "none" else embed)(checkpoint, ids, tap)


def _checked(checkpoint: Checkpoint, ids: TokenIds) -> NDArray[np.int64]:
    array, shape = np.asarray(ids), checkpoint.config
    if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        raise InputError("token ids must be a sequence of one or more integers")
    if len(array) > shape.max_positions:
        raise InputError(
            f"{len(array)} tokens are too many for {checkpoint.name}: it has {shape.max_positions} positions"
        )
    # The ids are the prompt: the message must not quote them.
    if array.min() < 0 or array.max() >= shape.vocab:
        raise InputError(f"a token id lies outside the vocabulary of {checkpoint.name} (0 to {shape.vocab - 1})")
    return array.astype(np.int64)


def _embedding(checkpoint: Checkpoint, ids: NDArray[np.int64], tap: Tap) -> Array:
    p = checkpoint.parameters
    x = p["embeddings.word_embeddings.weight"][ids]  # (n, D)
    x = x + p["embeddings.position_embeddings.weight"][: len(ids)]
    x = x + p["embeddings.token_type_embeddings.weight"][0]
    tap("embedding", 0, x)
    return _layer_norm(checkpoint, "embeddings.LayerNorm", x, "embedding", 0, tap)


def _block(checkpoint: Checkpoint, layer: int, x: Array, tap: Tap) -> Array:
    prefix = f"encoder.layer.{layer}."
    x = x + _attention(checkpoint, layer, x, tap)
    tap("attention.residual", layer, x)
    x = _layer_norm(checkpoint, prefix + "attention.output.LayerNorm", x, "attention", layer, tap)
    x = x + _feed_forward(checkpoint, layer, x, tap)
    tap("output.residual", layer, x)
    return _layer_norm(checkpoint, prefix + "output.LayerNorm", x, "output", layer, tap)


def _attention(checkpoint: Checkpoint, layer: int, x: Array, tap: Tap) -> Array:
    shape, prefix = checkpoint.config, f"encoder.layer.{layer}.attention."
    q, k, v = (_heads(_dense(checkpoint, f"{prefix}self.{name}", x), shape.heads) for name in ("query", "key", "value"))
    q = q / math.sqrt(shape.head_dim)
    for name, array in (("query", q), ("key", k), ("value", v)):
        tap(name, layer, array)
    o = _softmax_times(q @ k.transpose(0, 2, 1), v, layer, tap)  # (H, n, D/H)
    context = o.transpose(1, 0, 2).reshape(x.shape)
    tap("context", layer, context)
    dense = _dense(checkpoint, prefix + "output.dense", context)
    tap("attention.dense", layer, dense)
    return dense


def _heads(x: Array, heads: int) -> Array:
    """(n, D) to (H, n, D/H)."""
    return x.reshape(len(x), heads, -1).transpose(1, 0, 2)


def _softmax_times(score: Array, v: Array, layer: int, tap: Tap) -> Array:
    """softmax(score) v, divided last as the protocol does."""
    tap("score", layer, score)
    largest = score.max(-1, keepdims=True)
    tap("rowmax", layer, largest)
    tap("rowspread", layer, largest - score.min(-1, keepdims=True))
    e = np.exp(score - largest)  # (H, n, n)
    total = e.sum(-1, keepdims=True)
    tap("softmax.sum", layer, total)
    product = e @ v
    tap("softmax.product", layer, product)
    o: Array = product / total
    return o


def _feed_forward(checkpoint: Checkpoint, layer: int, x: Array, tap: Tap) -> Array:
    prefix = f"encoder.layer.{layer}."
    up = _dense(checkpoint, prefix + "intermediate.dense", x)  # (n, F)
    tap("up", layer, up)
    active = activation(checkpoint.config.activation)(up)
    tap("activation", layer, active)
    down = _dense(checkpoint, prefix + "output.dense", active)  # (n, D)
    tap("down", layer, down)
    return down


def _dense(checkpoint: Checkpoint, name: str, x: Array) -> Array:
    y: Array = x @ checkpoint.parameters[f"{name}.weight"].T + checkpoint.parameters[f"{name}.bias"]
    return y


def _layer_norm(checkpoint: Checkpoint, name: str, x: Array, place: str, layer: int, tap: Tap) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    tap(f"{place}.centred", layer, centred)
    variance = np.square(centred).mean(-1, keepdims=True)
    tap(f"{place}.variance", layer, variance)
    n = centred / np.sqrt(variance + checkpoint.config.eps)
    tap(f"{place}.n", layer, n)
    hidden: Array = n * checkpoint.parameters[f"{name}.weight"] + checkpoint.parameters[f"{name}.bias"]
    tap(f"{place}.hidden", layer, hidden)
    return hidden


def _ignore(name: str, layer: int, array: Array) -> None:
    """The tap that nobody listens to."""
