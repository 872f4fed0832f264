"""Options that name the variants of a plan, and the choice of them for a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.table import Table

from engine.cli.calibrate import find_device
from engine.cli.common import progress, size
from engine.errors import InputError
from engine.models.choose import Candidate, Choice, choose, sensible
from engine.scheduler.plan import Plan
from engine.variants import DEFAULT, Variants, parse
from simulators.device import Device
from simulators.profiles import Network
from simulators.profiles import network as find_network
from simulators.replay import predict

__all__ = ["Wanted", "asked", "choice_data", "choice_table", "choice_text", "tokens_option", "variant_options"]

F = TypeVar("F", bound=Callable[..., Any])

tokens_option = click.option(
    "--tokens", "lengths", multiple=True, type=click.IntRange(1), help="Length to choose for with --network."
)


def variant_options(command: F) -> F:
    """--variants and --network of a command that makes a plan."""
    named = click.option(
        "--variants", metavar="NAMES", help="Of gates: default, fewest-rounds, or a list like exp=leaf,up=before."
    )
    where = click.option(
        "--network",
        metavar="NAME",
        callback=lambda _context, _option, text: None if text is None else find_network(text),
        help="Choose the variants for this network: a name or a description, see `roundelay networks`.",
    )
    return named(where(command))


def asked(names: str | None, network: Network | None, device: Path | None) -> tuple[Variants, Wanted | None]:
    """The variants by name, or the defaults; and what to compare others for. Raises InputError for a name that there is
    not, for a device that cannot be read, and for both options at once: call it before anything that takes time."""
    if names is not None and network is not None:
        raise InputError("give --variants, or --network to have them chosen, not both")
    named = DEFAULT if names is None else parse(names)
    return named, None if network is None else Wanted(network, find_device(device))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where the variants shall be the fastest."""

    network: Network
    machine: Device

    def choice(self, build: Callable[[Variants], Plan], lengths: Sequence[int]) -> Choice:
        """Compare the variants as `simulate` predicts them."""
        with progress(f"comparing variants on {self.network.name}", "plans") as bar:
            return choose(build, self.seconds, sensible(lengths), bar)

    def seconds(self, plan: Plan) -> float:
        """Predicted, online."""
        return predict(plan, self.network, self.machine).online


# ---------------------------------------------------------------------- what was chosen, and why
def choice_data(choice: Choice, network: Network) -> dict[str, Any]:
    """The comparison as JSON: the best, the defaults, each variant in the place of the one chosen, what cannot be."""
    return {
        "network": network.as_dict(),
        "chosen": choice.best.as_dict(),
        "default": choice.candidates[str(DEFAULT)].as_dict(),
        "instead": [
            {"kind": kind, "variant": name, **({} if c is None else c.as_dict())} for kind, name, c in choice.instead()
        ],
        "compared": len(choice.candidates),
        "impossible": choice.refused,
    }


def choice_table(choice: Choice, network: Network) -> Table:
    """A line for every variant: the plan that has it and is otherwise the one chosen."""
    table = Table(
        "kind", "variant", "chosen", "rounds", "bytes sent", "tapes", "AES steps", "predicted ms", "against chosen",
        title=f"variants on {network.name}: each in the place of the one chosen",
    )  # fmt: skip
    last = ""
    for kind, name, c in choice.instead():
        if last and kind != last:
            table.add_section()
        table.add_row(
            kind if kind != last else "",
            name,
            *_cells(c, choice.best, str(getattr(choice.best.variants, kind)) == name),
        )
        last = kind
    return table


def _cells(c: Candidate | None, best: Candidate, is_chosen: bool) -> list[str]:
    if c is None:
        return ["not possible, or not thought of", "", "", "", "", "", ""]
    difference = "" if is_chosen else f"{(c.seconds - best.seconds) * 1e3:+.1f} ms"
    return [
        "yes" if is_chosen else "", str(c.cost.rounds), size(sum(c.cost.online)), size(sum(c.cost.tape)),
        f"{c.cost.aes / 1e6:.1f} M", f"{c.seconds * 1e3:.1f}", difference,
    ]  # fmt: skip


def choice_text(choice: Choice, network: Network) -> str:
    """One sentence."""
    best, usual = choice.best, choice.candidates[str(DEFAULT)]
    text = f"on {network.name}: {best.variants}, predicted {best.seconds * 1e3:.1f} ms in {best.cost.rounds} rounds; "
    text += f"the defaults take {usual.seconds * 1e3:.1f} ms in {usual.cost.rounds}; {len(choice.candidates)} compared"
    return text if not choice.refused else f"{text}, {len(choice.refused)} not possible for this model"
