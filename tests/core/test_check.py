"""The checker checked: it passes what is right, and names what is wrong, where, and how to see it again."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from engine.errors import InputError, TraceError
from engine.gates.fss import at_least, interval
from engine.gates.polynomial import polynomial
from engine.gates.relu import relu
from engine.graph import Graph, WireType
from engine.kernels.interface import Kernels
from engine.scheduler.plan import Call, Plan, Program, segment
from engine.testing.accounts import differences
from engine.testing.check import check_gate, check_spec
from engine.testing.declare import MaskedInput, WeightInput, declare, spec_of
from engine.testing.fuzz import find_gate, fuzz, names
from engine.testing.local import LocalRun, run_local
from engine.testing.registry import gates
from engine.wires import Masked, Share

RELU = {"reference": lambda x: np.maximum(x, 0), "examples": 300}


class Faulty:
    """Kernels of which one function is spoiled after it ran."""

    def __init__(self, inner: Kernels, name: str, spoil: Callable[..., None]) -> None:
        self._inner, self._name, self._spoil = inner, name, spoil

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._inner, name)
        if name != self._name:
            return function

        def spoiled(*args: Any) -> Any:
            result = function(*args)
            self._spoil(*args)
            return result

        return spoiled


def faulty(kernels: Kernels, name: str, spoil: Callable[..., None]) -> Kernels:
    return cast(Kernels, Faulty(kernels, name, spoil))


def flip_at_zero(*args: Any) -> None:
    """Party 1 answers wrongly where x_hat is 0: one point of the ring in 2^40."""
    if args[0] == 1:
        args[-1][0][args[6] == 0] ^= 1


def wrong_sign(*args: Any) -> None:
    args[-1][::5] ^= 1


def lost_carry(*args: Any) -> None:
    out, w = args[-1], args[-2]
    if w == 19:
        out[out & np.uint64(31) == 31] -= np.uint64(31)


# ---------------------------------------------------------------------- what it finds
def test_a_sound_gate_passes_and_says_what_it_costs(kernels: Kernels) -> None:
    report = check_gate(relu, MaskedInput(40, 12, 31 << 12), kernels=kernels, **RELU)
    assert report.ok and (report.evaluations, report.mismatches, report.max_error) == (300, 0, 0.0)
    assert report.rounds == 2 and report.tape_bytes == (16 * 13, 16 * 13 + 3 * 5)
    assert report.online_bytes == (38 / 300, 38 / 300) and report.prepare_bytes == (0, 0)
    assert json.loads(json.dumps(report.as_dict()))["ok"] is True


def test_a_fault_at_one_point_of_the_ring_is_found(kernels: Kernels) -> None:
    """Uniform masks would meet x_hat = 0 once in 2^40: the seams make it common."""
    with pytest.raises(AssertionError, match="the output differs from clear") as caught:
        check_gate(relu, MaskedInput(40, 12, 31 << 12), kernels=faulty(kernels, "dpf_eval", flip_at_zero), **RELU)
    assert "seed 0, batch 0, example" in str(caught.value) and "x = " in str(caught.value)


def test_the_first_wrong_opening_is_named(kernels: Kernels) -> None:
    def gate(x: Masked) -> Share:
        y = polynomial(x * x, 19, 1 << 17).open()
        return polynomial(y + 1, 19)

    with pytest.raises(AssertionError, match=r"test_check.py:\d+: 'open' differs from clear"):
        check_gate(gate, MaskedInput(20, bound=300), kernels=faulty(kernels, "poly", lost_carry), examples=400)


def test_a_wrong_sign_of_an_answer_is_found(kernels: Kernels) -> None:
    report = check_spec(gates()["lookup"], examples=100, kernels=faulty(kernels, "dpf_gen", wrong_sign))
    assert not report.ok and report.mismatches > 5


def test_a_result_off_its_reference_is_found(kernels: Kernels) -> None:
    with pytest.raises(AssertionError, match=r"off the reference by up to 1 in \d+ of 255 examples"):
        check_gate(lambda x: at_least(x, 1), MaskedInput(8), reference=lambda x: x >= 0, examples=255, kernels=kernels)


def test_a_broken_claim_is_found(kernels: Kernels) -> None:
    with pytest.raises(AssertionError, match=r"test_check.py:\d+: .* exceeds the bound"):
        check_gate(lambda x: x.bounded(99), MaskedInput(12, bound=100), examples=300, kernels=kernels)


def test_no_reference_is_asked_for_where_it_is_nan(kernels: Kernels) -> None:
    def reference(x: Any) -> Any:
        return np.where(x > 0, x, np.nan)

    report = check_gate(relu, MaskedInput(12), reference=reference, kernels=kernels)
    assert report.ok and report.max_error == 0.0


def test_same_seed_same_report(kernels: Kernels) -> None:
    bad = faulty(kernels, "dpf_eval", flip_at_zero)
    spec = gates()["relu"]
    reports = [check_spec(spec, examples=200, seed=s, kernels=bad) for s in (3, 3, 4)]
    assert reports[0] == reports[1] != reports[2]


def test_batches_go_on_after_a_failure_and_stop_in_the_end(kernels: Kernels) -> None:
    bad = faulty(kernels, "dpf_eval", flip_at_zero)
    report = check_gate_report(bad, examples=20_000)
    assert report.evaluations == 20_000 and 2 <= len(report.failures) <= 8


def check_gate_report(kernels: Kernels, examples: int) -> Any:
    spec = replace(gates()["relu"], reference=None)
    return check_spec(spec, examples=examples, kernels=kernels)


# ---------------------------------------------------------------------- accounts
def small_run(kernels: Kernels) -> tuple[Plan, LocalRun]:
    graphs = [Graph("relu"), Graph("again")]
    for number, g in enumerate(graphs):
        x = Masked(g, g.add("input", (), WireType("masked", (9,), 20, 4, 1000), owner=0, name="x"))
        relu(x).reveal(0, f"y{number}")
    plan = Plan(Program(tuple(segment(g) for g in graphs), (Call(0, "relu"), Call(1, "again"))))
    return plan, run_local(plan, {"x": np.arange(-4, 5)}, None, kernels)


def spoil_bytes(run: LocalRun) -> None:
    run.bytes_sent[1] += 1


def spoil_prepare(run: LocalRun) -> None:
    run.prepare_bytes[0] += 1


def spoil_rounds(run: LocalRun) -> None:
    run.rounds -= 1


def spoil_tape(run: LocalRun) -> None:
    key = next(k for k in run.tape_read if k[2] == 1)
    run.tape_read[key] -= 8


def spoil_message(run: LocalRun) -> None:
    run.messages[0] = replace(run.messages[0], data=run.messages[0].data[1:])


def spoil_seed(run: LocalRun) -> None:
    run.drawn["parties"][0].pop()


def spoil_seed_beyond(run: LocalRun) -> None:
    run.drawn["dealer"][1].add((10**6, 4))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (spoil_bytes, "online bytes of party 1: planned"), (spoil_prepare, "prepare bytes of party 0: planned 0"),
        (spoil_rounds, "rounds: planned 6, counted 5"), (spoil_tape, "bytes of tape 1, its reader took"),
        (spoil_message, "'input' planned"), (spoil_seed, "planned words are never drawn"),
        (spoil_seed_beyond, "is beyond the"),
    ],
)  # fmt: skip
def test_every_account_is_kept(spoil: Callable[[LocalRun], None], sentence: str, kernels: Kernels) -> None:
    plan, run = small_run(kernels)
    assert differences(plan, run) == []
    spoil(run)
    assert any(sentence in d for d in differences(plan, run))


# ---------------------------------------------------------------------- what it refuses
@pytest.mark.parametrize(
    ("gate", "wires", "sentence"),
    [
        (lambda x: 3, (MaskedInput(8),), "gives a value of type int"),
        (lambda w: w, (WeightInput((3,)),), "no masked input"),
        (lambda x: None, (MaskedInput(8),), "gives a value of type NoneType"),
        (relu, (MaskedInput(8, low=5, high=3),), "domain"),
        (relu, (MaskedInput(8, low=-300),), "not inside the bound 127"),
        (relu, (MaskedInput(8, bound=128),), "does not fit a ring of 8 bits"),
        (lambda x: x.reduce(9), (MaskedInput(8),), "lift it"),
    ],
)
def test_what_cannot_be_checked(gate: Any, wires: tuple[Any, ...], sentence: str, kernels: Kernels) -> None:
    with pytest.raises(InputError, match=sentence):
        check_gate(gate, *wires, kernels=kernels)


def test_an_exhaustive_check_knows_its_limit(kernels: Kernels) -> None:
    with pytest.raises(InputError, match="over 131072: check a smaller ring"):
        check_gate(relu, MaskedInput(30), exhaustive=True, kernels=kernels)
    report = check_gate(lambda x: interval(x, -9, 30), MaskedInput(12), exhaustive=True, kernels=kernels)
    assert report.evaluations == 4095 * 16  # all values, masks on the seams


# ---------------------------------------------------------------------- fuzz by name and by file
def test_fuzz_by_name(kernels: Kernels) -> None:
    report = fuzz("gelu", examples=50, seed=7, kernels=kernels)
    assert report.ok and (report.name, report.seed, report.evaluations) == ("gelu", 7, 50)
    assert {"interval", "lookup", "softmax", "layer_norm", "matmul owned by 1"} <= set(names())
    assert find_gate("relu") is gates()["relu"]


def test_fuzz_is_exhaustive_where_that_is_possible(kernels: Kernels) -> None:
    assert fuzz("interval", examples=50, exhaustive=True, kernels=kernels).evaluations == 50 + 127 * 128
    assert fuzz("gelu", examples=50, exhaustive=True, kernels=kernels).evaluations == 50


FILE = '''
from engine.gates.polynomial import polynomial
from engine.testing.declare import MaskedInput, declare

@declare(MaskedInput(ring=20, scale=8, bound=4 << 8), reference=lambda x: x**3, tolerance=2**-20)
def cube(x):
    """x^3 at scale 24."""
    return polynomial(x * x * x, 40)

@declare(MaskedInput(ring=20, scale=8, bound=4 << 8), reference=lambda x: x**2, tolerance=0.5)
def wrong(x):
    return polynomial(x * x * x, 40)

@declare(MaskedInput(ring=20, scale=8, bound=4 << 8))
def ill_typed(x):
    y = x.truncate(4)
    return y.reduce(30)

@declare(MaskedInput(ring=20, scale=8, bound=4 << 8))
def raises(x):
    return x.no_such_method()

def plain(x):
    return x

number = 3
'''


def test_fuzz_by_file(tmp_path: Path, kernels: Kernels) -> None:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    report = fuzz(f"{path}:cube", examples=100, kernels=kernels)
    assert report.ok and report.name == "cube" and report.evaluations == 100
    report = fuzz(f"{path}:wrong", examples=100, kernels=kernels)
    assert not report.ok and report.mismatches == 0 and "off the reference" in report.failures[0]
    with pytest.raises(TraceError, match=r"^mine.py:17: cannot reduce ring 16"):
        fuzz(f"{path}:ill_typed", kernels=kernels)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no such gate", "no gate is called 'no such gate': give FILE.py:function, or one of truncate"),
        ("{}/missing.py:f", "there is no Python file .*missing.py"),
        ("{}/mine.txt:f", "there is no Python file"),
        ("{}/mine.py:nothing", "defines no function 'nothing'"),
        ("{}/mine.py:number", "defines no function 'number'"),
        ("{}/mine.py:plain", "does not say what it takes: put @declare"),
        ("{}/mine.py:raises", r"mine.py:21: .*mine.py:raises failed with AttributeError"),
        ("{}/broken.py:f", "broken.py:1: "),
        ("{}/fails.py:f", r"fails.py:2: .*fails.py failed with ZeroDivisionError"),
    ],
)
def test_fuzz_refuses_with_a_sentence(name: str, sentence: str, tmp_path: Path, kernels: Kernels) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "mine.txt").write_text(FILE)
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "fails.py").write_text("x = 0\n1 / x\n")
    with pytest.raises(InputError, match=sentence):
        fuzz(name.format(tmp_path), kernels=kernels)
    with pytest.raises(InputError, match="at least one example"):
        fuzz("relu", examples=0, kernels=kernels)


def test_declare_leaves_the_function_as_it_is() -> None:
    def gate(x: Masked) -> Share:
        return relu(x)

    wire = MaskedInput(8)
    assert declare(wire, tolerance=0.5)(gate) is gate
    spec = spec_of(gate, "gate")
    assert (spec.name, spec.function, spec.inputs, spec.tolerance) == ("gate", gate, (wire,), 0.5)
