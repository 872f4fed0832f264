"""Pairing: the owner sends W_hat = W + R_W once, the client keeps it. Reported as set-up bytes, apart from any run's.

A pairing belongs to one model digest and one model key. When the model changes its digest does, and the old pairing is
refused by both sides: the same R_W under two models would reveal their difference.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.dealing import BULK_BYTES
from engine.errors import InputError, LocalError, PeerError
from engine.home import Home
from engine.kernels.interface import Kernels
from engine.ledger import ModelKey
from engine.models.compiled import CompiledModel, PublicModel
from engine.parameters import MaskSource, PartyParameters, mask_weight
from engine.ring import U64, Words, packed_bytes
from engine.scheduler.link import Link

__all__ = ["Pairing", "find_pairing", "receive_pairing", "send_pairing", "weight_list"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Pairing:
    """A client's side of a pairing: where W_hat lies, and whom it belongs to."""

    public: PublicModel
    key: str
    owner: str
    folder: Path

    def parameters(self) -> PartyParameters:
        """W_hat as memory-mapped files. Raises InputError for a damaged pairing."""
        hats: dict[str, Words] = {}
        try:
            for name, shape, _ in weight_list(self.public):
                hat = np.load(self.folder / "hats" / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                if hat.shape != shape or hat.dtype != U64:
                    raise ValueError
                hats[name] = hat
        except (OSError, ValueError) as e:
            raise InputError(f"the pairing in {self.folder} is damaged: pair again") from e
        return PartyParameters(hats=hats)

    @property
    def tokenizer_json(self) -> str:
        return (self.folder / "tokenizer.json").read_text()


def weight_list(public: PublicModel) -> list[tuple[str, tuple[int, ...], int]]:
    """(name, shape, ring) of every private weight, in plan order. Rings do not depend on the lengths up to rounding of the
    head, so the longest text decides."""
    rings: dict[str, tuple[tuple[int, ...], int]] = {}
    for call in public.plan((public.shape.max_positions,)).calls:
        for node in call.segment.graph.weights():
            rings[call.call.prefix + node.text("name")] = (node.type.shape, node.type.ring)
    return [(name, shape, ring) for name, (shape, ring) in rings.items()]


async def send_pairing(link: Link, model: CompiledModel, key: ModelKey, kernels: Kernels) -> int:
    """The owner's side; returns the set-up bytes."""
    weights, sent = weight_list(model.public), link.sent["bulk"]
    total = sum(packed_bytes(_size(shape), ring) for _, shape, ring in weights)
    header = {"public": model.public.to_json(), "tokenizer": model.tokenizer_json, "key": key.id, "bytes": total}
    link.allow(max(BULK_BYTES, 64 << 20))
    await link.control(header)
    source = MaskSource(kernels, key.seed)
    for index, (name, _, ring) in enumerate(weights):
        packed = await asyncio.to_thread(_packed_hat, model.integers[name], name, ring, source, kernels)
        for start in range(0, packed.size, BULK_BYTES):
            await link.data("bulk", index, start // BULK_BYTES, memoryview(packed)[start : start + BULK_BYTES])
    return link.sent["bulk"] - sent


def _packed_hat(weight: NDArray[Any], name: str, ring: int, source: MaskSource, kernels: Kernels) -> NDArray[np.uint8]:
    hat = mask_weight(weight, name, ring, source)
    out = np.empty(packed_bytes(hat.size, ring), np.uint8)
    kernels.pack(hat.reshape(-1), ring, out)
    return out


async def receive_pairing(link: Link, home: Home, kernels: Kernels, progress: Progress | None = None) -> tuple[Pairing, int]:
    """The client's side: write everything beside its place, then move it there. Returns the pairing and set-up bytes."""
    link.allow(64 << 20)
    header = await link.message("the model's public part")
    try:
        public = PublicModel.from_json(str(header["public"]), "what the model owner sent")
        key, tokenizer = str(header["key"]), str(header["tokenizer"])
    except (KeyError, InputError) as e:
        raise PeerError("the model owner sent no usable public part") from e
    folder = _folder(home, public.digest)
    part = folder.with_name(folder.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        (part / "hats").mkdir(parents=True, mode=0o700)
        size = await _receive_hats(link, public, part / "hats", kernels, progress)
        (part / "public.json").write_text(public.to_json())
        (part / "tokenizer.json").write_text(tokenizer)
        (part / "pairing.json").write_text(json.dumps({"key": key, "owner": link.channel.peer}))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    except OSError as e:
        raise LocalError(f"cannot write the pairing to {folder}: {e.strerror}") from e
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Pairing(public, key, link.channel.peer, folder), size


async def _receive_hats(
    link: Link, public: PublicModel, folder: Path, kernels: Kernels, progress: Progress | None
) -> int:
    weights, total = weight_list(public), 0
    for index, (name, shape, ring) in enumerate(weights):
        packed = np.empty(packed_bytes(_size(shape), ring), np.uint8)
        for start in range(0, packed.size, BULK_BYTES):
            stop = min(start + BULK_BYTES, packed.size)
            payload = await link.opening(f"masked weight {name}", index, start // BULK_BYTES, stop - start)
            packed[start:stop] = np.frombuffer(payload, np.uint8)
        await asyncio.to_thread(_store, folder / f"{name}.npy", packed, shape, ring, kernels)
        total += packed.size
        if progress is not None:
            progress(index + 1, len(weights))
    return total


def _store(path: Path, packed: NDArray[np.uint8], shape: tuple[int, ...], ring: int, kernels: Kernels) -> None:
    hat = np.empty(shape, U64)
    kernels.unpack(packed, ring, hat.reshape(-1))
    np.save(path, hat, allow_pickle=False)


def find_pairing(home: Home, model: str | None = None) -> Pairing:
    """The pairing of a model, by a prefix of its digest or by name; the only one if none is given. Raises InputError."""
    found = [p for p in _pairings(home) if model is None or p.public.digest.startswith(model) or p.public.name == model]
    if not found:
        raise InputError(f"no pairing{'' if model is None else f' for {model}'} in {home.path}: run `roundelay pair` first")
    if len(found) > 1:
        names = ", ".join(f"{p.public.name} ({p.public.digest[:12]})" for p in found)
        raise InputError(f"several models are paired, say which with --model: {names}")
    return found[0]


def _pairings(home: Home) -> Iterator[Pairing]:
    for folder in sorted(home.models.glob("*")) if home.models.exists() else []:
        try:
            data: Mapping[str, str] = json.loads((folder / "pairing.json").read_text())
            public = PublicModel.from_json((folder / "public.json").read_text(), str(folder / "public.json"))
            yield Pairing(public, data["key"], data["owner"], folder)
        except (OSError, ValueError, KeyError):
            continue


def _folder(home: Home, digest: str) -> Path:
    if len(digest) != 64 or any(c not in "0123456789abcdef" for c in digest):
        raise PeerError("the model owner sent a malformed model digest")
    return home.models / digest


def _size(shape: tuple[int, ...]) -> int:
    n = 1
    for d in shape:
        n *= d
    return n
