"""The page of a recording: one HTML file that needs nothing else, no network and no other file."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from engine.files import whole_file
from engine.report.data import page_data
from engine.report.recording import Recording

__all__ = ["embedded", "render", "scripts", "write_page"]


def render(recording: Recording) -> str:
    """The page as text. The command's result is in it as `<script type="application/json" id="result">`."""
    here = files(__package__)
    return Template((here / "page.html").read_text()).substitute(
        title=html.escape(recording.title), style=(here / "page.css").read_text(),
        script=scripts("timeline.js", "table.js", "page.js"),
        result=embedded(dict(recording.result)), data=embedded(page_data(recording)),
    )  # fmt: skip


def scripts(*names: str) -> str:
    """Those of a page, after what all pages have in common."""
    return "\n".join((files(__package__) / name).read_text() for name in ("common.js", *names))


def embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the element that it stands in."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def write_page(recording: Recording, path: Path) -> None:
    """Raises LocalError if it cannot be written."""
    with whole_file(path) as f:
        f.write(render(recording).encode())
