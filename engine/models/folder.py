"""The JSON files of a Hugging Face or sentence-transformers model folder, read into checked values."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.models.checkpoint import Pooling
from engine.models.shapes import ACTIVATIONS, BertShape

__all__ = ["Architecture", "ModelConfig", "read_bytes", "read_config", "read_pooling", "read_text"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """A family of names: the prefix of its tensors, whether it classifies, whether its positions are offset."""

    prefix: str
    classifies: bool = False
    offset_positions: bool = False


# Language-model heads are left aside: what is run is the encoder.
_ARCHITECTURES = {
    "BertModel": Architecture("bert."),
    "BertForMaskedLM": Architecture("bert."),
    "BertForSequenceClassification": Architecture("bert.", classifies=True),
    "RobertaModel": Architecture("roberta.", offset_positions=True),
    "RobertaForMaskedLM": Architecture("roberta.", offset_positions=True),
    "RobertaForSequenceClassification": Architecture("roberta.", classifies=True, offset_positions=True),
}
_POOLING_MODES: dict[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_MODULES = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """config.json, checked. `first_position` is the row of the position table that the first token uses."""

    architecture: Architecture
    shape: BertShape
    first_position: int
    labels: tuple[str, ...]


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises InputError for a missing or unreadable one."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def read_text(path: Path) -> str:
    """A file's content as UTF-8. Raises InputError."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})") from error


def read_config(path: Path) -> ModelConfig:
    """A model's config.json. Raises InputError naming the file and the key for whatever is missing or not supported."""
    config = _Object.read(path)
    architecture = _architecture(config)
    _refuse_variants(config)
    labels = _labels(config) if architecture.classifies else ()
    # RoBERTa counts positions from the padding id + 1: the rows before that belong to no token.
    first = config.integer("pad_token_id", least=0) + 1 if architecture.offset_positions else 0
    if first >= config.integer("max_position_embeddings"):
        raise InputError(f"{path}: pad_token_id leaves no positions")
    return ModelConfig(architecture, _shape(config, first, len(labels)), first, labels)


def read_pooling(folder: Path, config: ModelConfig) -> tuple[Pooling, bool]:
    """Pooling, and whether the embedding is normalised, from modules.json and 1_Pooling/config.json where present.

    A classifier has neither. Raises InputError for other modules and other ways of pooling.
    """
    if config.labels:
        return "none", False
    modules = folder / "modules.json"
    if modules.exists():
        kinds = _module_kinds(modules)
        return (_pooling_mode(folder), "Normalize" in kinds) if "Pooling" in kinds else ("none", False)
    return (_pooling_mode(folder) if (folder / "1_Pooling").exists() else "none"), False


@dataclass(frozen=True, slots=True)
class _Object:
    """A JSON object of a file; what is wrong with a key is said with the file's path."""

    path: Path
    values: dict[str, Any]

    @staticmethod
    def read(path: Path) -> _Object:
        values = _read_json(path)
        if not isinstance(values, dict):
            raise InputError(f"{path} must hold a JSON object")
        return _Object(path, values)

    def get(self, key: str) -> Any:
        if key not in self.values:
            raise InputError(f"{self.path} has no {key}")
        return self.values[key]

    def integer(self, key: str, least: int = 1, most: int = 2**31) -> int:
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise InputError(f"{self.path}: {key} must be an integer from {least} to {most}, not {value!r:.60}")
        return value

    def number(self, key: str) -> float:
        value = self.get(key)
        # An integer may be too large for a float: compared before it is converted.
        if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > sys.float_info.max:
            raise InputError(f"{self.path}: {key} must be a finite number, not {value!r:.60}")
        return float(value)


def _read_json(path: Path) -> Any:
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON: {error.msg} (line {error.lineno})") from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path} is not usable JSON: nested too deeply, or a number is too long") from error


def _architecture(config: _Object) -> Architecture:
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else names
    if not isinstance(name, str) or name not in _ARCHITECTURES:
        supported = ", ".join(_ARCHITECTURES)
        raise InputError(f"{config.path}: architecture {name!r:.60} is not supported (supported: {supported})")
    return _ARCHITECTURES[name]


def _refuse_variants(config: _Object) -> None:
    position = config.values.get("position_embedding_type", "absolute")
    if position != "absolute":
        raise InputError(f"{config.path}: position_embedding_type {position!r:.60} is not supported, only 'absolute'")
    for key in ("is_decoder", "add_cross_attention"):
        if config.values.get(key):
            raise InputError(f"{config.path}: {key} is set, but only encoders are supported")


def _labels(config: _Object) -> tuple[str, ...]:
    named = config.values.get("id2label")
    if named is None:
        # The format leaves out both keys for its default of two labels.
        count = config.integer("num_labels", most=2**20) if "num_labels" in config.values else 2
        return tuple(f"LABEL_{i}" for i in range(count))
    ids = [str(i) for i in range(len(named))] if isinstance(named, dict) else []
    if not ids or set(named) != set(ids) or not all(isinstance(label, str) for label in named.values()):
        raise InputError(f"{config.path}: id2label must give a name to each of the labels 0, 1, ...")
    return tuple(named[i] for i in ids)


def _shape(config: _Object, first_position: int, labels: int) -> BertShape:
    act = config.get("hidden_act")
    if act not in ACTIVATIONS:
        raise InputError(f"{config.path}: hidden_act {act!r:.60} is not one of {', '.join(ACTIVATIONS)}")
    try:
        return BertShape(
            layers=config.integer("num_hidden_layers"),
            heads=config.integer("num_attention_heads"),
            hidden=config.integer("hidden_size"),
            intermediate=config.integer("intermediate_size"),
            vocab=config.integer("vocab_size"),
            max_positions=config.integer("max_position_embeddings") - first_position,
            type_vocab=config.integer("type_vocab_size"),
            eps=config.number("layer_norm_eps"),
            activation=act,
            labels=labels,
        )
    except InputError as error:
        said = str(error)
        raise InputError(said if said.startswith(str(config.path)) else f"{config.path}: {said}") from error


def _module_kinds(path: Path) -> list[str]:
    modules = _read_json(path)
    types = [m.get("type") if isinstance(m, dict) else None for m in modules] if isinstance(modules, list) else [None]
    kinds = [t.rsplit(".", 1)[-1] if isinstance(t, str) else None for t in types]
    for kind in kinds:
        if kind not in _MODULES:
            raise InputError(f"{path}: module {kind!r:.60} is not supported (supported: {', '.join(_MODULES)})")
    return [kind for kind in kinds if kind]


def _pooling_mode(folder: Path) -> Pooling:
    config = _Object.read(folder / "1_Pooling" / "config.json")
    chosen = [key for key, value in config.values.items() if key.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in _POOLING_MODES:
        raise InputError(f"{config.path}: pooling must be exactly one of {', '.join(_POOLING_MODES)}, not {chosen}")
    return _POOLING_MODES[chosen[0]]
