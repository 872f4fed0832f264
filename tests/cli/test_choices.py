"""Variants on the command line: chosen for a network and explained, named, or refused before anything is computed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from engine.models.gpt2 import GPT2_SHAPES
from engine.variants import DEFAULT, OPTIONS, parse
from simulators.device import Device
from tests.cli.conftest import Call
from tests.cli.test_bad_input import refused

SLOW = "rtt=200ms,bandwidth=1gbit"
"""Where nothing but rounds counts."""


@pytest.fixture
def fast(tmp_path: Path) -> Path:
    """A device whose work takes no time."""
    reference = Device.read(Path(__file__).parents[2] / "simulators" / "devices" / "reference.json")
    (tmp_path / "fast.json").write_text(reference.free().to_json())
    return tmp_path / "fast.json"


@pytest.fixture
def small_gpt2(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = dataclasses.replace(GPT2_SHAPES["gpt2"], layers=1, hidden=24, intermediate=32, vocab=40, max_positions=24)
    monkeypatch.setitem(GPT2_SHAPES, "gpt2", shape)


# ---------------------------------------------------------------------- a bare GPT-2
@pytest.mark.usefixtures("small_gpt2")
def test_plan_explains_the_choice_for_gpt2(call: Call, fast: Path) -> None:
    data = call("plan", "--shape", "gpt2", "--tokens", 3, "--network", SLOW, "--device", fast, "--json").json
    choice = data["choice"]
    assert data["variants"] == choice["chosen"]["variants"] != str(DEFAULT)
    assert data["rounds_per_layer"][0] <= 16 and choice["chosen"]["seconds"] < choice["default"]["seconds"]
    lines = {(row["kind"], row["variant"]): row for row in choice["instead"]}
    assert {kind for kind, _ in lines} == {*OPTIONS, "bands", "frame"}
    assert lines["up", "after"]["rounds"] == choice["chosen"]["rounds"] + 1
    assert "rounds" not in lines["maximum", "tournament"]
    assert all("causal" in why for name, why in choice["impossible"].items() if "tournament" in name)


@pytest.mark.usefixtures("small_gpt2")
def test_plan_explains_it_in_words_too(call: Call, fast: Path) -> None:
    shown = call("plan", "--shape", "gpt2", "--tokens", 1, "--network", SLOW, "--device", fast).out
    assert "variants on custom: each in the place of the one chosen" in shown
    assert "not possible, or not thought of" in shown and "not possible for this model" in shown


@pytest.mark.usefixtures("small_gpt2")
def test_gpt2_has_variants_and_no_tournament(call: Call) -> None:
    told = call("plan", "--shape", "gpt2", "--tokens", 5, "--variants", "fewest-rounds", "--json").json
    assert (told["rounds"], [c["name"] for c in told["apart"]][-1]) == (15, "head")
    done = call("plan", "--shape", "gpt2", "--tokens", 5, "--variants", "maximum=tournament")
    refused(done, 2, r"a causal model has no maximum=tournament, .*: take maximum=histogram or maximum=direct")
    refused(call("plan", "--shape", "gpt2", "--tokens", 25), 2, r"gpt2 takes 1 to 24 tokens, not 25")
    why = call("plan", "--shape", "gpt2", "--tokens", 5, "--why", "--json").json["why"]["variants"]
    assert [row["rounds"] for row in why if row["option"] == "tournament"] == [None]


# ---------------------------------------------------------------------- compile
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--variants", "exp=laef"), r"no variant exp=laef: one of lookup, leaf"),
        (("--variants", "expo=leaf"), r"unknown kind 'expo'; did you mean exp"),
        (("--variants", "exp=leaf", "--network", "lan-1g"), r"give --variants, or --network .* not both"),
        (("--network", "lan-1g", "--device", "/none"), r"cannot read the device /none"),
        (
            ("--network", "lan-1g", "--device", "DEVICE", "--tokens", "600"),
            r"takes 1 to 24 tokens, not the 600 of --tokens",
        ),
    ],
)
def test_compile_refuses_before_it_calibrates(
    call: Call, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: Path,
    options: tuple[str, ...], sentence: str,
) -> None:  # fmt: skip
    def calibrated(*_: Any, **__: Any) -> None:
        raise AssertionError("calibrated in vain")

    monkeypatch.setattr("engine.cli.compile.measured", calibrated)
    given = (fast if option == "DEVICE" else option for option in options)
    refused(call("compile", checkpoint, "-o", tmp_path / "m", *given), 2, sentence)
    assert not (tmp_path / "m").exists()


def test_compile_stores_what_is_the_fastest_there(call: Call, checkpoint: Path, tmp_path: Path, fast: Path) -> None:
    at = ("--network", SLOW, "--tokens", 3, "--device", fast, "--samples", checkpoint / "samples.txt", "--no-check")
    told = call("compile", checkpoint, "-o", tmp_path / "m", *at, "--json").json
    assert json.loads((tmp_path / "m" / "public.json").read_text())["variants"] == told["variants"]
    how = parse(told["variants"])
    assert (how.exp, how.up, how.scores) == ("leaf", "before", "before")
