"""`simulate`: what a run would take on a network, from its plan alone, or run in virtual time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from engine.bench.workload import Workload
from engine.cli.calibrate import device_option, find_device
from engine.cli.common import Output, console, json_option, progress, size, text_errors
from engine.cli.reporting import Reports, report_options
from engine.cli.target import OWNERS, Target, shape_target, target
from engine.errors import InputError
from engine.models.bare import BARE
from engine.report.recording import RecordedRun, Recording, Side, gate_costs
from engine.scheduler.plan import Plan
from engine.testing.virtual import VirtualRun, run_virtual
from engine.variants import parse
from simulators.device import Device
from simulators.profiles import Network
from simulators.profiles import network as find_network
from simulators.replay import Prediction, predict
from simulators.sweep import bounds

__all__ = ["many_networks", "simulate"]

many_networks = click.option(
    "--network", "networks", required=True, metavar="NAME[,NAME]...", multiple=True,
    callback=lambda _context, _option, texts: [n for text in texts for n in split_networks(text)],
    help="Names, joined by commas or one to an option, or a description: see `roundelay networks`.",
)  # fmt: skip


def split_networks(text: str) -> list[Network]:
    """Names joined by commas; a description is one network, commas and all. Raises InputError."""
    one = "=" in text or text.lstrip().startswith("{")
    return [find_network(name) for name in ([text] if one else text.split(","))]


@dataclass(frozen=True, slots=True)
class Simulated:
    """One network: the prediction, what it would be with compute or network alone, and the run, if one was made."""

    prediction: Prediction
    compute: float
    wire: float
    run: VirtualRun | None = None

    def as_dict(self) -> dict[str, Any]:
        more = {} if self.run is None else {"ran": self.run.as_dict()}
        alone = {"compute": self.compute, "network": self.wire}
        return {**self.prediction.as_dict(), "alone_seconds": alone, **more}


@click.command()
@click.argument("model", required=False)
@click.option("--shape", type=click.Choice(BARE), help="A bare shape with default bounds, instead of MODEL.")
@many_networks
@click.option(
    "--tokens", "lengths", multiple=True, type=click.IntRange(1), help="[default: 128]; several make a batch."
)
@click.option("--weights", type=click.Choice(sorted(OWNERS)), default="owned", show_default=True)
@click.option("--variants", default="default", show_default=True, help="Of gates, for a shape: exp=leaf,up=before.")
@click.option("--overlap/--no-overlap", default=True, help="Barrier after every round with --no-overlap.")
@click.option("--transport", default="tcp", show_default=True, help="Whose cost a frame has: memory, tcp or zeromq.")
@click.option("--cores", type=float, help="Processors that both parties share. [default: the device's, one machine]")
@device_option
@click.option("--run", "running", is_flag=True, help="Also run it, in virtual time: real bits on a simulated clock.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 255), help="Of jitter, loss and masks.")
@report_options
@json_option
@text_errors
def simulate(
    model: str | None, shape: str | None, networks: list[Network], lengths: tuple[int, ...], weights: str,
    variants: str, overlap: bool, transport: str, cores: float | None, device: Path | None, running: bool, seed: int,
    report: Path | None, trace: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Predict what a run takes on each network, from the plan alone: nothing is sent and nothing computed.

    \b
    MODEL is a workload of `bench`, a compiled or Hugging Face folder, a short name such as minilm, or a shape.
      roundelay simulate --shape bert-base --network lan-1g,wan-300m-60ms --tokens 128
      roundelay simulate bert-tiny --network rtt=20ms,bandwidth=50mbit --run

    Both parties' tasks, frames and processors are replayed over the link's model, with the costs of a calibrated
    machine. Rounds and bytes are exact. With --run the workload is run as well, dealer and parties in this process, on
    a clock that shows what it would have taken; two runs from one seed agree in every bit.
    """
    if (model is None) == (shape is None):
        raise InputError("give either MODEL or --shape")
    sizes, machine, chosen = lengths or (128,), find_device(device), parse(variants)
    what = target(str(model), sizes, weights, chosen) if shape is None else shape_target(shape, sizes, weights, chosen)
    if running and what.workload is None:
        raise InputError(f"{what.name} can be predicted but not run here: --run takes a workload of `bench`")
    found = [_simulated(what, n, machine, overlap, cores, transport, seed, running) for n in networks]
    data = {"name": what.name, "tokens": list(sizes), "weights": weights, "variants": str(chosen),
            "digest": what.plan.digest.hex(), "networks": [s.as_dict() for s in found]}  # fmt: skip
    Output(as_json).result(data, _totals(what, found[0].prediction), _table(found), *(_path(s) for s in found))
    reports = Reports(report, trace)
    if reports:
        reports.write(_recording(what, found, data))


