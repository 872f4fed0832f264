"""`sweep`: predictions over models, networks, lengths and variants, as a table, CSV, a picture and a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from engine.cli.calibrate import device_option, find_device
from engine.cli.common import Output, console, json_option, progress, size, text_errors
from engine.cli.reporting import writable
from engine.cli.simulate import many_networks
from engine.cli.target import OWNERS, target
from engine.errors import LocalError
from engine.report.sweep import write_sweep
from engine.variants import parse
from simulators.picture import draw
from simulators.profiles import Network
from simulators.sweep import Case, Row, to_csv
from simulators.sweep import sweep as run_sweep

__all__ = ["sweep"]


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@many_networks
@click.option(
    "--tokens", "lengths", multiple=True, type=click.IntRange(1), help="[default: 128]; several are compared."
)
@click.option("--weights", multiple=True, type=click.Choice(sorted(OWNERS)), help="[default: owned]; likewise.")
@click.option("--variants", multiple=True, help="[default: default]; likewise: default, fewest-rounds, exp=leaf ...")
@click.option("--overlap/--no-overlap", default=True, help="Barrier after every round with --no-overlap.")
@click.option("--cores", type=float, help="Processors that both parties share. [default: the device's, one machine]")
@device_option
@click.option("--csv", "table", type=click.Path(path_type=Path, dir_okay=False), help="Write the rows to FILE.csv.")
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="Draw them: FILE.svg, .png or .pdf.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", callback=writable,
    help="Write table and pictures to FILE.html: one page that needs nothing else.",
)  # fmt: skip
@json_option
@text_errors
def sweep(
    models: tuple[str, ...], networks: list[Network], lengths: tuple[int, ...], weights: tuple[str, ...],
    variants: tuple[str, ...], overlap: bool, cores: float | None, device: Path | None, table: Path | None,
    picture: Path | None, report: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Predict every MODEL at every length, with all weights and variants asked for, on every network.

    \b
    roundelay sweep bert-tiny bert-base --network lan-1g,wan-300m-60ms --tokens 32 --tokens 128 --picture sweep.svg
    roundelay sweep minilm --tokens 32 --tokens 128 --network lan-1g,wan-400m-8ms --report sweep.html
    roundelay sweep minilm --weights owned --weights public --network wan-100m-80ms --csv rows.csv

    MODEL is what `simulate` takes. Nothing runs.
    """
    machine = find_device(device)
    cases = list(_cases(models, lengths or (128,), weights or ("owned",), variants or ("default",)))
    with progress("predicting", "rows") as bar:
        count = [0]

        def done(_row: Row) -> None:
            count[0] += 1
            bar(count[0], len(cases) * len(networks))

        rows = run_sweep(cases, networks, machine, overlap, cores, progress=done)
    _write(table, to_csv(rows).encode())
    _write(picture, None if picture is None else draw(rows, picture.suffix.lstrip(".").lower()))
    data = {"device": machine.name, "overlap": overlap, "rows": [asdict(row) for row in rows]}
    if report is not None:
        write_sweep(data, report)
        console.print(f"written to {report}", highlight=False)
    Output(as_json).result(data, _table(rows))


def _cases(
    models: tuple[str, ...], lengths: tuple[int, ...], weights: tuple[str, ...], variants: tuple[str, ...]
) -> Iterator[Case]:
    for model in models:
        for n in lengths:
            for owner in weights:
                for variant in variants:
                    chosen = parse(variant)
                    yield Case(model, n, owner, str(chosen), target(model, (n,), owner, chosen).plan)


def _write(path: Path | None, data: bytes | None) -> None:
    if path is None or data is None:
        return
    try:
        path.write_bytes(data)
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror}") from error
    console.print(f"written to {path}", highlight=False)


def _table(rows: list[Row]) -> Table:
    table = Table(
        "model", "tokens", "weights", "variants", "network", "online s", "prepare s", "compute alone", "network alone",
        "rounds", "P0 sends", "P1 sends", "link", "processors",
    )  # fmt: skip
    for r in rows:
        table.add_row(*_cells(r))
    return table


def _cells(r: Row) -> list[str]:
    who: list[Any] = [r.model, r.tokens, r.weights, r.variants, r.network]
    times = [f"{t:.3f}" for t in (r.online, r.prepare, r.compute, r.wire)]
    return [*map(str, who), *times, str(r.rounds), size(r.bytes_p0), size(r.bytes_p1), f"{r.link_use:.0%}",
            f"{r.cores_use:.0%}"]  # fmt: skip
