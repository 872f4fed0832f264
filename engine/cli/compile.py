"""`compile`: calibrate a checkpoint on sample texts and write what its owner serves."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.calibrate import device_option
from engine.cli.common import Output, json_option, progress, text_errors
from engine.cli.variants import asked, tokens_option, variant_options
from engine.errors import InputError
from engine.models.calibrate import calibrated, measured, quantise
from engine.models.check import run_clear
from engine.models.checkpoint import Checkpoint
from engine.models.compiled import compile_model, public_of
from engine.models.text import CALIBRATION_TEXTS, Tokenizer
from engine.models.weights import load_model
from engine.variants import DEFAULT
from simulators.profiles import Network

__all__ = ["compile_", "read_lines"]

CHECKED = 4
"""Samples that run through the fixed-point program."""


@click.command("compile")
@click.argument("model")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write."
)
@click.option(
    "--samples", type=click.Path(path_type=Path, dir_okay=False), help="Sample texts, one a line. [default: built in]"
)
@click.option(
    "--check/--no-check", default=True, show_default=True, help="Run samples through the fixed-point program."
)
@variant_options
@tokens_option
@device_option
@json_option
@text_errors
def compile_(
    model: str, output: Path, samples: Path | None, check: bool, variants: str | None, network: Network | None,
    lengths: tuple[int, ...], device: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Calibrate MODEL and write its public plan data and the owner's integers.

    MODEL is a Hugging Face folder of the BERT family (config.json, model.safetensors, tokenizer.json), or the short
    name of an installed package's model, such as minilm. Bounds come from sample texts with a margin of two bits; they
    are public. Then some samples run through the fixed-point program, where a value beyond its bound is an error.

    Variants of gates become part of the model, and of every plan's digest. With --network those are taken that are
    predicted to be the fastest there, for texts of --tokens tokens: `roundelay plan --network` shows the comparison.
    """
    how, wanted = asked(variants, network, device)
    checkpoint = load_model(model)
    sizes = _sizes(checkpoint, lengths)
    texts = read_lines(samples) if samples is not None else list(CALIBRATION_TEXTS)
    with progress("calibrating", "texts") as bar:
        ranges = calibrated(checkpoint, measured(checkpoint, texts, bar, cut=samples is None))
    if wanted is not None:
        how = wanted.choice(lambda v: public_of(checkpoint, ranges, v).plan(sizes), sizes).best.variants
    integers, tokenizer = quantise(checkpoint, how), Tokenizer(checkpoint)
    if check:  # before anything is written
        with progress("checking bounds", "texts") as bar:
            sequences = [tokenizer.encode(t, cut=samples is None) for t in texts[:CHECKED]]
            run_clear(public_of(checkpoint, ranges, how), integers, sequences, bar)
    compiled = compile_model(checkpoint, ranges, integers, output, how)
    data = {"model": checkpoint.name, "digest": compiled.public.digest, "folder": str(output), "samples": len(texts),
            "variants": str(how)}  # fmt: skip
    text = f"compiled {checkpoint.name} ({compiled.public.digest[:12]}) into {output}, calibrated on {len(texts)} texts"
    text += "" if how == DEFAULT else f"; variants {how}"
    Output(as_json).result(data, text)


def _sizes(checkpoint: Checkpoint, lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Lengths to choose for. Raises InputError for one longer than the model takes."""
    most = checkpoint.config.max_positions
    if max(lengths, default=0) > most:
        raise InputError(f"{checkpoint.name} takes 1 to {most} tokens, not the {max(lengths)} of --tokens")
    return lengths or (min(128, most),)


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a text file. Raises InputError."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"cannot read texts from {path}: {getattr(e, 'strerror', None) or 'not UTF-8'}") from e
    if not any(lines):
        raise InputError(f"{path} holds no text: one text a line")
    return [line for line in lines if line]
