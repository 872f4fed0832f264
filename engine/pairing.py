"""Pairing: the owner sends W_hat = W + R_W once, the client keeps it. Reported as set-up bytes, apart from any run's.

A pairing belongs to one model digest and one model key. When the model changes its digest does, and the old pairing is
refused by both sides: the same R_W under two models would reveal their difference.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError, LocalError, PeerError
from engine.files import file_digest, private_folder, whole_file
from engine.home import Home
from engine.kernels.interface import Kernels
from engine.ledger import ModelKey
from engine.models.compiled import PUBLIC, TOKENIZER, CompiledModel, PublicModel, read_public
from engine.parameters import MaskSource, PartyParameters, mask_weight
from engine.ring import U64, Words, packed_bytes
from engine.scheduler.link import Link
from engine.transfer import BULK_BYTES
from engine.transport.identity import check_public_key

__all__ = ["Pairing", "find_pairing", "receive_pairing", "send_pairing", "weight_list"]

PAIRING = "pairing.json"
HEADER_BYTES = 64 << 20
"""The largest message with a model's public part and tokenizer."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Pairing:
    """A client's side of a pairing: where W_hat lies, and whom it belongs to. `files`: SHA-256 of every file."""

    public: PublicModel
    key: str
    owner: str
    folder: Path
    files: Mapping[str, str] = field(repr=False)

    def parameters(self) -> PartyParameters:
        """W_hat as memory-mapped files, after a look at every byte: a damaged weight would go unnoticed otherwise.
        Raises InputError."""
        hats: dict[str, Words] = {}
        try:
            for name, shape, _ in weight_list(self.public):
                path = self._checked(_hat(name))
                hat = np.load(path, mmap_mode="r", allow_pickle=False)
                if hat.shape != shape or hat.dtype != U64:
                    raise ValueError
                hats[name] = hat
        except (OSError, ValueError, KeyError) as e:
            raise self._damaged() from e
        return PartyParameters(hats=hats)

    @property
    def tokenizer_json(self) -> str:
        """Raises InputError if the file is damaged."""
        try:
            return self._checked(TOKENIZER).read_text("utf-8")
        except (OSError, ValueError, KeyError) as e:
            raise self._damaged() from e

    def _checked(self, name: str) -> Path:
        path = self.folder / name
        if file_digest(path) != self.files[name]:
            raise ValueError
        return path

    def _damaged(self) -> InputError:
        return InputError(f"the pairing in {self.folder} is damaged: run `roundelay pair` again")


def _hat(name: str) -> str:
    return f"hats/{name}.npy"


def weight_list(public: PublicModel) -> list[tuple[str, tuple[int, ...], int]]:
    """(name, shape, ring) of every private weight, in plan order. The head's rings grow with the longest text, and a
    mask may be reduced but not widened: so the longest possible text decides."""
    rings: dict[str, tuple[tuple[int, ...], int]] = {}
    for call in public.plan((public.shape.max_positions,)).calls:
        for node in call.segment.graph.weights():
            rings[call.call.prefix + node.text("name")] = (node.type.shape, node.type.ring)
    return [(name, shape, ring) for name, (shape, ring) in rings.items()]


