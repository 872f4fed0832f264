"""Check a gate with one call: bit for bit against `clear`, on the seams, both parties, every cost against the plan.

    check_gate(gelu, MaskedInput(ring=40, scale=12, bound=31 << 12), reference=float_gelu, tolerance=2e-3)

Examples lie along a first axis, so that hundreds of them are one run. Everything is drawn from `seed`: a failure names
the seed and the example, and the same call meets it again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import BoundError, InputError
from engine.graph import Node
from engine.kernels import get_kernels
from engine.kernels.interface import Kernels
from engine.parameters import Small, small_integers
from engine.ring import U64, Words, reduce, to_ring, to_signed
from engine.scheduler.plan import PlannedCall
from engine.testing.accounts import differences
from engine.testing.declare import GateSpec, Input, MaskedInput, WeightInput
from engine.testing.local import LocalRun, run_local, setup_weights
from engine.testing.report import GateReport
from engine.testing.seams import draw_masks, draw_values, mask_seams, question_seams
from engine.testing.traced import TracedGate, trace

__all__ = ["check_gate", "check_spec", "is_small"]

Ints = NDArray[np.int64]
BATCH = 1 << 13
"""Examples in one run at most."""
LARGEST = 1 << 17
"""Combinations that an exhaustive check will visit."""


def check_gate(
    function: Callable[..., Any],
    *inputs: Input,
    reference: Callable[..., Any] | None = None,
    tolerance: float = 0.0,
    relative: float = 0.0,
    examples: int = 256,
    exhaustive: bool = False,
    seed: int = 0,
    kernels: Kernels | None = None,
) -> GateReport:
    """Trace the gate, plan it, deal, run both parties, compare; AssertionError with the example if anything differs.

    function: takes handles in the order of `inputs`; gives a Share, Masked, BitShare, Bit, Answer, or a tuple of them.
    reference: maps real arrays to real arrays; the result may differ by tolerance + relative |reference|. NaN is where
    nothing is asked of the gate.
    exhaustive: all values of the inputs with all masks, or with all masks on the seams where that is too many.
    Raises TraceError for a gate that is ill-typed, InputError for inputs that cannot be checked so."""
    name = getattr(function, "__name__", "gate")
    spec = GateSpec(name, function, inputs, reference, tolerance, relative)
    report = check_spec(spec, examples=examples, exhaustive=exhaustive, seed=seed, kernels=kernels)
    if not report.ok:
        raise AssertionError(str(report))
    return report


def check_spec(
    spec: GateSpec, *, examples: int = 256, exhaustive: bool = False, seed: int = 0, kernels: Kernels | None = None
) -> GateReport:
    """As `check_gate`, of a declared gate; what differs is in the report's `failures`."""
    kernels = kernels or get_kernels()
    _masked(spec)
    report = GateReport(spec.name, seed)
    batches = _all_points(spec) if exhaustive else _drawn_points(spec, examples, seed)
    for number, batch in enumerate(batches):
        report = _Batch(spec, number, batch, seed, kernels).judge(report)
        if len(report.failures) >= 8:
            break
    return report


@dataclass(frozen=True)
class Points:
    """Examples of one run: values of the masked inputs, and masks where they are chosen already."""

    values: tuple[Ints, ...]
    masks: tuple[Words, ...] | None = None

    @property
    def count(self) -> int:
        return len(self.values[0])


def _masked(spec: GateSpec) -> list[MaskedInput]:
    found = [i for i in spec.inputs if isinstance(i, MaskedInput)]
    if not found:
        raise InputError(f"{spec.name} has no masked input: nothing can be checked")
    return found


