"""The page of a sweep: what is in it, and in a real browser without a window."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine.cli.main import cli
from engine.errors import InputError
from engine.report.sweep import render_sweep
from tests.report.test_browser import BROWSER, browse

DEVICE = Path(__file__).parents[2] / "simulators" / "devices" / "reference.json"
COMMAND = ["sweep", "bert-tiny", "--network", "lan-1g,wan-300m-60ms", "--tokens", "4", "--tokens", "12",
           "--device", str(DEVICE), "--json"]  # fmt: skip
DRIVER = """
const said = [];
window.addEventListener("error", (e) => said.push(e.message));
window.addEventListener("load", () => {
  const texts = (query) => [...document.querySelectorAll(query)].map((n) => n.textContent).join("|");
  function note(name, value) { document.body.setAttribute("data-" + name, value); }
  note("bars", [...document.querySelectorAll("#bars .whole")].map((n) => n.dataset.value).join(","));
  note("points", document.querySelectorAll("#growth circle").length);
  byId("groups").children[1].click();
  note("groups", texts("#bars h3"));
  for (const i of [4, 5, 5]) document.querySelectorAll("#rows th")[i].click();
  note("sorted", [...document.querySelectorAll("#rows tbody tr")].map((r) => r.dataset.row).join(","));
  byId("theme").click();
  note("errors", said.join("; "));
});
"""


def row(**changes: Any) -> dict[str, Any]:
    made = {"model": "m", "tokens": 8, "weights": "owned", "variants": "default", "network": "lan", "online": 0.5,
            "prepare": 0.1, "compute": 0.3, "wire": 0.2, "rounds": 42, "bytes_p0": 1000, "bytes_p1": 2000,
            "link_use": 0.25, "cores_use": 0.5}  # fmt: skip
    return made | changes


class Links(HTMLParser):
    """Everything that a page would fetch or lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [str(value) for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]


def test_the_page_holds_the_json_and_links_nothing_outside(tmp_path: Path) -> None:
    page = tmp_path / "sweep.html"
    done = CliRunner().invoke(cli, [*COMMAND, "--report", str(page)])
    assert done.exit_code == 0, done.output
    text = page.read_text()
    inside = re.search(r'<script type="application/json" id="result">(.*?)</script>', text, re.DOTALL)
    assert inside is not None and json.loads(inside.group(1)) == json.loads(done.stdout)
    assert Links(text).found == ["data:,"] and "default-src 'none'" in text
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    assert page.stat().st_mode & 0o077 == 0


def test_names_cannot_become_markup() -> None:
    """A model may be the path of a folder, with any name."""
    text = render_sweep({"device": "d", "overlap": True, "rows": [row(model="</script><b>&")]})
    assert "</script><b>" not in text and "&lt;/script&gt;&lt;b&gt;&amp;" in text


@pytest.mark.parametrize(("place", "says"), [("none/sweep.html", "there is no folder"), (".", "is a directory")])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_predicted(
    place: str, says: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(cli, [*COMMAND, "--report", str(tmp_path / place)])
    if isinstance(done.exception, InputError):
        assert says in str(done.exception) and "--report" in str(done.exception)
    else:
        assert done.exit_code == 2 and says in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed: apt-get install chromium")
def test_numbers_on_the_page_are_those_of_the_json(tmp_path: Path) -> None:
    page_at = tmp_path / "sweep.html"
    done = CliRunner().invoke(cli, [*COMMAND, "--report", str(page_at)])
    rows = json.loads(done.stdout)["rows"]
    page_at.write_text(page_at.read_text().replace("</body>", f"<script>{DRIVER}</script></body>"))
    page, said = browse(page_at, tmp_path / "profile")
    assert said == [] and page.body["data-errors"] == "" and page.root["data-ready"] == "yes"
    for number, one in enumerate(rows):
        for name in ("online", "prepare", "compute", "wire", "rounds", "bytes_p0", "bytes_p1", "link_use", "cores_use"):
            assert page.value(f"{name}-{number}") == one[name]
    drawn = [float(v) for v in str(page.body["data-bars"]).split(",")]
    assert sorted(drawn) == sorted(one["online"] for one in rows)
    assert page.body["data-points"] == str(len(rows))
    assert page.body["data-groups"] == "bert-tiny, 4 tokens|bert-tiny, 12 tokens"
    slowest = sorted(range(len(rows)), key=lambda i: -rows[i]["online"])
    assert page.body["data-sorted"] == ",".join(map(str, slowest))