# ---------------------------------------------------------------------- the owner's side
async def send_pairing(link: Link, model: CompiledModel, key: ModelKey, kernels: Kernels) -> int:
    """Returns the set-up bytes."""
    weights, before = await asyncio.to_thread(weight_list, model.public), link.sent["bulk"]
    total = sum(packed_bytes(math.prod(shape), ring) for _, shape, ring in weights)
    link.allow(HEADER_BYTES)
    await link.control(
        {"public": model.public.to_json(), "tokenizer": model.tokenizer_json, "key": key.id, "bytes": total}
    )
    source = MaskSource(kernels, key.seed)
    for index, (name, _, ring) in enumerate(weights):
        packed = await asyncio.to_thread(_packed_hat, model.integers[name], name, ring, source, kernels)
        for start in range(0, packed.size, BULK_BYTES):
            await link.data("bulk", index, start // BULK_BYTES, packed.data[start : start + BULK_BYTES])
    return link.sent["bulk"] - before


def _packed_hat(weight: NDArray[Any], name: str, ring: int, source: MaskSource, kernels: Kernels) -> NDArray[np.uint8]:
    hat = mask_weight(weight, name, ring, source)
    out = np.empty(packed_bytes(hat.size, ring), np.uint8)
    kernels.pack(hat.reshape(-1), ring, out)
    return out


# ---------------------------------------------------------------------- the client's side
async def receive_pairing(
    link: Link, home: Home, kernels: Kernels, progress: Progress | None = None
) -> tuple[Pairing, int]:
    """Write everything beside its place, then move it there. Returns the pairing and the set-up bytes. Raises
    LocalError, PeerError; a pairing that was there before stays until the new one is whole."""
    link.allow(HEADER_BYTES)
    header = await link.message("the model's public part")
    public, key, tokenizer = _header(header)
    folder = home.models / public.digest
    private_folder(home.models)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        private_folder(part / "hats")
        size = await _receive_hats(link, public, part, kernels, progress)
        with whole_file(part / PUBLIC) as f:
            f.write(public.to_json().encode())
        with whole_file(part / TOKENIZER) as f:
            f.write(tokenizer.encode())
        names = [PUBLIC, TOKENIZER, *(_hat(name) for name, _, _ in weight_list(public))]
        files = {name: file_digest(part / name) for name in names}
        with whole_file(part / PAIRING) as f:
            f.write(json.dumps({"key": key, "owner": link.channel.peer, "files": files}, indent=1).encode())
        _replace(part, folder)
    except OSError as e:
        raise LocalError(f"cannot write the pairing to {folder}: {e.strerror or e}") from e
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Pairing(public, key, link.channel.peer, folder, files), size


def _header(header: Mapping[str, Any]) -> tuple[PublicModel, str, str]:
    """Public part, key id and tokenizer."""
    try:
        public = PublicModel.from_json(str(header["public"]), "what the model owner sent")
        key, tokenizer = str(header["key"]), str(header["tokenizer"])
        if not public.digest or not 0 < len(key) <= 64:
            raise ValueError
    except (KeyError, ValueError, InputError) as e:
        raise PeerError("the model owner sent no usable public part") from e
    return public, key, tokenizer


def _replace(part: Path, folder: Path) -> None:
    """Move a folder to a place where an older one may be."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(part, folder)
    shutil.rmtree(old, ignore_errors=True)


async def _receive_hats(
    link: Link, public: PublicModel, folder: Path, kernels: Kernels, progress: Progress | None
) -> int:
    weights, total = await asyncio.to_thread(weight_list, public), 0
    for index, (name, shape, ring) in enumerate(weights):
        packed = np.empty(packed_bytes(math.prod(shape), ring), np.uint8)
        for start in range(0, packed.size, BULK_BYTES):
            stop = min(start + BULK_BYTES, packed.size)
            payload = await link.opening(f"masked weight {name}", index, start // BULK_BYTES, stop - start)
            packed[start:stop] = np.frombuffer(payload, np.uint8)
        await asyncio.to_thread(_store, folder / _hat(name), packed, shape, ring, kernels)
        total += packed.size
        if progress is not None:
            progress(index + 1, len(weights))
    return total


def _store(path: Path, packed: NDArray[np.uint8], shape: tuple[int, ...], ring: int, kernels: Kernels) -> None:
    hat = np.empty(shape, U64)
    kernels.unpack(packed, ring, hat.reshape(-1))
    with whole_file(path) as f:
        np.save(f, hat, allow_pickle=False)


# ---------------------------------------------------------------------- finding one
def find_pairing(home: Home, model: str | None = None) -> Pairing:
    """The pairing of a model, by a prefix of its digest or by name; the only one if none is given. Raises
    InputError."""
    found, damaged = _pairings(home)
    if model is not None:
        found = [p for p in found if p.public.digest.startswith(model) or p.public.name == model]
    if not found and damaged:
        raise InputError(f"the pairing in {damaged[0]} is damaged: run `roundelay pair` again")
    if not found:
        raise InputError(
            f"no pairing{'' if model is None else f' for {model}'} in {home.path}: run `roundelay pair` first"
        )
    if len(found) > 1:
        names = ", ".join(f"{p.public.name} ({p.public.digest[:12]})" for p in found)
        raise InputError(f"several models are paired, say which with --model: {names}")
    return found[0]


def _pairings(home: Home) -> tuple[list[Pairing], list[Path]]:
    """Those that can be read, and the folders of those that cannot."""
    found: list[Pairing] = []
    damaged: list[Path] = []
    for folder in sorted(home.models.glob("*")) if home.models.exists() else []:
        if not re.fullmatch("[0-9a-f]{64}", folder.name):
            continue  # one that was being written when its process died
        try:
            found.append(_read(folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError):
            damaged.append(folder)
    return found, damaged


def _read(folder: Path) -> Pairing:
    data: dict[str, Any] = json.loads((folder / PAIRING).read_text("utf-8"))
    files = {str(k): str(v) for k, v in data["files"].items()}
    public = read_public(folder / PUBLIC)
    if public.digest != folder.name or file_digest(folder / PUBLIC) != files[PUBLIC]:
        raise ValueError
    return Pairing(public, str(data["key"]), check_public_key(str(data["owner"])), folder, files)
