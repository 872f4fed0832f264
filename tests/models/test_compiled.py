"""Compiled models on disk: what is public, what the digest commits to, and what a damaged one says."""

from __future__ import annotations

import dataclasses
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine.errors import InputError
from engine.models.calibrate import default_ranges
from engine.models.compiled import CompiledModel, PublicModel, load_compiled, public_of, read_public
from engine.models.shapes import BertShape
from tests.session.stage import SHAPE, checkpoint, compiled


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "model"


@pytest.fixture
def model(folder: Path) -> CompiledModel:
    return compiled(checkpoint(), folder)


def test_what_was_compiled_is_what_is_loaded(folder: Path, model: CompiledModel) -> None:
    loaded = load_compiled(folder)
    assert loaded.public == model.public == read_public(folder) == read_public(folder / "public.json")
    assert loaded.tokenizer_json == model.tokenizer_json == checkpoint().tokenizer_json
    assert loaded.integers.keys() == model.integers.keys()
    for name, integers in model.integers.items():
        assert np.array_equal(loaded.integers[name], integers) and loaded.integers[name].dtype == integers.dtype


def test_the_public_part_holds_no_weight_and_no_salt(folder: Path, model: CompiledModel) -> None:
    public = json.loads((folder / "public.json").read_text())
    assert set(public) == {"format", "name", "shape", "ranges", "head", "normalize", "labels", "digest"}

    def numbers(value: Any) -> list[float]:
        if isinstance(value, dict | list):
            return [n for v in (value.values() if isinstance(value, dict) else value) for n in numbers(v)]
        return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []

    ranges = numbers(public["ranges"])
    assert all(isinstance(n, int) and abs(n) <= 64 for n in ranges), "magnitudes are whole bits"
    assert len(ranges) == 3 + SHAPE.layers * 12 + 2


def test_files_are_for_their_owner_alone(folder: Path, model: CompiledModel) -> None:
    assert {p.name for p in folder.iterdir()} == {"public.json", "tokenizer.json", "weights.safetensors"}
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in folder.iterdir())


def test_the_same_checkpoint_twice_has_two_digests(tmp_path: Path) -> None:
    """The salt: without it anybody could test a guess of the weights against the public digest."""
    first, second = (compiled(checkpoint(), tmp_path / name).public for name in "ab")
    assert first.digest != second.digest
    assert dataclasses.replace(first, digest="") == dataclasses.replace(second, digest="")


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "public.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "changes",
    [{"name": "other"}, {"normalize": False}, {"head": "cls"}, {"digest": "0" * 64}],
)
def test_the_digest_commits_to_the_public_part(folder: Path, model: CompiledModel, changes: dict[str, Any]) -> None:
    rewrite(folder, **changes)
    with pytest.raises(InputError, match=r"do not match its digest: compile the model again"):
        load_compiled(folder)


def test_the_digest_commits_to_every_weight(folder: Path, model: CompiledModel) -> None:
    path = folder / "weights.safetensors"
    good = path.read_bytes()
    salt = json.loads(good[8 : 8 + int.from_bytes(good[:8], "little")])["__metadata__"]["salt"]
    for name in model.integers:
        tensors = load_file(path)
        tensors[name].reshape(-1)[0] ^= 1
        save_file(tensors, path, {"salt": salt})
        with pytest.raises(InputError, match=r"do not match its digest"):
            load_compiled(folder)
        path.write_bytes(good)
    load_compiled(folder)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"\xff" * 8, b"\x02\0\0\0\0\0\0\0{}"])
def test_damaged_weights(folder: Path, model: CompiledModel, content: bytes) -> None:
    (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"weights.safetensors or tokenizer.json is damaged: compile the model again"):
        load_compiled(folder)


def test_weights_without_a_salt(folder: Path, model: CompiledModel) -> None:
    save_file(dict(model.integers), folder / "weights.safetensors")
    with pytest.raises(InputError, match=r"is damaged"):
        load_compiled(folder)


# ---------------------------------------------------------------------- the public part as text
MALFORMED: list[dict[str, Any]] = [
    {"format": 2},
    {"name": 7},
    {"name": "tab\there"},
    {"head": "tail"},
    {"head": "classify"},
    {"normalize": "yes"},
    {"labels": 3},
    {"digest": "short"},
    {"digest": None},
    {"shape": {}},
    {"ranges": {}},
    {"more": 1},
]


