"""Bad input to the command line: one sentence on stderr, its exit code, nothing on stdout, nothing changed on disk."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from engine.errors import BoundError, PeerError
from engine.home import Home
from engine.models.bert import BertRanges
from engine.models.calibrate import calibrated
from tests.cli.conftest import SHAPE, Call, Done
from tests.models.make_model import config_of, edit_json, random_tensors, write_model
from tests.session.disk import files, full_disk

KEY = "ab" * 32
NOBODY = "tcp://127.0.0.1:9"
NOWHERE = "ipc:///nowhere/at/all.sock"
"""What cannot be listened at: a service that should have refused something else does not hang the tests."""


def refused(done: Done, code: int, sentence: str) -> None:
    assert done.code == code, done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    lines = done.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.err
    assert re.search(sentence, lines[0]), lines[0]


def usage(done: Done, sentence: str) -> None:
    """A command line that makes no sense: the option parser's own words."""
    assert done.code == 2 and done.out == ""
    assert re.search(sentence, done.err), done.err


# ---------------------------------------------------------------------- the command line itself
def test_a_misspelt_command(call: Call) -> None:
    usage(call("embd"), r"No such command 'embd': did you mean 'embed'\?")
    usage(call("xyz"), r"No such command 'xyz': there are demo, compile")


def test_a_missing_argument(call: Call) -> None:
    usage(call("embed"), r"Missing argument 'ADDRESS'")
    usage(call("pair", NOBODY), r"Missing option '--owner'")
    usage(call("serve", "model", "--listen", NOBODY), r"Missing option '--client'")


def test_an_unknown_option(call: Call) -> None:
    usage(call("keygen", "--hme", "x"), r"No such option.*--hme")


@pytest.mark.parametrize("command", ["demo", "compile", "plan", "keygen", "pair", "deal", "serve", "embed", "classify"])
def test_every_command_explains_itself(call: Call, command: str) -> None:
    done = call(command, "--help")
    assert done.code == 0 and "Usage:" in done.out and "--json" in done.out


def test_the_help_names_every_command_and_exit_code(call: Call) -> None:
    done = call("--help")
    assert all(f" {name} " in done.out for name in ("demo", "compile", "serve", "embed", "deal", "fuzz"))
    assert "Exit codes: 0 well" in done.out


def test_the_version(call: Call) -> None:
    assert re.fullmatch(r".*\d+\.\d+.*\n", call("--version").out)


# ---------------------------------------------------------------------- compile
def test_no_such_model(call: Call, tmp_path: Path) -> None:
    refused(
        call("compile", "nowhere", "-o", tmp_path / "m"), 2, r"no model 'nowhere': give a folder, or one of the names"
    )
    assert not (tmp_path / "m").exists()