# ---------------------------------------------------------------------- drawn examples
def _drawn_points(spec: GateSpec, examples: int, seed: int) -> Iterator[Points]:
    probe = trace(spec, 1)
    near = [(*i.near, *question_seams(probe.graph, w)) for i, w in zip(_masked(spec), probe.wires, strict=True)]
    for number, start in enumerate(range(0, examples, BATCH)):
        rng = np.random.default_rng((seed, number, 1))
        n = min(BATCH, examples - start)
        yield Points(
            tuple(
                draw_values(rng, *i.domain, (n, *i.shape), extra, bool(i.shape))
                for i, extra in zip(_masked(spec), near, strict=True)
            )
        )


# ---------------------------------------------------------------------- all examples
def is_small(spec: GateSpec) -> bool:
    """Whether an exhaustive check is possible."""
    return math.prod(map(len, _axes(spec))) <= LARGEST


def _axes(spec: GateSpec) -> list[Sequence[int]]:
    """What each element of the inputs and each mask ranges over: all masks, or the seams where all are too many."""
    wires = [i for i in _masked(spec) for _ in range(math.prod(i.shape))]
    values = [range(i.domain[0], i.domain[1] + 1) for i in wires]
    masks = [range(1 << i.ring) for i in wires]
    if math.prod(map(len, values + masks)) <= LARGEST:
        return [*values, *masks]
    return [*values, *(mask_seams(i.ring) for i in wires)]


def _all_points(spec: GateSpec) -> Iterator[Points]:
    ranges = _axes(spec)
    total = math.prod(map(len, ranges))
    if total > LARGEST:
        raise InputError(f"{spec.name} has {total} cases of value and mask, over {LARGEST}: check a smaller ring")
    half = len(ranges) // 2
    axes = [np.array(r, np.int64 if i < half else np.uint64) for i, r in enumerate(ranges)]
    for start in range(0, total, BATCH):
        yield _slice_of(spec, axes, np.arange(start, min(start + BATCH, total)))


def _slice_of(spec: GateSpec, axes: list[NDArray[Any]], index: Ints) -> Points:
    columns = []
    for axis in axes:
        columns.append(axis[index % len(axis)])
        index = index // len(axis)
    values, masks, half = [], [], len(columns) // 2
    for i in _masked(spec):
        k = math.prod(i.shape)
        shape = (len(index), *i.shape)
        values.append(np.stack(columns[:k], 1).reshape(shape))
        masks.append(np.stack(columns[half : half + k], 1).reshape(shape))
        columns, half = [*columns[k:half], *columns[half + k :]], half - k
    return Points(tuple(values), tuple(masks))


