"""The folder of a benchmark: what the roles' processes read and write. Weights are mapped from files, never loaded.

job.json     how to run: transport, overlap, deadline      plan.json    the plan
weights/     the owner's integers                          hats/        W_hat, the client's
inputs.npz   the client's private input                    outputs.npz  what it learned
key          the model key's seed: the dealer's            tapes/       a pair for each run, deleted after it
p0/, p1/     identities of the two sides, where the transport wants them
events/      what each party did when, where that is wanted
live/        what the client does now, where that is wanted
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.bench.planfile import plan_from_text, plan_to_text
from engine.bench.workload import Inputs, Workload
from engine.errors import InputError, LocalError
from engine.kernels import get_kernels
from engine.parameters import MaskSource, PartyParameters, Small, mask_weight
from engine.scheduler.plan import Plan
from engine.tape import file_bytes
from simulators.profiles import Network

__all__ = ["BenchFolder", "Job", "bench_folder"]

SPARE_BYTES = 256 << 20
"""Left free on the disk beyond what a run is known to take."""


@dataclass(frozen=True, slots=True)
class Job:
    """How to run. `deadline`: seconds that one wait may last. `network`: what each party delays what it sends by.
    `concurrent`: requests at the same time, on streams of one channel. `pinned`: each party has half of the processors
    to itself, where there are two and the system lets it choose."""

    transport: str = "tcp"
    overlap: bool = True
    deadline: float = 300.0
    network: Network | None = None
    concurrent: int = 1
    pinned: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"network": None if self.network is None else self.network.as_dict()}

    @staticmethod
    def of(data: Mapping[str, Any]) -> Job:
        """The inverse of `as_dict`."""
        described = data["network"]
        return Job(**{**data, "network": None if described is None else Network(**described)})


@dataclass(frozen=True, slots=True)
class BenchFolder:
    """Typed access to the files."""

    path: Path

    @property
    def tapes(self) -> Path:
        return self.path / "tapes"

    @property
    def events(self) -> Path:
        return self.path / "events"

    @property
    def live(self) -> Path:
        return self.path / "live"

    @property
    def statuses(self) -> Path:
        """What the client's requests do now."""
        return self.live / "p0.json"

    def job(self) -> Job:
        return Job.of(json.loads((self.path / "job.json").read_text()))

    def plan(self) -> Plan:
        return plan_from_text((self.path / "plan.json").read_text())

    def key(self) -> bytes:
        return bytes.fromhex((self.path / "key").read_text())

    def inputs(self) -> dict[str, NDArray[np.int64]]:
        with np.load(self.path / "inputs.npz", allow_pickle=False) as data:
            return dict(data)

    def parameters(self, party: int) -> PartyParameters:
        """The owner's integers, or the client's W_hat."""
        arrays = {f.stem: np.load(f, "r", allow_pickle=False) for f in sorted((self.path / _KIND[party]).glob("*.npy"))}
        return PartyParameters(hats=arrays) if party == 0 else PartyParameters(integers=arrays)

    def outputs(self) -> dict[str, NDArray[np.int64]]:
        with np.load(self.path / "outputs.npz", allow_pickle=False) as data:
            return dict(data)

    def save_outputs(self, outputs: Inputs) -> None:
        np.savez(self.path / "outputs.npz", allow_pickle=False, **outputs)


_KIND = ("hats", "weights")


@contextmanager
def bench_folder(workload: Workload, plan: Plan, job: Job, where: Path | None) -> Iterator[BenchFolder]:
    """A folder below `where`, filled, and gone afterwards. Raises InputError if the disk has no room for it."""
    with TemporaryDirectory(prefix="roundelay-bench-", dir=where) as name:
        folder = BenchFolder(Path(name))
        check_room(folder.path, needed_bytes(workload, plan, job.concurrent))
        try:
            _fill(folder, workload, plan, job)
        except OSError as error:
            raise LocalError(f"cannot write to {folder.path}: {error.strerror}") from error
        yield folder


def needed_bytes(workload: Workload, plan: Plan, requests: int = 1) -> int:
    """Disk that one run takes: a pair of tapes a request, the integers and W_hat."""
    weights = sum(w.nbytes + 8 * w.size for w in workload.weights.values())
    return requests * sum(map(file_bytes, plan.tape_bytes)) + weights


def check_room(path: Path, needed: int) -> None:
    """Raises InputError unless the disk has room for `needed` bytes and some to spare."""
    free = shutil.disk_usage(path).free
    if free < needed + SPARE_BYTES:
        raise InputError(
            f"tapes and weights of one run take {needed / 1e9:.2f} GB, and {path} has {free / 1e9:.2f} GB free: "
            "choose another place with --folder, or fewer --tokens"
        )


def _fill(folder: BenchFolder, workload: Workload, plan: Plan, job: Job) -> None:
    seed, at = secrets.token_bytes(16), folder.path
    (at / "job.json").write_text(json.dumps(job.as_dict()))
    (at / "plan.json").write_text(plan_to_text(plan))
    (at / "key").write_text(seed.hex())
    np.savez(at / "inputs.npz", allow_pickle=False, **workload.inputs)
    for name in (*_KIND, "tapes"):
        (at / name).mkdir()
    if job.transport != "memory":
        from engine.transport.identity import create  # needs a library that in-process runs do without

        for number in (0, 1):
            create(at / f"p{number}")
    source = MaskSource(get_kernels(), seed)
    for name, ring in private_weights(plan).items():
        _save(at / "weights" / f"{name}.npy", workload.weights[name])
        _save(at / "hats" / f"{name}.npy", mask_weight(workload.weights[name], name, ring, source))


def _save(path: Path, array: Small) -> None:
    np.save(path, np.ascontiguousarray(array), allow_pickle=False)


def private_weights(plan: Plan) -> Mapping[str, int]:
    """Ring of the mask of every owned weight, by name."""
    found: dict[str, int] = {}
    for call in plan.calls:
        for node in call.segment.graph.weights():
            found[call.call.prefix + node.text("name")] = node.type.ring
    return found


def read_report(text: str) -> dict[str, Any]:
    """The last line of what a role's process printed."""
    report: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return report