@pytest.mark.parametrize("changes", MALFORMED)
def test_malformed_public_parts(folder: Path, model: CompiledModel, changes: dict[str, Any]) -> None:
    rewrite(folder, **changes)
    with pytest.raises(
        InputError, match=r"public.json (is not a compiled model's public part|was written by another ver)"
    ):
        read_public(folder)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("shape", "layers"), 3), (("shape", "layers"), 2.0), (("shape", "hidden"), 10**100), (("shape", "heads"), 0),
        (("shape", "eps"), "small"), (("shape", "eps"), 2.0), (("shape", "activation"), ["gelu"]),
        (("ranges", "embedding"), [1, 2]), (("ranges", "embedding"), [1, 2, 3.5]), (("ranges", "head"), {"out": 1000}),
        (("ranges", "blocks"), []), (("ranges", "blocks"), [[]] * 2),
    ],
)  # fmt: skip
def test_malformed_shapes_and_ranges(model: CompiledModel, place: tuple[str, str], value: Any) -> None:
    data = json.loads(model.public.to_json())
    data[place[0]][place[1]] = value
    with pytest.raises(InputError):
        PublicModel.from_json(json.dumps(data), "here").plan((5,))


@pytest.mark.parametrize("text", ["", "null", "[]", "7", "{", "[" * 100_000, '{"format": 1}'])
def test_texts_that_are_no_public_part(text: str) -> None:
    with pytest.raises(InputError, match=r"^here is not a compiled model's public part: \w+$"):
        PublicModel.from_json(text, "here")


def test_a_public_part_survives_its_text(model: CompiledModel) -> None:
    again = PublicModel.from_json(model.public.to_json(), "here")
    assert again == model.public
    assert again.plan((5, 2)).digest == model.public.plan((5, 2)).digest


# ---------------------------------------------------------------------- plans, inputs, results
@pytest.fixture
def public(model: CompiledModel) -> PublicModel:
    return model.public


def test_plans_of_lengths(public: PublicModel) -> None:
    assert public.plan([5]) is public.plan((np.int64(5),)), "one plan is made once"
    with pytest.raises(InputError, match=r"there is nothing to run: give at least one text"):
        public.plan([])
    for length in (0, -1, SHAPE.max_positions + 1):
        with pytest.raises(InputError, match=rf"a text of {length} tokens is outside the model's 1 to 24"):
            public.plan([5, length])


def test_inputs_are_one_hot_rows(public: PublicModel) -> None:
    hot = public.inputs([np.array([3, 1]), np.array([0])])["one-hot tokens"]
    assert hot.shape == (3, SHAPE.vocab)
    assert np.array_equal(hot.argmax(1), [3, 1, 0]) and (hot.sum(1) == 1).all()


def test_results_are_of_the_lengths_and_norms_that_the_model_promises(public: PublicModel) -> None:
    outputs = {"output 0": np.full((1, 4), 5 << 24), "output 1": np.full((1, 4), 3 << 24)}
    plain = dataclasses.replace(public, normalize=False)
    assert [r.tolist() for r in plain.results(outputs, [5, 2])] == [[1.0] * 4, [1.5] * 4]
    assert [r.tolist() for r in public.results(outputs, [5, 2])] == [[0.5] * 4] * 2
    assert [r.tolist() for r in dataclasses.replace(plain, head="cls").results(outputs, [5, 2])] == [
        [5.0] * 4,
        [3.0] * 4,
    ]
    hidden = dataclasses.replace(public, head="none")
    assert hidden.results({"output 0": np.ones((3, 4), np.int64)}, [3])[0].shape == (3, 4)


def test_an_empty_result_has_no_direction(public: PublicModel) -> None:
    zero = public.results({"output 0": np.zeros((1, 4), np.int64)}, [1])[0]
    assert np.isfinite(zero).all() and not zero.any()


def test_a_model_without_a_head_is_compiled_as_one() -> None:
    made = checkpoint(pooling="none")
    assert public_of(made, default_ranges(made.config)).head == "none"
    labelled = checkpoint(dataclasses.replace(SHAPE, labels=2))
    assert public_of(labelled, default_ranges(labelled.config)).labels == ("LABEL_0", "LABEL_1")
    assert isinstance(labelled.config, BertShape)
