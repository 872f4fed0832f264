"""Devices as files, fits, and that a calibration prices everything."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.bench.fit import Sample, fit, fitted
from engine.bench.folder import Job
from engine.bench.gateloads import gelu_load
from engine.bench.inplace import Found, factors
from engine.bench.modelloads import bert_load
from engine.bench.report import BenchReport, Run
from engine.bench.workload import Workload
from engine.errors import InputError
from engine.result import Accuracy
from engine.scheduler.plan import Plan
from simulators.device import Device
from simulators.profiles import Network
from tests.simulators.devices import device


def test_a_device_is_what_its_file_says(tmp_path: Path) -> None:
    made = device()
    (tmp_path / "device.json").write_text(made.to_json())
    assert Device.read(tmp_path / "device.json") == made


def changed(**changes: object) -> str:
    return json.dumps(device().as_dict() | changes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a device"),
        ("[]", "is not a device"),
        ("{}", "is not a device"),
        (changed(format=99), "has device format 99"),
        (changed(costs={"dpf": -1.0}), "impossible or missing numbers"),
        (changed(costs={"dpf": float("nan")}), "impossible or missing numbers"),
        (changed(costs=None), "impossible or missing numbers"),
        (changed(frames={"tcp": [1.0]}), "impossible or missing numbers"),
        (changed(delayed=[1.0, -1.0]), "impossible or missing numbers"),
        (changed(format=1), "has device format 1, this program reads 2: run `roundelay calibrate`"),
        (changed(cores=0), "impossible or missing numbers"),
        (changed(workers=1.5), "impossible or missing numbers"),
        (changed(colour="red"), "impossible or missing numbers"),
    ],
)
def test_anything_else_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Device.from_json(text, "the file")


def test_no_file_and_no_text(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, says in (("missing", "No such file"), ("binary", "not text")):
        with pytest.raises(InputError, match=says):
            Device.read(tmp_path / name)


def test_work_that_was_not_calibrated_is_named() -> None:
    with pytest.raises(InputError, match="not calibrated for 'teleport'"):
        device().seconds({"teleport": 1})


def test_a_free_device_takes_no_time_and_a_scaled_one_as_much_more() -> None:
    made, work = device(), {"dpf": 2.0, "dpf.aes": 1000.0}
    assert made.free().seconds(work) == made.free().frame("tcp", 100, True) == made.free().chunk(100) == 0
    for cost in (lambda d: d.seconds(work), lambda d: d.frame("tcp", 100, True), lambda d: d.chunk(100)):
        assert cost(made.scaled(3)) == pytest.approx(3 * cost(made))


def test_calls_and_units_can_take_longer_by_different_factors() -> None:
    made, work = device(), {"dpf": 2.0, "dpf.aes": 1000.0}
    calls, units = made.scaled(1, 0), made.scaled(0, 1)
    for cost in (lambda d: d.seconds(work), lambda d: d.frame("tcp", 100, True), lambda d: d.chunk(100)):
        assert 0 < cost(calls) < cost(made) and 0 < cost(units) < cost(made)
        assert cost(made.scaled(3, 5)) == pytest.approx(3 * cost(calls) + 5 * cost(units))


def found(workload: Workload, network: Network, used: float) -> Found:
    """Runs of a workload that took so many processor seconds."""
    runs = tuple(Run({}, ({"cpu": {"online": used * 0.25}}, {"cpu": {"online": used * 0.75}})) for _ in range(2))
    return Found(BenchReport(workload, Plan(workload.program), Job(network=network), runs, Accuracy(0, 0, ())), network)


def test_runs_tell_how_much_longer_calls_and_units_take_in_them() -> None:
    made, near = device(), Network("near", 1e9, 8e-3)
    loads = (gelu_load("many units", 5000), bert_load("many calls", "bert-tiny", 3, layers=1))
    longer = made.scaled(2.5, 1.25)
    runs = tuple(found(load, near, found(load, near, 0.0).foretold(longer)) for load in loads)
    assert factors(made, (runs[0], runs[1])) == pytest.approx((2.5, 1.25), rel=1e-6)
    disturbed = (runs[0], found(loads[1], near, runs[1].used * 40))
    call, unit = factors(made, disturbed)
    assert call == unit == pytest.approx(runs[0].used / runs[0].foretold(made))


def test_a_frame_behind_the_delayed_channel_takes_what_that_channel_takes_besides() -> None:
    made = device()
    (each, byte), (more, a_byte) = made.frames["tcp"], made.delayed
    assert made.frame("tcp", 1000) == pytest.approx(each + 1000 * byte)
    assert made.frame("tcp", 1000, emulated=True) == pytest.approx(each + more + 1000 * (byte + a_byte))


# ---------------------------------------------------------------------- fits
def test_a_fit_finds_the_costs_that_made_the_samples() -> None:
    rng, true = np.random.default_rng(1), {"dpf": 2e-6, "dpf.aes": 3e-9, "add": 1e-6, "add.words": 1e-9}
    samples = []
    for n in rng.integers(10, 10**6, 40):
        for work in ({"dpf": 1.0, "dpf.aes": float(n)}, {"add": 2.0, "add.words": float(n)}):
            samples.append(Sample(work, sum(true[k] * v for k, v in work.items())))
    found = fit(samples)
    assert found == pytest.approx(true, rel=1e-6)
    assert all(f.missed < 1e-6 * f.seconds for f in fitted(samples, found))


def test_no_cost_is_negative() -> None:
    """More words took less time: noise."""
    found = fit([Sample({"add": 1.0, "add.words": n}, s) for n, s in ((10.0, 3e-6), (1000.0, 2e-6), (2000.0, 1e-6))])
    assert found["add.words"] == 0 and found["add"] == pytest.approx(2e-6, rel=0.5)


def test_the_device_that_comes_with_the_package_prices_every_feature() -> None:
    shipped = Device.read(Path(__file__).parents[2] / "simulators" / "devices" / "reference.json")
    assert set(device().costs) <= set(shipped.costs)
    assert shipped.about and {"memory", "tcp", "zeromq"} <= set(shipped.frames)
