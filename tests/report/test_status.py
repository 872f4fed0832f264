"""What the live view says, on a clock of the test's own."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from engine.models.bert import bert
from engine.models.calibrate import default_ranges
from engine.models.shapes import SHAPES
from engine.report.live import LiveView
from engine.report.status import Observer
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
