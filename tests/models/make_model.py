"""Small Hugging Face folders for tests: a few layers, random weights, a word-level tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from engine.models.checkpoint import random_checkpoint
from engine.models.shapes import BertShape, encoder_parameters, head_parameters

__all__ = ["SMALL", "config_of", "edit_json", "random_tensors", "write_model", "write_safetensors"]

WORDS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "red", "blue", "cat", "dog", "sat", "ran", "on", "the", "mat")
SMALL = BertShape(layers=2, heads=2, hidden=8, intermediate=12, vocab=len(WORDS), max_positions=16)


def config_of(shape: BertShape, architecture: str = "BertModel", **changes: Any) -> dict[str, Any]:
    """A config.json of that shape; a change to None leaves the key out."""
    config: dict[str, Any] = {
        "architectures": [architecture],
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.max_positions,
        "type_vocab_size": shape.type_vocab,
        "layer_norm_eps": shape.eps,
        "hidden_act": shape.activation,
        "position_embedding_type": "absolute",
    }
    if shape.labels:
        config["id2label"] = {str(i): f"label {i}" for i in range(shape.labels)}
    return {key: value for key, value in (config | changes).items() if value is not None}


def random_tensors(shape: BertShape, seed: int = 0) -> dict[str, NDArray[Any]]:
    """float32 tensors under plain BERT names, head included."""
    made = random_checkpoint(shape, seed)
    tensors = dict(made.parameters)
    if made.head is not None:
        head = (made.head.dense_weight, made.head.dense_bias, made.head.weight, made.head.bias)
        tensors |= {name: array for (name, _), array in zip(head_parameters(shape), head, strict=True)}
    assert set(tensors) == {name for names in (encoder_parameters, head_parameters) for name, _ in names(shape)}
    return {name: array.astype(np.float32) for name, array in tensors.items()}


def tokenizer_json() -> str:
    """[CLS] words [SEP], one id a word."""
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    # As many published files do: both have to be switched off by whoever wants whole texts.
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=6)
    return tokenizer.to_str()


def write_model(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    *,
    pooling: str | None = None,
    modules: tuple[str, ...] | None = None,
) -> Path:
    """A folder with these; `pooling` is the one true key of 1_Pooling/config.json, `modules` their names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(tokenizer_json())
    save_file(dict(tensors), folder / "model.safetensors")
    if pooling is not None:
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": False, pooling: True}))
    if modules is not None:
        listed = [{"idx": i, "type": f"sentence_transformers.models.{name}"} for i, name in enumerate(modules)]
        (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Sets keys of a JSON file; None takes the key out."""
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    """Tensors given as (dtype, shape, little-endian bytes): for types that NumPy does not have."""
    header: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + len(data)]}
        end += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data for _, _, data in tensors.values()))
