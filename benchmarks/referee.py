"""python -m benchmarks.referee: predictions against what happens.

For each workload and network, online seconds of the slower party:

    predicted   from the plan, on a device that is calibrated at the beginning
    virtual     a run in virtual time, on the same device
    channel     a run of two processes behind the delayed channel, in real time, the least of several, and how far the
                prediction is from it
    real TCP    a run of two processes in two network namespaces that a shaped link joins, likewise; the prediction for
                it is fed the rate and the round trip that a probe measures on that link; connections begin with a
                wide window: TCP's slow start is not part of the link model

Rounds and bytes of all of them must be equal. Round trips below 2 ms are left to real TCP: the delayed channel's timers
are late by a good part of them. Namespaces take root; without it, real TCP is left out, with a message.
"""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import click
from rich.console import Console

from benchmarks.markdown import show, written
from benchmarks.probe import measured
from engine.bench.calibration import calibrate
from engine.bench.folder import Job
from engine.bench.report import BenchReport
from engine.bench.runner import bench
from engine.bench.workload import Workload
from engine.bench.workloads import build_workload
from engine.cli.common import text_errors
from engine.errors import LocalError
from engine.scheduler.plan import Plan
from engine.testing.virtual import run_virtual
from simulators.device import Device
from simulators.profiles import Network, network
from simulators.replay import Prediction, predict
from simulators.tunnel import Host, obstacle, tunnel

WORKLOADS = ("bert-tiny", "softmax-128x128", "block-bert-base")
NETWORKS = ("lan-1g", "wan-400m-8ms", "wan-300m-60ms")
EXACT = 2e-3
"""Seconds of a round trip from which on the delayed channel is exact enough."""
WIDE = "4000"
"""Segments."""
BUFFERS = "4096 33554432 67108864"
"""Of sockets, in bytes: least, at first, most."""
THEIRS = (Host("fssA", "10.78.0.1"), Host("fssB", "10.78.0.2"))
"""Namespaces of the other program."""
UP_SECONDS = 20
HEADINGS = ("workload", "network", "rounds", "predicted", "virtual", "channel", "off by", "link measured",
            "predicted for it", "real TCP", "off by", "bytes and rounds")  # fmt: skip
console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One workload on one network; None where something was left out."""

    workload: str
    network: Network
    predicted: Prediction
    virtual: float
    channel: float | None
    link: Network | None
    told: Prediction | None
    tcp: float | None
    exact: bool

    def row(self) -> list[str]:
        p = self.predicted
        link = "" if self.link is None else f"{self.link.bandwidth / 1e6:.0f} Mb/s, {self.link.rtt * 1e3:.2f} ms"
        cells = [_seconds(p.online), _seconds(self.virtual), _seconds(self.channel), _off(p.online, self.channel), link]
        told = None if self.told is None else self.told.online
        cells += [_seconds(told), _seconds(self.tcp), _off(told, self.tcp), "equal" if self.exact else "DIFFER"]
        return [self.workload, self.network.name, str(p.rounds), *cells]

    def as_dict(self) -> dict[str, Any]:
        told = None if self.told is None else self.told.online
        return {
            "workload": self.workload, "network": self.network.as_dict(), "rounds": self.predicted.rounds,
            "bytes_sent": list(self.predicted.bytes_sent), "predicted": self.predicted.online, "virtual": self.virtual,
            "channel": self.channel, "link": None if self.link is None else self.link.as_dict(),
            "predicted_for_link": told, "tcp": self.tcp, "exact": self.exact,
        }  # fmt: skip


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _off(told: float | None, found: float | None) -> str:
    return "" if told is None or not found else f"{(told - found) / found:+.1%}"


# ---------------------------------------------------------------------- links
def missing(linkem: Path | None) -> str | None:
    """Why there can be no shaped link here, None if there can."""
    if linkem is not None and not linkem.is_file():
        return f"there is no {linkem}"
    return obstacle()


@contextmanager
def shaped(shape: Network, linkem: Path | None) -> Iterator[tuple[Host, Host]]:
    """Two hosts with the network between them: our tunnel, or another program's namespaces. Raises LocalError."""
    if linkem is None:
        with tunnel(shape) as hosts:
            yield hosts
        return
    with _emulator(shape, linkem):
        yield THEIRS


