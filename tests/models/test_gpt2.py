"""GPT-2: the protocol against its prediction and against float64; causality; rounds; what is refused."""

import numpy as np
import pytest

from engine.errors import BoundError, InputError
from engine.kernels import get_kernels
from engine.models.gpt2 import GPT2_SHAPES, Gpt2Ranges, Gpt2Shape, gpt2_program
from engine.models.gpt2_calibrate import calibrated_gpt2, measured_gpt2, quantise_gpt2
from engine.models.gpt2_reference import (
    Gpt2Checkpoint,
    embed_tokens,
    gpt2_forward,
    gpt2_logits,
    gpt2_parameters,
    random_gpt2,
)
from engine.scheduler.plan import Plan
from engine.testing.local import LocalRun, run_local, setup_weights

SHAPE = Gpt2Shape(layers=2, heads=2, hidden=16, intermediate=48, vocab=40, max_positions=24)
MODEL = random_gpt2(SHAPE, 3)
TEXTS = [np.random.default_rng(n).integers(0, SHAPE.vocab, n) for n in (9, 12, 1)]


def ranges(head: str) -> Gpt2Ranges:
    return calibrated_gpt2(MODEL, measured_gpt2(MODEL, TEXTS), head)


def run(texts: list[np.ndarray], head: str, owner: int | str = 1, model: Gpt2Checkpoint = MODEL) -> LocalRun:
    plan = Plan(gpt2_program(SHAPE, ranges(head), [len(t) for t in texts], owner, head))
    setup = setup_weights(plan, quantise_gpt2(model), get_kernels(), seed=b"the model key...")
    ids = np.concatenate(texts)
    hot = np.zeros((ids.size, SHAPE.vocab), np.int64)
    hot[np.arange(ids.size), ids] = 1
    return run_local(plan, {"one-hot tokens": hot}, setup, check=True, seed=b"the seed of runs")


@pytest.mark.parametrize("head", ["hidden", "logits"])
def test_a_batch_equals_its_prediction_bit_for_bit_and_float_nearly(head: str) -> None:
    result = run(TEXTS, head)
    for i, text in enumerate(TEXTS):
        name = f"output {i}"
        assert np.array_equal(result.outputs[name], result.predicted[name])
        wanted = gpt2_forward(MODEL, text) if head == "hidden" else gpt2_logits(MODEL, text)[None]
        got = result.outputs[name] / 2.0**24
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() < 0.03


def test_shared_weights_give_the_same_answer() -> None:
    result = run(TEXTS[:1], "logits", "shared")
    assert np.array_equal(result.outputs["output 0"], result.predicted["output 0"])
    assert np.abs(result.outputs["output 0"] / 2.0**24 - gpt2_logits(MODEL, TEXTS[0])).max() < 0.03


def test_public_weights_take_the_clients_embedded_tokens() -> None:
    program = gpt2_program(SHAPE, ranges("hidden"), [9], "public", "hidden", embedding=False)
    plan, integers = Plan(program), quantise_gpt2(MODEL)
    x = np.rint(embed_tokens(MODEL.centred(), TEXTS[0]) * 2.0**24).astype(np.int64)
    result = run_local(plan, {"x": x}, setup_weights(plan, integers, get_kernels()), check=True)
    assert np.array_equal(result.outputs["output 0"], result.predicted["output 0"])
    assert np.abs(result.outputs["output 0"] / 2.0**24 - gpt2_forward(MODEL, TEXTS[0])).max() < 0.03
    assert max(c.segment.rounds for c in plan.calls if c.call.name.startswith("layer")) <= 18


def test_a_later_token_changes_no_bit_of_what_stands_before_it() -> None:
    """The masks of two runs of one seed are the same, so that earlier rows have the same coins."""
    text = TEXTS[1]
    changed = text.copy()
    changed[7:] = (changed[7:] + 11) % SHAPE.vocab
    plain, other = (run([t], "hidden").outputs["output 0"] for t in (text, changed))
    assert np.array_equal(plain[:7], other[:7])
    assert (plain[7:] != other[7:]).any(axis=-1).all()
    a, b = gpt2_forward(MODEL, text), gpt2_forward(MODEL, changed)
    assert np.allclose(a[:7], b[:7], atol=1e-12) and not np.allclose(a[7:], b[7:], atol=1e-3)


def test_twenty_rounds_a_layer_whatever_the_batch() -> None:
    for lengths in ([1], [12], [5, 8, 12]):
        plan = Plan(gpt2_program(SHAPE, ranges("logits"), lengths))
        rounds = {c.call.name: c.segment.rounds for c in plan.calls}
        assert rounds == {"embedding": 2, "layer 0": 20, "layer 1": 20, "head": 4}


