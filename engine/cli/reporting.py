"""`--report`, `--trace` and `--live`: what commands that run or simulate have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from engine.cli.common import console, progress
from engine.errors import InputError
from engine.report.live import LiveView
from engine.report.page import write_page
from engine.report.recording import Recording
from engine.report.trace import write_trace
from engine.run import Progress, Watch, unwatched

__all__ = ["Reports", "live_option", "report_options", "shown", "writable"]

P = ParamSpec("P")
R = TypeVar("R")

live_option = click.option(
    "--live", is_flag=True,
    help="Show on stderr the round, who waits for whom, bytes per second and the time left, while it runs: drawn in "
    "its place on a terminal, else as a line every two seconds.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reports:
    """Where a command writes its page and its trace, None where it was not asked to."""

    page: Path | None
    trace: Path | None

    def __bool__(self) -> bool:
        return self.page is not None or self.trace is not None

    def write(self, recording: Recording, quiet: bool = False) -> None:
        """Write, and say where. Raises InputError for a trace that is too large, LocalError if a file cannot be
        written."""
        if self.page is not None:
            write_page(recording, self.page)
            _tell(f"the page is in {self.page}", quiet)
        if self.trace is not None:
            write_trace(recording, self.trace)
            _tell(f"the trace is in {self.trace}: open it at ui.perfetto.dev", quiet)


def _tell(text: str, quiet: bool) -> None:
    if not quiet:
        console.print(text, highlight=False, soft_wrap=True)


def report_options(function: Callable[P, R]) -> Callable[P, R]:
    """`--report` and `--trace`, which come in as `report` and `trace`: paths that can be written, or None."""
    for name, what in (
        ("--trace", "Write what happened when, for Perfetto, to FILE.json: Chrome's trace format."),
        ("--report", "Write a page about the run to FILE.html: totals, costs, timeline, and what bounds it."),
    ):
        kind = click.Path(path_type=Path, dir_okay=False)
        function = click.option(name, type=kind, metavar="FILE", help=what, callback=writable)(function)
    return function


def writable(_context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Before anything runs: the folder is there, and one may write in it."""
    if path is not None:
        folder = path.absolute().parent
        if not folder.is_dir():
            raise InputError(f"{option.opts[0]} {path}: there is no folder {folder}; make it first")
        if not os.access(folder, os.W_OK):
            raise InputError(f"{option.opts[0]} {path}: {folder} cannot be written to; choose another place")
    return path


@contextmanager
def shown(live: bool, label: str, unit: str, idle: str) -> Iterator[tuple[Progress | None, Watch]]:
    """A live view if it was asked for, else a progress bar: what to tell of progress, and what to run within."""
    if live:
        with LiveView(console, idle) as view:
            yield None, view.watch
        return
    with progress(label, unit) as bar:
        yield bar, unwatched
