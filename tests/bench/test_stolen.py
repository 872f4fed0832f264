"""What the host took of the processors: read, said with every run, and runs repeated for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.bench.folder import Job
from engine.bench.gateloads import compare_load
from engine.bench.runner import TRIES, bench
from engine.bench.stolen import Processors
from engine.cli.bench import bench as command
from engine.errors import InputError

LINE = "cpu  {user} 20 300 5000 40 0 6 {stolen} 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"


def at(folder: Path, user: int, stolen: int) -> Processors | None:
    stat = folder / "stat"
    stat.write_text(LINE.format(user=user, stolen=stolen))
    return Processors.now(stat)


def test_idle_processors_count_for_nothing(tmp_path: Path) -> None:
    before, after = at(tmp_path, 1000, 70), at(tmp_path, 1060, 90)
    assert before == Processors(1000 + 20 + 300 + 6, 70)
    assert before is not None and after is not None
    assert before.share_stolen(after) == 20 / (20 + 60)
    assert before.share_stolen(before) == 0


@pytest.mark.parametrize("text", ["", "cpu 1 2 3", "cpu a b c d e f g h"])
def test_a_system_that_does_not_tell(text: str, tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    assert Processors.now(stat) is None
    stat.write_text(text)
    assert Processors.now(stat) is None


def told(monkeypatch: pytest.MonkeyPatch, shares: Iterable[float]) -> None:
    """As if the host took these shares of the runs to come; one reading more is for the question whether it tells."""
    readings = [Processors(0, 0)]
    for share in shares:
        readings += [Processors(0, 0), Processors(round(1000 * (1 - share)), round(1000 * share))]
    queue = iter(readings)
    monkeypatch.setattr(Processors, "now", lambda: next(queue))


@pytest.mark.parametrize(
    ("shares", "kept"),
    [
        ([0.02, 0.01], [0.02, 0.01]),
        ([0.3, 0.01, 0.2, 0.02], [0.01, 0.02]),
        ([0.9, 0.5, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.95], [0.1, 0.2]),
    ],
)
def test_runs_are_repeated_until_enough_were_quiet(
    shares: list[float], kept: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, shares)
    steps: list[tuple[int, int]] = []
    report = bench(
        compare_load("compare", 20), 2, Job("memory"), tmp_path, lambda i, n: steps.append((i, n)), most_stolen=0.02
    )
    data = report.as_dict()
    assert data["stolen"] == kept and data["most_stolen"] == 0.02
    assert data["repeated"] == len(shares) - 2 and len(shares) <= TRIES * 2
    assert len(steps) == len(shares) and all(n == 2 for _, n in steps)
    assert len(data["seconds"]["online"]) == 2


def test_without_a_limit_no_run_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Processors, "now", lambda: None)
    data = bench(compare_load("compare", 20), 2, Job("memory"), tmp_path).as_dict()
    assert data["stolen"] == [None, None] and data["most_stolen"] is None and data["repeated"] == 0


def test_a_limit_that_cannot_be_kept_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Processors, "now", lambda: None)
    with pytest.raises(InputError, match="leave out --most-stolen"):
        bench(compare_load("compare", 20), 2, Job("memory"), tmp_path, most_stolen=0.02)


def test_the_table_says_what_the_host_took(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, [0.5, 0.25])
    monkeypatch.setattr("engine.cli.bench.build_workload", lambda *_: compare_load("compare", 20))
    options = ["compare-1e5", "--transport", "memory", "--runs", "1", "--most-stolen", "25"]
    found = CliRunner().invoke(command, options)
    assert found.exit_code == 0, found.output
    assert "taken by the host" in found.output and "25.0%" in found.output and "runs left out for that" in found.output
