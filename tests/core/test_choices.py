"""What a plan says of its widths, keys and coefficients: the sums are the plan's, and another form costs what the plan
with that form costs."""

from __future__ import annotations

import pytest

from engine.choices import Key, coefficients, keys, widths
from engine.cost import node_costs, plan_cost
from engine.models.bert import bert
from engine.models.calibrate import default_ranges
from engine.models.shapes import SHAPES
from engine.scheduler.plan import Plan, Segment
from engine.testing.registry import gates
from engine.testing.traced import trace
from engine.variants import Variants


def planned(**variants: str) -> Plan:
    shape = SHAPES["bert-tiny"]
    return Plan(bert(shape, default_ranges(shape), (16,), embedding=False, variants=Variants(**variants)))


def block(**variants: str) -> Segment:
    return planned(**variants).program.segments[1]


def key_of(s: Segment, gate: str) -> Key:
    return next(k for k in keys(s) if k.gate == gate)


SEGMENTS = [*(trace(spec, 3).segment for spec in gates().values()), block(), block(exp="leaf", activation="plain")]


@pytest.mark.parametrize("s", SEGMENTS, ids=lambda s: s.graph.name)
def test_the_sums_are_the_plans(s: Segment) -> None:
    costs = [cost for _, cost in node_costs(s)]
    for party in (0, 1):
        assert sum(w.bytes_sent[party] for w in widths(s)) == sum(c.online[party] for c in costs)
        assert sum(w.prepare_bytes[party] for w in widths(s)) == sum(c.prepare[party] for c in costs)
    assert sum(k.alternatives[0].aes_steps for k in keys(s)) == sum(c.aes for c in costs)
    of = {n.index: c for n, c in node_costs(s)}
    dealt = sum(c.tape[1] for i, c in of.items() if s.graph[i].op == "poly")
    assert sum(c.tape_bytes for c in coefficients(s)) == dealt
    assert sum(k.alternatives[0].tape_bytes for k in keys(s)) == sum(
        c.tape[0] for i, c in of.items() if s.graph[i].op in ("dpf", "leaf")
    )


@pytest.mark.parametrize("s", SEGMENTS, ids=lambda s: s.graph.name)
def test_a_width_is_the_sum_of_its_reasons(s: Segment) -> None:
    for w in widths(s):
        assert w.spare >= 0 and w.ring >= w.spare
        assert w.kind == "bit" or w.reason == "any residue" or w.ring - w.spare in (w.bound_bits + 1, w.bound_bits + 2)
        assert w.reason.startswith((f"{w.bound_bits} of", "a bit", "any residue"))
        assert (f"; {w.spare} for " in w.reason) == (w.spare > 0)


def test_a_product_explains_the_ring_of_its_factors() -> None:
    wide = [w for w in widths(block()) if w.spare > 8]
    reasons = ("matmul at", "weight_matmul at", "weight_gain at", "poly at", "the next segment")
    assert wide and all(any(f" for {reason}" in w.reason for reason in reasons) for w in wide)


def test_forms_are_named() -> None:
    s = block()
    assert key_of(s, "activation").form == "interpolated" and key_of(s, "exp").form == "interpolated"
    assert key_of(s, "maximum").form == "comparison" and key_of(s, "reciprocal").form == "leaf"
    assert key_of(block(activation="plain"), "activation").form == "plain"
    assert key_of(block(exp="leaf"), "exp").form == "leaf"


def test_a_plain_table_costs_what_the_plan_with_one_costs() -> None:
    foretold = next(a for a in key_of(block(), "activation").alternatives if a.form == "plain")
    real = key_of(block(activation="plain"), "activation").alternatives[0]
    assert (foretold.entries, foretold.tape_bytes, foretold.aes_steps) == (
        real.entries, real.tape_bytes, real.aes_steps)  # fmt: skip


def test_narrow_choices_are_cheaper_than_what_nobody_narrowed() -> None:
    for k in keys(block()):
        for a in k.alternatives[1:]:
            if a.form in ("64-bit domain", "a key a question"):
                assert a.tape_bytes > k.alternatives[0].tape_bytes, k
    assert all(c.tape_bytes <= c.full_width_bytes for c in coefficients(block()))


def test_all_calls_together_send_what_the_plan_sends() -> None:
    assert plan_cost(planned()).online[0] == sum(
        w.bytes_sent[0] for call in planned().calls for w in widths(call.segment)
    )
