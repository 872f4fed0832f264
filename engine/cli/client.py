"""`embed` and `classify`: the client's runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.table import Table

from engine.cli.common import (
    Output,
    behind,
    home_option,
    json_option,
    network_option,
    open_home,
    size,
    text_errors,
    transport_option,
    workers_option,
)
from engine.cli.compile import read_lines
from engine.cli.reporting import Reports, live_option, report_options, shown
from engine.errors import InputError
from engine.kernels import get_kernels
from engine.pairing import Pairing
from engine.report.results import recorded
from engine.result import RunResult
from engine.run import Progress
from engine.session import ClientSession, connect
from engine.transport.identity import check_public_key
from engine.transport.loop import run
from engine.transport.multiplex import MOST_STREAMS
from simulators.profiles import Network

__all__ = ["classify", "embed"]


Call = Callable[[list[str]], Awaitable[RunResult]]


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed((
        click.argument("address"),
        click.argument("texts", nargs=-1),
        click.option("--file", "path", type=click.Path(path_type=Path, dir_okay=False), help="Texts, one a line."),
        click.option("--model", help="Name or digest of the paired model, if there are several."),
        click.option("--batch/--one-by-one", default=True, help="All texts share rounds in one run, or a run each."),
        click.option("--at-once", default=1, show_default=True, type=click.IntRange(1, MOST_STREAMS),
                     help="With --one-by-one: so many runs at the same time, sharing round trips and messages."),
        click.option("--dealer", metavar="ADDRESS", help="The dealer's service. [default: tapes from files in --home]"),
        click.option("--dealer-key", help="Public key of the dealer."),
        click.option("--deadline", default=60.0, show_default=True, help="Seconds that one wait may last."),
        click.option("--overlap/--no-overlap", default=True, help="Barrier after every round with --no-overlap."),
        transport_option, workers_option,
        network_option("here, both ways; give it to one of the two sides."),
        live_option, report_options, home_option, json_option,
    )):  # fmt: skip
        function = option(function)
    return function


@click.command()
@_options
@text_errors
def embed(**kwargs: Any) -> None:
    """Embed TEXTS with the model served at ADDRESS. The owner never sees the texts, and this side never the weights.

    Texts of a batch share rounds; their lengths in tokens are public, what they say is not.
    """
    _client("embed", **kwargs)


@click.command()
@_options
@text_errors
def classify(**kwargs: Any) -> None:
    """Classify TEXTS with the model served at ADDRESS; logits are revealed to this side alone."""
    _client("classify", **kwargs)


def _client(
    what: str, address: str, texts: tuple[str, ...], path: Path | None, model: str | None, batch: bool, at_once: int,
    dealer: str | None, dealer_key: str | None, deadline: float, overlap: bool, transport: str, workers: int,
    network: Network | None, live: bool, report: Path | None, trace: Path | None, home: Path | None, as_json: bool,
) -> None:  # fmt: skip
    if at_once > 1 and batch:
        raise InputError("--at-once is for runs of one text each: add --one-by-one")
    if (dealer is None) != (dealer_key is None):
        raise InputError("--dealer and --dealer-key go together")
    lines = [*texts, *(read_lines(path) if path is not None else [])]
    if not lines:
        raise InputError("there is nothing to run: give texts, or --file")
    at = None if dealer is None else (dealer, check_public_key(dealer_key or ""))
    groups = [lines] if batch else [[t] for t in lines]

    async def go() -> tuple[Pairing, list[RunResult]]:
        with shown(live, "running", "segments", "asking for a tape") as (bar, watch):
            async with connect(
                address,
                home=open_home(home).path,
                model=model,
                dealer=at,
                transport=transport,
                deadline=deadline,
                kernels=get_kernels(workers=workers),
                overlap=overlap,
                progress=bar if at_once == 1 else None,
                watch=watch,
                behind=behind(network),
            ) as session:
                call = session.embed if what == "embed" else session.classify
                if at_once == 1:
                    return session.pairing, [await call(group) for group in groups]
                return session.pairing, await _beside(session, call, groups, at_once, bar)

    pairing, runs = run(go())
    data = _report(what, pairing, lines, runs) | {"network": None if network is None else network.as_dict()}
    Output(as_json).result(data, _table(what, pairing, lines, runs), _summary(runs))
    if reports := Reports(report, trace):
        facts = {
            "model": pairing.public.name, "transport": transport, "network": str(network or "as it is"),
            "overlap": "yes" if overlap else "no, a barrier after every round",
        }  # fmt: skip
        rates = None if network is None else network.rates
        reports.write(recorded(f"{what} {pairing.public.name}", runs, data, facts, rates))


async def _beside(
    session: ClientSession, call: Call, groups: list[list[str]], at_once: int, done: Progress | None
) -> list[RunResult]:
    """A run each, so many at the same time; `done` is told of finished runs. A failure ends those that still run."""
    await session.side_by_side()
    turns, finished = asyncio.Semaphore(at_once), 0

    async def one(group: list[str]) -> RunResult:
        nonlocal finished
        async with turns:
            result = await call(group)
        finished += 1
        if done is not None:
            done(finished, len(groups))
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(texts)) for texts in groups]
    return [task.result() for task in tasks]


def _report(what: str, pairing: Pairing, texts: list[str], runs: list[RunResult]) -> dict[str, Any]:
    outputs = [o for r in runs for o in r.outputs]
    data: dict[str, Any] = {"model": pairing.public.name, "text": texts}
    if what == "classify":
        data["labels"] = [_label(pairing, o) for o in outputs]
    data["outputs"] = [np.round(o, 8).tolist() for o in outputs]
    if len(runs) == 1:
        return data | runs[0].as_dict()
    return data | {"runs": [r.as_dict() for r in runs]}


def _label(pairing: Pairing, logits: Any) -> str:
    labels = pairing.public.labels
    best = int(np.argmax(logits))
    return labels[best] if best < len(labels) else str(best)


def _table(what: str, pairing: Pairing, texts: list[str], runs: list[RunResult]) -> Table:
    table = Table("text", "label" if what == "classify" else "embedding")
    outputs = [o for r in runs for o in r.outputs]
    for text, output in zip(texts, outputs, strict=True):
        short = text if len(text) <= 60 else text[:57] + "..."
        numbers = ", ".join(f"{v:+.4f}" for v in output.reshape(-1)[:4]) + (", ..." if output.size > 4 else "")
        table.add_row(short, f"{_label(pairing, output)} ({numbers})" if what == "classify" else numbers)
    return table


def _summary(runs: list[RunResult]) -> str:
    lines = []
    for r in runs:
        s = r.seconds
        lines.append(
            f"{r.rounds} rounds, sent {size(r.bytes_sent[0])} + {size(r.bytes_sent[1])} online and "
            f"{size(sum(r.prepare_bytes))} before, tapes {size(r.tape_bytes[0])} + {size(r.tape_bytes[1])}; "
            f"deal {s['deal']:.2f} s, prepare {s['prepare']:.2f} s, online {s['online']:.2f} s"
        )
    return "\n".join(lines)
