"""python -m benchmarks.kernels [native|numpy]: each kernel's time beside what this machine can do at all.

A case's limit is the time that its AES calls, its bytes or its products take, whichever is longest; "ratio" is the
kernel's time over that. Processor time of one thread, the least of five calls or of as many as last 0.3 s, in turn with
as many of the limit's.
"""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from benchmarks.kernels.cases import Case, cases
from benchmarks.kernels.limits import Limits, Probe, measure_limits, probes, seconds
from engine.kernels import get_kernels
from engine.memory import keep_memory

NUMPY_SCALE = 50  # the definition is slow: fewer elements


def row(case: Case, limits: Limits, made: dict[str, Probe]) -> tuple[str, ...]:
    """Name, elements, ns an element, GB/s, the binding limit and the ratio to it."""
    units = {"aes": case.aes, "memory": case.moved, "macs": case.macs}
    bound = max(units, key=lambda name: units[name] / getattr(limits, name))
    taken, probe = seconds(case.run, made[bound].run)
    floor = units[bound] * probe / made[bound].units
    rates = f"{taken / case.elements * 1e9:.3f}", f"{case.moved / taken / 1e9:.2f}"
    return case.name, f"{case.elements:,}", *rates, "float32" if bound == "macs" else bound, f"{taken / floor:.2f}"


@click.command()
@click.argument("name", type=click.Choice(["native", "numpy"]), required=False)
def main(name: str | None) -> None:
    """Measure every kernel of the back end NAME [default: native, else numpy] beside this machine's limits."""
    keep_memory()  # as parties and dealer do
    kernels = get_kernels(name)
    made = probes(kernels)
    limits = measure_limits(made)
    table = Table(title=f"{kernels.name} kernels, one core")
    for heading in ("kernel", "elements", "ns/element", "GB/s", "bound by", "ratio"):
        table.add_column(heading, justify="left" if heading in ("kernel", "bound by") else "right")
    for case in cases(kernels, NUMPY_SCALE if kernels.name == "numpy" else 1):
        table.add_row(*row(case, limits, made))
    console = Console(width=110)
    console.print(table)
    console.print(
        f"limits here: copy {limits.memory / 1e9:.1f} GB/s read + written, AES {limits.aes / 1e9:.2f} G blocks/s, "
        f"float32 product {limits.macs / 1e9:.1f} GMAC/s"
    )


if __name__ == "__main__":
    main()
