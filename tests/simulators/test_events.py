"""Processes, signals and shared processors against times worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.events import Events, Process, Processors, Signal


def finished(cores: float, jobs: list[tuple[float, float]]) -> list[float]:
    """When jobs of (start, seconds) end."""
    events = Events()
    processors, ends = Processors(events, cores), [0.0] * len(jobs)

    def job(i: int, start: float, seconds: float) -> Process:
        yield events.until(start)
        yield processors.job(seconds)
        ends[i] = events.time()

    for i, (start, seconds) in enumerate(jobs):
        events.start(job(i, start, seconds))
    events.run()
    return ends


def test_jobs_alone_take_their_time() -> None:
    assert finished(2, [(0, 1), (3, 2)]) == [1, 5]
    assert finished(2, [(0, 1), (0, 2)]) == [1, 2]


def test_more_jobs_than_processors_share_them() -> None:
    assert finished(1, [(0, 1), (0, 1)]) == [2, 2]
    # Alone until 1, then both at half speed: the second needs 2 more seconds, and the first has 1 of its 2 left.
    assert finished(1, [(0, 2), (1, 1)]) == [3, 3]
    assert finished(1.5, [(0, 3), (0, 1.5)]) == pytest.approx([4 - 0.5, 2])


def test_a_job_of_no_seconds_ends_at_once() -> None:
    assert finished(1, [(0, 0), (0, 1), (0.5, 0)]) == [0, 1, 0.5]


@given(st.floats(0.5, 4), st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=8))
def test_no_job_is_faster_than_alone_nor_slower_than_all_in_turn(cores: float, jobs: list[tuple[float, float]]) -> None:
    total = sum(seconds for _, seconds in jobs)
    for (start, seconds), end in zip(jobs, finished(cores, jobs), strict=True):
        assert start + seconds - 1e-9 <= end <= 5 + total * max(1.0, 1 / cores) + 1e-9


def test_what_processors_have_done_is_counted() -> None:
    events = Events()
    processors = Processors(events, 2)

    def job() -> Process:
        yield processors.job(3)

    for _ in range(3):
        events.start(job())
    events.run()
    assert events.time() == pytest.approx(4.5) and processors.used() == pytest.approx(9)


def test_signals_wake_whoever_waits_and_events_keep_their_order() -> None:
    events, signal, seen = Events(), Signal(), list[str]()

    def waiter(name: str) -> Process:
        yield signal.wait
        seen.append(f"{name} at {events.time():g}")

    def caller() -> Process:
        yield events.until(2)
        signal.notify()

    for name in ("a", "b"):
        events.start(waiter(name))
    events.start(caller())
    events.run()
    assert seen == ["a at 2", "b at 2"]
