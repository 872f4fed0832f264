"""The page needs nothing but itself, holds the command's JSON as it was printed, and stays small."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from engine.report.data import page_data
from engine.report.page import render
from engine.report.recording import Recording, Side
from engine.scheduler.timeline import LANES, Event
from tests.report.made import TOTALS, client, recording


class Embedded(HTMLParser):
    """The scripts and the title of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.json: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self._at = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._at = str(dict(attrs).get("id") or tag)

    def handle_data(self, data: str) -> None:
        self.text[self._at] = self.text.get(self._at, "") + data


def test_the_result_is_in_the_page_as_it_was_printed() -> None:
    page = Embedded(render(recording()))
    assert json.loads(page.text["result"]) == {**TOTALS, "runs": 1}
    assert json.loads(page.text["data"])["runs"][0]["totals"] == TOTALS


def test_nothing_comes_from_elsewhere() -> None:
    text = render(recording())
    page = Embedded(text)
    assert not re.findall(r"https?://|//[a-z]+\.|@import|url\(", text)
    assert not [tag for tag, attrs in page.tags if "src" in attrs or (tag == "link" and attrs["href"] != "data:,")]
    policy = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy and str(policy[0]).startswith("default-src 'none'")


def test_names_cannot_leave_their_place() -> None:
    evil = "</script><script>alert(1)</script>&"
    whole = replace(recording(name=evil, title=evil), facts={evil: evil}, result={evil: evil})
    page = Embedded(render(whole))
    assert page.text["title"].strip() == evil and json.loads(page.text["result"]) == {evil: evil}
    assert sum(tag == "script" for tag, _ in page.tags) == 3


def large(count: int, runs: int) -> Recording:
    """`count` events in each side of each run."""
    starts = np.cumsum(np.random.default_rng(1).exponential(1e-5, count)).tolist()
    events = [Event(LANES[i % len(LANES)], f"layer {i % 24}", t, t + 1e-5, i // 100, i) for i, t in enumerate(starts)]
    one = recording().runs[0]
    run = replace(one, sides=(Side(events), Side(events)))
    return replace(recording(), runs=(run,) * runs)


@pytest.mark.parametrize(("count", "runs"), [(100_000, 1), (9_000, 12)])
def test_a_page_of_many_events_stays_small(count: int, runs: int) -> None:
    assert len(render(large(count, runs))) < 12_000_000


def test_times_are_counted_from_the_first_event_and_rounds_from_the_online_phase() -> None:
    (run,) = page_data(recording())["runs"]
    assert (run["span"], run["online"], run["events"]) == (3.5, 0.5, 10)
    assert run["rounds"] == [{"round": 1, "over": 2_500_000, "bytes": [100, 200]}]
    seconds = {(s["call"], s["gate"]): (s["evaluate"], s["wait"]) for s in run["seconds"]}
    assert seconds[("layer 0", "gelu")] == ([1.0, 1.5], [1.0, None])
    assert seconds[("layer 0", "norm")] == ([1.0, 0.5], [None, None])
    calls = {c["call"]: (c["at"], c["elapsed"], c["predicted"]) for c in run["calls"]}
    assert calls == {"layer 0": ([500_000, 3_500_000], 3.0, None), "head": (None, None, None)}


def test_a_prediction_begins_where_the_measured_online_phase_does() -> None:
    whole = recording()
    whole = replace(whole, runs=(replace(whole.runs[0], predicted=(client().moved(-10), None)),))
    (run,) = page_data(whole)["runs"]
    lanes = run["predicted"][0][-1]["lanes"]
    assert lanes["evaluate"]["start"] == [500_000, 2_500_000] and run["foretold"] == 3.0
    assert {c["call"]: c["predicted"] for c in run["calls"]} == {"layer 0": 3.0, "head": None}


def test_a_recording_without_events_is_a_page_of_costs() -> None:
    whole = recording()
    whole = replace(whole, runs=(replace(whole.runs[0], sides=(None, None)),))
    (run,) = page_data(whole)["runs"]
    assert run["bound"] is None and run["sides"] == [None, None] and run["rounds"] == []
