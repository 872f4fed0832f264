"""`networks`, `simulate`, `sweep` and `calibrate` as commands."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from engine.bench import calibration
from engine.bench.calibration import Calibration
from engine.bench.fit import Fitted
from engine.cli import calibrate as command
from simulators.profiles import PROFILES
from tests.cli.conftest import Call
from tests.simulators.devices import device


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    (tmp_path / "device.json").write_text(device().to_json())
    return tmp_path / "device.json"


def test_networks_lists_the_profiles_with_their_one_way_delay(call: Call) -> None:
    rows = call("networks", "--json").json["networks"]
    assert [r["name"] for r in rows] == list(PROFILES)
    assert all(r["one_way"] == r["rtt"] / 2 and len(r["bandwidth"]) == 2 for r in rows)
    assert "wan-300m-60ms" in call("networks").out


def test_networks_describes_ones_own(call: Call) -> None:
    (row,) = call("networks", "rtt=30ms,bandwidth=100mbit,back=20mbit,loss=0.01%", "--json").json["networks"]
    assert row["bandwidth"] == [100e6, 20e6] and row["loss"] == pytest.approx(1e-4)
    assert row["rate"][0] < 100e6 and row["rate"][1] == 20e6


def test_an_unknown_network_is_answered_with_the_nearest(call: Call, made_up: Path) -> None:
    for args in (("networks", "wan-300"), ("simulate", "--shape", "bert-tiny", "--network", "wan-300")):
        done = call(*args)
        assert done.code == 2 and "did you mean wan-300m-60ms" in done.err


def test_simulate_equals_the_plan(call: Call, made_up: Path) -> None:
    args = ("--shape", "bert-tiny", "--tokens", "16", "--tokens", "5")
    data = call("simulate", *args, "--network", "lan-1g,wan-300m-60ms", "--device", made_up, "--json").json
    plan = call("plan", *args, "--json").json
    assert data["digest"] == plan["digest"] and data["tokens"] == [16, 5]
    lan, wan = data["networks"]
    assert wan["seconds"]["online"] > lan["seconds"]["online"] > 0
    assert sum(lan["bytes_sent"]) >= sum(plan["bytes_sent"]) and lan["rounds"] == wan["rounds"] >= plan["rounds"]
    for row in (lan, wan):
        assert row["seconds"]["online"] >= max(row["alone_seconds"].values())


def test_simulate_runs_in_virtual_time(call: Call, made_up: Path) -> None:
    args = ("bert-tiny", "--tokens", "4", "--network", "rtt=20ms,bandwidth=50mbit,jitter=1ms", "--device", made_up)
    first, again = (call("simulate", *args, "--run", "--json").json["networks"][0] for _ in range(2))
    assert first == again
    assert first["ran"]["seconds"]["online"] == pytest.approx(first["seconds"]["online"], rel=1e-9)
    assert (first["ran"]["rounds"], first["ran"]["bytes_sent"]) == (first["rounds"], first["bytes_sent"])


def test_simulate_writes_a_page(call: Call, made_up: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert (
        call("simulate", "--shape", "bert-tiny", "--network", "lan-1g", "--device", made_up, "--report", page).code == 0
    )
    assert "bert-tiny" in page.read_text()


def test_sweep_makes_a_table_a_csv_and_a_picture(call: Call, made_up: Path, tmp_path: Path) -> None:
    table, picture = tmp_path / "rows.csv", tmp_path / "rows.svg"
    data = call(
        "sweep", "bert-tiny", "minilm", "--network", "lan-1g", "--network", "wan-100m-80ms", "--tokens", "8",
        "--weights", "public", "--device", made_up, "--csv", table, "--picture", picture, "--json",
    ).json  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert len(rows) == len(data["rows"]) == 4
    assert [(r["model"], r["network"]) for r in rows] == [(r["model"], r["network"]) for r in data["rows"]]
    assert all(
        float(r["online"]) == pytest.approx(d["online"], abs=1e-6) for r, d in zip(rows, data["rows"], strict=True)
    )
    assert picture.read_text().lstrip().startswith("<?xml") and "wan-100m-80ms" in picture.read_text()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("simulate", "--network", "lan-1g"), "give either MODEL or --shape"),
        (("simulate", "bert-tinny", "--network", "lan-1g"), "did you mean bert-tiny"),
        (("simulate", "--shape", "bert-tiny", "--network", "lan-1g", "--tokens", "9999"), "1 to 512 tokens"),
        (("simulate", "--shape", "bert-tiny", "--network", "lan-1g", "--cores", "-1"), "positive number of cores"),
        (("simulate", "--shape", "bert-tiny", "--network", "lan-1g", "--run"), "cannot be run|not run here"),
        (("simulate", "--shape", "bert-tiny", "--network", "rtt=1ms,bandwidth=0bit"), "must be positive"),
        (("simulate", "--shape", "bert-tiny", "--network", "rtt=1ms,bandwidth=1bit,loss=50%"), "loss must be"),
        (("simulate", "--shape", "bert-tiny", "--network", "lan-1g", "--variants", "exp=laef"), "no variant exp=laef"),
        (("simulate", "--shape", "bert-tiny", "--network", "lan-1g", "--device", "/none"), "cannot read the device"),
        (("sweep", "bert-tiny", "--network", "lan-1g", "--picture", "x.gif"), "ends in .svg"),
    ],
)
def test_wrong_arguments_get_one_sentence(call: Call, made_up: Path, args: tuple[str, ...], says: str) -> None:
    import re

    given = args if "--device" in args else (*args, "--device", str(made_up))
    done = call(*given)
    assert done.code == 2 and re.search(says, done.err), done.err


def test_calibrate_writes_a_device_that_predictions_then_use(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDELAY_HOME", str(tmp_path / "home"))
    found = Calibration(device(), (Fitted("dpf", 3, 1.0, 0.1),))
    monkeypatch.setattr(command, "run_calibration", lambda *_: found)
    data = call("calibrate", "--json").json
    assert Path(data["file"]) == tmp_path / "home" / "device.json" and data["fitted"][0]["operation"] == "dpf"
    told = call("simulate", "--shape", "bert-tiny", "--network", "lan-1g", "--json").json["networks"][0]
    assert told["device"] == "made up"
    assert calibration.RUNS > 1


def test_what_is_printed_is_what_the_page_of_results_says(call: Call, made_up: Path) -> None:
    from tests.docs.test_results import DOCUMENTED, fields

    given = ("--network", "lan-1g", "--device", made_up, "--json")
    whole, prediction = DOCUMENTED["simulate"]
    data = call("simulate", "bert-tiny", "--tokens", "3", "--run", *given).json
    assert fields(data) == whole
    row = data["networks"][0]
    assert fields({**row, "network": "", "ran": ""}) == prediction
    assert fields(call("sweep", "bert-tiny", "--tokens", "3", *given).json) == DOCUMENTED["sweep"][0]
    assert fields(call("networks", "--json").json) == DOCUMENTED["networks"][0]
    described = device().as_dict()
    flat = {f"device.{name}" for name in described} | {"file", "fitted[]"}
    assert flat == DOCUMENTED["calibrate"][0]
