"""Workloads by name. Each is built when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from engine.bench import gateloads, modelloads
from engine.bench.workload import Workload
from engine.errors import InputError

__all__ = ["WORKLOADS", "build_workload"]

Builder = Callable[[str, int], Workload]

WORKLOADS: dict[str, Builder] = {
    "compare-1e5": lambda name, _: gateloads.compare_load(name, 10**5),
    "compare-1e6": lambda name, _: gateloads.compare_load(name, 10**6),
    "relu-1e6": lambda name, _: gateloads.relu_load(name, 10**6),
    "gelu-1e5": lambda name, _: gateloads.gelu_load(name, 10**5),
    "gelu-1e6": lambda name, _: gateloads.gelu_load(name, 10**6),
    "softmax-128x128": lambda name, _: gateloads.softmax_load(name, 128, 128),
    "layernorm-128x768": lambda name, _: gateloads.layer_norm_load(name, 128, 768),
    "matmul-128x768x3072": lambda name, _: gateloads.matmul_load(name, 128, 768, 3072),
    "block-bert-base": lambda name, tokens: modelloads.bert_load(name, "bert-base", tokens, layers=1),
    "bert-tiny": lambda name, tokens: modelloads.bert_load(name, name, tokens),
    "bert-base": lambda name, tokens: modelloads.bert_load(name, name, tokens),
    "bert-large": lambda name, tokens: modelloads.bert_load(name, name, tokens),
    "gpt2": lambda name, tokens: modelloads.gpt2_load(name, tokens),
    "minilm": lambda name, tokens: modelloads.minilm_load(name, tokens),
}


def build_workload(name: str, tokens: int = 128) -> Workload:
    """The workload of that name; `tokens` is for the models. Raises InputError, with the nearest names."""
    if name not in WORKLOADS:
        near = get_close_matches(name, WORKLOADS, 3, 0.4) or list(WORKLOADS)
        raise InputError(f"no workload is called {name!r}; did you mean {' or '.join(near)}?")
    return WORKLOADS[name](name, tokens)