@pytest.fixture
def broken(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "broken"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_of_the_checkpoint(call: Call, broken: Path, tmp_path: Path, name: str) -> None:
    (broken / name).unlink()
    refused(call("compile", broken, "-o", tmp_path / "m"), 2, rf"broken/{name} is missing")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null"])
def test_a_malformed_file_of_the_checkpoint(
    call: Call, broken: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    (broken / name).write_bytes(content)
    refused(call("compile", broken, "-o", tmp_path / "m"), 2, r"tokenizer|broken")
    assert not (tmp_path / "m").exists()


def test_an_architecture_that_is_not_supported_is_named(call: Call, broken: Path, tmp_path: Path) -> None:
    edit_json(broken / "config.json", architectures=["T5ForConditionalGeneration"])
    done = call("compile", broken, "-o", tmp_path / "m", "--json")
    refused(done, 2, r"architecture 'T5ForConditionalGeneration' is not supported \(supported: BertModel")


def test_samples_that_cannot_be_read(call: Call, checkpoint: Path, tmp_path: Path) -> None:
    compile_ = ("compile", checkpoint, "-o", tmp_path / "m", "--samples")
    refused(call(*compile_, tmp_path / "none.txt"), 2, r"cannot read texts from .*none.txt: No such file")
    (tmp_path / "empty.txt").write_text("\n \n")
    refused(call(*compile_, tmp_path / "empty.txt"), 2, r"empty.txt holds no text: one text a line")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\xfd")
    refused(call(*compile_, tmp_path / "binary.txt"), 2, r"binary.txt: not UTF-8")
    (tmp_path / "long.txt").write_text("red cat " * 30)
    refused(call(*compile_, tmp_path / "long.txt"), 2, r"the text has 62 tokens, .* takes from 1 to 24")
    assert not (tmp_path / "m").exists()


def test_a_sample_beyond_its_bound_names_the_line_and_writes_nothing(
    call: Call, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calibration covers its own samples, so its bounds are cut by force here."""

    def narrow(*args: Any) -> BertRanges:
        ranges = calibrated(*args)
        return dataclasses.replace(ranges, blocks=tuple(dataclasses.replace(b, v=-2) for b in ranges.blocks))

    monkeypatch.setattr("engine.cli.compile.calibrated", narrow)
    done = call("compile", checkpoint, "-o", tmp_path / "m", "--samples", checkpoint / "samples.txt")
    refused(done, BoundError.exit_code, r"error: \S+\.py:\d+.*exceeds the bound 2\^\d+ .*: calibrate on data like this")
    assert not (tmp_path / "m").exists()


def test_an_output_that_cannot_be_written(call: Call, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = call("compile", checkpoint, "-o", tmp_path / "file" / "m", "--samples", checkpoint / "samples.txt")
    refused(done, 5, r"cannot make the folder .*/file/m: ")
    with full_disk(1000):
        done = call("compile", checkpoint, "-o", tmp_path / "m", "--samples", checkpoint / "samples.txt")
    refused(done, 5, r"cannot write .*m/(public.json|weights.safetensors): File too large")
    assert files(tmp_path / "m") == set()


# ---------------------------------------------------------------------- compiled models
@pytest.mark.parametrize("command", ["serve", "deal", "plan"])
def test_what_is_no_compiled_model(call: Call, tmp_path: Path, command: str) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "public.json").write_text('{"format": 1}')
    args = {
        "serve": ("serve", tmp_path / "m", "--listen", NOWHERE, "--client", KEY),
        "deal": ("deal", tmp_path / "m", "--tokens", 5, "--client", KEY, "-o", tmp_path / "t"),
        "plan": ("plan", tmp_path / "m"),
    }
    refused(call(*args[command]), 2, r"public.json is not a compiled model's public part: KeyError")
    assert not (tmp_path / "t").exists()


def test_a_folder_without_a_compiled_model(call: Call, tmp_path: Path) -> None:
    done = call("serve", tmp_path / "m", "--listen", NOWHERE, "--client", KEY)
    refused(done, 2, r"cannot read .*m/public.json: No such file .*`roundelay compile` makes it")


@pytest.mark.parametrize("name", ["tokenizer.json", "weights.safetensors"])
def test_a_compiled_model_that_lost_a_file(call: Call, model: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / name).unlink()
    done = call("serve", copy, "--listen", NOWHERE, "--client", KEY)
    refused(done, 2, rf"cannot read .*copy/{name}: No such file .*compile the model again")


def test_a_compiled_model_with_one_flipped_bit(call: Call, model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    data = bytearray((copy / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(data)
    done = call("serve", copy, "--listen", NOWHERE, "--client", KEY)
    refused(done, 2, r"the weights in .*copy do not match its digest: compile the model again")


# ---------------------------------------------------------------------- keys and addresses
@pytest.fixture
def home(tmp_path: Path) -> Path:
    Home(tmp_path / "home").new_identity()
    return tmp_path / "home"


@pytest.mark.parametrize("key", ["", "xyz", "ab" * 31, "zz" * 32, "ab" * 33])
def test_malformed_keys(call: Call, home: Path, model: Path, key: str) -> None:
    sentence = r"a public key has 64 hexadecimal digits, not the \d+ characters given"
    for args in (
        ("pair", NOBODY, "--owner", key),
        ("deal", "--serve", NOWHERE, "--owner", key, "--client", KEY),
        ("deal", "--serve", NOWHERE, "--owner", KEY, "--client", key),
        ("serve", model, "--listen", NOWHERE, "--client", key),
        ("serve", model, "--listen", NOWHERE, "--client", KEY, "--dealer", NOBODY, "--dealer-key", key),
        ("embed", NOBODY, "text", "--dealer", NOBODY, "--dealer-key", key),
    ):
        refused(call(*args, "--home", home), 2, sentence)


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:7000", "http://host:80", "tcp://host", "tcp://host:99999", "ipc://"]
)
def test_malformed_addresses(call: Call, home: Path, model: Path, address: str) -> None:
    sentence = r"a tcp address is tcp://host:port, unlike"
    for args in (
        ("pair", address, "--owner", KEY),
        ("deal", "--serve", address, "--owner", KEY, "--client", KEY),
        ("serve", model, "--listen", address, "--client", KEY),
    ):
        refused(call(*args, "--home", home), 2, sentence)


def test_a_port_in_use(call: Call, home: Path, model: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        serve = ("serve", model, "--listen", address, "--client", KEY, "--home", home)
        refused(call(*serve), 2, rf"cannot listen at '{address}': Address already in use")
        deal = ("deal", "--serve", address, "--owner", KEY, "--client", KEY, "--home", home)
        refused(call(*deal), 2, r"Address already in use")


def test_an_ipc_address_in_a_folder_that_is_not_there(call: Call, home: Path, model: Path) -> None:
    args = ("serve", model, "--listen", NOWHERE, "--client", KEY, "--home", home)
    refused(call(*args, "--transport", "zeromq"), 2, r"cannot listen at 'ipc:///nowhere/at/all.sock'")
    refused(call(*args), 2, r"a tcp address .*; the zeromq transport takes ipc:// addresses")


@pytest.mark.parametrize("deadline", ["0", "-1", "nan", "inf"])
def test_impossible_deadlines(call: Call, home: Path, deadline: str) -> None:
    refused(
        call("pair", NOBODY, "--owner", KEY, "--deadline", deadline, "--home", home), 2, r"deadline must be positive"
    )


def test_no_identity_yet(call: Call, tmp_path: Path, model: Path) -> None:
    sentence = r"there is no identity in .*: run `roundelay keygen` first"
    for args in (
        ("pair", NOBODY, "--owner", KEY),
        ("serve", model, "--listen", NOWHERE, "--client", KEY),
        ("deal", "--serve", NOWHERE, "--owner", KEY, "--client", KEY),
    ):
        refused(call(*args, "--home", tmp_path / "new"), 2, sentence)


def test_an_identity_is_made_once(call: Call, tmp_path: Path) -> None:
    made = call("keygen", "--home", tmp_path / "h", "--json").json
    assert re.fullmatch(r"[0-9a-f]{64}", made["public_key"])
    refused(call("keygen", "--home", tmp_path / "h"), 2, rf"already, with public key {made['public_key']}: it stays")


def test_a_secret_key_that_others_can_read(call: Call, home: Path) -> None:
    (home / "identity" / "secret.key").chmod(0o644)
    refused(call("pair", NOBODY, "--owner", KEY, "--home", home), 2, r"can be read by others: set its mode to 0600")


def test_a_malformed_identity(call: Call, home: Path) -> None:
    (home / "identity" / "public.key").write_text("hello")
    refused(call("pair", NOBODY, "--owner", KEY, "--home", home), 2, r"does not hold a key of 64 hexadecimal digits")


def test_a_home_that_is_a_file(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    usage(call("keygen", "--home", tmp_path / "file"), r"Directory '.*file' is a file")
    refused(call("keygen", "--home", tmp_path / "file" / "h"), 5, r"cannot make the folder")


# ---------------------------------------------------------------------- texts and runs
def test_nothing_to_run(call: Call, home: Path, tmp_path: Path) -> None:
    refused(call("embed", NOBODY, "--home", home), 2, r"there is nothing to run: give texts, or --file")
    refused(call("embed", NOBODY, "--file", tmp_path / "no.txt", "--home", home), 2, r"cannot read texts from .*no.txt")
    (tmp_path / "empty.txt").write_text("")
    refused(call("embed", NOBODY, "--file", tmp_path / "empty.txt", "--home", home), 2, r"holds no text")


def test_half_a_dealer(call: Call, home: Path, model: Path) -> None:
    refused(call("embed", NOBODY, "x", "--dealer", NOBODY, "--home", home), 2, r"--dealer and --dealer-key go together")
    serve = ("serve", model, "--listen", NOBODY, "--client", KEY, "--home", home)
    refused(call(*serve, "--dealer-key", KEY), 2, r"--dealer and --dealer-key go together")


def test_no_pairing_yet(call: Call, home: Path) -> None:
    refused(call("embed", NOBODY, "x", "--home", home), 2, r"no pairing in .*: run `roundelay pair` first")
    refused(call("classify", NOBODY, "x", "--model", "bert", "--home", home), 2, r"no pairing for bert in")


def test_an_absent_owner(call: Call, home: Path) -> None:
    done = call("pair", NOBODY, "--owner", KEY, "--deadline", "0.3", "--home", home, "--json")
    refused(done, 3, rf"waited 0.3 s for an answer from {NOBODY}")


# ---------------------------------------------------------------------- dealing to files
def test_dealing_without_saying_what(call: Call, home: Path, model: Path, tmp_path: Path) -> None:
    sentence = r"to deal to files give MODEL, --tokens, one --client and -o; to serve give --serve ADDRESS"
    refused(call("deal", "--home", home), 2, sentence)
    refused(call("deal", model, "--tokens", 5, "-o", tmp_path / "t", "--home", home), 2, sentence)
    clients = ("--client", KEY, "--client", "cd" * 32)
    refused(call("deal", model, "--tokens", 5, "-o", tmp_path / "t", *clients, "--home", home), 2, sentence)
    refused(
        call("deal", "--serve", NOBODY, "--home", home), 2, r"a dealer's service needs --owner KEY and at least one"
    )
    serve = ("deal", "--serve", NOBODY, "--owner", KEY, "--client", KEY, "--home", home)
    refused(call(*serve, "--tokens", 5), 2, r"deal to files; with --serve the owner says what to deal")


@pytest.mark.parametrize("tokens", [0, -5, 25])
def test_dealing_for_an_impossible_length(call: Call, home: Path, model: Path, tmp_path: Path, tokens: int) -> None:
    done = call("deal", model, "--tokens", tokens, "--client", KEY, "-o", tmp_path / "t", "--home", home)
    refused(done, 2, rf"a text of {tokens} tokens is outside the model's 1 to 24")
    assert not (tmp_path / "t").exists()


def test_dealing_onto_a_full_disk(call: Call, home: Path, model: Path, tmp_path: Path) -> None:
    deal = ("deal", model, "--tokens", 5, "--client", KEY, "-o", tmp_path / "t", "--home", home)
    assert call(*deal, "--json").json["tapes"]
    before = files(tmp_path / "t")
    with full_disk(20_000):
        refused(call(*deal), 5, r"cannot write .*: File too large")
    assert files(tmp_path / "t") == before


# ---------------------------------------------------------------------- plan
def test_plans_of_nothing(call: Call, tmp_path: Path) -> None:
    refused(call("plan"), 2, r"give either MODEL or --shape")
    refused(call("plan", "minilm", "--shape", "bert-tiny"), 2, r"give either MODEL or --shape")
    refused(call("plan", "--shape", "bert-tiny", "--tokens", 600), 2, r"bert-tiny takes 1 to 512 tokens, not 600")
    usage(call("plan", "--shape", "bert-huge"), r"'bert-huge' is not one of")
    assert call("plan", "no-such-gate").code == 2
    assert call("plan", tmp_path / "gate.py:mine").code == 2


def test_an_internal_error_is_a_sentence_and_with_v_a_place(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("12345")

    monkeypatch.setattr("engine.cli.plan.plan_cost", broken)
    monkeypatch.setattr("engine.cli.plan.by_layer", broken)
    refused(
        call("plan", "--shape", "bert-tiny"),
        5,
        r"an internal error, ZeroDivisionError at test_bad_input.py:\d+: please",
    )


def test_peers_sentences_cannot_play_with_the_terminal(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def evil(*_: object) -> None:
        raise PeerError("\x1b[2Jgone [bold]\nerror: fine")

    monkeypatch.setattr("engine.cli.plan.by_layer", evil)
    done = call("plan", "--shape", "bert-tiny")
    refused(done, 3, r"error:  \[2Jgone \[bold\] error: fine")
    assert "\x1b" not in done.err


# ---------------------------------------------------------------------- good input
def test_json_is_one_object_on_stdout(call: Call, checkpoint: Path, model: Path, tmp_path: Path) -> None:
    assert call("plan", model, "--tokens", 5, "--json").json["rounds_per_layer"] == [20, 20]
    assert call("plan", "--shape", "bert-tiny", "--tokens", 5, "--json").json["rounds"] == 40
    compiled = call("compile", checkpoint, "-o", tmp_path / "m", "--samples", checkpoint / "samples.txt", "--json").json
    assert compiled["digest"] == json.loads((tmp_path / "m" / "public.json").read_text())["digest"]
    assert compiled["digest"] != json.loads((model / "public.json").read_text())["digest"], "a salt of its own"


def test_a_classifier_is_compiled_with_its_labels(call: Call, tmp_path: Path) -> None:
    shape = dataclasses.replace(SHAPE, labels=3)
    config = config_of(shape, "BertForSequenceClassification")
    folder = write_model(tmp_path / "classifier", config, random_tensors(shape))
    (tmp_path / "s.txt").write_text("a red cat\nthe dog")
    assert call("compile", folder, "-o", tmp_path / "m", "--samples", tmp_path / "s.txt", "--json").code == 0
    public = json.loads((tmp_path / "m" / "public.json").read_text())
    assert public["head"] == "classify" and public["labels"] == ["label 0", "label 1", "label 2"]


# ---------------------------------------------------------------------- networks
@pytest.mark.parametrize(
    "command", [("bench", "relu-1e6"), ("demo",), ("embed", "x"), ("classify", "x"), ("serve", "x")]
)
def test_unknown_networks_name_the_nearest_and_impossible_ones_say_why(call: Call, command: tuple[str, ...]) -> None:
    more = ("--listen", "y", "--client", "z") if command[0] == "serve" else ()
    for text, said in (
        ("wan-400m", "did you mean wan-400m"),
        ("rtt=60ms", "bandwidth is missing"),
        ("rtt=60ms,bandwidth=0mbit", "bandwidth must be positive"),
        ("rtt=-1ms,bandwidth=1gbit", "rtt must be 0 to"),
    ):
        done = call(*command, *more, "--network", text)
        assert done.code == 2 and said in done.err and not done.out and "Traceback" not in done.err
