"""Gathered events keep every sum, whatever the resolution, and a level is as small as its bins."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engine.report.blocks import Names, levels
from engine.scheduler.timeline import LANES, Event


def many(count: int) -> list[Event]:
    """Events of two lanes, one after another, of uneven lengths."""
    rng = np.random.default_rng(count)
    at, out = 5.0, []
    for i, (pause, length) in enumerate(rng.exponential(1e-4, (count, 2)).tolist()):
        start = at + pause
        at = start + length
        out.append(Event(("send", "evaluate")[i % 2], f"layer {i * 4 // count}", start, at, i // 10, i % 1000))
    return out


@pytest.mark.parametrize("whole", [0, 10_000])
def test_every_level_has_all_events_bytes_and_busy_time(whole: int) -> None:
    events, names = many(3000), Names()
    span = events[-1].stop - 5.0
    found = levels(events, 5.0, span, names, whole, (100, 1000))
    assert [level["bin"] == 0 for level in found] == ([False, False, True] if whole else [False, False])
    for level in found:
        for lane in LANES:
            mine, blocks = [e for e in events if e.lane == lane], level["lanes"][lane]
            assert sum(blocks.get("count", [])) == len(mine)
            assert sum(blocks.get("bytes", [])) == sum(e.bytes for e in mine)
            assert sum(blocks.get("busy", [])) == pytest.approx(
                sum(e.stop - e.start for e in mine) * 1e6, abs=len(mine)
            )
    assert list(names.known) == ["layer 0", "", "layer 1", "layer 2", "layer 3"]


def test_a_level_has_at_most_a_block_for_each_bin_and_blocks_are_in_order() -> None:
    events = many(5000)
    for level, bins in zip(levels(events, 5.0, events[-1].stop - 5.0, Names(), 0, (50, 700)), (50, 700), strict=True):
        for blocks in level["lanes"].values():
            starts = blocks.get("start", [])
            assert starts == sorted(starts) and len(starts) <= bins + 1
            assert all(b <= d for b, d in zip(blocks.get("busy", []), blocks.get("duration", []), strict=True))


def test_few_events_are_themselves() -> None:
    event = Event("wait", "head", 2.0, 2.5, 9, 70, "softmax")
    names = Names()
    (level,) = levels([event], 1.0, 2.0, names)
    lane = level["lanes"]["wait"]
    expected = {
        "start": 1_000_000,
        "duration": 500_000,
        "busy": 500_000,
        "round": 9,
        "last": 9,
        "bytes": 70,
        "count": 1,
    }
    assert {k: v for k, (v,) in lane.items() if k in expected} == expected
    assert [list(names.known)[lane[k][0]] for k in ("call", "gate")] == ["head", "softmax"]


def test_a_large_runs_levels_stay_small() -> None:
    events = many(120_000)
    assert len(json.dumps(levels(events, 5.0, events[-1].stop - 5.0, Names()))) < 2_000_000
