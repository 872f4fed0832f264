"""Text to token ids, with a model's own tokenizer."""

from __future__ import annotations

import numpy as np
import tokenizers
from numpy.typing import NDArray

from engine.errors import InputError
from engine.models.checkpoint import Checkpoint
from engine.models.samples import CALIBRATION_TEXTS, DEMO_TEXTS

__all__ = ["CALIBRATION_TEXTS", "DEMO_TEXTS", "Tokenizer"]


class Tokenizer:
    """The tokenizer of a checkpoint, without padding and without truncation.

    Raises InputError for a checkpoint without a tokenizer and for a malformed tokenizer.json.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        if not checkpoint.tokenizer_json:
            raise InputError(f"{checkpoint.name} has no tokenizer")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(checkpoint.tokenizer_json)
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"tokenizer.json of {checkpoint.name} cannot be used: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._name, self._shape = checkpoint.name, checkpoint.config

    def encode(self, text: str, *, cut: bool = False) -> NDArray[np.int64]:
        """Token ids (n,) with the special tokens; the empty text has these alone. `cut` shortens what is too long.

        Raises InputError, which never quotes the text, if it is too long for the model, has ids outside the model's
        vocabulary, gives no token at all, or is not valid Unicode.
        """
        try:
            ids = np.array(self._tokenizer.encode(text).ids, np.int64)
        except Exception as error:  # as above
            raise InputError(f"the text cannot be tokenised ({type(error).__name__}): is it valid Unicode?") from None
        limit = self._shape.max_positions
        ids = ids[:limit] if cut else ids
        if not 0 < len(ids) <= limit:
            raise InputError(
                f"the text has {len(ids)} tokens, special tokens included; {self._name} takes from 1 to {limit}"
            )
        if ids.max() >= self._shape.vocab:
            raise InputError(
                f"the tokenizer of {self._name} gives ids beyond the model's vocabulary of {self._shape.vocab}"
            )
        return ids
