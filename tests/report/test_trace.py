"""Traces: Chrome's format, all that was recorded, and nothing written where it would not fit."""

from __future__ import annotations

import json
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.report import trace
from engine.report.recording import Side
from engine.report.trace import read_trace, trace_bytes, write_trace
from engine.scheduler.timeline import LANES
from tests.report.made import client, owner, recording


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    whole = recording()
    whole = replace(whole, runs=(replace(whole.runs[0], predicted=(client().moved(-10), None), rates=(1e9, 2e6)),))
    write_trace(whole, tmp_path / "t.json")
    again = read_trace(tmp_path / "t.json")
    assert [s and s.phases for s in again.runs[0].sides] == [client().phases, owner().phases]
    for mine, theirs in (
        (whole.runs[0].sides, again.runs[0].sides),
        (whole.runs[0].predicted, again.runs[0].predicted),
    ):
        for a, b in zip(mine, theirs, strict=True):
            assert (a is None) == (b is None)
            for e, f in zip(a.events if a else (), b.events if b else (), strict=True):
                assert (f.start, f.stop) == pytest.approx((e.start, e.stop), abs=2e-9)
                assert replace(f, start=0, stop=0) == replace(e, start=0, stop=0)

    def bare(r: trace.Recording) -> trace.Recording:
        return replace(r, runs=tuple(replace(x, sides=(None, None), predicted=(None, None)) for x in r.runs))

    assert bare(again) == bare(whole)


def test_viewers_get_what_they_need(tmp_path: Path) -> None:
    write_trace(recording(), tmp_path / "t.json")
    rows = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    complete = [r for r in rows if r["ph"] == "X"]
    assert len(complete) == len(client().events) + len(owner().events)
    assert all(r["dur"] >= 0 and {"name", "cat", "pid", "tid", "ts"} <= r.keys() for r in complete)
    threads = {(r["pid"], r["tid"]): r["args"]["name"] for r in rows if r.get("name") == "thread_name"}
    assert all(threads[r["pid"], r["tid"]] == r["cat"] and r["cat"] in LANES for r in complete)
    names = {r["pid"]: r["args"]["name"] for r in rows if r.get("name") == "process_name"}
    assert names == {1: "only: P0, client", 2: "only: P1, model owner"}
    arrows = [(r["ph"], r["id"], r["pid"]) for r in rows if r["ph"] in "sf"]
    assert arrows == [("s", "1.0", 1), ("f", "1.0", 2), ("s", "2.0", 2), ("f", "2.0", 1)]


def test_the_estimate_of_the_size_is_never_too_small(tmp_path: Path) -> None:
    run = recording().runs[0]
    large = Side([e for e in client().events for _ in range(500)], client().phases)
    many = replace(recording(), runs=(replace(run, sides=(large, large)),))
    write_trace(many, tmp_path / "t.json")
    assert (tmp_path / "t.json").stat().st_size < trace_bytes(many)


def test_a_trace_that_is_too_large_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(trace.shutil, "disk_usage", lambda _path: usage(1 << 40, 0, trace.SPARE_BYTES + 100))
    with pytest.raises(InputError, match=r"and .* has \d+ MB free: choose another place for --trace"):
        write_trace(recording(), tmp_path / "t.json")
    monkeypatch.setattr(trace, "LARGEST", 1000)
    with pytest.raises(InputError, match=r"more than .* that trace viewers open: use --report"):
        write_trace(recording(), tmp_path / "t.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"traceEvents": []}', '{"otherData": {"format": "x"}, "traceEvents": []}']
)
def test_what_is_no_trace_of_ours_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(InputError, match=r"t\.json is (not a trace|of the format)"):
        read_trace(tmp_path / "t.json")


def test_a_trace_with_an_unknown_lane_is_refused(tmp_path: Path) -> None:
    write_trace(recording(), tmp_path / "t.json")
    text = (tmp_path / "t.json").read_text().replace('"cat":"wait"', '"cat":"rest"')
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(InputError, match="not a trace"):
        read_trace(tmp_path / "t.json")


def test_a_missing_trace(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the trace"):
        read_trace(tmp_path / "none.json")
