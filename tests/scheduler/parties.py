"""Two executors on the tapes of one dealing, over channels of a test's choice, beside `run_local`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engine.dealer import deal
from engine.kernels import get_kernels
from engine.kernels.interface import Kernels
from engine.models.calibrate import calibrated, measured, quantise
from engine.models.compiled import PublicModel, public_of
from engine.parameters import Small
from engine.scheduler.executor import Executor
from engine.scheduler.link import Link
from engine.scheduler.plan import Plan
from engine.scheduler.timeline import Timeline
from engine.tape import MemoryTape, TapeHeader
from engine.testing.local import LocalRun, Setup, _derive, run_local, setup_weights
from engine.transport.channel import Channel
from tests.session.stage import SAMPLES, checkpoint, ids

Integers = dict[str, NDArray[np.int64]]


@lru_cache(maxsize=1)
def small_model() -> tuple[PublicModel, dict[str, Small]]:
    model = checkpoint()
    return public_of(model, calibrated(model, measured(model, SAMPLES))), quantise(model)


@dataclass
class Side:
    """What one party is left with."""

    outputs: Integers
    link: Link
    timeline: Timeline
    tape_read: int


@dataclass
class Parties:
    """One plan, one input, one set of weights; every run deals anew from the same seed."""

    plan: Plan
    inputs: Integers
    setup: Setup
    seed: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    kernels: Kernels = field(default_factory=get_kernels)

    @staticmethod
    def small(*texts: str) -> Parties:
        public, integers = small_model()
        sequences = ids(*texts)
        plan = public.plan([len(s) for s in sequences])
        return Parties(plan, public.inputs(sequences), setup_weights(plan, integers, get_kernels(), bytes(range(16))))

    def local(self) -> LocalRun:
        return run_local(self.plan, self.inputs, self.setup, self.kernels, seed=self.seed)

    def tapes(self) -> list[MemoryTape]:
        seeds = (_derive(self.seed, "seed 0"), _derive(self.seed, "seed 1"))
        tape_id = _derive(self.seed, "tape")
        tapes = [
            MemoryTape(TapeHeader(p, self.plan.digest, tape_id, seeds[p], self.plan.tape_bytes[p])) for p in (0, 1)
        ]
        deal(self.plan, self.kernels, seeds, tape_id, self.setup.dealer, (tapes[0], tapes[1]))
        return tapes

    def executor(self, party: int, channel: Channel, tape: MemoryTape, overlap: bool = True) -> Executor:
        inputs: Mapping[str, NDArray[np.int64]] = self.inputs if party == 0 else {}
        return Executor(
            self.plan, party, Link(channel), tape, self.kernels, self.setup.parties[party], inputs, overlap=overlap
        )

    async def side(self, executor: Executor) -> Side:
        tape = _Counting(executor.tape)  # type: ignore[arg-type]
        executor.tape = tape
        await executor.prepare()
        outputs = await executor.online()
        return Side(outputs, executor.link, executor.timeline, tape.count)

    async def run(self, channels: Sequence[Channel], overlap: bool = True) -> list[Side]:
        tapes = self.tapes()
        executors = [self.executor(p, channels[p], tapes[p], overlap) for p in (0, 1)]
        return list(await asyncio.gather(*(self.side(e) for e in executors)))


class _Counting:
    def __init__(self, tape: MemoryTape) -> None:
        self.header, self._tape, self.count = tape.header, tape, 0

    def read(self, count: int) -> NDArray[np.uint8]:
        self.count += count
        return self._tape.read(count)
