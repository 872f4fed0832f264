"""A compiled model on disk: what is public (shape, magnitudes, head, tokenizer) and what is the owner's (integers).

    FOLDER/public.json      PublicModel: everything that a plan is made of; client, owner and dealer all hold it
    FOLDER/tokenizer.json   public as well
    FOLDER/weights.safetensors   the owner's integers and the salt of the digest; readable by the owner alone

The model digest commits to the integers (salted, so that nobody can test a guess of the weights against it) and to the
public part. The model key, and so every mask of a weight, is bound to it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from engine.errors import InputError, LocalError
from engine.gates.softmax import SoftmaxRange
from engine.models.bert import BertRanges, BlockRange, F, HeadRange, W, bert
from engine.models.checkpoint import Checkpoint
from engine.models.shapes import BertShape
from engine.parameters import Small
from engine.ring import U64
from engine.scheduler.plan import Plan

__all__ = ["CompiledModel", "PublicModel", "compile_model", "head_of", "load_compiled"]

FORMAT = 1
HEADS = ("mean", "cls", "classify", "none")


@dataclasses.dataclass(frozen=True, slots=True)
class PublicModel:
    """What both parties and the dealer know of a model. `digest` is hex."""

    name: str
    shape: BertShape
    ranges: BertRanges
    head: str
    normalize: bool
    labels: tuple[str, ...]
    digest: str = ""

    def plan(self, lengths: Sequence[int]) -> Plan:
        """The plan of a batch of sequences of these public lengths. Raises InputError."""
        for n in lengths:
            if not 1 <= n <= self.shape.max_positions:
                raise InputError(f"a text of {n} tokens is outside the model's 1 to {self.shape.max_positions}")
        if not lengths:
            raise InputError("there is nothing to run: give at least one text")
        return _plan(self, tuple(lengths))

    def inputs(self, sequences: Sequence[NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
        """The client's private input: one-hot rows of token ids."""
        ids = np.concatenate([np.asarray(s, np.int64) for s in sequences])
        hot = np.zeros((ids.size, self.shape.vocab), np.int64)
        hot[np.arange(ids.size), ids] = 1
        return {"one-hot tokens": hot}

    def results(self, outputs: Mapping[str, NDArray[np.int64]], lengths: Sequence[int]) -> list[NDArray[np.float64]]:
        """What was revealed, as real numbers: an embedding (of unit length if the model says so), logits, or hidden states."""
        return [self._result(outputs[f"output {i}"] / 2.0 ** (F + W), n) for i, n in enumerate(lengths)]

    def _result(self, y: NDArray[np.float64], length: int) -> NDArray[np.float64]:
        if self.head == "none":
            return y
        y = y[0] / length if self.head == "mean" else y[0]
        return y / max(float(np.linalg.norm(y)), 1e-30) if self.normalize else y

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: str, where: str) -> PublicModel:
        """Parse and check. Raises InputError naming `where`."""
        try:
            data = json.loads(text)
            if data.pop("format") != FORMAT:
                raise InputError(f"{where} was written by another version: compile the model again")
            model = _public(data)
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise InputError(f"{where} is not a compiled model's public part: {type(e).__name__}") from e
        if model.head not in HEADS:
            raise InputError(f"{where} names an unknown head '{model.head}'")
        return model


@lru_cache(maxsize=16)
def _plan(model: PublicModel, lengths: tuple[int, ...]) -> Plan:
    return Plan(bert(model.shape, model.ranges, lengths, head=model.head))


def _public(data: dict[str, Any]) -> PublicModel:
    ranges = data.pop("ranges")
    blocks = tuple(_block(b) for b in ranges["blocks"])
    head = HeadRange(**{k: _small(v) for k, v in ranges["head"].items()})
    shape = BertShape(**data.pop("shape"))
    if len(blocks) != shape.layers:
        raise ValueError
    labels = tuple(str(x) for x in data.pop("labels"))
    return PublicModel(shape=shape, ranges=BertRanges(_triple(ranges["embedding"]), blocks, head), labels=labels, **data)


