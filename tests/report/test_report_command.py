"""`roundelay report`: the page of both sides from what each wrote."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli.main import cli
from engine.report.recording import Side, Sides
from engine.report.trace import write_trace
from tests.docs.test_results import DOCUMENTED, fields
from tests.report.made import client, owner, recording


def written(path: Path, sides: Sides) -> str:
    whole = recording()
    write_trace(replace(whole, runs=(replace(whole.runs[0], sides=sides),)), path)
    return str(path)


def test_two_traces_make_one_page(tmp_path: Path) -> None:
    """The owner's clock is a day ahead."""
    mine = written(tmp_path / "client.json", (client(), None))
    theirs = written(tmp_path / "owner.json", (None, owner().moved(86_400.0)))
    page, trace = tmp_path / "run.html", tmp_path / "both.json"
    done = CliRunner().invoke(cli, ["report", mine, theirs, "-o", str(page), "--trace", str(trace), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert fields(said) == DOCUMENTED["report"][0]
    assert said["sides"] == [2] and said["bounds"][0]["kind"] == "compute"
    data = json.loads(re.findall(r'id="data">(.*?)</script>', page.read_text())[0])
    assert data["facts"]["traces"] == "2" and data["runs"][0]["span"] < 4
    assert json.loads(trace.read_text())["otherData"]["title"] == "bench made-up"


@pytest.mark.parametrize("side", [(client(), None), (None, owner())])
def test_one_trace_makes_a_page_of_one_side(side: tuple[Side | None, Side | None], tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli, ["report", written(tmp_path / "t.json", side), "-o", str(tmp_path / "p.html"), "--json"]
    )
    assert done.exit_code == 0 and json.loads(done.stdout)["sides"] == [1]


def test_what_is_no_trace(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}")
    done = CliRunner().invoke(cli, ["report", str(tmp_path / "t.json"), "-o", str(tmp_path / "p.html")])
    assert done.exit_code == 2 and not (tmp_path / "p.html").exists()
