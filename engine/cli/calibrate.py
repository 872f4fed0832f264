"""`calibrate`: this machine as a device for `simulate` and `sweep`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click
from rich.table import Table

from engine.bench.calibration import Calibration
from engine.bench.calibration import calibrate as run_calibration
from engine.cli.common import Output, console, json_option, progress, text_errors, workers_option
from engine.errors import LocalError
from engine.files import whole_file
from engine.home import default_home
from simulators.device import Device

__all__ = ["calibrate", "device_option", "find_device"]

REFERENCE = "reference"


def default_device() -> Path:
    """Where a calibration of this machine is kept."""
    return default_home() / "device.json"


def find_device(path: Path | None) -> Device:
    """The device in a file; without one, this machine's own calibration; without that, the reference machine's, which
    comes with the package. Raises InputError."""
    if path is not None:
        return Device.read(path)
    if default_device().exists():
        return Device.read(default_device())
    console.print("times are those of the reference machine: `roundelay calibrate` measures this one", highlight=False)
    return Device.from_json((files("simulators") / "devices" / f"{REFERENCE}.json").read_text(), REFERENCE)


device_option = click.option(
    "--device", type=click.Path(path_type=Path, dir_okay=False),
    help="What a machine takes for each piece of work, as `roundelay calibrate` wrote it. [default: this machine's, if "
    "it was calibrated, else the reference machine's]",
)  # fmt: skip


@click.command()
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="[default: HOME/device.json]")
@click.option("--name", default="this machine", show_default=True, help="What predictions call it.")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 100), help="Of each, the least counts.")
@workers_option
@json_option
@text_errors
def calibrate(output: Path | None, name: str, runs: int, workers: int, as_json: bool) -> None:
    """Measure this machine, in half a minute, for predictions by `simulate` and `sweep`.

    Blocks of models and gates are dealt and evaluated, each piece of work timed; then come frames over each transport,
    tape from the disk, what a step takes beside its work, and timers. Close what else computes meanwhile. The file that
    is written is JSON; it holds nothing but times, and the processor's name.
    """
    path = output or default_device()
    with progress("calibrating", "plans") as bar:
        found = run_calibration(name, workers, runs, bar)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(found.device.to_json().encode())
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror}") from error
    data = {"file": str(path), "device": found.device.as_dict(), "fitted": [f.as_dict() for f in found.fitted]}
    Output(as_json).result(data, _table(found), _lanes(found.device), f"written to {path}")


def _table(found: Calibration) -> Table:
    table = Table("operation", "pieces", "measured", "fit misses", title=found.device.about)
    for f in sorted(found.fitted, key=lambda f: -f.seconds):
        missed = f"{f.missed / f.seconds:.0%}" if f.seconds else ""
        table.add_row(f.operation, str(f.samples), f"{f.seconds * 1e3:.1f} ms", missed)
    return table


def _lanes(device: Device) -> Table:
    table = Table("besides", "each", "a byte")
    lines = {f"frame over {name}": line for name, line in device.frames.items()}
    lines |= {"and behind a delay": device.delayed, "tape, a block": device.prefetch}
    for label, (each, byte) in lines.items():
        table.add_row(label, f"{each * 1e6:.1f} us", f"{byte * 1e9:.3f} ns")
    table.add_row("step", f"{device.costs['step'] * 1e6:.1f} us", "")
    table.add_row("process wakes late", f"{device.wake * 1e6:.0f} us", "")
    table.add_row("timer fires late", f"{device.late * 1e6:.0f} us", "")
    table.add_row("dealing, of both tapes", "", f"{device.deal * 1e9:.2f} ns")
    return table