def test_layers_of_like_ranges_share_a_segment() -> None:
    r = ranges("logits")
    alike = Gpt2Ranges((r.blocks[0],) * 2, r.blocks[0].attention, r.out)
    assert len(gpt2_program(SHAPE, alike, [4]).segments) == 3


def test_a_centred_model_is_the_same_function_and_its_stream_has_no_mean() -> None:
    taps: dict[tuple[str, int], np.ndarray] = {}
    centred, rng = MODEL.centred(), np.random.default_rng(2)
    untied = Gpt2Checkpoint("u", SHAPE, {**MODEL.parameters, "lm_head.weight": rng.normal(0, 1, (40, 16))})
    for text in TEXTS:
        got = gpt2_forward(centred, text, lambda name, layer, a: taps.__setitem__((name, layer), a))
        assert np.allclose(got, gpt2_forward(MODEL, text), atol=1e-12)
        assert np.allclose(gpt2_logits(centred, text), gpt2_logits(MODEL, text), atol=1e-11)
        assert np.allclose(gpt2_logits(untied.centred(), text), gpt2_logits(untied, text), atol=1e-11)
        for place, layer in (("attention", 0), ("output", 0), ("attention", 1), ("output", 1), ("head", 0)):
            assert np.abs(taps[f"{place}.residual", layer].mean(-1)).max() < 1e-13
    assert np.abs(embed_tokens(MODEL, TEXTS[0]).mean(-1)).max() > 0.01
    again = centred.centred()
    assert all(np.allclose(a, again.parameters[n], atol=1e-15) for n, a in centred.parameters.items())


def test_the_streams_ring_has_no_bits_for_centring() -> None:
    """Its largest row and two bits: D y - sum y would take log2 D = 4 more."""
    r = ranges("hidden")
    program = gpt2_program(SHAPE, r, [4], head="hidden", embedding=False)
    largest = max(n[0] for n in (r.norm, *(m for b in r.blocks for m in (b.attention, b.output))))
    (x,) = (n for n in program.segments[program.calls[1].segment].graph if n.op == "wire")
    assert x.type.ring == largest + 24 + 2


def test_an_untied_head_is_used() -> None:
    rng = np.random.default_rng(9)
    head = {"lm_head.weight": rng.normal(0, 0.5, (SHAPE.vocab, SHAPE.hidden))}
    untied = Gpt2Checkpoint("untied", SHAPE, {**MODEL.parameters, **head})
    result = run(TEXTS[:1], "logits", model=untied).outputs["output 0"] / 2.0**24
    assert np.abs(result - gpt2_logits(untied, TEXTS[0])).max() < 0.03
    assert np.abs(result - gpt2_logits(MODEL, TEXTS[0])).max() > 0.3


def test_float_reference_is_that_of_a_plain_loop() -> None:
    """Token by token, each with its own prefix."""
    text = TEXTS[0]
    whole = gpt2_forward(MODEL, text)
    for n in range(1, len(text) + 1):
        assert np.allclose(gpt2_forward(MODEL, text[:n])[-1], whole[n - 1], atol=1e-12)


def test_a_value_beyond_its_calibrated_bound_is_named() -> None:
    loud = {n: a * 40 if n == "wte.weight" else a for n, a in MODEL.parameters.items()}
    with pytest.raises((BoundError, InputError)):
        run(TEXTS[:1], "hidden", model=Gpt2Checkpoint("loud", SHAPE, loud))


def test_random_weights_are_seeded_and_named_as_files_name_them() -> None:
    again, other = random_gpt2(SHAPE, 3), random_gpt2(SHAPE, 4)
    names = [name for name, _ in gpt2_parameters(SHAPE)]
    assert names == list(MODEL.parameters)
    assert all(np.array_equal(again.parameters[n], MODEL.parameters[n]) for n in names)
    assert not np.array_equal(other.parameters[names[0]], MODEL.parameters[names[0]])
    assert "h.1.attn.c_attn.weight" in names and MODEL.parameters["h.1.attn.c_attn.weight"].shape == (16, 48)


@pytest.mark.parametrize(
    "call",
    [
        lambda: gpt2_program(SHAPE, ranges("hidden"), [25]),
        lambda: gpt2_program(SHAPE, ranges("hidden"), []),
        lambda: gpt2_program(SHAPE, ranges("hidden"), [3], head="mean"),
        lambda: gpt2_forward(MODEL, [40]),
        lambda: gpt2_forward(MODEL, []),
        lambda: Gpt2Shape(2, 3, 16, 48, 40, 24),
    ],
)
def test_what_is_refused(call: object) -> None:
    with pytest.raises(InputError):
        call()  # type: ignore[operator]


def test_the_shape_of_gpt2() -> None:
    s = GPT2_SHAPES["gpt2"]
    total = sum(int(np.prod(size)) for _, size in gpt2_parameters(s))
    assert total == 124_439_808
