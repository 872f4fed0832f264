"""`demo`: dealer, owner and client as three processes on this machine, over sealed links, on real weights and text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.table import Table

from engine.cli.common import Output, console, json_option, network_option, size, step, text_errors, transport_option
from engine.cli.reporting import Reports, live_option, report_options
from engine.errors import InputError, LocalError, PeerError, TapeError
from engine.models.reference import answer
from engine.models.text import DEMO_TEXTS, Tokenizer
from engine.models.weights import load_model
from engine.report.recording import Recording, merged
from engine.report.results import judged, with_result
from engine.report.trace import read_trace
from engine.result import Accuracy
from simulators.profiles import Network

__all__ = ["demo"]

COSINE = 0.9999
CLIENT_TRACE, OWNER_TRACE = "client.trace.json", "owner.trace.json"
START_SECONDS = 60


@click.command()
@click.argument("texts", nargs=-1)
@click.option("--model", default="minilm", show_default=True, help="Short name, or a Hugging Face folder.")
@click.option("--tokens", type=click.IntRange(3, 512), help="Instead of texts, one text repeated to this many tokens.")
@click.option("--batch/--one-by-one", default=False, help="All texts in one run, sharing rounds.")
@click.option("--overlap/--no-overlap", default=True, help="Barrier after every round with --no-overlap.")
@transport_option
@network_option("the client delays both ways between itself and the owner; the dealer's links are not delayed.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep the three roles' folders here.")
@live_option
@report_options
@json_option
@text_errors
def demo(
    texts: tuple[str, ...], model: str, tokens: int | None, batch: bool, overlap: bool, transport: str,
    network: Network | None, keep: Path | None, live: bool, report: Path | None, trace: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Run everything on this machine: a dealer, a model owner and a client, three processes over tcp.

    The owner never sees the texts; the client never sees the weights, the table of word embeddings included. Prints
    for each text the cosine to the float model and what the run took. Exit code 6 if a cosine is below 0.9999.
    """
    reports = Reports(report, trace)
    behind = [] if network is None else ["--network", json.dumps(network.as_dict())]
    barrier = [] if overlap else ["--no-overlap"]
    how = _How(batch, barrier, ["--transport", transport], behind, live, bool(reports))
    with _folder(keep) as folder:
        chosen = [_of_length(model, tokens)] if tokens else list(texts or DEMO_TEXTS)
        result = _run(folder, model, chosen, how)
        accuracy = _accuracy(model, chosen, result)
        data = {k: v for k, v in result.items() if k != "outputs"}
        data |= accuracy.as_dict() | {"cosines": list(accuracy.cosines)}
        recording = _recording(folder, model, data, accuracy) if reports else None
    Output(as_json).result(data, _table(chosen, result, accuracy), _verdict(result, accuracy))
    if recording is not None:
        reports.write(recording)
    if min(accuracy.cosines) < COSINE:
        sys.exit(6)


@dataclass(frozen=True, slots=True)
class _How:
    """Options of the roles' commands; whether the client shows its live view, and whether both sides write traces."""

    batch: bool
    barrier: list[str]
    wire: list[str]
    behind: list[str]
    live: bool
    traced: bool

    def trace(self, path: Path) -> list[object]:
        return ["--trace", path] if self.traced else []


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="roundelay-demo-") as name:
        yield Path(name)


def _of_length(model: str, tokens: int) -> str:
    """A text of exactly this many tokens: words that are one token each."""
    tokenizer = Tokenizer(load_model(model))
    words = "the house by the sea was quiet and the light on the water changed with the wind".split()  # noqa: SIM905
    text = " ".join(words[i % len(words)] for i in range(tokens - 2))
    if len(tokenizer.encode(text)) != tokens:
        raise LocalError(f"no text of exactly {tokens} tokens could be made for {model}: give texts instead")
    return text


def _run(folder: Path, model: str, texts: list[str], how: _How) -> dict[str, Any]:
    """Set the three roles up, let them run, and return the client's JSON report."""
    verb = "embed" if load_model(model).head is None else "classify"
    with step("compiling the model and making keys"):
        _call("compile", model, "-o", folder / "model")
        keys = {role: _call("keygen", "--home", folder / role)["public_key"] for role in ("dealer", "owner", "client")}
    with _stage("starting dealer and model owner; the client pairs, then runs", how.live), _Service(
        "deal", "--serve", "tcp://127.0.0.1:0", "--owner", keys["owner"], "--client", keys["client"],
        "--home", folder / "dealer", *how.wire,
    ) as dealer:  # fmt: skip
        at = ["--dealer", dealer.address, "--dealer-key", keys["dealer"]]
        with _Service(
            "serve", folder / "model", "--listen", "tcp://127.0.0.1:0", "--client", keys["client"], *at,
            "--home", folder / "owner", *how.barrier, *how.wire, *how.trace(folder / OWNER_TRACE),
        ) as owner:  # fmt: skip
            client = ["--home", folder / "client", *how.wire]
            paired = _call("pair", owner.address, "--owner", keys["owner"], *client)
            asks = [*client, *how.barrier, *how.behind, *how.trace(folder / CLIENT_TRACE)]
            asks += ["--batch" if how.batch else "--one-by-one"] + (["--live"] if how.live else [])
            report = _call(verb, *at, *asks, "--", owner.address, *texts, heard=how.live)
    report["setup_bytes"] = paired["setup_bytes"]
    for run in report.get("runs", []):
        run["setup_bytes"] = paired["setup_bytes"]
    return report


