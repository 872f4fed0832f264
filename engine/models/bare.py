"""Bare shapes: models by name without weights, planned with default bounds, as the literature counts them."""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import InputError
from engine.models.bert import bert
from engine.models.calibrate import default_ranges
from engine.models.gpt2 import GPT2_SHAPES, gpt2_program
from engine.models.gpt2_calibrate import default_gpt2_ranges
from engine.models.shapes import SHAPES
from engine.scheduler.plan import Program
from engine.variants import DEFAULT, Variants

__all__ = ["BARE", "OWNERS", "bare_program"]

BARE = tuple(sorted([*SHAPES, *GPT2_SHAPES]))
OWNERS: dict[str, int | str] = {"owned": 1, "public": "public", "shared": "shared"}


def bare_program(
    name: str, lengths: Sequence[int], weights: str = "owned", variants: Variants = DEFAULT, *, embedding: bool = False
) -> Program:
    """From the embedded input, or from one-hot tokens with `embedding`, to the pooled output of an encoder or to all
    hidden states of a decoder. Raises InputError for lengths and variants that the shape cannot have."""
    most = (SHAPES[name] if name in SHAPES else GPT2_SHAPES[name]).max_positions
    for n in lengths:
        if not 1 <= n <= most:
            raise InputError(f"{name} takes 1 to {most} tokens, not {n}")
    owner = OWNERS[weights]
    if name in SHAPES:
        ranges = default_ranges(SHAPES[name])
        return bert(SHAPES[name], ranges, lengths, owner=owner, head="mean", embedding=embedding, variants=variants)
    shape = GPT2_SHAPES[name]
    return gpt2_program(
        shape, default_gpt2_ranges(shape), lengths, owner, "hidden", embedding=embedding, variants=variants
    )