def _block(b: dict[str, Any]) -> BlockRange:
    softmax = SoftmaxRange(**{k: _small(v) for k, v in b["softmax"].items()})
    return BlockRange(softmax, _small(b["v"]), _small(b["up"]), _triple(b["attention"]), _triple(b["output"]))


def _triple(values: Any) -> tuple[int, int, int]:
    a, b, c = (_small(v) for v in values)
    return a, b, c


def _small(value: Any) -> int:
    """A magnitude in bits: whole, and small enough that nothing derived from it can be huge."""
    if type(value) is not int or not -64 <= value <= 64:
        raise ValueError
    return value


def head_of(checkpoint: Checkpoint) -> str:
    """What a checkpoint ends in."""
    return "classify" if checkpoint.head is not None else checkpoint.pooling


@dataclasses.dataclass(frozen=True, slots=True)
class CompiledModel:
    """The owner's: the public part, the integers, the tokenizer."""

    public: PublicModel
    integers: Mapping[str, Small] = dataclasses.field(repr=False)
    tokenizer_json: str = dataclasses.field(repr=False)


def compile_model(
    checkpoint: Checkpoint, ranges: BertRanges, integers: Mapping[str, Small], folder: Path
) -> CompiledModel:
    """Write the compiled model. Raises LocalError if the folder cannot be written."""
    c = checkpoint
    public = PublicModel(c.name, c.config, ranges, head_of(c), c.normalize, tuple(c.labels))
    salt = secrets.token_bytes(16)
    public = dataclasses.replace(public, digest=_digest(public, integers, salt))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "public.json").write_text(public.to_json())
        (folder / "tokenizer.json").write_text(c.tokenizer_json)
        path = folder / "weights.safetensors"
        part = folder / "weights.part"
        part.touch(mode=0o600)
        # save_file writes arrays as they lie in memory, so a transposed view would land transposed.
        save_file({k: np.ascontiguousarray(v) for k, v in integers.items()}, part, {"salt": salt.hex()})
        os.chmod(part, 0o600)
        os.replace(part, path)
    except OSError as e:
        raise LocalError(f"cannot write the compiled model to {folder}: {e.strerror}") from e
    return CompiledModel(public, integers, c.tokenizer_json)


def load_compiled(folder: Path) -> CompiledModel:
    """Read a compiled model and check it against its digest. Raises InputError."""
    try:
        public = PublicModel.from_json((folder / "public.json").read_text(), str(folder / "public.json"))
        tokenizer = (folder / "tokenizer.json").read_text()
        integers = load_file(folder / "weights.safetensors")
        salt = _salt(folder / "weights.safetensors")
    except OSError as e:
        raise InputError(f"{folder} is not a compiled model: cannot read {e.filename} (compile one first)") from e
    except (SafetensorError, UnicodeDecodeError) as e:
        raise InputError(f"{folder / 'weights.safetensors'} is damaged: compile the model again") from e
    if _digest(dataclasses.replace(public, digest=""), integers, salt) != public.digest:
        raise InputError(f"the weights in {folder} do not match its digest: compile the model again")
    return CompiledModel(public, integers, tokenizer)


def _salt(path: Path) -> bytes:
    with open(path, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(size))
    return bytes.fromhex(header.get("__metadata__", {}).get("salt", ""))


def _digest(public: PublicModel, integers: Mapping[str, Small], salt: bytes) -> str:
    h = hashlib.sha256(b"roundelay model 1" + salt + public.to_json().encode())
    for name in sorted(integers):
        a = np.ascontiguousarray(integers[name])
        words = a if a.dtype == U64 else a.astype("<i8")
        h.update(f"{name} {a.shape}".encode())
        h.update(memoryview(words.view(np.uint8).reshape(-1)))
    return h.hexdigest()
