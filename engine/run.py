"""One run of a plan by one party: its tape is verified before anything is sent, and spent before it is used."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import LocalError, TapeError
from engine.home import Home
from engine.kernels.interface import Kernels
from engine.meter import PeakMemory
from engine.parameters import Parameters
from engine.scheduler.executor import Executor
from engine.scheduler.link import Link
from engine.scheduler.pieces import PREPARE_BYTES
from engine.scheduler.plan import Plan
from engine.scheduler.timeline import Timeline
from engine.tape import TapeHeader, TapeReader

__all__ = ["Finished", "Progress", "Settings", "Watch", "open_fetched", "open_tape", "run_plan", "unwatched"]

log = logging.getLogger(__name__)
Bytes = NDArray[np.uint8]
Progress = Callable[[int, int], None]
Watch = Callable[[Plan, int, Timeline], AbstractContextManager[None]]
Integers = dict[str, NDArray[np.int64]]


def unwatched(_plan: Plan, _party: int, _timeline: Timeline) -> AbstractContextManager[None]:
    """Nobody looks."""
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run: progress is told (calls done, of how many); without overlap every round ends in a barrier; a run
    happens within `watch` (plan, party, timeline), which may look at the timeline meanwhile; `ahead` bytes of the tape
    are read in the prepare phase."""

    progress: Progress | None = None
    overlap: bool = True
    watch: Watch = unwatched
    ahead: int = PREPARE_BYTES


@dataclass(frozen=True, slots=True)
class Finished:
    """Outputs of this party, its measured report (plain JSON), its timeline, and the id of the tape that it took."""

    outputs: Integers = field(repr=False)
    report: dict[str, Any]
    timeline: Timeline = field(repr=False)
    tape: str


async def open_tape(home: Home, tape_id: bytes, party: int, bound: bytes) -> TapeReader:
    """Verify a tape that lies at home, every byte of it. A spent one is an error even if its file is still there.
    Raises TapeError."""
    return await _opened(home, home.tape(tape_id, party), tape_id, party, bound)


async def open_fetched(home: Home, tape_id: bytes, party: int, bound: bytes) -> TapeReader:
    """The same for a tape that a dealer's service has sent. It is for one run: its file goes now, so that a run that
    never begins leaves nothing behind; what is open is read on."""
    path = home.fetched(tape_id, party)
    try:
        return await _opened(home, path, tape_id, party, bound)
    finally:
        path.unlink(missing_ok=True)


async def _opened(home: Home, path: Path, tape_id: bytes, party: int, bound: bytes) -> TapeReader:
    name = tape_id.hex()[:12]
    if home.ledger.spent(tape_id, party):
        raise TapeError(f"tape {name} was spent already: deal a new one")
    if not path.exists():
        raise TapeError(
            f"this side has no tape {name}: both tapes of a pair are needed, bring it here or deal a new pair"
        )
    tape = await asyncio.to_thread(TapeReader.open, path, party, bound)
    if tape.header.tape != tape_id:
        tape.close()
        raise TapeError(f"{path} holds another tape than its name says: deal a new one")
    return tape


async def run_plan(
    link: Link, party: int, plan: Plan, tape: TapeReader, kernels: Kernels, parameters: Parameters, home: Home,
    inputs: Integers, settings: Settings,
) -> Finished:  # fmt: skip
    """Spend the tape, then prepare and run. Its file goes as it is spent: a run that fails cannot be tried again."""
    counted = _Counted(tape)
    try:
        home.ledger.spend(tape.header.tape, party)
        Path(tape.where).unlink(missing_ok=True)
        log.info("tape %s is spent; %d calls, %d rounds", tape.header.tape.hex()[:12], len(plan.calls), plan.rounds)
        timeline = Timeline()
        link.rounds, link.sent = set(), {"prepare": 0, "online": 0, "bulk": 0}
        executor = Executor(
            plan, party, link, counted, kernels, parameters, inputs, timeline, settings.progress, settings.overlap,
            settings.ahead,
        )  # fmt: skip
        with PeakMemory() as peak, settings.watch(plan, party, timeline):
            start = time.perf_counter()
            await executor.prepare()
            ready = time.perf_counter()
            outputs = await executor.online()
            stop = time.perf_counter()
    finally:
        tape.close()
    if counted.bytes != tape.header.body:
        raise LocalError("the run left some of its tape unread: a bug in the engine")
    report = {
        "prepare": ready - start, "online": stop - ready, "peak": peak.bytes, "rounds": len(link.rounds),
        "bytes_sent": link.sent["online"], "prepare_bytes": link.sent["prepare"], "tape_bytes": counted.bytes,
    }  # fmt: skip
    return Finished(outputs, report, timeline, tape.header.tape.hex())


class _Counted:
    """A tape that knows how much of it was read: what is reported is measured, not planned."""

    def __init__(self, tape: TapeReader) -> None:
        self.header: TapeHeader = tape.header
        self._tape, self.bytes = tape, 0

    def read(self, count: int) -> Bytes:
        self.bytes += count
        return self._tape.read(count)
