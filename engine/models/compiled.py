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
import re
import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from engine.errors import InputError
from engine.files import private_folder, whole_file
from engine.gates.softmax import SoftmaxRange
from engine.models.bert import BertRanges, BlockRange, HeadRange, bert
from engine.models.checkpoint import Checkpoint
from engine.models.layers import F, W
from engine.models.shapes import BertShape
from engine.parameters import Small
from engine.ring import U64
from engine.scheduler.plan import Plan
from engine.variants import DEFAULT, Variants, parse

__all__ = [
    "PUBLIC",
    "TOKENIZER",
    "CompiledModel",
    "PublicModel",
    "compile_model",
    "head_of",
    "load_compiled",
    "public_of",
    "read_public",
]

FORMAT = 1
HEADS = ("mean", "cls", "classify", "none")
MOST_TEXTS, MOST_TOKENS = 1024, 1 << 16
PUBLIC, TOKENIZER, WEIGHTS = "public.json", "tokenizer.json", "weights.safetensors"


@dataclasses.dataclass(frozen=True, slots=True)
class PublicModel:
    """What both parties and the dealer know of a model. `digest` is hex. The owner chose the variants: nobody else
    computes them again."""

    name: str
    shape: BertShape
    ranges: BertRanges
    head: str
    normalize: bool
    labels: tuple[str, ...]
    digest: str = ""
    variants: Variants = DEFAULT

    def plan(self, lengths: Sequence[int]) -> Plan:
        """The plan of a batch of sequences of these public lengths. Raises InputError."""
        for n in lengths:
            if not 1 <= n <= self.shape.max_positions:
                raise InputError(f"a text of {n} tokens is outside the model's 1 to {self.shape.max_positions}")
        if not lengths:
            raise InputError("there is nothing to run: give at least one text")
        if len(lengths) > MOST_TEXTS or sum(lengths) > MOST_TOKENS:
            raise InputError(
                f"a run takes at most {MOST_TEXTS} texts of {MOST_TOKENS} tokens together: run fewer at a time"
            )
        return _plan(self, tuple(int(n) for n in lengths))

    def inputs(self, sequences: Sequence[NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
        """The client's private input: one-hot rows of token ids. Raises InputError for what is no token id."""
        ids = np.concatenate([np.asarray(s) for s in sequences])
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or not ((ids >= 0) & (ids < self.shape.vocab)).all():
            raise InputError(f"token ids are integers from 0 to {self.shape.vocab - 1}, one row a text")
        hot = np.zeros((ids.size, self.shape.vocab), np.int64)
        hot[np.arange(ids.size), ids] = 1
        return {"one-hot tokens": hot}

    def results(self, outputs: Mapping[str, NDArray[np.int64]], lengths: Sequence[int]) -> list[NDArray[np.float64]]:
        """What was revealed, as real numbers: an embedding (of length 1 if so compiled), logits, hidden states."""
        return [self._result(outputs[f"output {i}"] / 2.0 ** (F + W), n) for i, n in enumerate(lengths)]

    def _result(self, y: NDArray[np.float64], length: int) -> NDArray[np.float64]:
        if self.head == "none":
            return y
        y = y[0] / length if self.head == "mean" else y[0]
        return y / max(float(np.linalg.norm(y)), 1e-30) if self.normalize else y

    def to_json(self) -> str:
        data = {"format": FORMAT, **dataclasses.asdict(self), "variants": str(self.variants)}
        if self.variants == DEFAULT:  # as models were written that had no choice
            del data["variants"]
        return json.dumps(data, indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: str, where: str) -> PublicModel:
        """Parse and check. Raises InputError naming `where`."""
        try:
            data = json.loads(text)
            if data.pop("format") != FORMAT:
                raise InputError(f"{where} was written by another version: compile the model again")
            model = _public(data)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise InputError(f"{where} is not a compiled model's public part: {type(e).__name__}") from e
        return model


@lru_cache(maxsize=16)
def _plan(model: PublicModel, lengths: tuple[int, ...]) -> Plan:
    return Plan(bert(model.shape, model.ranges, lengths, head=model.head, variants=model.variants))


def _public(data: dict[str, Any]) -> PublicModel:
    ranges, shape = data.pop("ranges"), BertShape(**_counts(data.pop("shape")))
    blocks = tuple(_block(b) for b in ranges["blocks"])
    head = HeadRange(**{k: _small(v) for k, v in ranges["head"].items()})
    labels = tuple(str(x) for x in data.pop("labels"))
    variants, bounds = parse(data.pop("variants", str(DEFAULT))), BertRanges(_triple(ranges["embedding"]), blocks, head)
    model = PublicModel(shape=shape, ranges=bounds, labels=labels, variants=variants, **data)
    texts = isinstance(model.name, str) and model.name.isprintable() and re.fullmatch("[0-9a-f]{64}", model.digest)
    ends = (
        model.head in HEADS and isinstance(model.normalize, bool) and (model.head == "classify") == (shape.labels > 0)
    )
    if not texts or not ends or len(blocks) != shape.layers:
        raise ValueError
    return model


def _counts(shape: dict[str, Any]) -> dict[str, Any]:
    """Sizes are whole; BertShape looks at their values."""
    if any(type(v) is not int for k, v in shape.items() if k not in ("eps", "activation")):
        raise ValueError
    return shape


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


def public_of(checkpoint: Checkpoint, ranges: BertRanges, variants: Variants = DEFAULT) -> PublicModel:
    """The public part of a model that is not compiled yet: it has no digest."""
    c = checkpoint
    return PublicModel(c.name, c.config, ranges, head_of(c), c.normalize, tuple(c.labels), variants=variants)


def compile_model(
    checkpoint: Checkpoint,
    ranges: BertRanges,
    integers: Mapping[str, Small],
    folder: Path,
    variants: Variants = DEFAULT,
) -> CompiledModel:
    """Write the compiled model, over one that may be there; integers as `quantise` makes them for these variants.
    Raises LocalError if the folder cannot be written."""
    salt = secrets.token_bytes(16)
    public = public_of(checkpoint, ranges, variants)
    public = dataclasses.replace(public, digest=_digest(public, integers, salt))
    # NumPy arrays are saved as they lie in memory, so a transposed view would land transposed.
    weights = save({k: np.ascontiguousarray(v) for k, v in integers.items()}, {"salt": salt.hex()})
    private_folder(folder)
    with whole_file(folder / WEIGHTS) as w, whole_file(folder / TOKENIZER) as t, whole_file(folder / PUBLIC) as p:
        w.write(weights)
        t.write(checkpoint.tokenizer_json.encode())
        p.write(public.to_json().encode())
    return CompiledModel(public, integers, checkpoint.tokenizer_json)


def read_public(path: Path) -> PublicModel:
    """The public part of a compiled model, from its folder or its file. Raises InputError."""
    path = path / PUBLIC if path.is_dir() else path
    try:
        return PublicModel.from_json(path.read_text("utf-8"), str(path))
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror} (`roundelay compile` makes it)") from e
    except UnicodeDecodeError as e:
        raise InputError(f"{path} is not a compiled model's public part: it is no text") from e


def load_compiled(folder: Path) -> CompiledModel:
    """Read a compiled model and check it against its digest. Raises InputError."""
    public, path = read_public(folder / PUBLIC), folder / WEIGHTS
    try:
        tokenizer = (folder / TOKENIZER).read_text("utf-8")
        data = path.read_bytes()
        integers, salt = load(data), _salt(data)
    except OSError as e:
        raise InputError(f"cannot read {e.filename}: {e.strerror} (compile the model again)") from e
    except (SafetensorError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"{path} or {TOKENIZER} is damaged: compile the model again") from e
    if _digest(dataclasses.replace(public, digest=""), integers, salt) != public.digest:
        raise InputError(f"the weights in {folder} do not match its digest: compile the model again")
    return CompiledModel(public, integers, tokenizer)


def _salt(data: bytes) -> bytes:
    size = int.from_bytes(data[:8], "little")
    return bytes.fromhex(json.loads(data[8 : 8 + size])["__metadata__"]["salt"])


def _digest(public: PublicModel, integers: Mapping[str, Small], salt: bytes) -> str:
    h = hashlib.sha256(b"roundelay model 1" + salt + public.to_json().encode())
    for name in sorted(integers):
        a = np.ascontiguousarray(integers[name])
        words = a if a.dtype == U64 else a.astype("<i8")
        h.update(f"{name} {a.shape}".encode())
        h.update(words.view(np.uint8).reshape(-1).data)
    return h.hexdigest()
