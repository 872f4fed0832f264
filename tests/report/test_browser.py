"""The page in a real browser without a window: no errors, numbers those of the JSON, and every control works."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine.cli.main import cli
from engine.report.page import render
from tests.report.made import TOTALS, recording

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed: apt-get install chromium")
SECONDS = 100

DRIVER = """
const said = [];
window.addEventListener("error", (e) => said.push(e.message));
function note(name, value) { document.body.setAttribute("data-" + name, value); }
window.addEventListener("load", () => {
  const canvas = byId("timeline"), box = canvas.getBoundingClientRect();
  const point = (x, y) => ({ clientX: box.left + x, clientY: box.top + y, pointerId: 1 });
  const move = (type, x, y) => canvas.dispatchEvent(new PointerEvent(type, point(x, y)));
  canvas.setPointerCapture = () => {};
  const tips = new Set();
  for (let y = 0; y < box.height; y += 3) for (let x = LEFT; x < box.width; x += 15) {
    move("pointermove", x, y);
    if (!byId("tip").hidden) tips.add(byId("tip").textContent);
  }
  note("tips", [...tips].join("|"));
  for (const id of ["zoom-in", "zoom-in", "zoom-out", "zoom-online", "zoom-all", "zoom-in"]) byId(id).click();
  move("pointerdown", 300, 90); move("pointermove", 250, 90); move("pointerup", 250, 90);
  for (const key of "wasd0") canvas.dispatchEvent(new KeyboardEvent("keydown", { key }));
  canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: -100, ctrlKey: true }));
  canvas.dispatchEvent(new MouseEvent("dblclick"));
  const strip = byId("rounds").getBoundingClientRect();
  byId("rounds").dispatchEvent(new PointerEvent("pointermove", { clientX: strip.left + 200, clientY: strip.top + 20 }));
  note("round-tip", byId("round-tip").textContent);
  byId("theme").click();
  note("theme", document.documentElement.dataset.theme);
  byId("views").children[2].click();
  byId("costs").querySelectorAll("th")[3].click();
  note("sorted", [...byId("costs").querySelectorAll("tbody tr")].map((r) => r.children[1].textContent).join(","));
  note("errors", said.join("; "));
});
"""


class Page(HTMLParser):
    """Elements of a page after its scripts ran: attributes and text by id."""

    def __init__(self, dom: str) -> None:
        super().__init__()
        self.by_id: dict[str, dict[str, str | None]] = {}
        self.text: dict[str, str] = {}
        self.body: dict[str, str | None] = {}
        self.root: dict[str, str | None] = {}
        self._at = ""
        self.feed(dom)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self._at = found.get("id") or self._at
        self.by_id[str(found.get("id") or tag)] = found
        self.body, self.root = (found if tag == "body" else self.body), (found if tag == "html" else self.root)

    def handle_data(self, data: str) -> None:
        self.text[self._at] = self.text.get(self._at, "") + data

    def value(self, name: str) -> float:
        return float(str(self.by_id[name]["data-value"]))


def browse(path: Path, profile: Path) -> tuple[Page, list[str]]:
    """The page after its scripts ran, and what its console said."""
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,1600",
        "--enable-logging=stderr",
        f"--user-data-dir={profile}", "--virtual-time-budget=3000", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-2000:]
    return Page(done.stdout), re.findall(r"CONSOLE.*", done.stderr)


def compare(page: Page, totals: dict[str, Any]) -> None:
    """Every tile against the fields of the JSON."""
    assert page.root["data-ready"] == "yes"
    for name in ("bytes_sent", "tape_bytes"):
        assert [page.value(f"value-{name}-{i}") for i in (0, 1)] == totals[name]
    assert page.value("value-rounds") == totals["rounds"]
    assert page.value("value-prepare_bytes") == sum(totals["prepare_bytes"])
    for name, seconds in totals["seconds"].items():
        assert page.value(f"value-seconds-{name}") == seconds


def test_a_made_up_run_and_every_control(tmp_path: Path) -> None:
    text = render(recording()).replace("</body>", f"<script>{DRIVER}</script></body>")
    (tmp_path / "page.html").write_text(text)
    page, said = browse(tmp_path / "page.html", tmp_path / "profile")
    assert said == [] and page.body["data-errors"] == ""
    compare(page, TOTALS)
    sums = {"rounds": 4, "sent0": 110, "sent1": 260, "prepare": 10, "tape0": 1108, "tape1": 2200, "aes": 55,
            "evaluate0": 2, "evaluate1": 2, "wait0": 1}  # fmt: skip
    assert {name: page.value(f"total-{name}") for name in sums} == sums
    tips = str(page.body["data-tips"])
    for part in (
        "P0, client, evaluate",
        "P1, model owner, send",
        "layer 0, gelu; round 1",
        "200 B (200 bytes)",
        "1.00 s",
    ):
        assert part in tips
    assert "round 1" in str(page.body["data-round-tip"]) and "P1 sends 200 B" in str(page.body["data-round-tip"])
    assert page.body["data-theme"] in ("dark", "light") and page.body["data-sorted"] == "gelu,norm,bert"
    assert "Computing bounds this run" in page.text["sentence"]


def test_the_page_of_a_benchmark_says_what_its_json_says(tmp_path: Path) -> None:
    page_at, trace_at = tmp_path / "page.html", tmp_path / "trace.json"
    arguments = ["bench", "layernorm-128x768", "--runs", "1", "--transport", "memory", "--json"]
    done = CliRunner().invoke(cli, [*arguments, "--report", str(page_at), "--trace", str(trace_at)])
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    page, said = browse(page_at, tmp_path / "profile")
    assert said == [] and json.loads(page.text["result"]) == data
    compare(page, {**data, "seconds": {name: values[0] for name, values in data["seconds"].items()}})
    assert page.value("value-error-max") == data["error"]["max"]
    layers = data["layers"]
    assert page.value("total-aes") == sum(c["aes_steps"] for c in layers)
    for party in (0, 1):
        assert page.value(f"total-sent{party}") == data["bytes_sent"][party]
        assert page.value(f"total-tape{party}") == data["tape_bytes"][party]
        lanes = data["lane_seconds"][0][party]
        assert page.value(f"total-evaluate{party}") == pytest.approx(lanes["evaluate"])