def _simulated(
    what: Target, network: Network, device: Device, overlap: bool, cores: float | None, transport: str, seed: int,
    running: bool,
) -> Simulated:  # fmt: skip
    prediction = predict(what.plan, network, device, overlap, cores, transport=transport, seed=seed)
    compute, wire = bounds(what.plan, network, device, overlap, cores, transport=transport)
    run = None
    if running and what.workload is not None:
        with progress(f"running on {network.name}", "calls") as bar:
            run = _run(what.plan, what.workload, network, device, overlap, cores, transport, seed, bar)
    return Simulated(prediction, compute, wire, run)


def _run(
    plan: Plan, workload: Workload, network: Network, device: Device, overlap: bool, cores: float | None,
    transport: str, seed: int, bar: Any,
) -> VirtualRun:  # fmt: skip
    run = run_virtual(
        plan, workload.inputs, workload.weights, network, device, overlap, cores, transport=transport,
        seed=bytes([seed]) + bytes(15), progress=bar,
    )  # fmt: skip
    error = workload.accuracy(run.outputs).max_error
    console.print(f"ran on {network.name}: largest error against float64 {error:.3g}", highlight=False)
    return run


# ---------------------------------------------------------------------- for people
def _totals(what: Target, p: Prediction) -> str:
    a, b = p.bytes_sent
    return (
        f"{what.name}: {p.rounds} rounds, P0 sends {size(a)}, P1 {size(b)} in {sum(p.frames)} frames; evaluation alone "
        f"takes {p.evaluate[0]:.3f} s (P0), {p.evaluate[1]:.3f} s (P1) on '{p.device}'"
    )


def _table(found: list[Simulated]) -> Table:
    columns = ("network", "online", "prepare", "compute alone", "network alone", "link used", "processors used")
    ran = any(s.run for s in found)
    table = Table(*columns, *(["ran in virtual time"] if ran else []), title="seconds")
    for s in found:
        p = s.prediction
        row = [p.network.name, *(f"{t:.3f}" for t in (p.online, p.prepare, s.compute, s.wire))]
        row += [" / ".join(f"{u:.0%}" for u in p.link_use), f"{p.cores_use:.0%}"]
        table.add_row(*row, *([f"{s.run.online:.3f}"] if s.run else []))
    return table


def _path(s: Simulated) -> Table:
    """The critical path by lane and gate, over all calls."""
    p, total = s.prediction, s.prediction.online
    sums: dict[tuple[str, str], tuple[float, int]] = {}
    for leg in p.path:
        seconds, times = sums.get((leg.lane, leg.gate), (0.0, 0))
        sums[leg.lane, leg.gate] = (seconds + leg.seconds, times + leg.times)
    table = Table("bound by", "of gate", "seconds", "share", "times", title=f"critical path on {p.network.name}")
    for (lane, gate), (seconds, times) in sorted(sums.items(), key=lambda item: -item[1][0])[:12]:
        table.add_row(lane, gate, f"{seconds:.3f}", f"{seconds / total:.0%}" if total else "", str(times))
    return table


def _recording(what: Target, found: list[Simulated], data: dict[str, Any]) -> Recording:
    costs = gate_costs(what.plan)
    runs = tuple(_recorded(s, costs) for s in found)
    facts = {
        "simulated": what.name, "network": "; ".join(str(s.prediction.network) for s in found),
        "device": found[0].prediction.device, "overlap": "yes" if found[0].prediction.overlap else "no",
        "plan": data["digest"][:16],
    }  # fmt: skip
    title, phrase = f"simulate {what.name}", "a prediction from the plan, on a calibrated device"
    return Recording(title, phrase, facts, data, runs, all(s.run is None for s in found))


def _recorded(s: Simulated, costs: Any) -> RecordedRun:
    """A prediction; of a virtual run what it did, with the prediction beside it."""
    p = s.prediction
    predicted = (Side.of(p.timelines[0]), Side.of(p.timelines[1]))
    if s.run is None:
        return RecordedRun(p.network.name, costs, predicted, p.as_dict(), rates=p.network.rates)
    sides = (Side.of(s.run.timelines[0]), Side.of(s.run.timelines[1]))
    totals = {**p.as_dict(), **s.run.as_dict()}
    return RecordedRun(p.network.name, costs, sides, totals, predicted, rates=p.network.rates)
