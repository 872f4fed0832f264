"""Golden transcripts: a difference here is a change of the protocol, and is named in the commit that makes it.

ROUNDELAY_GOLDEN=write pytest tests/core/test_golden.py    writes them anew
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.cost import transcript
from engine.gates.causal import causal_softmax_times
from engine.gates.gelu import gelu
from engine.gates.gelu_new import gelu_new
from engine.gates.matmul import bias, matmul, weight
from engine.gates.maximum import argmax, maximum, stabiliser
from engine.gates.norm import NormRange, layer_norm
from engine.gates.reciprocal import rsqrt
from engine.gates.relu import relu
from engine.gates.softmax import SoftmaxRange, softmax
from engine.graph import Graph, WireType
from engine.models.bert import BertRanges, BlockRange, HeadRange, bert
from engine.models.gpt2 import Gpt2Ranges, Gpt2Shape, gpt2_program
from engine.models.shapes import BertShape
from engine.scheduler.plan import Call, Plan, Program, Segment, segment
from engine.variants import DEFAULT, FEWEST_ROUNDS, Variants
from engine.wires import Masked, Share

GOLDEN = Path(__file__).parent.parent / "golden"


def one(name: str, ring: int, scale: int, bound: int, shape: tuple[int, ...], gate: Callable[[Masked], Any]) -> Segment:
    """A gate between an input of party 0, opened under a mask that nobody knows, and an output for party 0."""
    g = Graph(name)
    kind = WireType("masked", shape, ring, scale, bound)
    y = gate(Masked(g, g.add("input", (), kind, owner=0, name="x")).as_share().open())
    (y if isinstance(y, Share) else y.as_share()).reveal(0, "y")
    return segment(g)


def linear(x: Masked) -> Any:
    w = weight(x.graph, "w", (8, 6), owner=1, scale=12, bound=1 << 14)
    b = weight(x.graph, "b", (6,), owner=1, scale=24, bound=1 << 30, ring=60)
    return bias(matmul(x, w), b)


def causal() -> Segment:
    """Scores as shares, of which the triangle is opened, and values under a mask that nobody knows."""
    g = Graph("causal")
    scores = Masked(g, g.add("input", (), WireType("masked", (2, 4, 4), 34, 20, 60 << 20), owner=0, name="scores"))
    values = Masked(g, g.add("input", (), WireType("masked", (2, 4, 3), 52, 11, 7 << 11), owner=0, name="values"))
    y = causal_softmax_times(scores.as_share(), values.as_share().open(), SoftmaxRange())
    y.reveal(0, "y")
    return segment(g)


def encoder_layer(owner: int | str, variants: Variants = DEFAULT, layers: int = 1) -> Segment:
    """The last block but one (or the only one) of a small encoder on two sequences."""
    shape = BertShape(layers=layers, heads=2, hidden=8, intermediate=16, vocab=30, max_positions=8)
    block = BlockRange(SoftmaxRange(), 5, 5, (4, -6, 4), (5, -6, 5))
    ranges = BertRanges((4, -6, 4), (block,) * layers, HeadRange(4))
    program = bert(shape, ranges, [3, 1], owner=owner, embedding=False, variants=variants)
    return program.segments[program.calls[max(layers - 1, 1)].segment]


def decoder_layer(variants: Variants = DEFAULT) -> Segment:
    """A block of a small GPT-2 on two sequences."""
    block = BlockRange(SoftmaxRange(), 5, 5, (4, -6, 4), (5, -6, 5))
    ranges, shape = Gpt2Ranges((block,), (5, -6, 5), 5), Gpt2Shape(1, 2, 8, 16, 30, 8)
    program = gpt2_program(shape, ranges, [3, 1], head="hidden", embedding=False, variants=variants)
    return program.segments[program.calls[1].segment]


SEGMENTS: dict[str, Callable[[], Segment]] = {
    "relu": lambda: one("relu", 40, 12, 31 << 12, (4, 8), relu),
    "gelu": lambda: one("gelu", 40, 12, 31 << 12, (4, 8), gelu),
    "gelu_new": lambda: one("gelu_new", 40, 12, 31 << 12, (4, 8), gelu_new),
    "linear": lambda: one("linear", 44, 12, 15 << 12, (4, 8), linear),
    "rsqrt": lambda: one("rsqrt", 40, 20, 1023 << 20, (4, 1), lambda v: rsqrt(v, -3, 10)),
    "maximum": lambda: one("maximum", 34, 12, 40 << 12, (4, 5), maximum),
    "argmax": lambda: one("argmax", 34, 12, 40 << 12, (4, 5), argmax),
    "stabiliser": lambda: one("stabiliser", 34, 20, 60 << 20, (4, 6), lambda x: stabiliser(x, 1, 6)),
    "causal": causal,
    "softmax": lambda: one("softmax", 34, 20, 60 << 20, (4, 6), softmax),
    "encoder_layer_owned": lambda: encoder_layer(1),
    "encoder_layer_public": lambda: encoder_layer("public"),
    "encoder_layer_fewest_rounds": lambda: encoder_layer(1, FEWEST_ROUNDS, 3),
    "decoder_layer": decoder_layer,
    "decoder_layer_fewest_rounds": lambda: decoder_layer(FEWEST_ROUNDS),
    "layer_norm": lambda: one("layer_norm", 50, 24, 8 << 24, (4, 16), lambda y: layer_norm(y, NORM, 1e-5)),
}
NORM = NormRange(y=4, centred=4, low=-3, high=8, n=4)


@pytest.mark.parametrize("name", SEGMENTS)
def test_transcript(name: str) -> None:
    text, path = transcript(SEGMENTS[name](), origins=False), GOLDEN / f"{name}.txt"
    if os.environ.get("ROUNDELAY_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def test_every_golden_file_belongs_to_a_segment() -> None:
    assert {p.stem for p in GOLDEN.glob("*.txt")} == set(SEGMENTS)


PRINT = """
import sys, importlib.util
spec = importlib.util.spec_from_file_location("golden", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.all_digests())
"""


def all_digests() -> str:
    plans = [Plan(Program((build(),), (Call(0, name),))) for name, build in sorted(SEGMENTS.items())]
    return " ".join(p.digest.hex() for p in plans)


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_digests_are_the_same_in_every_process(seed: str) -> None:
    env = {**os.environ, "PYTHONHASHSEED": seed}
    out = subprocess.run([sys.executable, "-c", PRINT, __file__], env=env, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == all_digests()


def test_digest_covers_what_both_parties_must_agree_on() -> None:
    """One bit more or less anywhere is another plan; a line added to the author's file is not."""
    base = one("a", 40, 12, 31 << 12, (4, 8), relu).digest
    assert one("another name", 40, 12, 31 << 12, (4, 8), lambda x: relu(x)).digest == base
    others = [
        one("a", 41, 12, 31 << 12, (4, 8), relu), one("a", 40, 11, 31 << 12, (4, 8), relu),
        one("a", 40, 12, 30 << 12, (4, 8), relu), one("a", 40, 12, 31 << 12, (8, 4), relu),
        one("a", 40, 12, 31 << 12, (4, 8), lambda x: relu(x, 41)),
    ]  # fmt: skip
    assert len({s.digest for s in others} | {base}) == 6
    calls = [(Call(0, "a"),), (Call(0, "b"),), (Call(0, "a", "layer 1."),), (Call(0, "a"), Call(0, "a"))]
    s = encoder_layer(1)
    assert len({Plan(Program((s,), c)).digest for c in calls}) == 4
