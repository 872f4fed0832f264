"""What a timeline records, on a clock of the test's own."""

from __future__ import annotations

from itertools import count

import pytest

from engine.scheduler.timeline import Event, Timeline


def ticking() -> Timeline:
    """Every look at the clock takes a second."""
    ticks = count()
    return Timeline(lambda: float(next(ticks)))


def test_a_stretch_is_cut_where_the_gate_changes() -> None:
    timeline = ticking()
    with timeline.stretch("evaluate", "layer 0", 3) as stretch:
        for gate in ("gelu", "gelu", "norm", "gelu"):
            stretch.next(gate)
    assert [(e.gate, e.start, e.stop) for e in timeline.events] == [("gelu", 0, 1), ("norm", 1, 2), ("gelu", 2, 3)]
    assert all((e.lane, e.what, e.round) == ("evaluate", "layer 0", 3) for e in timeline.events)


def test_what_is_under_way_is_known_until_it_ends() -> None:
    timeline = ticking()
    with timeline.span("wait", "layer 1", 7, 100), timeline.stretch("evaluate", "layer 0", 6):
        assert timeline.active == {"wait": ("layer 1", 7), "evaluate": ("layer 0", 6)}
    assert timeline.active == {}
    assert timeline.events[-1] == Event("wait", "layer 1", 0.0, 3.0, 7, 100)


def test_a_span_that_fails_is_recorded_and_over() -> None:
    timeline = ticking()
    with pytest.raises(ValueError), timeline.phase("online"), timeline.span("send", "head"):
        raise ValueError
    assert timeline.phases == {"online": (0.0, 3.0)} and timeline.active == {}
    assert timeline.seconds("send") == 1.0
