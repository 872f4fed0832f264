"""docs/results.md names exactly the fields that the commands print, and the exit codes that errors carry."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import errors
from tests.models.make_model import SMALL, config_of, random_tensors, write_model

PAGE = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
SECONDS = 60
LISTS = {"layers": "cost", "apart": "cost", "runs": "run"}
"""Lists whose entries have a table of their own."""

Fields = set[str]


def tables() -> dict[str, list[Fields]]:
    """The fields of every table, by section; `run` stands for the run's own."""
    found: dict[str, list[Fields]] = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        parts = text.split("| field | unit | meaning |")[1:]
        found[title] = [set(re.findall(r"^\| `?([a-z_.\[\]]+)`? \|", part, re.MULTILINE)) for part in parts]
    run = found["run"][0]
    return {title: [t - {"run"} | (run if "run" in t else set()) for t in parts] for title, parts in found.items()}


DOCUMENTED = tables()


def fields(data: Mapping[str, Any]) -> Fields:
    """Names as the page writes them; entries of lists that have a table are compared with it."""
    names: Fields = set()
    for name, value in data.items():
        if name == "gates":
            names |= _gates(value)
        elif isinstance(value, dict):
            names |= {f"{name}.{inner}" for inner in value}
        elif isinstance(value, list) and not _pair(name):
            names.add(name + "[]")
            for entry in value if name in LISTS else ():
                assert fields(entry) == DOCUMENTED[LISTS[name]][0]
        else:
            names.add(name)
    return names


def _pair(name: str) -> bool:
    return name.endswith("_bytes") or name == "bytes_sent"


def _gates(value: Any) -> Fields:
    if isinstance(value, list):
        assert all(fields(report) == DOCUMENTED["gate report"][0] for report in value)
        return {"gates[]"}
    assert all(fields(cost) == DOCUMENTED["cost"][0] for costs in value.values() for cost in costs)
    return {"gates"}


def _command(*args: object) -> list[str]:
    return [sys.executable, "-m", "engine.cli.main", *map(str, args), "--json"]


def call(*args: object, code: int = 0) -> dict[str, Any]:
    done = subprocess.run(_command(*args), capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == code, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextmanager
def service(*args: object) -> Iterator[dict[str, Any]]:
    """What a service says when it is ready."""
    process = subprocess.Popen(_command(*args), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """What each command prints: a classifier between three roles."""
    at = tmp_path_factory.mktemp("results")
    shape = replace(SMALL, hidden=32, intermediate=48, max_positions=512, labels=2)
    write_model(at / "small", config_of(shape, "BertForSequenceClassification"), random_tensors(shape))
    out = {"compile": call("compile", at / "small", "-o", at / "model")}
    for role in ("owner", "dealer", "client"):
        out["keygen"] = call("keygen", "--home", at / role)
    keys = {role: (at / role / "identity" / "public.key").read_text().strip() for role in ("owner", "dealer", "client")}
    nowhere, client, asks = "tcp://127.0.0.1:*", ["--client", keys["client"]], ["--home", at / "client"]
    dealing = ("deal", "--serve", nowhere, "--owner", keys["owner"], *client, "--home", at / "dealer")
    with ExitStack() as stack:
        out["deal --serve"] = stack.enter_context(service(*dealing))
        dealer = ["--dealer", out["deal --serve"]["listening"], "--dealer-key", keys["dealer"]]
        serving = ("serve", at / "model", "--listen", nowhere, *client, *dealer, "--home", at / "owner")
        out["serve"] = stack.enter_context(service(*serving))
        owner = out["serve"]["listening"]
        out["pair"] = call("pair", owner, "--owner", keys["owner"], *asks)
        out["classify"] = call("classify", owner, "a red cat", "the dog", *dealer, *asks)
        out["one by one"] = call("classify", owner, "a cat", "the dog", "--one-by-one", *dealer, *asks)
        out["deal"] = call("deal", at / "model", "--tokens", 5, *client, "-o", at / "tapes", "--home", at / "dealer")
    out["plan"] = call("plan", at / "model", "--tokens", 5)
    yield out


@pytest.mark.parametrize("command", ["keygen", "compile", "plan", "deal", "deal --serve", "serve", "pair"])
def test_the_fields_of_a_command(command: str, said: dict[str, dict[str, Any]]) -> None:
    assert fields(said[command]) == DOCUMENTED[command][0]


def test_the_fields_of_a_classification(said: dict[str, dict[str, Any]]) -> None:
    batch, runs = DOCUMENTED["embed"]
    more = DOCUMENTED["classify"][0]
    assert fields(said["classify"]) == batch | more
    assert fields(said["one by one"]) == batch - DOCUMENTED["run"][0] | runs | more


def test_the_fields_of_a_plan_that_is_no_models() -> None:
    assert fields(call("plan", "--shape", "bert-tiny")) == DOCUMENTED["plan"][0] - {"model"}
    assert fields(call("plan", "relu")) == DOCUMENTED["plan"][0] - {"model"}


def test_the_fields_of_a_choice() -> None:
    said = call("plan", "--shape", "bert-tiny", "--tokens", 4, "--network", "lan-1g")
    assert fields(said) == DOCUMENTED["plan"][0] - {"model"} | DOCUMENTED["plan --network"][0]
    plan = {"variants", "rounds", "bytes_sent", "tape_bytes", "aes_steps", "seconds"}
    choice = said["choice"]
    assert set(choice["chosen"]) == set(choice["default"]) == plan
    assert (
        choice["chosen"]["variants"] == said["variants"] and choice["chosen"]["seconds"] <= choice["default"]["seconds"]
    )
    assert all(set(line) in ({"kind", "variant"}, {"kind", "variant"} | plan) for line in choice["instead"])


def test_the_fields_of_a_fuzz() -> None:
    assert fields(call("fuzz", "relu", "-n", 5)) == DOCUMENTED["fuzz"][0]


def test_the_fields_of_a_network() -> None:
    from simulators.profiles import PROFILES

    assert all(fields(network.as_dict()) == DOCUMENTED["network"][0] for network in PROFILES.values())


def test_the_fields_of_a_benchmark() -> None:
    assert fields(call("bench", "layernorm-128x768", "--runs", 1)) == DOCUMENTED["bench"][0]


def test_every_command_has_a_section() -> None:
    from engine.cli.main import COMMANDS

    assert set(COMMANDS) <= set(DOCUMENTED)


def test_the_fields_of_a_demo() -> None:
    """Those that it adds; the run itself is the client's."""
    from engine.result import Accuracy

    added = fields(Accuracy(0.0, 0.0, (1.0,)).as_dict()) | {"cosines[]", "setup_bytes"}
    assert added == DOCUMENTED["demo"][0]


def test_the_tape_of_a_file_has_a_header_and_a_checksum() -> None:
    from engine.tape import CHUNK, file_bytes

    tag = file_bytes(1) - file_bytes(0) - 1
    assert file_bytes(CHUNK) - file_bytes(CHUNK - 1) == 1 and file_bytes(CHUNK + 1) - file_bytes(CHUNK) == 1 + tag
    assert f"a file has {file_bytes(0)} bytes more, and {tag} for each {CHUNK >> 10} KiB of the body" in PAGE


def test_the_exit_codes_of_errors() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    raised = {getattr(errors, name).exit_code for name in errors.__all__}
    assert raised | {0, 6, 130} == listed
