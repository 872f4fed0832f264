"""The live view of `--live`: a line for every run under way, drawn again a few times a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine.report.status import Observer
from engine.scheduler.plan import Plan
from engine.scheduler.timeline import Timeline

__all__ = ["LiveView"]

PER_SECOND = 5


class LiveView:
    """A context; its `watch` goes into a session's or a service's settings. Nothing is drawn between runs but what is
    waited for."""

    def __init__(self, console: Console, idle: str = "waiting for a run") -> None:
        self._runs: dict[int, Observer] = {}
        self._idle, self._count = idle, 0
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=PER_SECOND, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, k: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        self._live.stop()

    @contextmanager
    def watch(self, plan: Plan, party: int, timeline: Timeline) -> Iterator[None]:
        """Show this run while the context lasts."""
        self._count += 1
        number = self._count
        self._runs[number] = Observer(plan, party, timeline)
        try:
            yield
        finally:
            del self._runs[number]

    def render(self) -> RenderableType:
        """What is drawn now."""
        runs = list(self._runs.items())
        if not runs:
            return Text(f"{self._idle} ...", "dim")
        table = Table.grid(padding=(0, 2))
        for number, observer in runs:
            s = observer.status()
            left = "" if s.left is None else f"{s.left:.0f} s left"
            bar = ProgressBar(total=1.0, completed=s.share, width=24)
            table.add_row(
                Text(f"run {number}"), Text(f"round {s.round} of {s.rounds}"), bar, Text(s.doing),
                Text(f"{s.rate / 1e6:.1f} MB/s"), Text(left),
            )  # fmt: skip
        return table
