"""The live view of `--live`: what every run under way does, a few times a second. On a terminal it is drawn again in
its place; elsewhere, in a log for one, a line for each run is written now and then."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine.report.status import Observer, Status
from engine.scheduler.plan import Plan
from engine.scheduler.timeline import Timeline

__all__ = ["LiveView", "Source"]

PER_SECOND = 5
LINE_SECONDS = 2.0
"""Between two looks where lines are written."""
MOST_ROWS = 12

Source = Callable[[], Sequence[Status]]
"""What the requests of a run do now; nothing while they are made ready. Called on a thread of the view."""


class LiveView:
    """A context; its `watch` goes into a session's or a service's settings, `follow` takes runs of other processes.
    Nothing is drawn between runs but what is waited for."""

    def __init__(self, console: Console, idle: str = "waiting for a run") -> None:
        self._console, self._runs = console, dict[int, tuple[str, Source]]()
        self._idle, self._count = idle, 0
        self._drawn = Live(console=console, get_renderable=self.render, refresh_per_second=PER_SECOND, transient=True)
        self._over = threading.Event()
        self._writer = threading.Thread(target=self._write, name="live view", daemon=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._drawn.start()
        else:
            self._writer.start()
        return self

    def __exit__(self, k: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        if self._console.is_terminal:
            return self._drawn.stop()
        self._over.set()
        self._writer.join()

    @contextmanager
    def watch(self, plan: Plan, party: int, timeline: Timeline) -> Iterator[None]:
        """Show this run while the context lasts."""
        observer = Observer(plan, party, timeline)
        with self.follow(f"run {self._count + 1}", lambda: (observer.status(),)):
            yield

    @contextmanager
    def follow(self, label: str, source: Source) -> Iterator[None]:
        """Show what `source` says while the context lasts."""
        self._count += 1
        number = self._count
        self._runs[number] = label, source
        try:
            yield
        finally:
            del self._runs[number]

    # ------------------------------------------------------------------ what is shown
    def _rows(self) -> Iterator[tuple[str, Status | None]]:
        """A row for every request; one for a run that has not begun."""
        for label, source in list(self._runs.values()):
            found = source()
            if not found:
                yield label, None
            for i, status in enumerate(found):
                yield (label if len(found) == 1 else f"{label}, request {i + 1}"), status

    def render(self) -> RenderableType:
        """What is drawn now."""
        rows = list(self._rows())
        if not rows:
            return Text(f"{self._idle} ...", "dim")
        table = Table.grid(padding=(0, 2))
        for label, s in rows[:MOST_ROWS]:
            bar = ProgressBar(total=1.0, completed=0.0 if s is None else s.share, width=24)
            first, *rest = _cells(s)
            table.add_row(Text(label), Text(first), bar, *map(Text, rest))
        if len(rows) > MOST_ROWS:
            table.add_row(Text(f"and {len(rows) - MOST_ROWS} more", "dim"))
        return table

    def lines(self) -> list[str]:
        """What is written now, where nothing is drawn."""
        rows = list(self._rows())
        out = [f"{label}: {', '.join(filter(None, _cells(s)))}" for label, s in rows[:MOST_ROWS]]
        return [*out, f"and {len(rows) - MOST_ROWS} more"] if len(rows) > MOST_ROWS else out

    def _write(self) -> None:
        while not self._over.wait(LINE_SECONDS):
            for line in self.lines():
                self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _cells(s: Status | None) -> tuple[str, str, str, str]:
    """Where a request is, who waits for whom, bytes per second, the time left."""
    if s is None:
        return "not under way", "", "", ""
    left = "" if s.left is None else f"{s.left:.0f} s left"
    return f"round {s.round} of {s.rounds}", s.doing, f"{s.rate / 1e6:.1f} MB/s", left
