"""What the live view says, on a clock of the test's own."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from rich.console import Console

from engine.models.bert import bert
from engine.models.calibrate import default_ranges
from engine.models.shapes import SHAPES
from engine.report.live import MOST_ROWS, LiveView
from engine.report.relay import read_statuses, relayed, write_statuses
from engine.report.status import Observer, Status
from engine.scheduler.plan import Plan
from engine.scheduler.timeline import Event, Timeline


class Hand:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def plan() -> Plan:
    shape = SHAPES["bert-tiny"]
    return Plan(bert(shape, default_ranges(shape), (8,)))


def test_before_the_online_phase(plan: Plan) -> None:
    timeline = Timeline(Hand())
    status = Observer(plan, 0, timeline).status()
    assert (status.round, status.rounds, status.doing) == (0, plan.rounds, "preparing")
    assert status.left is None and status.share == 0


def test_who_waits_for_whom(plan: Plan) -> None:
    timeline = Timeline(Hand(), phases={"prepare": (99.0, 100.0)})
    observer = Observer(plan, 1, timeline)
    timeline.active["wait"] = ("layer 0", 7)
    assert (observer.status().round, observer.status().doing) == (7, "P1 waits for P0: layer 0")
    timeline.active = {"evaluate": ("layer 0", 8)}
    timeline.events.append(Event("receive", "layer 0", 100.0, 100.0, 7, 10))
    assert observer.status().doing == "P1 evaluates layer 0"
    timeline.events.append(Event("receive", "layer 0", 100.0, 100.0, 8, 10))
    assert observer.status().doing == "P1 evaluates layer 0, P0 waits"
    timeline.active = {}
    assert observer.status().doing == "P1 waits for its tape"
    timeline.phases["online"] = (100.0, 101.0)
    assert (observer.status().doing, observer.status().share) == ("done", 1.0)


def test_bytes_of_the_last_second(plan: Plan) -> None:
    clock = Hand()
    timeline = Timeline(clock, phases={"prepare": (99.0, 100.0)})
    observer = Observer(plan, 0, timeline)
    for at, lane, size in ((100.2, "send", 5000), (100.6, "receive", 300), (100.7, "evaluate", 9), (100.8, "send", 40)):
        timeline.events.append(Event(lane, "layer 0", at - 0.1, at, 1, size))
    clock.now = 101.0
    assert observer.status().rate == 5340
    clock.now = 101.4
    assert observer.status().rate == 340
    clock.now = 103.0
    assert observer.status().rate == 0


def test_the_time_left_shrinks_to_nothing(plan: Plan) -> None:
    """A run of 10 s at an even pace, with as much tape in each round: half way, as much is left as has passed."""
    clock = Hand()
    timeline = Timeline(clock, phases={"prepare": (99.0, 100.0)})
    observer = Observer(plan, 0, timeline)
    shares, lefts = [], []
    for number in range(1, plan.rounds + 1):
        clock.now = 100 + number
        timeline.active["evaluate"] = ("layer", number)
        status = observer.status()
        shares.append(status.share)
        if number > 1:
            assert status.left == pytest.approx(number * (1 - status.share) / status.share)
            lefts.append(status.left)
    assert shares == sorted(shares) and 0 <= shares[0] < 0.2 and 0.8 < shares[-1] <= 1
    assert lefts[-1] < plan.rounds / 4


def test_the_view_has_a_line_for_every_run_under_way(plan: Plan) -> None:
    out = io.StringIO()
    console = Console(file=out, width=160, force_terminal=True, color_system=None)
    with LiveView(console, "waiting for a client") as view:
        console.print(view.render())
        first, second = Timeline(Hand()), Timeline(Hand(), phases={"prepare": (99.0, 100.0)})
        second.active["wait"] = ("layer 1", 30)
        with view.watch(plan, 1, first), view.watch(plan, 1, second):
            console.print(view.render())
        console.print(view.render())
    text = out.getvalue()
    assert "waiting for a client ..." in text and "run 1" in text
    assert f"round 30 of {plan.rounds}" in text and "P1 waits for P0: layer 1" in text and "MB/s" in text


def at_round(number: int) -> Status:
    return Status(number, 40, "P0 waits for P1: layer 1", 1.5e6, 0.5, 12.0)


def test_where_nothing_can_be_drawn_there_is_a_line_for_every_request() -> None:
    view = LiveView(Console(file=io.StringIO()))
    assert view.lines() == []
    with view.follow("run 1 of 2", lambda: ()):
        assert view.lines() == ["run 1 of 2: not under way"]
    with view.follow("run 2 of 2", lambda: [at_round(3)]):
        assert view.lines() == ["run 2 of 2: round 3 of 40, P0 waits for P1: layer 1, 1.5 MB/s, 12 s left"]
    with view.follow("run 2 of 2", lambda: [at_round(i) for i in range(64)]):
        lines = view.lines()
        assert lines[0].startswith("run 2 of 2, request 1: round 0 of 40")
        assert len(lines) == MOST_ROWS + 1 and lines[-1] == f"and {64 - MOST_ROWS} more"


def test_a_view_that_cannot_draw_ends_at_once_and_writes_plain_text() -> None:
    out = io.StringIO()
    with LiveView(Console(file=out)) as view, view.follow("run 1", lambda: [at_round(1)]):
        assert "\x1b" not in out.getvalue()


def test_statuses_reach_another_process_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "p0.json"
    assert read_statuses(path) == []
    for count in (2, 1):
        written = [at_round(i) for i in range(count)]
        write_statuses(written, path)
        assert read_statuses(path) == written
    assert [p.name for p in tmp_path.iterdir()] == ["p0.json"]


def test_a_run_is_relayed_while_it_lasts(plan: Plan, tmp_path: Path) -> None:
    observer = Observer(plan, 0, Timeline(Hand()))

    async def run() -> list[Status]:
        async with relayed([observer], tmp_path / "p0.json"):
            await asyncio.sleep(0)  # its first state is written before it waits
            return read_statuses(tmp_path / "p0.json")

    assert asyncio.run(run()) == [observer.status()]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_cannot_be_written_ends_the_view_and_not_the_run(plan: Plan, tmp_path: Path) -> None:
    async def run() -> str:
        async with relayed([Observer(plan, 0, Timeline(Hand()))], tmp_path / "none" / "p0.json"):
            await asyncio.sleep(0)
        return "went on"

    assert asyncio.run(run()) == "went on"
