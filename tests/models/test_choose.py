"""How variants are chosen: by a formula of rounds and bytes, and by the predictor on every network that has a name,
where no fixed set of variants may be faster than what is chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.cost import plan_cost
from engine.models.bert import bert
from engine.models.calibrate import default_ranges
from engine.models.choose import SHORT_ROW, Choice, choose, sensible
from engine.models.gpt2 import Gpt2Shape, gpt2_program
from engine.models.gpt2_calibrate import default_gpt2_ranges
from engine.models.shapes import SHAPES, BertShape
from engine.scheduler.plan import Plan
from engine.variants import DEFAULT, FEWEST_ROUNDS, FRAMES, OPTIONS, Variants, combinations, parse
from simulators import replay
from simulators.device import Device
from simulators.pricing import Pricing
from simulators.profiles import PROFILES

ONE = BertShape(layers=1, heads=2, hidden=24, intermediate=20, vocab=40, max_positions=24)
ALONE = [parse(f"{kind}={name}") for kind, names in OPTIONS.items() for name in names[1:]]


# ---------------------------------------------------------------------- by a formula
@cache
def planned(how: Variants) -> Plan:
    return Plan(bert(ONE, default_ranges(ONE), (9,), embedding=False, variants=how))


def chosen(half_trip: float, byte: float, among: list[Variants]) -> Choice:
    """By a formula of rounds, bytes and AES steps."""

    def predict(plan: Plan) -> float:
        c = plan_cost(plan)
        return c.rounds * half_trip + max(c.online) * byte + c.aes * 5e-9 + sum(c.tape) * 1e-9

    return choose(planned, predict, among)


def test_a_slow_network_gets_fewer_rounds_and_a_fast_one_does_not() -> None:
    far, near = chosen(50e-3, 1e-9, ALONE), chosen(1e-7, 1e-9, ALONE)
    assert far.best.cost.rounds < near.best.cost.rounds
    assert far.best.variants.maximum == "direct" and far.best.variants.exp == "leaf"


def test_the_best_is_the_best_of_all_fixed_sets() -> None:
    every = [v for v in combinations() if v.activation != "plain" and v.maximum != "tournament"]
    for half_trip, byte in ((30e-3, 2.6e-8), (5e-4, 8e-9), (2e-5, 1e-9)):
        choice, whole = chosen(half_trip, byte, sensible((9,))), chosen(half_trip, byte, every)
        assert choice.best.seconds <= min(c.seconds for c in whole.candidates.values()) * 1.02
        assert {kind for kind, _, _ in choice.instead()} == {*OPTIONS, "bands", "frame"}
        same = [c for kind, name, c in choice.instead() if str(getattr(choice.best.variants, kind)) == name]
        assert same == [choice.best] * (len(OPTIONS) + 2)


def test_ties_are_decided_by_rounds_tapes_and_names_not_by_floats() -> None:
    """Predictions that differ below the microsecond choose the same, whatever the order."""
    first = choose(planned, lambda _: 1.0, ALONE)
    jitter = iter(np.linspace(0, 4e-7, 200))
    second = choose(planned, lambda _: 1.0 + float(next(jitter)), ALONE[::-1])
    assert first.best.variants == second.best.variants
    assert first.best.cost.rounds == min(c.cost.rounds for c in first.candidates.values())


def test_what_cannot_be_planned_is_left_out_and_named() -> None:
    wide = default_ranges(ONE)
    block = dataclasses.replace(wide.blocks[0], attention=(6, -4, 30), up=9)
    ranges = dataclasses.replace(wide, blocks=(block,))
    few = [parse("up=before")]
    choice = choose(lambda v: Plan(bert(ONE, ranges, (5,), variants=v)), lambda p: float(p.rounds), few)
    assert "up=before" in choice.refused and choice.best.variants.up == "after"


def test_what_the_grid_leaves_out_is_tried_in_the_place_of_what_is_chosen() -> None:
    choice = chosen(30e-3, 2.6e-8, sensible((9,)))
    instead = {(kind, name): c for kind, name, c in choice.instead()}
    tried = [("scaling", "opened"), ("maximum", "tournament"), ("bands", "2"), ("frame", str(FRAMES[-1]))]
    assert all(instead[one] is not None for one in tried)
    slow = choose(planned, lambda plan: -float(plan.rounds), sensible((9,)))
    assert (slow.best.variants.scaling, slow.best.variants.maximum) == ("opened", "tournament")


def test_tournaments_are_thought_of_for_short_rows_only() -> None:
    assert any(v.maximum == "tournament" for v in sensible((8, 3)))
    assert not any(v.maximum == "tournament" for v in sensible((8, 9)))


# ---------------------------------------------------------------------- by the predictor
DEVICE = Device.read(Path(__file__).parents[2] / "simulators" / "devices" / "reference.json")
FASTER = 1.02
"""A fixed set of variants may be this much faster than what is chosen."""
WIN = 0.08
"""What the chosen plan wins over the defaults on at least one network, as a part of their time."""
ENCODER, DECODER = dataclasses.replace(SHAPES["bert-tiny"], layers=1), Gpt2Shape(1, 2, 128, 512, 64, 64)


@cache
def encoder(how: Variants) -> Plan:
    """Short rows, for which tournaments are thought of."""
    return Plan(bert(ENCODER, default_ranges(ENCODER), (SHORT_ROW,), embedding=False, variants=how))


@cache
def decoder(how: Variants) -> Plan:
    """Rows for two bands."""
    at = default_gpt2_ranges(DECODER)
    return Plan(gpt2_program(DECODER, at, (32,), head="hidden", embedding=False, variants=how))


def fixed_encoder() -> list[Variants]:
    """Every combination but `scores=before`, which changes nothing in a block whose input is normalised already."""
    return [dataclasses.replace(FEWEST_ROUNDS, scores="after"), *(v for v in combinations() if v.scores == "after")]


def fixed_decoder() -> list[Variants]:
    """Every combination that it can have; bands and frames of the defaults and of the fewest rounds."""
    cut = [dataclasses.replace(v, bands=2, frame=f) for v, f in product((DEFAULT, FEWEST_ROUNDS), FRAMES)]
    return [*(v for v in combinations() if v.maximum != "tournament"), *cut]


Build = Callable[[Variants], Plan]
MODELS: dict[str, tuple[Build, Callable[[], list[Variants]], int, tuple[str, ...]]] = {
    "encoder": (encoder, fixed_encoder, SHORT_ROW, ("lan-10g", "wan-400m-8ms", "wan-100m-80ms")),
    "decoder": (decoder, fixed_decoder, 32, tuple(PROFILES)),
}
Found = Callable[[str, str], tuple[Choice, dict[Variants, float]]]


@pytest.fixture(scope="module")
def found() -> Iterator[Found]:
    """What is chosen for a model on a network, and the predicted online seconds of every fixed set. Prices of a plan
    are the same on every network: each is found once."""
    prices: dict[int, Pricing] = {}

    def priced(plan: Plan, *more: Any) -> Pricing:
        if id(plan) not in prices:
            prices[id(plan)] = Pricing(plan, *more)
        return prices[id(plan)]

    @cache
    def seconds(build: Build, how: Variants, network: str) -> float:
        return replay.predict(build(how), PROFILES[network], DEVICE).online

    def compare(name: str, network: str) -> tuple[Choice, dict[Variants, float]]:
        build, fixed, tokens, _ = MODELS[name]
        sets = fixed()
        among = [v for v in sensible((tokens,)) if v in sets]
        choice = choose(build, lambda plan: seconds(build, plan.program.variants, network), among)
        return choice, {v: seconds(build, v, network) for v in sets}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "Pricing", priced)
        yield cache(compare)


@pytest.mark.parametrize(("name", "network"), [(name, n) for name, (*_, networks) in MODELS.items() for n in networks])
def test_no_fixed_set_of_variants_is_faster_than_what_is_chosen(name: str, network: str, found: Found) -> None:
    choice, fixed = found(name, network)
    best = min(fixed, key=lambda v: fixed[v])
    assert choice.best.seconds <= fixed[best] * FASTER, f"{choice.best.variants} is chosen, {best} is faster"


@pytest.mark.parametrize("name", MODELS)
def test_what_is_chosen_wins_where_rounds_count_and_no_fixed_set_wins_everywhere(name: str, found: Found) -> None:
    """Were it otherwise, a set that is always taken would pass the test above."""
    choices = [found(name, network) for network in MODELS[name][-1]]
    assert max(1 - choice.best.seconds / fixed[DEFAULT] for choice, fixed in choices) >= WIN
    for v in choices[0][1]:
        assert any(fixed[v] > choice.best.seconds * FASTER for choice, fixed in choices), f"{v} wins everywhere"
