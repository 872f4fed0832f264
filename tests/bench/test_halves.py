"""Each party of a benchmark keeps to its half of the processors, unless it is told not to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from engine.bench.folder import Job
from engine.bench.gateloads import compare_load
from engine.bench.runner import bench, halves

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no process")


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        ({0, 1}, ((0,), (1,))),
        ({5, 1, 2}, ((1,), (2, 5))),
        ({3}, ((), ())),
        (set(range(8)), ((0, 1, 2, 3), (4, 5, 6, 7))),
    ],
)
def test_processors_are_halved(
    available: set[int], expected: tuple[tuple[int, ...], tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: available)
    assert halves() == expected


def test_where_a_process_cannot_choose_nothing_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert halves() == ((), ())


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("transport", ["tcp", "memory"])
def test_two_parties_run_on_processors_of_their_own(
    pinned: bool, transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[int, tuple[int, ...]] = {}

    def pin(pid: int, processors: Iterable[int]) -> None:
        told[pid] = tuple(processors)

    monkeypatch.setattr(os, "sched_setaffinity", pin)
    report = bench(compare_load("compare", 50), 1, Job(transport, pinned=pinned), tmp_path)
    assert report.as_dict()["pinned"] is pinned
    expected = [h for h in halves() if h] if pinned and transport == "tcp" else []
    assert sorted(told.values()) == sorted(expected)
