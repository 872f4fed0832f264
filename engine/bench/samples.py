"""Plans whose pieces a device is calibrated on: encoder and decoder blocks of several sizes and ownerships, and
gates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine.bench.gateloads import WIDE, gate_program
from engine.gates.fss import at_least
from engine.gates.matmul import matmul, weight
from engine.gates.relu import relu
from engine.graph import WireType
from engine.models.bert import bert
from engine.models.calibrate import default_ranges
from engine.models.gpt2 import GPT2_SHAPES, gpt2_program
from engine.models.gpt2_calibrate import default_gpt2_ranges
from engine.models.shapes import SHAPES
from engine.scheduler.plan import Plan, Program
from engine.testing.registry import gates
from engine.testing.traced import trace
from engine.wires import Masked, magnitude

__all__ = ["busy_plan", "sample_plans", "small_plan"]


def sample_plans() -> Iterator[Plan]:
    """Small ones first. Every operation that a declared gate, a model or a workload uses occurs, in two sizes."""
    for spec in gates().values():
        for examples in (2, 200):
            yield trace(spec, examples).plan
    for program in _programs():
        yield Plan(program)


def _programs() -> Iterator[Program]:
    for owner in (1, "public", "shared"):
        yield _encoder("bert-tiny", 8, owner)
    yield _encoder("bert-tiny", 96, "public")
    yield _encoder("minilm", 32, 1)
    yield _encoder("minilm", 48, "shared")
    yield _decoder(48)
    for rows in (8, 128):
        yield _wide_product(rows)
    yield _thresholds(20_000)
    yield _relu(100_000)
    yield _encoder("bert-base", 32, 1)
    yield _encoder("bert-base", 128, 1)


def _encoder(name: str, tokens: int, owner: int | str) -> Program:
    shape = replace(SHAPES[name], layers=1)
    return bert(shape, default_ranges(shape), (tokens,), owner=owner, embedding=False, head="mean")


def _decoder(tokens: int) -> Program:
    shape = replace(GPT2_SHAPES["gpt2"], layers=1)
    return gpt2_program(shape, default_gpt2_ranges(shape), (tokens,), head="hidden", embedding=False)


def _wide_product(rows: int) -> Program:
    """With the owner's weights, in a ring beyond 52 bits."""
    kind = WireType("masked", (rows, 256), 60, 12, magnitude(40))

    def gate(x: Masked) -> Masked:
        y = weight(x.graph, "w", (256, 512), owner=1, scale=12, bound=1 << 12, ring=60)
        return matmul(x, y, magnitude(56)).open()

    return gate_program(kind, gate)


def _thresholds(n: int) -> Program:
    kind = WireType("masked", (n,), 64, 0, (1 << 62) - 1)
    return gate_program(kind, lambda v: at_least(v, 0).open())


def _relu(n: int) -> Program:
    kind = WireType("masked", (n,), 19, 12, magnitude(17))
    return gate_program(kind, lambda x: relu(x, WIDE).open())


def small_plan() -> Plan:
    """Many steps with little work in each, without weights."""
    shape = replace(SHAPES["bert-tiny"], layers=1, hidden=16, heads=2, intermediate=24, max_positions=8)
    program = bert(shape, default_ranges(shape), (2,), owner="public", embedding=False, head="mean")
    return Plan(program)


def busy_plan() -> Plan:
    """Work of every kind, in proportion, that takes a tenth of a second."""
    return Plan(_encoder("bert-base", 48, 1))
