"""Tables of benchmarks: on the terminal, and as Markdown between the marks of a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

__all__ = ["Rows", "show", "span", "written"]

Rows = Sequence[Sequence[str]]


def span(values: Sequence[float], scale: float = 1.0) -> str:
    """The median, and from where to where."""
    ordered = sorted(v * scale for v in values)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return f"{middle:.3f} ({ordered[0]:.3f} to {ordered[-1]:.3f})"


def show(title: str, headings: Sequence[str], rows: Rows) -> None:
    """On the terminal."""
    table = Table(title=title)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    Console(width=160).print(table)


def written(page: Path, name: str, headings: Sequence[str], rows: Rows, note: str = "") -> None:
    """Put the table between `<!-- name -->` and `<!-- end -->` of the page, whose marks are there already."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (headings, ["---"] * len(headings), *rows)]
    body = "\n".join([f"<!-- {name} -->", *([note, ""] if note else []), *lines, "<!-- end -->"])
    text, count = re.subn(rf"<!-- {re.escape(name)} -->.*?<!-- end -->", lambda _: body, page.read_text(), flags=re.S)
    if count != 1:
        raise ValueError(f"{page} has {count} places for {name}")
    page.write_text(text)
