"""The tutorial's commands run as they stand there: three roles as processes on this machine, with a small model.

Blocks name who runs them after their language: ```sh owner. What a command prints must look like the block of text that
follows it, whatever the numbers; a service is stopped at the end of the page.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.models.make_model import SMALL, config_of, random_tensors, write_model

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()
ROLES = ("owner", "dealer", "client")
BLOCK = re.compile(r"```(sh|python) ([a-z ]+)\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
SECONDS = 60


@dataclass(frozen=True)
class Block:
    language: str
    words: tuple[str, ...]
    code: str
    shown: str

    @property
    def service(self) -> bool:
        return "service" in self.words

    @property
    def roles(self) -> list[str]:
        return [w for w in self.words if w in ROLES]


def blocks() -> list[Block]:
    return [Block(language, tuple(words.split()), code, shown) for language, words, code, shown in BLOCK.findall(PAGE)]


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _small(shape_labels: int, folder: Path) -> None:
    shape = replace(SMALL, hidden=32, intermediate=48, max_positions=512, labels=shape_labels)
    if shape_labels:
        write_model(folder, config_of(shape, "BertForSequenceClassification"), random_tensors(shape))
    else:
        modules = ("Transformer", "Pooling", "Normalize")
        write_model(
            folder, config_of(shape), random_tensors(shape), pooling="pooling_mode_mean_tokens", modules=modules
        )


@dataclass
class Stage:
    """Three roles' folders; what stands for the tutorial's addresses, keys and model."""

    folder: Path
    stack: ExitStack
    keys: dict[str, str] = field(default_factory=dict)
    swaps: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for role in ROLES:
            (self.folder / role).mkdir()
        _small(0, self.folder / "owner" / "minilm")
        _small(2, self.folder / "owner" / "sentiment")
        for port, host in ((7000, "owner"), (7001, "dealer"), (7002, "owner")):
            here = f"127.0.0.1:{_free_port()}"
            self.swaps |= {f"0.0.0.0:{port}": here, f"{host}.example:{port}": here}
        self.swaps |= {"compile minilm": "compile ./minilm", "--tokens 11": "--tokens 10"}

    def code(self, block: Block) -> str:
        text = block.code
        for old, new in self.swaps.items():
            text = text.replace(old, new)
        return text

    def environment(self, role: str) -> Mapping[str, str]:
        named = {f"{r.upper()}_KEY": key for r, key in self.keys.items()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        home = str(self.folder / role / "home")
        return {**os.environ, **named, "PATH": path, "ROUNDELAY_HOME": home, "OPENBLAS_NUM_THREADS": "1"}

    def command(self, block: Block) -> list[str]:
        code = self.code(block)
        return [sys.executable, "-c", code] if block.language == "python" else ["bash", "-euc", code]

    def run(self, block: Block, role: str) -> str:
        done = subprocess.run(
            self.command(block), cwd=self.folder / role, env=self.environment(role),
            capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, f"{role}: {block.code}\n{done.stderr}"
        return done.stdout

    def start(self, block: Block, role: str) -> str:
        """Its first line, which says that it serves."""
        assert block.code.startswith("roundelay ")
        process = subprocess.Popen(
            ["bash", "-euc", "exec " + self.code(block)], cwd=self.folder / role, env=self.environment(role),
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.stack.callback(_stop, process)
        assert process.stdout is not None
        timer = threading.Timer(SECONDS, process.kill)
        timer.start()
        line = process.stdout.readline()
        timer.cancel()
        return line

    def after(self, block: Block, role: str) -> None:
        """What people do between the commands: tell keys, carry files."""
        if "keygen" in block.code:
            self.keys[role] = (self.folder / role / "home" / "identity" / "public.key").read_text().strip()
        if "compile minilm" in block.code:
            (self.folder / "dealer" / "public.json").write_text(
                (self.folder / "owner" / "model" / "public.json").read_text()
            )
        if "-o tapes" in block.code:
            for to in ("owner", "client"):
                (self.folder / to / "tapes").symlink_to(self.folder / "dealer" / "tapes")


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def shape_of(text: str) -> list[str]:
    """Lines without numbers, units, addresses and paths: what stays the same from model to model."""
    lines = []
    for line in text.strip().splitlines():
        line = re.sub(r"\b[0-9a-f]{12,64}\b|tcp://\S+|/\S+", "X", line)
        line = re.sub(r"[-+]?\d+(\.\d+)?( [kMG]?B)?", "N", line)
        lines.append(re.sub(r"[━─]+|\s+", " ", line))
    return lines


@pytest.fixture(scope="module")
def printed() -> Iterator[list[tuple[Block, str, str]]]:
    """(block, role, output) of the whole page."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        stage = Stage(Path(name), stack)
        out = []
        for block in blocks():
            for role in block.roles:
                out.append((block, role, stage.start(block, role) if block.service else stage.run(block, role)))
                stage.after(block, role)
        yield out


def test_every_block_of_the_page_names_its_role() -> None:
    found = blocks()
    assert {r for b in found for r in b.roles} == set(ROLES)
    assert sum("roundelay" in b.code for b in found) == PAGE.count("\nroundelay ") - _twice(found)
    assert {"python", "sh"} == {b.language for b in found}


def _twice(found: list[Block]) -> int:
    """Commands beyond the first of their block."""
    return sum(max(b.code.count("\nroundelay "), 0) for b in found if b.code.startswith("roundelay "))


def test_what_commands_print_looks_like_what_the_page_shows(printed: list[tuple[Block, str, str]]) -> None:
    compared = 0
    for block, role, output in printed:
        if block.shown:
            assert shape_of(output) == shape_of(block.shown), f"{role}: {block.code}"
            compared += 1
    assert compared >= 7


def test_the_python_example_prints_a_similarity_and_the_rounds(printed: list[tuple[Block, str, str]]) -> None:
    line = next(output for block, _, output in printed if block.language == "python")
    similarity, rounds = line.split()[:2]
    assert -1.001 < float(similarity) < 1.001
    assert int(rounds) == 20 * SMALL.layers + 6


def test_the_errors_of_the_page_are_sentences_of_the_program(tmp_path: Path) -> None:
    """A few are provoked; their row tells the same sentence and code."""
    home = tmp_path / "home"

    def fails(*args: Any) -> tuple[str, int]:
        done = subprocess.run(
            [sys.executable, "-m", "engine.cli.main", *map(str, args)], capture_output=True, text=True, timeout=SECONDS
        )
        return " ".join(done.stderr.replace("`", "").split()).removeprefix("error: "), done.returncode

    assert fails("keygen", "--home", home)[1] == 0
    nobody = f"tcp://127.0.0.1:{_free_port()}"
    for said, code in (
        fails("keygen", "--home", home),
        fails("embed", nobody, "a", "--home", home),
        fails("deal", "--serve", nobody, "--owner", "12", "--client", "12", "--home", home),
        fails("pair", nobody, "--owner", "12", "--home", home),
        fails("pair", nobody, "--owner", "ab" * 32, "--home", home, "--deadline", "0.2"),
        fails("pair", nobody, "--owner", "ab" * 32, "--home", tmp_path / "elsewhere"),
    ):
        assert any(pattern.search(said) and code == wanted for pattern, wanted in _rows()), f"{said} ({code})"


def _rows() -> list[tuple[re.Pattern[str], int]]:
    rows = re.findall(r"^\| `(.*?)`.*? \| (\d) \| ", PAGE, re.MULTILINE)
    return [(re.compile(re.escape(text).replace(r"\.\.\.", ".*")), int(code)) for text, code in rows]
