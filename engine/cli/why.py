"""`plan --why`: tables of what every width, key, table and polynomial costs, and what else it could have been."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.table import Table

from engine.choices import Alternative, Coefficients, Key, Width, coefficients, keys, widths
from engine.cli.common import progress, size
from engine.cost import Cost, plan_cost
from engine.errors import InputError
from engine.scheduler.plan import Plan
from engine.variants import OPTIONS, Variants

__all__ = ["Reasons", "VariantCost"]


@dataclass(frozen=True, slots=True)
class VariantCost:
    """The whole plan with one choice changed; `cost` is None where these bounds do not allow it."""

    kind: str
    option: str
    chosen: bool
    cost: Cost | None

    def as_dict(self) -> dict[str, object]:
        """As JSON shows it."""
        shown = {k: v for k, v in (self.cost or Cost("")).as_dict().items() if k not in ("name", "headroom")}
        figures = shown if self.cost is not None else dict.fromkeys(shown)
        return {"kind": self.kind, "option": self.option, "chosen": self.chosen, **figures}


@dataclass(frozen=True, slots=True)
class Reasons:
    """What `--why` shows of a plan: per segment, and of its variants."""

    segments: dict[str, tuple[list[Width], list[Key], list[Coefficients]]]
    variants: list[VariantCost]

    @staticmethod
    def of(plan: Plan, build: Callable[[Variants], Plan] | None) -> Reasons:
        """Read off every distinct segment of the plan; its variants too, where `build` makes it with others."""
        named = {f"{s.graph.name} {i}": s for i, s in enumerate(plan.program.segments)}
        variants = [] if build is None else _variant_costs(plan.program.variants, build)
        return Reasons({name: (widths(s), keys(s), coefficients(s)) for name, s in named.items()}, variants)

    def as_dict(self) -> dict[str, Any]:
        """As JSON shows it: flat lists, every entry with the name of its segment."""
        parts = self.segments.items()
        return {
            "openings": [{"segment": name, **asdict(row)} for name, (rows, _, _) in parts for row in rows],
            "keys": [{"segment": name, **asdict(row)} for name, (_, rows, _) in parts for row in rows],
            "coefficients": [{"segment": name, **asdict(row)} for name, (_, _, rows) in parts for row in rows],
            "variants": [v.as_dict() for v in self.variants],
        }

    def tables(self) -> Iterator[Table]:
        """For people."""
        for name, (opened, keyed, dealt) in self.segments.items():
            yield _widths(name, opened)
            if keyed:
                yield _keys(name, keyed)
            if dealt:
                yield _coefficients(name, dealt)
        if self.variants:
            yield _variants(self.variants)


def _variant_costs(chosen: Variants, build: Callable[[Variants], Plan]) -> list[VariantCost]:
    """Every option of every kind, with all others as chosen."""
    own, rows = plan_cost(build(chosen)), []
    options = [(kind, option) for kind, options in OPTIONS.items() for option in options]
    with progress("comparing variants", "plans") as bar:
        for done, (kind, option) in enumerate(options):
            bar(done, len(options))
            taken = getattr(chosen, kind) == option
            rows.append(VariantCost(kind, option, taken, own if taken else _cost(chosen, kind, option, build)))
    return rows


def _cost(chosen: Variants, kind: str, option: str, build: Callable[[Variants], Plan]) -> Cost | None:
    try:
        return plan_cost(build(replace(chosen, **{kind: option})))  # type: ignore[arg-type]
    except InputError:
        return None


# ---------------------------------------------------------------------- for people
def _widths(name: str, rows: list[Width]) -> Table:
    columns = ("round", "gate", "what", "elements", "ring", "why", "P0 sends", "P1 sends", "in prepare", "at 64 bits")
    table = Table(*columns, title=f"{name}: widths of openings")
    for r in rows:
        cells = (str(r.round), r.gate, r.kind, f"{r.elements:,}", str(r.ring), r.reason)
        table.add_row(*cells, *map(size, r.bytes_sent), size(sum(r.prepare_bytes)), size(r.full_width_bytes))
    return table


def _keys(name: str, rows: list[Key]) -> Table:
    columns = ("gate", "form", "keys", "domain", "questions", "entries", "tape each", "opened each", "AES steps")
    table = Table(*columns, title=f"{name}: keys, and in grey what they would cost otherwise")
    for r in rows:
        asked = [*r.tables, *([f"{r.comparisons} comparison" + "s" * (r.comparisons > 1)] if r.comparisons else [])]
        first, *others = r.alternatives
        domain = f"{r.domain} bits: {r.reason}"
        table.add_row(r.gate, first.form, f"{r.elements:,}", domain, "; ".join(asked), *_figures(first))
        for other in others:
            table.add_row("", other.form, "", "", "", *_figures(other), style="dim")
    return table


def _figures(a: Alternative) -> tuple[str, ...]:
    return (f"{a.entries:,}", size(a.tape_bytes), size(a.opened_bytes), f"{a.aes_steps / 1e6:.2f} M")


def _coefficients(name: str, rows: list[Coefficients]) -> Table:
    table = Table("gate", "line", "ring", "terms", "bytes: coefficients", "tape P1", "at 8 bytes",
                  title=f"{name}: coefficients of polynomials")  # fmt: skip
    for r in rows:
        shown = ", ".join(f"{width}: {count:,}" for width, count in r.widths.items())
        line = r.origin.rpartition(":")[2]
        table.add_row(r.gate, line, str(r.ring), str(r.terms), shown, size(r.tape_bytes), size(r.full_width_bytes))
    return table


def _variants(rows: list[VariantCost]) -> Table:
    table = Table("kind", "option", "rounds", "online", "in prepare", "tape P0", "tape P1", "AES steps",
                  title="variants: the whole plan with one choice changed")  # fmt: skip
    for r in rows:
        style = "bold" if r.chosen else "dim" if r.cost is None else ""
        option = r.option + " (chosen)" * r.chosen
        if r.cost is None:
            table.add_row(r.kind, option, "these bounds do not allow it", style=style)
            continue
        c = r.cost
        figures = (size(sum(c.online)), size(sum(c.prepare)), size(c.tape[0]), size(c.tape[1]))
        table.add_row(r.kind, option, str(c.rounds), *figures, f"{c.aes / 1e6:.1f} M", style=style)
    return table