@contextmanager
def _emulator(shape: Network, linkem: Path) -> Iterator[None]:
    """The other program, in the foreground of a process of its own; told to end, it removes what it made."""
    taken = [h.namespace for h in THEIRS if Path("/run/netns", h.namespace).exists()]
    if taken:
        raise LocalError(
            f"{linkem} needs namespaces {' and '.join(taken)}, which exist: another link is up, or one was left behind "
            f"(ip netns del {taken[0]})"
        )
    numbers = ["--rtt-ms", str(shape.rtt * 1e3), "--mbit", str(shape.bandwidth / 1e6)]
    with TemporaryFile() as said:
        command = [sys.executable, str(linkem), "up", *numbers]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said)
        assert process.stdout is not None
        try:
            ready, _, _ = select.select([process.stdout], [], [], UP_SECONDS)
            if not ready or not process.stdout.readline().startswith(b"up"):
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                raise LocalError(f"{linkem} did not bring its link up: {lines[-1] if lines else 'it said nothing'}")
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(UP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def warm(host: Host) -> None:
    """New connections of a host begin with a window as wide as the link, as those do that were kept warm."""
    routes = subprocess.run(["ip", "-n", host.namespace, "route"], capture_output=True, text=True, check=True).stdout
    for route in routes.splitlines():
        command = ["ip", "-n", host.namespace, "route", "change", *route.split(), "initcwnd", WIDE, "initrwnd", WIDE]
        subprocess.run(command, capture_output=True, check=True)
    settings = {"tcp_slow_start_after_idle": "0", "tcp_rmem": BUFFERS, "tcp_wmem": BUFFERS}
    script = "; ".join(f"echo {value} > /proc/sys/net/ipv4/{name}" for name, value in settings.items())
    subprocess.run(host.inside(["sh", "-c", script]), capture_output=True, check=True)


# ---------------------------------------------------------------------- one verdict
def judge(workload: Workload, shape: Network, device: Device, runs: int, linkem: Path | None, tcp: bool) -> Verdict:
    """All four ways. Raises what a run raises."""
    plan = Plan(workload.program)
    predicted = predict(plan, shape, device, emulated=True)
    virtual = run_virtual(plan, workload.inputs, workload.weights, shape, device)
    reports = [bench(workload, runs, Job("tcp", network=shape))] if shape.rtt >= EXACT else []
    channel = _least(reports[-1]) if reports else None
    link, told, real = None, None, None
    with shaped(shape, linkem) if tcp else nullcontext() as hosts:
        if hosts is not None:
            for host in hosts:
                warm(host)
            link = measured(f"{shape.name}, shaped", *hosts)
            told = predict(plan, link, device)
            reports.append(bench(workload, runs, Job("tcp"), hosts=hosts))
            real = _least(reports[-1])
    exact = all(_equal(predicted, r) for r in reports)
    exact &= (virtual.rounds, virtual.bytes_sent) == (predicted.rounds, predicted.bytes_sent)
    return Verdict(workload.name, shape, predicted, virtual.online, channel, link, told, real, exact)


def _least(report: BenchReport) -> float:
    return min(report.seconds("online"))


def _equal(p: Prediction, report: BenchReport) -> bool:
    data = report.as_dict()
    there = (data["rounds"], tuple(data["bytes_sent"]), tuple(data["prepare_bytes"]))
    return there == (p.rounds, p.bytes_sent, p.prepare_bytes)


@click.command()
@click.argument("workloads", nargs=-1, metavar="[WORKLOAD]...")
@click.option("--network", "networks", multiple=True, help=f"[default: {', '.join(NETWORKS)}]")
@click.option("--tokens", default=128, show_default=True, type=click.IntRange(1))
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1), help="In real time; the least counts.")
@click.option("--device", type=click.Path(path_type=Path, dir_okay=False), help="[default: calibrated now]")
@click.option("--linkem", type=click.Path(path_type=Path, dir_okay=False),
              help="A link emulator to use instead of our own: linkem.py up --rtt-ms R --mbit B")  # fmt: skip
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Write the table there.")
@click.option("--json", "as_json", is_flag=True)
@text_errors
def main(
    workloads: tuple[str, ...], networks: tuple[str, ...], tokens: int, runs: int, device: Path | None,
    linkem: Path | None, page: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Predictions against virtual time, the delayed channel and real TCP through a shaped link."""
    shapes = [network(name) for name in networks or NETWORKS]
    if (why := missing(linkem)) is not None:
        console.print(f"real TCP is left out: {why}", highlight=False)
    console.print("calibrating ..." if device is None else f"device {device}", highlight=False)
    machine = calibrate("referee").device if device is None else Device.read(device)
    found: list[Verdict] = []
    for name in workloads or WORKLOADS:
        built = build_workload(name, tokens)
        for shape in shapes:
            found.append(judge(built, shape, machine, runs, linkem, why is None))
            console.print(" | ".join(found[-1].row()), highlight=False)
    if as_json:
        click.echo(json.dumps({"device": machine.as_dict(), "verdicts": [v.as_dict() for v in found]}))
    else:
        show(f"online seconds, least of {runs} runs, {machine.about}", HEADINGS, [v.row() for v in found])
    if page is not None:
        written(page, "referee", HEADINGS, [v.row() for v in found])


if __name__ == "__main__":
    main()