# ---------------------------------------------------------------------- one run
@dataclass
class _Batch:
    """One run, judged: outputs and every opening against clear, costs against the plan, reals against the reference."""

    spec: GateSpec
    number: int
    points: Points
    seed: int
    kernels: Kernels
    shares: dict[int, Ints] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng((self.seed, self.number, 2))
        self.traced: TracedGate = trace(self.spec, self.points.count)
        self.weights = self._weights()

    def judge(self, report: GateReport) -> GateReport:
        report = self.traced.account(report, self.points.count)
        try:
            run = self._run()
        except (BoundError, AssertionError) as error:
            return replace(report, mismatches=report.mismatches + 1, failures=(*report.failures, str(error)))
        costs = tuple(f"{self.spec.name}: {d}" for d in differences(self.traced.plan, run))
        return self._outputs(run, self._openings(run, replace(report, failures=report.failures + costs)))

    def _weights(self) -> dict[str, Small]:
        found = [i for i in self.spec.inputs if isinstance(i, WeightInput)]
        drawn = (draw_values(self.rng, -w.bound, w.bound, w.shape) for w in found)
        return {f"w{k}": small_integers(values) for k, values in enumerate(drawn)}

    def _run(self) -> LocalRun:
        key = self.rng.bytes(16)
        setup = setup_weights(self.traced.plan, self.weights, self.kernels, key)
        return run_local(
            self.traced.plan, {f"x{k}": v for k, v in enumerate(self.points.values)}, setup, self.kernels, check=True,
            seed=self.rng.bytes(16), masks=self._choose, seen=self._seen, clear_kernels=get_kernels("numpy"),
        )  # fmt: skip

    def _seen(self, _call: PlannedCall, node: Node, value: Ints) -> None:
        self.shares[node.index] = value

    def _choose(self, _call: int, node: Node) -> Words:
        """The mask of an input or opening: those of an exhaustive check, else drawn with its value in sight."""
        if node.index in self.traced.wires and self.points.masks is not None:
            return self.points.masks[self.traced.wires.index(node.index)]
        if node.type.kind == "bit":
            return self.rng.integers(0, 2, node.type.shape, np.uint64)
        source = self.points.values[int(node.text("name")[1:])] if node.op == "input" else self.shares[node.inputs[0]]
        return draw_masks(self.rng, node.type.ring, to_ring(source, node.type.ring))

    # -- comparisons
    def _openings(self, run: LocalRun, report: GateReport) -> GateReport:
        """x_hat - r of every masked wire is what clear saw; the first that differs is where the fault lies."""
        for (_, index), x_hat in run.opened.items():
            node = self.traced.graph[index]
            if node.type.kind == "bit":
                continue
            got = to_signed(reduce(x_hat - run.masks[0, index].astype(U64), node.type.ring), node.type.ring)
            wrong = got != self.shares[index]
            if node.type.kind == "answer":  # what is opened is sigma T
                wrong &= got != -self.shares[index]
            if wrong.any():
                return self._fail(report, wrong, f"{node.origin}: '{node.op}' differs from clear")
        return report

    def _outputs(self, run: LocalRun, report: GateReport) -> GateReport:
        wrong: Any = np.zeros(self.points.count, bool)
        for name, expected in run.predicted.items():
            differs = run.outputs[name] != expected
            report = replace(report, evaluations=report.evaluations + (differs.size if name.endswith("to 0") else 0))
            wrong = wrong | _by_example(differs)
        if wrong.any():
            report = replace(report, mismatches=report.mismatches + int(wrong.sum()))
            report = self._fail(report, wrong, f"{self.spec.name}: the output differs from clear")
        return report if self.spec.reference is None else self._reals(run, report)

    def _reals(self, run: LocalRun, report: GateReport) -> GateReport:
        assert self.spec.reference is not None
        wanted = self.spec.reference(*self._arguments())
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        for k, (scale, want) in enumerate(zip(self.traced.scales, wanted, strict=True)):
            got = run.outputs[f"y{k} to 0"] / 2.0**scale
            want = np.broadcast_to(np.asarray(want, np.float64), got.shape)
            error = np.nan_to_num(np.abs(got - want))
            report = replace(report, max_error=max(report.max_error or 0.0, float(error.max())))
            far = error > self.spec.tolerance + self.spec.relative * np.abs(np.nan_to_num(want))
            if far.any():
                worst = float(error[far].max())
                report = self._fail(report, far, f"{self.spec.name}: off the reference by up to {worst:.3g}")
        return report

    def _arguments(self) -> list[NDArray[np.float64]]:
        masked, weights = iter(self.points.values), iter(self.weights.values())
        source: Mapping[type, Iterator[NDArray[Any]]] = {MaskedInput: masked, WeightInput: weights}
        return [next(source[type(i)]) / 2.0**i.scale for i in self.spec.inputs]

    def _fail(self, report: GateReport, wrong: NDArray[Any], what: str) -> GateReport:
        bad = _by_example(wrong)
        example = int(np.argmax(bad))
        values = ", ".join(str(v[example].tolist()) for v in self.points.values)
        where = f"seed {self.seed}, batch {self.number}, example {example}: x = {values}"
        sentence = f"{what} in {int(bad.sum())} of {bad.size} examples; first at {where}"
        return replace(report, failures=(*report.failures, sentence))


def _by_example(wrong: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(wrong.reshape(len(wrong), -1).any(axis=1))
