"""`report`: the page of a run from the traces that its sides wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
from rich.table import Table

from engine.cli.common import Output, json_option, text_errors
from engine.cli.reporting import Reports, writable
from engine.report.bound import Bound, what_bounds
from engine.report.recording import Recording, merged
from engine.report.trace import read_trace

__all__ = ["report"]

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("traces", nargs=-1, required=True, type=FILE)
@click.option("--output", "-o", "page", required=True, type=FILE, callback=writable, help="The page, FILE.html.")
@click.option("--trace", type=FILE, callback=writable, help="Also write one trace of all sides, for Perfetto.")
@json_option
@text_errors
def report(traces: tuple[Path, ...], page: Path, trace: Path | None, as_json: bool) -> None:
    """Make the page of a run from its TRACES: what `--trace` wrote on one side, or on both.

    \b
      client   roundelay embed ... --trace client.json
      owner    roundelay serve ... --trace owner.json
               roundelay report client.json owner.json -o run.html

    The first trace says which runs; the others bring what they know of the same runs' other side, found by the tape
    that both used. Clocks of two machines are aligned by what crossed.
    """
    recording = merged([read_trace(path) for path in traces])
    recording = replace(recording, facts={**recording.facts, "traces": str(len(traces))})
    Reports(page, trace).write(recording)
    bounds = [(run.name, what_bounds(run.sides, run.rates)) for run in recording.runs]
    Output(as_json).result(_data(recording, page, bounds), _table(bounds))


def _data(recording: Recording, page: Path, bounds: list[tuple[str, Bound | None]]) -> dict[str, object]:
    sides = [sum(side is not None for side in run.sides) for run in recording.runs]
    shares = [{"run": name, **bound.as_dict()} for name, bound in bounds if bound is not None]
    return {"title": recording.title, "page": str(page), "sides": sides, "bounds": shares}


def _table(bounds: list[tuple[str, Bound | None]]) -> Table:
    table = Table("run", "online", "what bounds it")
    for name, bound in bounds:
        table.add_row(name, *(("", "no events") if bound is None else (f"{bound.seconds:.3f} s", bound.sentence)))
    return table
