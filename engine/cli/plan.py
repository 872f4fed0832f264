"""`plan`: what a run will cost, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from engine.cli.calibrate import device_option
from engine.cli.common import Output, json_option, progress, size, text_errors
from engine.cli.variants import asked, choice_data, choice_table, choice_text, variant_options
from engine.cli.why import Reasons
from engine.cost import Cost, by_gate, by_layer, plan_cost, total, transcript
from engine.errors import InputError
from engine.models.bare import BARE, OWNERS, bare_program
from engine.models.calibrate import calibrated, measured
from engine.models.choose import Choice
from engine.models.compiled import PUBLIC, PublicModel, public_of, read_public
from engine.models.text import CALIBRATION_TEXTS
from engine.models.weights import PACKAGES, load_model
from engine.pairing import weight_list
from engine.ring import packed_bytes
from engine.scheduler.plan import Call, Plan, Program
from engine.testing.fuzz import find_gate
from engine.testing.traced import trace
from engine.variants import DEFAULT, Variants
from simulators.profiles import Network

__all__ = ["plan"]


@click.command()
@click.argument("model", required=False)
@click.option(
    "--tokens", "lengths", multiple=True, type=int, help="Length of a sequence [default: 128]; several make a batch."
)
@click.option("--shape", type=click.Choice(BARE), help="A bare shape with default bounds, instead of MODEL.")
@click.option("--weights", type=click.Choice(sorted(OWNERS)), default="owned", show_default=True)
@click.option(
    "--elements", default=1, show_default=True, type=click.IntRange(1), help="Rows, for a gate FILE.py:function."
)
@click.option("--gates", is_flag=True, help="Break every distinct layer down by gate.")
@click.option(
    "--transcript", "show_transcript", is_flag=True, help="Print the protocol transcript of every distinct segment."
)
@click.option(
    "--why", is_flag=True, help="Say what every width, key, table, polynomial and variant costs, why, and what else."
)
@variant_options
@device_option
@json_option
@text_errors
def plan(
    model: str | None, lengths: tuple[int, ...], shape: str | None, weights: str, elements: int, gates: bool,
    show_transcript: bool, why: bool, variants: str | None, network: Network | None, device: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Rounds, bytes, tape and work of a run, per layer and per gate; nothing runs, and the figures are exact.

    \b
    MODEL is a compiled model's folder, a Hugging Face folder, a short name such as minilm,
    a gate's name, or an author's own gate as FILE.py:function (docs/writing-a-gate.md).

    A bare --shape is counted as the literature counts it, from the embedded input to the last norm; embedding and head
    are listed apart.

    With --network the variants of gates are those predicted to be the fastest there; a table shows what each of the
    others would cost in its place. A compiled model keeps its own variants: `roundelay compile --network` stores them.
    """
    if (model is None) == (shape is None):
        raise InputError("give either MODEL or --shape")
    sizes = lengths or (128,)
    how, compared = _variants(model, shape, sizes, weights, variants, network, device)
    public: PublicModel | None = None
    apart: list[Cost] = []
    if model is not None and not _is_model(model):
        planned = _gate(model, elements)
    elif shape is not None:
        planned, apart = _shape(shape, sizes, weights, how or DEFAULT)
    else:
        public = _model(str(model), how)
        planned = public.plan(sizes)
    data = _data(model or str(shape), planned, public, sizes, apart, weights)
    shown: list[Any] = [_table(planned, apart), _totals(planned, data)]
    if compared is not None and network is not None:
        data["choice"] = choice_data(compared, network)
        shown += [choice_table(compared, network), choice_text(compared, network)]
    if gates:
        shown += _gate_tables(planned)
    if show_transcript:
        shown += [transcript(s) for s in planned.program.segments]
    if why:
        found = Reasons.of(planned, None if compared else _varied(shape, sizes, weights, public))
        data["why"] = found.as_dict()
        shown += found.tables()
    Output(as_json).result(data, *shown)


def _is_model(model: str) -> bool:
    return model in PACKAGES or Path(model).is_dir() or (":" not in model and "/" in model)


def _gate(name: str, elements: int) -> Plan:
    """A gate as a program of its own, traced for `elements` rows."""
    segment = trace(find_gate(name), elements).segment
    return Plan(Program((segment,), (Call(0, name.rpartition(":")[2]),)))


def _variants(
    model: str | None, shape: str | None, sizes: tuple[int, ...], weights: str, names: str | None,
    network: Network | None, device: Path | None,
) -> tuple[Variants | None, Choice | None]:  # fmt: skip
    """The variants asked for, and the comparison that they come from. Raises InputError where there is no choice."""
    if names is None and network is None:
        return None, None
    named, wanted = asked(names, network, device)
    if model is not None and not _is_model(model):
        raise InputError("a gate has no variants: give a model or --shape with --variants or --network")
    if wanted is None:
        return named, None
    build = _varied(shape, sizes, weights, None if model is None else _model(model))
    assert build is not None, "there is a shape or a model"
    choice = wanted.choice(build, sizes)
    return choice.best.variants, choice


