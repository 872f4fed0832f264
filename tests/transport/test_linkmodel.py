"""The link model against times computed by hand, and its properties."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError
from engine.transport.linkmodel import Link, LinkModel

times = st.floats(0, 1e3)
traffic = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 10**7)), min_size=1, max_size=40)


def links(jitter: float = 0.5) -> st.SearchStrategy[Link]:
    return st.builds(Link, st.floats(0, 1), st.floats(1e3, 1e11), st.floats(0, jitter), st.integers(0, 2**32))


def arrivals(link: Link, items: list[tuple[float, int]]) -> tuple[list[float], list[float]]:
    """Hand-over and arrival times of messages that are handed over after the given pauses."""
    model, now, sent, got = LinkModel(link), 0.0, [], []
    for pause, size in items:
        now += pause
        sent.append(now)
        got.append(model.arrival(now, size))
    return sent, got


def test_by_hand() -> None:
    model = LinkModel(Link(delay=0.03, bandwidth=1e6))
    assert model.arrival(10.0, 125_000) == pytest.approx(11.03)  # 1 s on the wire
    assert model.arrival(10.5, 12_500) == pytest.approx(11.13)  # waits until 11.0, 0.1 s on the wire
    assert model.arrival(20.0, 0) == pytest.approx(20.03)  # the wire is free again
    assert model.free == 20.0


def test_without_bandwidth_limit_only_the_delay_counts() -> None:
    model = LinkModel(Link(delay=0.5))
    assert [model.arrival(1.0, 10**12), model.arrival(1.0, 1)] == [1.5, 1.5]


def test_jitter_is_repeatable_and_depends_on_the_seed() -> None:
    items = [(1.0, 10)] * 20
    assert arrivals(Link(0.1, 1e6, 0.5, seed=4), items) == arrivals(Link(0.1, 1e6, 0.5, seed=4), items)
    assert arrivals(Link(0.1, 1e6, 0.5, seed=4), items) != arrivals(Link(0.1, 1e6, 0.5, seed=5), items)


@given(links(), traffic)
def test_none_overtakes_another(link: Link, items: list[tuple[float, int]]) -> None:
    _, got = arrivals(link, items)
    assert got == sorted(got)


@given(links(), traffic)
def test_none_is_faster_than_the_link(link: Link, items: list[tuple[float, int]]) -> None:
    sent, got = arrivals(link, items)
    for (_, size), start, end in zip(items, sent, got, strict=True):
        assert end - start >= (link.transmission(size) + link.delay) * (1 - 1e-9) - 1e-9


@given(links(jitter=0.0), traffic)
def test_without_jitter_the_wire_works_whenever_it_can(link: Link, items: list[tuple[float, int]]) -> None:
    """A message arrives at the latest over all busy periods that could hold it up: the closed form of a queue."""
    sent, got = arrivals(link, items)
    for last in range(len(items)):
        periods = (sent[i] + sum(link.transmission(n) for _, n in items[i : last + 1]) for i in range(last + 1))
        assert math.isclose(got[last], max(periods) + link.delay, rel_tol=1e-9)


@given(links(), traffic)
def test_jitter_delays_by_at_most_itself(link: Link, items: list[tuple[float, int]]) -> None:
    _, got = arrivals(link, items)
    _, least = arrivals(Link(link.delay, link.bandwidth), items)
    assert all(b - 1e-9 <= a <= b + link.jitter + 1e-9 for a, b in zip(got, least, strict=True))


@pytest.mark.parametrize("name", ["delay", "jitter", "bandwidth"])
@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_impossible_numbers(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name):
        Link(**{name: value})


def test_more_impossible_numbers() -> None:
    with pytest.raises(InputError):
        Link(delay=math.inf)
    with pytest.raises(InputError):
        Link(jitter=math.inf)
    with pytest.raises(InputError):
        Link(bandwidth=0.0)
