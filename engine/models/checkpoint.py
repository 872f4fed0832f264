"""A model in memory: shape, float64 parameters, tokenizer and what follows the encoder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError
from engine.models.shapes import SHAPES, BertShape, encoder_parameters, head_parameters

__all__ = ["Array", "Checkpoint", "ClassificationHead", "Pooling", "random_checkpoint", "read_only"]

Array = NDArray[np.float64]
Pooling = Literal["mean", "cls", "none"]


@dataclass(frozen=True, slots=True, eq=False)
class ClassificationHead:
    """logits = classifier(tanh(dense(first token))). Weights are (outputs, inputs)."""

    dense_weight: Array = field(repr=False)
    dense_bias: Array = field(repr=False)
    weight: Array = field(repr=False)
    bias: Array = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A BERT-family model under the plain BERT names of `encoder_parameters`, every array float64 and read-only.

    `parameters` holds the encoder alone. `tokenizer_json` is empty for a model without a tokenizer. At most one of
    `pooling` (a sentence embedding, of unit length if `normalize`) and `head` (a classifier, with one name per label)
    is there. The repr shows the shape and never a weight.
    """

    name: str
    config: BertShape
    parameters: Mapping[str, Array] = field(repr=False)
    tokenizer_json: str = field(default="", repr=False)
    pooling: Pooling = "none"
    normalize: bool = False
    head: ClassificationHead | None = None
    labels: tuple[str, ...] = ()


def read_only(arrays: Iterable[tuple[str, Array]]) -> Mapping[str, Array]:
    """The named arrays as a mapping in which neither names nor numbers can be changed."""
    named = dict(arrays)
    for array in named.values():
        array.flags.writeable = False
    return MappingProxyType(named)


# Standard deviation of a dense layer's output for inputs of mean square 1. Query and key make scores spread over
# 6 to 12 nats in a row of 128, the inputs of the activation stay within about +-8, and a residual is a hidden state
# of about 1 plus a branch well below it, as in a trained model.
_OUTPUT_STD = {
    "query": 1.2,
    "key": 1.2,
    "value": 0.8,
    "attention.output.dense": 0.8,
    "intermediate.dense": 1.2,
    "output.dense": 0.6,
    "pooler.dense": 1.0,
    "classifier": 2.0,
}
_EMBEDDING_STD = 0.6
_BIAS_STD = 0.1


def random_checkpoint(shape: BertShape | str, seed: int, *, pooling: Pooling = "none") -> Checkpoint:
    """A model of that shape (or of that name in SHAPES) with random weights that behave like trained ones.

    The same seed gives the same weights. There is no tokenizer; a shape with labels gets a classification head.
    Raises InputError for an unknown name, or for pooling beside a head.
    """
    name, shape = (shape, _named(shape)) if isinstance(shape, str) else ("random", shape)
    if shape.labels and pooling != "none":
        raise InputError("a random model has either a classification head or pooling, not both")
    rng = np.random.default_rng(seed)
    encoder = read_only((name, _draw(rng, name, size)) for name, size in encoder_parameters(shape))
    head = read_only((name, _draw(rng, name, size)) for name, size in head_parameters(shape))
    return Checkpoint(
        name=f"{name} (random weights, seed {seed})",
        config=shape,
        parameters=encoder,
        pooling=pooling,
        normalize=pooling != "none",
        head=ClassificationHead(*head.values()) if head else None,
        labels=tuple(f"LABEL_{i}" for i in range(shape.labels)),
    )


def _named(name: str) -> BertShape:
    if name not in SHAPES:
        raise InputError(f"no model shape is called {name!r} (there are: {', '.join(SHAPES)})")
    return SHAPES[name]


def _draw(rng: np.random.Generator, name: str, size: tuple[int, ...]) -> Array:
    layer, kind = name.rsplit(".", 1)
    if layer.endswith("LayerNorm"):
        return rng.uniform(0.6, 1.4, size) if kind == "weight" else rng.normal(0, _BIAS_STD, size)
    if layer.startswith("embeddings."):
        return rng.normal(0, _EMBEDDING_STD, size)
    if kind == "bias":
        return rng.normal(0, _BIAS_STD, size)
    return rng.normal(0, _output_std(layer) / math.sqrt(size[1]), size)


def _output_std(layer: str) -> float:
    # The longest suffix: "attention.output.dense" also ends in "output.dense".
    return _OUTPUT_STD[max((suffix for suffix in _OUTPUT_STD if layer.endswith(suffix)), key=len)]