def _stage(label: str, live: bool) -> AbstractContextManager[None]:
    """A spinner, unless the client draws on the same terminal."""
    if not live:
        return step(label)
    console.print(f"{label} ...", highlight=False)
    return nullcontext()


def _recording(folder: Path, model: str, data: dict[str, Any], accuracy: Accuracy) -> Recording:
    """What both sides traced, on one clock."""
    both = merged([read_trace(folder / CLIENT_TRACE), read_trace(folder / OWNER_TRACE)])
    facts = {"processes": "dealer, model owner and client on one machine"}
    return judged(with_result(both, data, f"demo {model}", facts), accuracy.as_dict())


def _command(name: object, *args: object) -> list[str]:
    return [sys.executable, "-m", "engine.cli.main", str(name), "--json", *(str(a) for a in args)]


def _call(*args: object, heard: bool = False) -> dict[str, Any]:
    """Run a command to its end; its JSON. A failure is raised as the one that it reports. `heard`: its stderr is this
    command's, so that it draws on the terminal."""
    errors = None if heard else subprocess.PIPE
    done = subprocess.run(_command(*args), stdout=subprocess.PIPE, stderr=errors, text=True, env=_environment())
    if done.returncode:
        said = (done.stderr or "it said why above").strip().splitlines()[-1:] or ["it said nothing"]
        kind = _KINDS.get(done.returncode, LocalError)
        raise kind(f"`roundelay {args[0]}`: {said[0].removeprefix('error: ')}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


_KINDS = {kind.exit_code: kind for kind in (InputError, PeerError, TapeError, LocalError)}


def _environment() -> dict[str, str]:
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1"}


@dataclass
class _Service:
    """A process that serves until the context ends; its first line of JSON says where."""

    args: tuple[object, ...]
    address: str = ""
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def __init__(self, *args: object) -> None:
        self.args = args

    def __enter__(self) -> _Service:
        self._process = subprocess.Popen(_command(*self.args), stdout=subprocess.PIPE, text=True, env=_environment())
        assert self._process.stdout is not None
        timer = threading.Timer(START_SECONDS, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line:
            self._process.kill()
            raise LocalError(
                f"`roundelay {self.args[0]}` did not come up: it ended, or took more than {START_SECONDS} s"
            )
        self.address = json.loads(line)["listening"]
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()


def _accuracy(model: str, texts: list[str], report: dict[str, Any]) -> Accuracy:
    checkpoint = load_model(model)
    tokenizer = Tokenizer(checkpoint)
    references = [answer(checkpoint, tokenizer.encode(t)) for t in texts]
    return Accuracy.of([np.array(o) for o in report["outputs"]], references)


def _runs(report: dict[str, Any]) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = report.get("runs", [report])
    return runs


def _table(texts: list[str], report: dict[str, Any], accuracy: Accuracy) -> Table:
    table = Table("text", "cosine", "rounds", "a layer", "P0 sends", "P1 sends", "before", "tape P0", "tape P1",
                  "deal", "prepare", "online")  # fmt: skip
    runs = _runs(report)
    for i, (text, cosine) in enumerate(zip(texts, accuracy.cosines, strict=True)):
        short = text if len(text) <= 40 else text[:37] + "..."
        cells = _cells(runs[i if len(runs) > 1 else 0]) if i < len(runs) else [""] * 10
        table.add_row(short, f"{cosine:.6f}", *cells)
    return table


def _cells(run: dict[str, Any]) -> list[str]:
    s = run["seconds"]
    return [
        str(run["rounds"]), str(max(run["rounds_per_layer"])), *(size(b) for b in run["bytes_sent"]),
        size(sum(run["prepare_bytes"])), *(size(b) for b in run["tape_bytes"]),
        *(f"{s[k]:.2f} s" for k in ("deal", "prepare", "online")),
    ]  # fmt: skip


def _verdict(report: dict[str, Any], accuracy: Accuracy) -> str:
    peaks = [max(r["peak_anon_bytes"][p] for r in _runs(report)) for p in (0, 1)]
    return (
        f"smallest cosine {min(accuracy.cosines):.6f} ({'well' if min(accuracy.cosines) >= COSINE else 'too low'}); "
        f"masked weights, once: {size(report['setup_bytes'])}; peak anonymous memory {size(peaks[0])} (client), "
        f"{size(peaks[1])} (owner)"
    )
