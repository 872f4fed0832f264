"""What a BERT-family encoder looks like: its sizes, and the name and shape of every array that it holds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from engine.errors import InputError

__all__ = ["ACTIVATIONS", "SHAPES", "BertShape", "encoder_parameters", "head_parameters"]

ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu", "tanh")

_SIZES = ("layers", "heads", "hidden", "intermediate", "vocab", "max_positions", "type_vocab")


@dataclass(frozen=True, slots=True)
class BertShape:
    """The sizes of an encoder. `max_positions` counts usable positions; `labels` is 0 without a classification head.

    Raises InputError for a size below 1, heads that do not divide hidden, an eps that is not a small positive number
    or an unknown activation.
    """

    layers: int
    heads: int
    hidden: int
    intermediate: int
    vocab: int
    max_positions: int
    type_vocab: int = 2
    eps: float = 1e-12
    activation: str = "gelu"
    labels: int = 0

    def __post_init__(self) -> None:
        for name in _SIZES:
            if getattr(self, name) < 1:
                raise InputError(f"an encoder needs {name} >= 1, not {getattr(self, name)}")
        if self.hidden % self.heads:
            raise InputError(f"hidden size {self.hidden} is not a multiple of {self.heads} attention heads")
        if not (math.isfinite(self.eps) and 0 < self.eps < 1):
            raise InputError(f"the layer-norm eps must lie between 0 and 1, not {self.eps}")
        if self.activation not in ACTIVATIONS:
            raise InputError(f"activation {self.activation!r} is not supported (supported: {', '.join(ACTIVATIONS)})")
        if self.labels < 0:
            raise InputError(f"a model cannot have {self.labels} labels")

    @property
    def head_dim(self) -> int:
        """Columns of one attention head."""
        return self.hidden // self.heads


SHAPES = {
    "bert-tiny": BertShape(2, 2, 128, 512, 30522, 512),
    "bert-base": BertShape(12, 12, 768, 3072, 30522, 512),
    "bert-large": BertShape(24, 16, 1024, 4096, 30522, 512),
    "minilm": BertShape(6, 12, 384, 1536, 30522, 512),
}


def encoder_parameters(shape: BertShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every array of the encoder, in order of use. A dense weight is (outputs, inputs)."""
    h = shape.hidden
    yield "embeddings.word_embeddings.weight", (shape.vocab, h)
    yield "embeddings.position_embeddings.weight", (shape.max_positions, h)
    yield "embeddings.token_type_embeddings.weight", (shape.type_vocab, h)
    yield from _norm("embeddings.LayerNorm", h)
    for layer in range(shape.layers):
        prefix = f"encoder.layer.{layer}."
        for name in ("query", "key", "value"):
            yield from _dense(f"{prefix}attention.self.{name}", h, h)
        yield from _dense(f"{prefix}attention.output.dense", h, h)
        yield from _norm(f"{prefix}attention.output.LayerNorm", h)
        yield from _dense(f"{prefix}intermediate.dense", shape.intermediate, h)
        yield from _dense(f"{prefix}output.dense", h, shape.intermediate)
        yield from _norm(f"{prefix}output.LayerNorm", h)


def head_parameters(shape: BertShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of the arrays of the classification head; nothing where the shape has no labels."""
    if shape.labels:
        yield from _dense("pooler.dense", shape.hidden, shape.hidden)
        yield from _dense("classifier", shape.labels, shape.hidden)


def _dense(name: str, outputs: int, inputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)
