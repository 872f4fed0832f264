"""The page of a sweep: one HTML file that needs nothing else, in the style of a run's page."""

from __future__ import annotations

import html
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from engine.files import whole_file
from engine.report.page import embedded, scripts

__all__ = ["render_sweep", "write_sweep"]


def render_sweep(result: Mapping[str, Any]) -> str:
    """The page of what `roundelay sweep --json` prints, which is in it as `<script type="application/json"
    id="result">`."""
    here, rows = files(__package__), result["rows"]
    models, networks = (list(dict.fromkeys(row[name] for row in rows)) for name in ("model", "network"))
    return Template((here / "sweep.html").read_text()).substitute(
        title=html.escape(f"Sweep of {_listed(models)}"), what=html.escape(f"on {_listed(networks)}"),
        style="\n".join((here / name).read_text() for name in ("page.css", "sweep.css")),
        script=scripts("sweep.js"), result=embedded(dict(result)),
    )  # fmt: skip


def _listed(names: list[str]) -> str:
    """Four at most by name."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def write_sweep(result: Mapping[str, Any], path: Path) -> None:
    """Raises LocalError if it cannot be written."""
    with whole_file(path) as f:
        f.write(render_sweep(result).encode())
