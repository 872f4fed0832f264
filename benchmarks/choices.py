"""python -m benchmarks.choices [SHAPE:TOKENS ...]: what planning for the network is worth, on every named network.

For each bare shape and network the variants are chosen as `plan --network` and `compile --network` choose them, by
predicted online time on a calibrated device, and stand beside the defaults, the fewest rounds, and the fastest fixed
set of gates: of those that the search looks at, or of all that there are with --every. If a fixed set is faster than
the chosen one by 2 %, the benchmark fails. Nothing runs: times are predictions, and `benchmarks.referee` says how far
these are off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
from rich.console import Console

from benchmarks.markdown import show, written
from engine.cli.calibrate import device_option, find_device
from engine.cli.common import text_errors
from engine.errors import InputError, LocalError
from engine.models.bare import BARE, bare_program
from engine.models.choose import SHORT_ROW, Choice, choose, sensible
from engine.scheduler.plan import Plan
from engine.variants import DEFAULT, FEWEST_ROUNDS, Variants, combinations
from simulators.device import Device
from simulators.profiles import PROFILES, Network
from simulators.replay import predict

WORKLOADS = ("minilm:32", "bert-tiny:128", "bert-base:128")
SLACK = 1.02
"""A fixed set may be this much faster: predictions are not that exact."""
HEADINGS = ("shape, tokens", "network", "default", "fewest rounds", "fastest fixed set", "chosen", "gain", "rounds",
            "variants chosen")  # fmt: skip
console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Compared:
    """One shape on one network: what is chosen, and the predicted seconds of every set of gates."""

    what: str
    network: Network
    choice: Choice
    fixed: dict[Variants, float]

    @property
    def gain(self) -> float:
        """Part of the defaults' time that the chosen plan saves."""
        return 1 - self.choice.best.seconds / self.fixed[DEFAULT]

    @property
    def fastest(self) -> Variants:
        """Of the fixed sets."""
        return min(self.fixed, key=lambda v: self.fixed[v])

    def check(self) -> None:
        """No fixed set is faster. Raises LocalError."""
        best = self.choice.best
        if best.seconds > self.fixed[self.fastest] * SLACK:
            raise LocalError(f"{self.what} on {self.network.name}: {best.variants} is chosen, {self.fastest} is faster")

    def row(self) -> list[str]:
        best, usual = self.choice.best, self.choice.candidates[str(DEFAULT)]
        times = [self.fixed[DEFAULT], self.fixed[FEWEST_ROUNDS], self.fixed[self.fastest], best.seconds]
        rounds = f"{usual.cost.rounds} to {best.cost.rounds}"
        return [self.what, self.network.name, *(f"{t:.3f}" for t in times), f"{self.gain:.1%}", rounds,
                f"`{best.variants}`"]  # fmt: skip


def fixed_sets(tokens: int) -> list[Variants]:
    """Every set of gates; tournaments where rows are short enough."""
    return [v for v in combinations() if tokens <= SHORT_ROW or v.maximum != "tournament"]


def compare(shape: str, tokens: int, device: Device, networks: list[Network], every: bool) -> Iterator[Compared]:
    """One network after another; a plan is made once for all of them."""

    @cache
    def build(how: Variants) -> Plan:
        return Plan(bare_program(shape, (tokens,), variants=how))

    sets = fixed_sets(tokens)
    for network in networks:
        seconds = predictor(network, device)
        choice = choose(build, seconds, sensible((tokens,)))
        fixed = {c.variants: c.seconds for c in choice.candidates.values() if c.variants in sets}
        for v in sets if every else []:
            if v not in fixed and str(v) not in choice.refused:
                fixed[v] = seconds(build(v))
        yield Compared(f"{shape}, {tokens}", network, choice, fixed)


def predictor(network: Network, device: Device) -> Callable[[Plan], float]:
    return lambda plan: predict(plan, network, device).online


def parsed(workload: str) -> tuple[str, int]:
    """`minilm:32`. Raises InputError."""
    name, _, tokens = workload.partition(":")
    if name not in BARE or not tokens.isdecimal():
        raise InputError(f"{workload!r} is no SHAPE:TOKENS, as minilm:32; shapes are {', '.join(BARE)}")
    return name, int(tokens)


@click.command()
@click.argument("workloads", nargs=-1)
@click.option("--network", "names", multiple=True, type=click.Choice(sorted(PROFILES)), help="[default: all of them]")
@click.option("--every", is_flag=True, help="Predict every set of gates, not only those that the search looks at.")
@device_option
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Write the table there.")
@text_errors
def main(
    workloads: tuple[str, ...], names: tuple[str, ...], every: bool, device: Path | None, page: Path | None
) -> None:
    """Compare what is chosen for each network with what could always be taken."""
    machine, found = find_device(device), []
    for name, tokens in [parsed(w) for w in workloads or WORKLOADS]:
        for compared in compare(name, tokens, machine, [PROFILES[n] for n in names or PROFILES], every):
            console.print(f"{compared.what} on {compared.network.name}: {compared.gain:.1%}", highlight=False)
            compared.check()
            found.append(compared)
    rows = [c.row() for c in found]
    about = f"predicted online seconds on the device '{machine.name}'; gain: of the chosen plan over the defaults"
    show(f"choices: {about}", HEADINGS, rows)
    if page is not None:
        written(page, "choices", HEADINGS, rows, about[0].upper() + about[1:] + ".")


if __name__ == "__main__":
    main()
