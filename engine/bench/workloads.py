"""Workloads by name. Each is built when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from engine.bench import gateloads, modelloads
from engine.bench.workload import Workload
from engine.errors import InputError
from engine.variants import DEFAULT, Variants

__all__ = ["WORKLOADS", "build_workload"]

Builder = Callable[[str, int, Variants], Workload]

WORKLOADS: dict[str, Builder] = {
    "compare-1e5": lambda name, _, variants: gateloads.compare_load(name, 10**5, variants=variants),
    "compare-1e6": lambda name, _, variants: gateloads.compare_load(name, 10**6, variants=variants),
    "relu-1e6": lambda name, _, variants: gateloads.relu_load(name, 10**6, variants=variants),
    "gelu-1e5": lambda name, _, variants: gateloads.gelu_load(name, 10**5, variants=variants),
    "gelu-1e6": lambda name, _, variants: gateloads.gelu_load(name, 10**6, variants=variants),
    "softmax-128x128": lambda name, _, variants: gateloads.softmax_load(name, 128, 128, variants=variants),
    "layernorm-128x768": lambda name, _, variants: gateloads.layer_norm_load(name, 128, 768, variants=variants),
    "matmul-128x768x3072": lambda name, _, variants: gateloads.matmul_load(name, 128, 768, 3072, variants=variants),
    "block-bert-base": lambda name, tokens, variants: modelloads.bert_load(
        name, "bert-base", tokens, layers=1, variants=variants
    ),
    "bert-tiny": lambda name, tokens, variants: modelloads.bert_load(name, name, tokens, variants=variants),
    "bert-base": lambda name, tokens, variants: modelloads.bert_load(name, name, tokens, variants=variants),
    "bert-large": lambda name, tokens, variants: modelloads.bert_load(name, name, tokens, variants=variants),
    "gpt2": lambda name, tokens, variants: modelloads.gpt2_load(name, tokens, variants=variants),
    "minilm": lambda name, tokens, variants: modelloads.minilm_load(name, tokens, variants=variants),
}


def build_workload(name: str, tokens: int = 128, variants: Variants = DEFAULT) -> Workload:
    """The workload of that name; `tokens` is for the models. Raises InputError, with the nearest names, and for
    variants that it cannot have."""
    if name not in WORKLOADS:
        near = get_close_matches(name, WORKLOADS, 3, 0.4) or list(WORKLOADS)
        raise InputError(f"no workload is called {name!r}; did you mean {' or '.join(near)}?")
    return WORKLOADS[name](name, tokens, variants)
