"""Recordings made up for tests: exact times, so that what is drawn and summed can be said beforehand."""

from __future__ import annotations

from engine.cost import Cost
from engine.report.recording import GateCost, RecordedRun, Recording, Side
from engine.scheduler.timeline import Event

COSTS = (
    GateCost("layer 0", Cost("gelu", 2, (100, 200), (7, 0), (1000, 2000), 50)),
    GateCost("layer 0", Cost("norm", 1, (10, 20), (0, 3), (100, 200), 5)),
    GateCost("head", Cost("bert", 1, (0, 40), (0, 0), (8, 0), 0)),
)
TOTALS = {
    "rounds": 4, "rounds_per_layer": [3], "bytes_sent": [110, 260], "prepare_bytes": [7, 3], "tape_bytes": [1108, 2200],
    "setup_bytes": 12, "seconds": {"prepare": 0.5, "online": 3.0}, "peak_anon_bytes": [5, 6],
}  # fmt: skip


def side(*events: Event, online: tuple[float, float] = (10.0, 13.0)) -> Side:
    return Side(events, {"prepare": (online[0] - 0.5, online[0]), "online": online})


def work(
    lane: str, start: float, stop: float, round: int = 1, size: int = 0, gate: str = "", call: str = "layer 0"
) -> Event:
    return Event(lane, call, start, stop, round, size, gate)


def client() -> Side:
    return side(
        work("prepare", 9.5, 9.75), work("evaluate", 10.0, 11.0, 1, gate="gelu"), work("send", 11.0, 11.125, 1, 100),
        work("wait", 11.0, 12.0, 1, 200, "gelu"), work("receive", 11.875, 12.0, 1, 200),
        work("evaluate", 12.0, 13.0, 2, gate="norm"),
    )  # fmt: skip


def owner() -> Side:
    return side(
        work("evaluate", 10.0, 11.5, 1, gate="gelu"), work("send", 11.5, 11.625, 1, 200),
        work("receive", 11.25, 11.375, 1, 100), work("evaluate", 12.0, 12.5, 2, gate="norm"),
    )  # fmt: skip


def recording(name: str = "only", title: str = "bench made-up", tape: str = "ab" * 16) -> Recording:
    run = RecordedRun(name, COSTS, (client(), owner()), TOTALS, tape=tape)
    return Recording(title, "a run made up", {"workload": "made-up"}, {**TOTALS, "runs": 1}, (run,))
