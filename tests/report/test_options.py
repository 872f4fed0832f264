"""`--report` and `--trace` of the commands: refused before anything runs where they cannot be written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.bench.folder import Job
from engine.bench.recorded import recorded
from engine.bench.runner import bench
from engine.bench.workloads import build_workload
from engine.cli.main import cli
from engine.cli.reporting import shown
from engine.errors import InputError
from engine.report.results import PRIVATE
from engine.report.trace import read_trace
from engine.run import unwatched


@pytest.mark.parametrize("option", ["--report", "--trace"])
@pytest.mark.parametrize("command", [["bench", "gelu-1e5"], ["demo"], ["embed", "tcp://127.0.0.1:1", "a text"]])
def test_a_folder_that_is_not_there(option: str, command: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, [*command, option, str(tmp_path / "none" / "file")])
    assert isinstance(done.exception, InputError), done.output
    assert f"{option} " in str(done.exception) and "there is no folder" in str(done.exception)


def test_a_folder_in_the_files_place(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["bench", "gelu-1e5", "--report", str(tmp_path)])
    assert done.exit_code == 2 and "is a directory" in done.stderr


def test_a_benchmark_records_both_parties_of_every_run_only_if_asked(tmp_path: Path) -> None:
    load = build_workload("layernorm-128x768", 128)
    whole = recorded(bench(load, 2, Job("memory"), tmp_path, record=True))
    assert [run.name for run in whole.runs] == ["1 of 2", "2 of 2"]
    for run in whole.runs:
        for party, side in enumerate(run.sides):
            assert side is not None and set(side.phases) == {"prepare", "online"}
            sent = sum(e.bytes for e in side.events if e.lane == "send")
            assert sent == run.totals["bytes_sent"][party] + run.totals["prepare_bytes"][party]
            assert {"norm", "reciprocal"} <= {e.gate for e in side.events if e.lane == "evaluate"}
    assert not PRIVATE & whole.result.keys()
    assert bench(load, 1, Job("memory"), tmp_path).runs[0].sides == (None, None)
    assert list(tmp_path.iterdir()) == []


def test_a_trace_of_a_benchmark_is_complete(tmp_path: Path) -> None:
    arguments = ["bench", "layernorm-128x768", "--runs", "1", "--transport", "memory", "--json"]
    done = CliRunner().invoke(cli, [*arguments, "--trace", str(tmp_path / "t.json")])
    assert done.exit_code == 0, done.output
    whole = read_trace(tmp_path / "t.json")
    assert dict(whole.result) == json.loads(done.stdout) and len(whole.runs) == 1


def test_without_live_there_is_a_progress_bar() -> None:
    with shown(False, "running", "segments", "waiting") as (progress, watch):
        assert progress is not None and watch is unwatched
        progress(1, 2)
    with shown(True, "running", "segments", "waiting") as (progress, watch):
        assert progress is None and watch is not unwatched


def test_a_benchmark_with_a_live_view_prints_one_object_on_stdout() -> None:
    arguments = ["bench", "softmax-128x128", "--runs", "1", "--live", "--concurrent", "2", "--network", "lan-1g"]
    done = CliRunner().invoke(cli, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert data["concurrent"] == 2 and data["network"]["name"] == "lan-1g"
