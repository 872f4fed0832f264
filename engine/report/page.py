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

__all__ = ["render", "write_page"]


def render(recording: Recording) -> str:
    """The page as text. The command's result is in it as `<script type="application/json" id="result">`."""
    here = files(__package__)
    parts = {name: (here / name).read_text() for name in ("page.css", "page.js", "table.js", "timeline.js")}
    return Template((here / "page.html").read_text()).substitute(
        title=html.escape(recording.title), style=parts["page.css"],
        script="\n".join(parts[name] for name in ("timeline.js", "table.js", "page.js")),
        result=_embedded(dict(recording.result)), data=_embedded(page_data(recording)),
    )  # fmt: skip


def _embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the element that it stands in."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def write_page(recording: Recording, path: Path) -> None:
    """Raises LocalError if it cannot be written."""
    with whole_file(path) as f:
        f.write(render(recording).encode())
