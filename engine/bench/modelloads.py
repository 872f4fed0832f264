"""Workloads of whole models and blocks: seeded weights that behave like trained ones, or the installed package's own.

Counted are the layers, from the embedded input to the last norm; the input and the reveal (or embedding and head) are
in the totals. Ranges are calibrated on the very input with the usual margins, so the widths are those of a session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from engine.bench.workload import Array, Workload
from engine.errors import InputError
from engine.models.bert import BertRanges, bert
from engine.models.calibrate import calibrated, measured, quantise
from engine.models.checkpoint import Checkpoint, random_checkpoint
from engine.models.gpt2 import GPT2_SHAPES, Gpt2Shape, gpt2_program
from engine.models.gpt2_calibrate import calibrated_gpt2, measured_gpt2, quantise_gpt2
from engine.models.gpt2_reference import embed_tokens, gpt2_forward, random_gpt2
from engine.models.layers import F, W
from engine.models.reference import forward
from engine.models.shapes import SHAPES, BertShape
from engine.models.taps import Ranges
from engine.models.text import CALIBRATION_TEXTS, DEMO_TEXTS, Tokenizer
from engine.models.weights import load_model
from engine.parameters import Small
from engine.scheduler.plan import Program
from engine.variants import DEFAULT, Variants

__all__ = ["bert_load", "gpt2_load", "minilm_load", "private"]

VOCAB = 1024
"""Rows of the embedding table of a bare shape: it is not part of what is measured."""


def bert_load(name: str, shape: str, tokens: int, layers: int | None = None, variants: Variants = DEFAULT) -> Workload:
    """A bare shape on the client's own embedded and normalised tokens, to all its hidden states."""
    full = SHAPES[shape]
    what = replace(full, layers=layers or full.layers, vocab=VOCAB)
    check_tokens(name, what, tokens)
    checkpoint = random_checkpoint(what, 1)
    ids = np.random.default_rng(tokens).integers(0, VOCAB, tokens)
    n, hidden, ranges = _observed(checkpoint, ids)
    program = bert(what, calibrated(checkpoint, ranges), (tokens,), embedding=False, head="none", variants=variants)
    inputs = {"n": np.rint(n * 2.0**F).astype(np.int64)}
    layout = f"{what.layers} encoder block{'s' * (what.layers > 1)} of {what.hidden}"
    phrase = f"{layout}, {tokens} tokens, seeded weights of the owner"
    weights = private(program, quantise(checkpoint, variants))
    return Workload(name, phrase, program, counted(program), inputs, weights, {"output 0": hidden})


def check_tokens(name: str, shape: BertShape | Gpt2Shape, tokens: int, least: int = 1) -> None:
    if not least <= tokens <= shape.max_positions:
        raise InputError(f"{name} takes {least} to {shape.max_positions} tokens, not {tokens}")


def _observed(checkpoint: Checkpoint, ids: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[Array, Array, Ranges]:
    """The normalised embedding, the last hidden states and every range of one float64 pass."""
    ranges, kept = Ranges(), {}

    def tap(name: str, layer: int, array: Array) -> None:
        ranges(name, layer, array)
        if name == "embedding.n":
            kept[name] = array

    hidden = forward(checkpoint, ids, tap)
    return kept["embedding.n"], hidden, ranges


def gpt2_load(name: str, tokens: int, variants: Variants = DEFAULT) -> Workload:
    """The GPT-2 shape on the client's own embedded tokens, to all its hidden states."""
    shape = replace(GPT2_SHAPES["gpt2"], vocab=VOCAB)
    check_tokens(name, shape, tokens)
    checkpoint = random_gpt2(shape, 1)
    ids = np.random.default_rng(tokens).integers(0, VOCAB, tokens)
    ranges = calibrated_gpt2(checkpoint, measured_gpt2(checkpoint, [ids]), "hidden")
    program = gpt2_program(shape, ranges, (tokens,), head="hidden", embedding=False, variants=variants)
    inputs = {"x": np.rint(embed_tokens(checkpoint.centred(), ids) * 2.0 ** (F + W)).astype(np.int64)}
    phrase = f"{shape.layers} decoder blocks of {shape.hidden}, {tokens} tokens, seeded weights of the owner"
    weights = private(program, quantise_gpt2(checkpoint, variants))
    reference = {"output 0": gpt2_forward(checkpoint, ids)}
    return Workload(name, phrase, program, counted(program), inputs, weights, reference)


def counted(program: Program) -> tuple[str, ...]:
    return tuple(c.name for c in program.calls if c.name.startswith("layer"))


def private(program: Program, integers: Mapping[str, Small]) -> dict[str, Small]:
    """The integers that the program asks for."""
    names = {c.prefix + n.text("name") for c in program.calls for n in program.segments[c.segment].graph.weights()}
    return {name: integers[name] for name in sorted(names)}


# ---------------------------------------------------------------------- real weights
def minilm_load(name: str, tokens: int, variants: Variants = DEFAULT) -> Workload:
    """The installed MiniLM on a text, embedding and pooling included, to the mean of the hidden states."""
    checkpoint = load_model("minilm")
    check_tokens(name, checkpoint.config, tokens, least=3)
    ids = _text_of(Tokenizer(checkpoint), tokens)
    ranges: BertRanges = calibrated(checkpoint, measured(checkpoint, list(CALIBRATION_TEXTS)))
    program = bert(checkpoint.config, ranges, (tokens,), head="mean", variants=variants)
    hot = np.zeros((tokens, checkpoint.config.vocab), np.int64)
    hot[np.arange(tokens), ids] = 1
    pooled = forward(checkpoint, ids).mean(0, keepdims=True)
    phrase = f"MiniLM (6 blocks of 384) on a text of {tokens} tokens, the owner's real weights"
    weights, reference = private(program, quantise(checkpoint, variants)), {"output 0": pooled}
    return Workload(name, phrase, program, counted(program), {"one-hot tokens": hot}, weights, reference, tokens)


def _text_of(tokenizer: Tokenizer, tokens: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The demonstration's texts without their special tokens, over and over, between the special tokens of one."""
    texts = [tokenizer.encode(t) for t in DEMO_TEXTS]
    inner = np.concatenate([ids[1:-1] for ids in texts])
    return np.concatenate([texts[0][:1], np.resize(inner, tokens - 2), texts[0][-1:]])
