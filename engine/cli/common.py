"""What commands share: errors to exit codes, one JSON object on stdout, tables and progress bars on stderr's side."""

from __future__ import annotations

import functools
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from engine.errors import LocalError, RoundelayError
from engine.handshake import deliberate, whereabouts
from engine.home import Home, default_home
from engine.transport.channel import Channel
from engine.transport.wan import real_time
from simulators.profiles import PROFILES, Network, network

__all__ = [
    "Output",
    "behind",
    "console",
    "home_option",
    "json_option",
    "network_option",
    "open_home",
    "progress",
    "set_up_logging",
    "size",
    "step",
    "stop_on_terminate",
    "text_errors",
    "transport_option",
    "workers_option",
]

log = logging.getLogger(__name__)
INTERRUPTED = 130
P = ParamSpec("P")
R = TypeVar("R")

console = Console(stderr=True)
"""Everything that is not a result: logs, progress, errors."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, and nothing else.")
home_option = click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), default=None,
    help="Folder of this role's identity, ledger, pairings and tapes. [default: $ROUNDELAY_HOME or ~/.roundelay]",
)  # fmt: skip

transport_option = click.option(
    "--transport", envvar="ROUNDELAY_TRANSPORT", default="tcp", show_default=True,
    help="How bytes travel, the same on all sides: tcp, zeromq (slower; ipc:// addresses too), or one of your own.",
)  # fmt: skip
workers_option = click.option(
    "--workers", envvar="ROUNDELAY_WORKERS", default=1, show_default=True, type=click.IntRange(1, 1024),
    help="Threads that kernels are spread over: up to the cores that this process has for itself.",
)  # fmt: skip


def network_option(where: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`--network`, as a Network or None; `where` says what is delayed."""
    return click.option(
        "--network", metavar="NAME",
        help=f"Emulate a network in real time: {where} Names: {', '.join(PROFILES)}; or, with the bandwidth of each "
        "direction, rtt=60ms,bandwidth=305mbit[,jitter=2ms]. Every message is late by what it takes to wake a process, "
        "some 0.1 to 0.5 ms: below an RTT of 2 ms shape a real network instead.",
        callback=lambda _context, _option, text: None if text is None else network(text),
    )  # fmt: skip


def behind(network: Network | None) -> Callable[[Channel], Channel] | None:
    """What puts a channel behind the network, in both directions."""
    return None if network is None else lambda channel: real_time(channel, *network.links())


def text_errors(function: Callable[P, R]) -> Callable[P, R]:
    """A deliberate error becomes one sentence on stderr and its exit code; no traceback for a user's mistake."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click's own business; the last when whoever reads our output has gone, as `head` does
        except KeyboardInterrupt:
            if not _terminated:
                console.print("interrupted", highlight=False)
            sys.exit(INTERRUPTED)
        except Exception as failure:
            _leave(deliberate(failure), failure)

    return wrapped


def _leave(error: RoundelayError, failure: Exception) -> NoReturn:
    """One sentence; what went wrong inside the program is logged with -v."""
    if isinstance(error, LocalError) and error is not failure:
        log.info("the cause: %s", whereabouts(failure))
    console.print(Text("error:", "bold red"), Text(_one_line(str(error))), soft_wrap=True)
    sys.exit(error.exit_code)


def _one_line(text: str) -> str:
    """Without control characters: a peer's sentence or a file's name goes to a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def set_up_logging(verbose: bool) -> None:
    """Logs go to stderr. They hold names and sizes, never data or keys."""
    if console.is_terminal:
        handler: logging.Handler = RichHandler(console=console, show_path=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s", handlers=[handler])
    logging.captureWarnings(True)


def stop_on_terminate() -> None:
    """SIGTERM ends a command as Ctrl-C does, in order: no half file, and the other side hears of it."""
    signal.signal(signal.SIGTERM, _terminate)


_terminated: list[int] = []


def _terminate(number: int, _frame: object) -> None:
    """A service that is told to end has nothing to say about it."""
    _terminated.append(number)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def open_home(path: Path | None) -> Home:
    return Home(path or default_home())


class Output:
    """The result of a command: a JSON object, or a text for people."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(width=None if sys.stdout.isatty() else 140)

    def result(self, data: dict[str, Any], *renderables: Any) -> None:
        if self.as_json:
            click.echo(json.dumps(data, sort_keys=False))
            return
        for r in renderables:
            self.console.print(r, highlight=False)

    def line(self, data: dict[str, Any], text: str) -> None:
        """One line at once, for services that go on afterwards."""
        click.echo(json.dumps(data) if self.as_json else text)
        sys.stdout.flush()


@contextmanager
def progress(label: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, shown when it is a terminal; gives a function (done, total)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def step(label: str) -> Iterator[None]:
    """Something that takes a while: a spinner on a terminal, a line elsewhere."""
    if not console.is_terminal:
        console.print(f"{label} ...", highlight=False)
        yield
        return
    with console.status(f"{label} ..."):
        yield


def size(count: float) -> str:
    """Bytes for people: powers of ten."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
