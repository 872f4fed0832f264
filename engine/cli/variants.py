"""Options that name the variants of a plan, and the choice of them for a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click
from rich.table import Table

from engine.cli.calibrate import find_device
from engine.cli.common import progress, size
from engine.errors import InputError
from engine.models.choose import Candidate, Choice, choose, sensible
from engine.scheduler.plan import Plan
from engine.variants import DEFAULT, Variants, parse
from simulators.profiles import Network
from simulators.profiles import network as find_network
from simulators.replay import predict

__all__ = ["choice_data", "choice_table", "choice_text", "chosen", "chosen_for", "tokens_option", "variant_options"]

F = TypeVar("F", bound=Callable[..., Any])

tokens_option = click.option(
    "--tokens", "lengths", multiple=True, type=click.IntRange(1), help="Length to choose for with --network."
)


class Planned(Protocol):
    """Whatever has a plan for sequences of public lengths: a public model."""

    def plan(self, lengths: Sequence[int]) -> Plan: ...


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


def chosen(
    model: Callable[[Variants], Planned],
    names: str | None,
    network: Network | None,
    lengths: Sequence[int],
    device: Path | None,
) -> Variants:
    """The variants asked for: by name, for a network, or the defaults. Raises InputError for both at once."""
    if names is not None and network is not None:
        raise InputError("give --variants, or --network to have them chosen, not both")
    if network is not None:
        return chosen_for(lambda v: model(v).plan(lengths), network, lengths, device).best.variants
    return DEFAULT if names is None else parse(names)


def chosen_for(
    build: Callable[[Variants], Plan], network: Network, lengths: Sequence[int], device: Path | None
) -> Choice:
    """Compare the variants on a network, as `simulate` predicts them."""
    machine = find_device(device)
    with progress(f"comparing variants on {network.name}", "plans") as bar:
        return choose(build, lambda plan: predict(plan, network, machine).online, sensible(lengths), bar)


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
    return text if not choice.refused else f"{text}, {len(choice.refused)} not possible in the rings of this model"
