"""The command line, called in this process: exit code, stdout, stderr."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.cli.main import main
from tests.models.make_model import SMALL, config_of, random_tensors, write_model
from tests.session.stage import SAMPLES

SHAPE = dataclasses.replace(SMALL, hidden=16, intermediate=24, max_positions=24)


@dataclasses.dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Stdout, which must be one JSON object and nothing else."""
        assert self.code == 0, self.err
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


Call = Callable[..., Done]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """`call("keygen", "--home", path)`; the terminal is wide, so that sentences are whole."""
    monkeypatch.setenv("COLUMNS", "400")
    handler = signal.getsignal(signal.SIGTERM)

    def run(*args: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in args])
        out, err = capsys.readouterr()
        return Done(int(left.value.code or 0), out, err)

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Hugging Face folder of a sentence embedder."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    write_model(
        folder, config_of(SHAPE), random_tensors(SHAPE),
        pooling="pooling_mode_mean_tokens", modules=("Transformer", "Pooling", "Normalize"),
    )  # fmt: skip
    (folder / "samples.txt").write_text("\n".join(s for s in SAMPLES if s))
    return folder


@pytest.fixture(scope="session")
def model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It, compiled."""
    folder = tmp_path_factory.mktemp("model") / "model"
    with pytest.raises(SystemExit) as left:
        main(["compile", str(checkpoint), "-o", str(folder), "--samples", str(checkpoint / "samples.txt"), "--json"])
    assert not left.value.code
    return folder
