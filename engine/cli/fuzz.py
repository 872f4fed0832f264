"""`fuzz`: any gate against its cleartext reading."""

from __future__ import annotations

import secrets
import sys

import click
from rich.table import Table

from engine.cli.common import Output, json_option, progress, text_errors
from engine.testing.fuzz import fuzz as check
from engine.testing.fuzz import names
from engine.testing.report import GateReport

__all__ = ["fuzz"]


@click.command()
@click.argument("gates", nargs=-1)
@click.option(
    "-n", "--examples", default=1000, show_default=True, type=click.IntRange(1), help="Examples of each gate."
)
@click.option("--seed", type=int, help="Repeat the examples of an earlier run. [default: drawn, and printed]")
@click.option("--exhaustive", is_flag=True, help="Every value and mask of small rings as well.")
@json_option
@text_errors
def fuzz(gates: tuple[str, ...], examples: int, seed: int | None, exhaustive: bool, as_json: bool) -> None:
    """Run GATES on drawn inputs with dealer and both parties, and compare with cleartext bit for bit.

    A gate is a name (all of them if none is given) or an author's own, FILE.py:function. Inputs sit at ring edges,
    masks on seams; bytes, tape and rounds must equal the plan. Exit code 6 if anything differs.
    """
    seed = secrets.randbits(31) if seed is None else seed
    wanted = gates or names()
    reports: list[GateReport] = []
    with progress("fuzzing", "gates") as bar:
        for i, gate in enumerate(wanted):
            reports.append(check(gate, examples, seed, exhaustive=exhaustive))
            bar(i + 1, len(wanted))
    data = {
        "seed": seed, "evaluations": sum(r.evaluations for r in reports),
        "mismatches": sum(r.mismatches for r in reports), "gates": [r.as_dict() for r in reports],
    }  # fmt: skip
    Output(as_json).result(data, _table(reports), f"seed {seed}")
    if not all(r.ok for r in reports):
        sys.exit(6)


def _table(reports: list[GateReport]) -> Table:
    table = Table("gate", "report")
    for r in reports:
        table.add_row(("" if r.ok else "[bold red]") + r.name, str(r).removeprefix(f"{r.name}: "))
    return table
