"""A device: what each unit of work takes on a machine, as `roundelay calibrate` measured it, kept in a JSON file.

Nothing is known here about how fast any machine is: every number comes from the file. `engine/bench/calibration.py`
measures one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.errors import InputError
from simulators.work import Work

__all__ = ["FORMAT", "Device"]

FORMAT = 2
"""Of the file; goes up when a feature changes its meaning."""


@dataclass(frozen=True, slots=True)
class Device:
    """What work takes on a machine, in seconds.

    costs: for a unit of each feature of simulators/work.py. prefetch: (a block, a byte) of tape. frames: for each
    transport (a frame, a byte) at either end; delayed: what the delayed channel adds to these. wake: from the arrival
    of what was waited for until a process acts on it; late: until a timer of the delayed channel fires. deal: a byte of
    both tapes. cores: how many times the work of one process the machine does when all processors are busy, which is
    less than their number where they share caches or pipelines; workers: the kernels' threads in a party.
    """

    name: str
    costs: Mapping[str, float] = field(repr=False)
    prefetch: tuple[float, float] = (0.0, 0.0)
    frames: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    delayed: tuple[float, float] = (0.0, 0.0)
    wake: float = 0.0
    late: float = 0.0
    deal: float = 0.0
    cores: float = 2.0
    workers: int = 1
    kernels: str = ""
    about: str = ""

    def seconds(self, work: Work) -> float:
        """What a piece of work takes alone on the machine. An operation that was not calibrated raises InputError."""
        total = 0.0
        for feature, amount in work.items():
            if feature not in self.costs:
                raise InputError(f"device {self.name!r} was not calibrated for '{feature}': run `roundelay calibrate`")
            total += self.costs[feature] * amount
        return total

    def frame(self, transport: str, size: int, emulated: bool = False) -> float:
        """Seconds of a processor that one end spends on a frame, of the delayed channel too if `emulated`."""
        if transport not in self.frames:
            known = ", ".join(sorted(self.frames)) or "none"
            raise InputError(f"device {self.name!r} was not calibrated for transport {transport!r}, only for {known}")
        (each, byte), (more, a_byte) = self.frames[transport], self.delayed if emulated else (0.0, 0.0)
        return each + more + (byte + a_byte) * size

    def chunk(self, size: int) -> float:
        """Seconds of a processor that bring `size` bytes of tape into memory."""
        return self.prefetch[0] + self.prefetch[1] * size

    def free(self) -> Device:
        """The same, with work that takes no time: what the network alone would take."""
        nothing = dict.fromkeys(self.costs, 0.0)
        frames = dict.fromkeys(self.frames, (0.0, 0.0))
        none = (0.0, 0.0)
        return replace(self, costs=nothing, prefetch=none, frames=frames, delayed=none, wake=0.0, late=0.0, deal=0.0)

    def scaled(self, call: float, unit: float | None = None) -> Device:
        """The same, where what a call of an operation, a frame or a block takes besides its size takes `call` times as
        long, and what every unit and byte takes `unit` times; without the latter, `call` is for both."""
        size = call if unit is None else unit

        def both(line: tuple[float, float]) -> tuple[float, float]:
            return line[0] * call, line[1] * size

        costs = {name: seconds * (size if "." in name else call) for name, seconds in self.costs.items()}
        frames = {name: both(line) for name, line in self.frames.items()}
        return replace(self, costs=costs, prefetch=both(self.prefetch), frames=frames, delayed=both(self.delayed))

    def as_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=1)

    @staticmethod
    def from_json(text: str, where: str = "the device") -> Device:
        """The inverse of `to_json`. Raises InputError for anything else."""
        try:
            data = json.loads(text)
            known = data.pop("format")
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            raise InputError(f"{where} is not a device as `roundelay calibrate` writes it") from None
        if known != FORMAT:
            raise InputError(
                f"{where} has device format {known}, this program reads {FORMAT}: run `roundelay calibrate`"
            )
        return _device(data, where)

    @staticmethod
    def read(path: Path) -> Device:
        """Raises InputError if there is no such file, or no device in it."""
        try:
            return Device.from_json(path.read_text(), str(path))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise InputError(f"cannot read the device {path}: {reason}") from error


def _device(data: dict[str, Any], where: str) -> Device:
    try:
        data["costs"] = {str(k): _seconds(v) for k, v in data["costs"].items()}
        data["frames"] = {str(k): _both(v) for k, v in data["frames"].items()}
        data |= {name: _both(data[name]) for name in ("prefetch", "delayed")}
        data |= {name: _seconds(data[name]) for name in ("wake", "late", "deal")}
        data["cores"] = _seconds(data["cores"])
        if not 0 < data["cores"] <= 4096 or type(data["workers"]) is not int or not 1 <= data["workers"] <= 4096:
            raise ValueError
        return Device(**data)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{where} is a device with impossible or missing numbers: run `roundelay calibrate`") from None


def _both(value: Any) -> tuple[float, float]:
    each, byte = value
    return _seconds(each), _seconds(byte)


def _seconds(value: Any) -> float:
    number = float(value)
    if not (number >= 0 and math.isfinite(number)):
        raise ValueError
    return number