def _shape(shape: str, lengths: tuple[int, ...], weights: str, variants: Variants) -> tuple[Plan, list[Cost]]:
    """The layers of a bare shape, and the costs that are listed apart."""
    layers = Plan(bare_program(shape, lengths, weights, variants))
    apart = [c for c in by_layer(layers) if not c.name.startswith("layer")]
    if weights != "public":
        apart.insert(0, by_layer(Plan(bare_program(shape, lengths, weights, embedding=True)))[0])
    return layers, apart


def _varied(
    shape: str | None, sizes: tuple[int, ...], weights: str, public: PublicModel | None
) -> Callable[[Variants], Plan] | None:
    """The same plan with other variants, where it has any."""
    if shape is not None:
        return lambda v: Plan(bare_program(shape, sizes, weights, v))
    return None if public is None else lambda v: replace(public, variants=v).plan(sizes)


def _model(name: str, variants: Variants | None = None) -> PublicModel:
    """A compiled model, with its own variants where no others are asked for; or one that is calibrated here."""
    public = read_public(Path(name)) if (Path(name) / PUBLIC).exists() else _calibrated(name)
    return public if variants is None else replace(public, variants=variants)


@lru_cache(maxsize=1)
def _calibrated(name: str) -> PublicModel:
    checkpoint = load_model(name)
    with progress("calibrating", "texts") as bar:
        return public_of(checkpoint, calibrated(checkpoint, measured(checkpoint, list(CALIBRATION_TEXTS), bar)))


def _counted(planned: Plan, apart: list[Cost]) -> list[Cost]:
    """The lines that the total counts: for a bare shape the layers alone."""
    names = {c.name for c in apart}
    return [c for c in by_layer(planned) if c.name not in names and not (apart and c.name == "embedded")]


def _data(
    name: str, planned: Plan, public: PublicModel | None, lengths: tuple[int, ...], apart: list[Cost], weights: str
) -> dict[str, Any]:
    lines = _counted(planned, apart)
    whole = total("total", lines) if apart else plan_cost(planned)
    layers = [c for c in lines if c.name.startswith("layer")]
    data = {
        "name": name, "tokens": list(lengths), "weights": weights, "variants": str(planned.program.variants),
        "rounds": whole.rounds,
        "rounds_per_layer": [c.rounds for c in layers], "bytes_sent": list(whole.online),
        "prepare_bytes": list(whole.prepare), "setup_bytes": _setup_bytes(planned, public),
        "tape_bytes": list(whole.tape), "aes_steps": whole.aes, "headroom": whole.headroom,
        "layers": [c.as_dict() for c in lines],
        "apart": [c.as_dict() for c in apart], "digest": planned.digest.hex(),
        "gates": {planned.program.segments[i].graph.name + f" {i}": [c.as_dict() for c in by_gate(s)]
                  for i, s in enumerate(planned.program.segments)},
    }  # fmt: skip
    if public is not None:
        data["model"] = public.digest
    return data


def _setup_bytes(planned: Plan, public: PublicModel | None) -> int:
    """W_hat, once a model: the masked weights at the width of their masks."""
    if public is not None:
        return sum(packed_bytes(math.prod(shape), ring) for _, shape, ring in weight_list(public))
    names: dict[str, int] = {}
    for call in planned.calls:
        for node in call.segment.graph.weights():
            if node["owner"] != "public":
                names[call.call.prefix + node.text("name")] = packed_bytes(node.type.size, node.type.ring)
    return sum(names.values())


def _row(c: Cost) -> list[str]:
    a, b = c.online
    t, u = c.tape
    room = "" if c.headroom is None else str(c.headroom)
    return [
        c.name,
        str(c.rounds),
        size(a),
        size(b),
        size(sum(c.prepare)),
        size(t),
        size(u),
        f"{c.aes / 1e6:.1f} M",
        room,
    ]


_COLUMNS = ("", "rounds", "P0 sends", "P1 sends", "in prepare", "tape P0", "tape P1", "AES steps", "head-room")


def _table(planned: Plan, apart: list[Cost]) -> Table:
    table = Table(*_COLUMNS, title="per layer")
    for c in _counted(planned, apart):
        table.add_row(*_row(c))
    if apart:
        table.add_section()
        for c in apart:
            table.add_row(*_row(c), style="dim")
    return table


def _totals(planned: Plan, data: dict[str, Any]) -> str:
    (a, b), (t, u) = data["bytes_sent"], data["tape_bytes"]
    apart = "; embedding and head apart" if data["apart"] else ""
    return (
        f"{data['rounds']} rounds; online {size(a + b)} in both directions, {size(sum(data['prepare_bytes']))} in "
        f"prepare, {size(data['setup_bytes'])} of masked weights once a model; tape {size(t)} (P0), "
        f"{size(u)} (P1){apart}\n"
        f"plan {planned.digest.hex()[:16]}, variants {planned.program.variants}"
    )


def _gate_tables(planned: Plan) -> list[Table]:
    tables = []
    for i, s in enumerate(planned.program.segments):
        used = [c.name for c in planned.program.calls if c.segment == i]
        table = Table(*_COLUMNS, title=f"{s.graph.name}: {', '.join(used)}")
        for c in by_gate(s):
            table.add_row(*_row(c))
        tables.append(table)
    return tables
