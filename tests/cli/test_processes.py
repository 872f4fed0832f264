"""The roles as real processes over real ZeroMQ with CURVE: pairing, runs, refusals, signals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.home import Home
from engine.models.compiled import read_public
from engine.models.reference import answer
from engine.models.text import Tokenizer
from engine.models.weights import load_model
from engine.pairing import weight_list
from engine.ring import packed_bytes
from engine.tape import HEADER_BYTES, TapeHeader
from tests.cli.conftest import Done
from tests.session.disk import files

TEXTS = ["the red dog sat on the mat", "a cat ran", "blue"]
SECONDS = 60


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "engine.cli.main", "-v", *(str(a) for a in args)]


def environment() -> dict[str, str]:
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "400"}


def call(*args: object) -> Done:
    done = subprocess.run(command(*args), capture_output=True, text=True, env=environment(), timeout=SECONDS)
    return Done(done.returncode, done.stdout, done.stderr)


def error(done: Done) -> str:
    """The one sentence of a command that failed; -v may log before it."""
    assert "Traceback" not in done.err and done.out == "", done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    return line


@dataclass
class Service:
    """A process that serves; its first line of JSON is all that it prints on stdout."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    said: str = ""

    @property
    def address(self) -> str:
        return str(self.ready["listening"])

    def until(self, words: str) -> None:
        """Reads the log up to a line with these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if words in line:
                return
        raise AssertionError(f"the service ended without saying {words!r}: {self.said}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal; the exit code. Everything that it said is in `said`, and stdout had nothing more."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=SECONDS)
        assert out == ""
        self.said += err
        return self.process.returncode


@contextmanager
def service(*args: object) -> Iterator[Service]:
    process = subprocess.Popen(
        command(*args, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield Service(process, json.loads(line))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@dataclass
class World:
    """Homes with identities, and a compiled model."""

    path: Path
    model: Path
    checkpoint: Path
    keys: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for role in ("client", "other", "owner", "dealer"):
            self.keys[role] = Home(self.path / role).new_identity().public

    def home(self, role: str) -> tuple[str, Path]:
        return "--home", self.path / role

    def dealer(self, address: str = "tcp://127.0.0.1:*") -> Any:
        clients = ("--client", self.keys["client"], "--client", self.keys["other"])
        return service("deal", "--serve", address, "--owner", self.keys["owner"], *clients, *self.home("dealer"))

    def owner(self, *args: object, address: str = "tcp://127.0.0.1:*") -> Any:
        clients = ("--client", self.keys["client"], "--client", self.keys["other"])
        return service("serve", self.model, "--listen", address, *clients, *args, *self.home("owner"))

    def at(self, dealer: Service) -> tuple[str, str, str, str]:
        return "--dealer", dealer.address, "--dealer-key", self.keys["dealer"]

    def pair(self, owner: Service, client: str = "client", key: str | None = None) -> Done:
        return call("pair", owner.address, "--owner", key or self.keys["owner"], "--json", *self.home(client))

    def check(self, outputs: list[list[float]]) -> None:
        checkpoint = load_model(str(self.checkpoint))
        tokenizer = Tokenizer(checkpoint)
        for output, text in zip(outputs, TEXTS, strict=True):
            assert np.abs(np.array(output) - answer(checkpoint, tokenizer.encode(text))).max() < 6e-3

    def secrets(self) -> list[str]:
        """What must not show: secret keys, seeds of model keys, texts."""
        keys = [Home(self.path / role).identity.secret.hex() for role in self.keys]
        seeds = [row[0].hex() for row in Home(self.path / "dealer").ledger._rows("SELECT seed FROM keys")]  # type: ignore[attr-defined]
        return [*keys, *seeds, *TEXTS]


@pytest.fixture
def world(tmp_path: Path, model: Path, checkpoint: Path) -> World:
    return World(tmp_path, model, checkpoint)


def test_two_clients_pair_and_run_with_tapes_from_the_service(world: World, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS[1:]))
    with world.dealer() as dealer, world.owner(*world.at(dealer)) as owner:
        assert owner.ready["public_key"] == world.keys["owner"]
        public = read_public(world.model)
        assert owner.ready["model"] == public.digest
        paired = world.pair(owner)
        assert paired.json["digest"] == public.digest
        rings = weight_list(public)
        assert paired.json["setup_bytes"] == sum(packed_bytes(int(np.prod(s)), ring) for _, s, ring in rings)
        run = ("embed", owner.address, TEXTS[0], "--file", tmp_path / "texts.txt", *world.at(dealer))
        batch = call(*run, "--json", *world.home("client"))
        world.check(batch.json["outputs"])
        planned = call("plan", world.model, *(a for n in (9, 5, 3) for a in ("--tokens", n)), "--json").json
        for name in ("rounds", "rounds_per_layer", "bytes_sent", "prepare_bytes", "tape_bytes"):
            assert batch.json[name] == planned[name], name
        assert planned["setup_bytes"] == paired.json["setup_bytes"]
        assert world.pair(owner, "other").code == 0
        single = call(*run, "--one-by-one", "--no-overlap", "--json", *world.home("other"))
        world.check(single.json["outputs"])
        assert len(single.json["runs"]) == 3
        table = call(*run, *world.home("client"))
        assert table.code == 0 and "rounds, sent" in table.out
        ends = [owner.end(), dealer.end(signal.SIGINT)]
    assert ends == [130, 130]
    logs = [dealer.said, owner.said, paired.err, batch.err, single.err, table.err]
    assert "dealt tape" in dealer.said and "served a run of 17 tokens" in owner.said and "connected" in batch.err
    for log in logs:
        assert "Traceback" not in log and "ERROR" not in log
        assert not [secret for secret in world.secrets() if secret in log]
    left = {f for role in ("client", "other", "owner", "dealer") for f in files(tmp_path / role)}
    assert not [f for f in left if f.endswith((".p0", ".p1", ".part"))]


@pytest.mark.parametrize(("transport", "address"), [("zeromq", "ipc://{}/owner.sock"), ("tcp", "tcp://127.0.0.1:0")])
def test_tapes_from_files(
    world: World, tmp_path: Path, transport: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDELAY_TRANSPORT", transport)
    dealt = tmp_path / "dealt"
    deal = ("deal", world.model / "public.json", "--tokens", 9, "--client", world.keys["client"], "-o", dealt)
    report = call(*deal, "--count", 2, "--json", *world.home("dealer")).json
    assert len(report["tapes"]) == 2
    for role in ("owner", "client"):
        shutil.copytree(dealt / role, tmp_path / role, dirs_exist_ok=True)
    paths = [p for role in ("owner", "client") for p in (dealt / role / "tapes").iterdir()]
    assert len(paths) == 4
    seeds = [TapeHeader.decode(p.read_bytes()[:HEADER_BYTES], "tape").seed.hex() for p in paths]
    with world.owner(address=address.format(tmp_path)) as owner:
        assert world.pair(owner).code == 0
        embed = ("embed", owner.address, TEXTS[0], "--json", *world.home("client"))
        runs = [call(*embed) for _ in report["tapes"]]
        for run in runs:
            assert run.json["tape_bytes"] == report["tape_bytes"]
        third = call(*embed)
        assert third.code == 4
        assert "no unspent tape for this run is in" in error(third) and "--tokens 9" in error(third)
        for role in ("owner", "client"):  # the tapes of before, copied back
            shutil.copytree(dealt / role / "tapes", tmp_path / role / "tapes", dirs_exist_ok=True)
        again = call(*embed)
        assert again.code == 4 and "no unspent tape" in error(again)
        other = call("embed", owner.address, "cat", "--json", *world.home("client"))
        assert other.code == 4 and "deal one with --tokens 3" in error(other)
        assert owner.end() == 130
    for log in (owner.said, *(r.err for r in runs), again.err):
        assert not [secret for secret in [*world.secrets(), *seeds] if secret in log]


def test_peers_that_are_not_who_they_should_be(world: World) -> None:
    with world.dealer() as dealer, world.owner(*world.at(dealer)) as owner:
        wrong_server = world.pair(owner, key=world.keys["dealer"])
        assert wrong_server.code == 3 and "its public key is another one" in error(wrong_server)
        stranger = call("pair", owner.address, "--owner", world.keys["owner"], *world.home("dealer"))
        assert stranger.code == 3 and "does not list this side's public key" in error(stranger)
        dealer_as_owner = world.pair(dealer, key=world.keys["dealer"])
        assert dealer_as_owner.code == 3
        assert "this is a dealer, and a model owner was asked for: check the address" in error(dealer_as_owner)
        assert world.pair(owner).code == 0
        owner_as_dealer = ("--dealer", owner.address, "--dealer-key", world.keys["owner"])
        run = call("embed", owner.address, "cat", *owner_as_dealer, *world.home("client"))
        assert run.code == 3
        assert "at the dealer: the other side gave up: this is a model owner, and a dealer was asked for" in error(run)
        classify = call("classify", owner.address, "cat", *world.at(dealer), *world.home("client"))
        assert classify.code == 2 and "has no classification head: use embed" in error(classify)
        long = call("embed", owner.address, "cat " * 30, *world.at(dealer), *world.home("client"))
        assert long.code == 2 and "the text has 32 tokens" in error(long)


def test_an_owner_that_cannot_reach_its_dealer_says_so_and_one_that_serves_once_ends(world: World) -> None:
    nobody = ("--dealer", "tcp://127.0.0.1:9", "--dealer-key", world.keys["dealer"], "--deadline", "0.5", "--once")
    with world.owner(*nobody) as owner:
        done = world.pair(owner)
        assert done.code == 3
        assert "gave up: at the dealer: waited 0.5 s for an answer from tcp://127.0.0.1:9" in error(done)
        assert owner.process.wait(SECONDS) == 0


def test_a_model_compiled_anew_is_refused_until_paired_again(world: World, tmp_path: Path) -> None:
    with world.dealer() as dealer:
        with world.owner(*world.at(dealer)) as owner:
            assert world.pair(owner).code == 0
        samples = world.checkpoint / "samples.txt"
        assert call("compile", world.checkpoint, "-o", tmp_path / "anew", "--samples", samples, "--no-check").code == 0
        world.model = tmp_path / "anew"
        with world.owner(*world.at(dealer)) as owner:
            embed = ("embed", owner.address, *TEXTS, *world.at(dealer), *world.home("client"), "--json")
            refused = call(*embed)
            assert refused.code == 3 and "disagree about the model" in error(refused) and "pair again" in error(refused)
            assert world.pair(owner).code == 0
            several = call(*embed)
            assert several.code == 2 and "several models are paired, say which with --model" in error(several)
            world.check(call(*embed, "--model", read_public(world.model).digest[:16]).json["outputs"])
            owner.end()
        assert "disagree about the model" in owner.said
    keys = Home(world.path / "dealer").ledger._rows("SELECT id FROM keys")
    assert len(keys) == 2


def test_an_owner_that_dies_is_noticed_and_so_is_ctrl_c(world: World) -> None:
    with world.dealer() as dealer, world.owner(*world.at(dealer)) as owner:
        assert world.pair(owner).code == 0
        owner.until("ended")
        dealer.process.send_signal(signal.SIGSTOP)  # so that the runs wait for their tapes
        run = command("embed", owner.address, "cat", *world.at(dealer), *world.home("client"))
        for end, code, sentence in (
            (lambda client: client.send_signal(signal.SIGINT), 130, "interrupted"),
            (lambda client: owner.process.kill(), 3, "error: .*vanished"),
        ):
            client = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
            owner.until("began")
            end(client)
            out, err = client.communicate(timeout=SECONDS)
            assert client.returncode == code and out == "" and "Traceback" not in err
            assert re.search(sentence, err), err
        dealer.process.send_signal(signal.SIGCONT)


def test_a_reader_that_leaves_early_causes_no_traceback(world: World) -> None:
    producer = subprocess.Popen(
        command("plan", world.model, "--tokens", 5, "--transcript"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment(),
    )  # fmt: skip
    assert producer.stdout is not None and producer.stderr is not None
    producer.stdout.readline()
    producer.stdout.close()
    assert producer.stderr.read() == ""
    assert producer.wait(SECONDS) == 1
