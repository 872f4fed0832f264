"""Frames cover every message once, in an order that both sides follow, and nobody waits for what it does not need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.models.bert import bert
from engine.models.calibrate import default_ranges
from engine.models.shapes import SHAPES
from engine.scheduler.frames import GATHER_BYTES, FrameSpec, Part, frames, leaving
from engine.scheduler.plan import Plan, Segment
from engine.variants import Variants

KINDS = [(p, static) for p in (0, 1) for static in (False, True)]


def plan_of(bands: int, lengths: tuple[int, ...] = (64,)) -> Plan:
    shape = SHAPES["bert-tiny"]
    variants = Variants(bands=bands)
    return Plan(bert(shape, default_ranges(shape), lengths, embedding=False, head="none", variants=variants))


@pytest.fixture(params=[1, 2])
def plan(request: pytest.FixtureRequest) -> Plan:
    return plan_of(request.param)


@pytest.mark.parametrize(("party", "static"), KINDS)
def test_every_byte_of_every_message_is_in_one_frame(plan: Plan, party: int, static: bool) -> None:
    expected = [
        (c.index, o.node, o.bytes) for c in plan.calls for o in c.segment.openings
        if party in (o.static if static else o.senders)
    ]  # fmt: skip
    found: dict[tuple[int, int], int] = {}
    for spec in frames(plan, party, static):
        for part in spec.parts:
            assert part.start == found.get((spec.call, part.node), 0)
            found[spec.call, part.node] = part.stop
        assert 0 < spec.size <= max(GATHER_BYTES, plan.program.variants.frame)
    assert sorted((*place, size) for place, size in found.items()) == sorted(expected)


@pytest.mark.parametrize(("party", "static"), KINDS)
def test_frames_are_numbered_within_their_round(plan: Plan, party: int, static: bool) -> None:
    seen: dict[int, int] = {}
    for spec in frames(plan, party, static):
        assert spec.index == seen.get(spec.round, -1) + 1
        seen[spec.round] = spec.index
    assert list(seen) == sorted(seen)


def waits(segment: Segment, node: int) -> set[int]:
    """Openings that come right before one, found the slow way."""
    found: set[int] = set()
    stack = list(segment.graph[node].inputs)
    while stack:
        here = segment.graph[stack.pop()]
        if here.opening or here.op == "wire":
            found.add(here.index)
        else:
            stack += here.inputs
    return found


def shared(plan: Plan) -> Iterator[tuple[FrameSpec, list[set[int]]]]:
    """Frames of several messages online, with what each of these waits for."""
    for party in (0, 1):
        for spec in frames(plan, party, False):
            if len(spec.parts) > 1:
                yield spec, [waits(plan.calls[spec.call].segment, p.node) for p in spec.parts]


def test_messages_travel_together_only_if_they_wait_for_the_same(plan: Plan) -> None:
    found = list(shared(plan))
    assert found
    for _, sources in found:
        assert all(s == sources[0] for s in sources)


def test_bands_and_sequences_have_frames_of_their_own() -> None:
    """A band's counts, bits and M leave before the other band's are evaluated: as many frames again."""
    counts = [sum(1 for _ in frames(plan_of(b), 0, False)) for b in (1, 2)]
    assert counts[1] > 1.5 * counts[0]
    alone, both = plan_of(1, (9,)), plan_of(1, (9, 9))
    assert sum(1 for _ in frames(both, 0, False)) > sum(1 for _ in frames(alone, 0, False))


def specs(*rounds: int) -> list[FrameSpec]:
    """A frame for each number, of that round, with the whole message of a node that has its place in the list."""
    return [FrameSpec(0, number, 0, (Part(node, 0, 8),)) for node, number in enumerate(rounds)]


@pytest.mark.parametrize(
    ("ready", "leave", "at_barrier"),
    [([], 0, 0), ([0], 1, 0), ([1], 0, 0), ([0, 1], 2, 2), ([0, 1, 2, 4], 3, 2), ([0, 1, 2, 3], 4, 2),
     ([0, 1, 2, 3, 4], 5, 5), ([0, 1, 2, 3, 4, 5], 6, 6)],
)  # fmt: skip
def test_frames_leave_when_they_are_whole_and_at_a_barrier_when_their_round_is(
    ready: list[int], leave: int, at_barrier: int
) -> None:
    messages = {(0, node) for node in ready}
    assert leaving(specs(1, 1, 3, 3, 3, 4), messages, barrier=False) == leave
    assert leaving(specs(1, 1, 3, 3, 3, 4), messages, barrier=True) == at_barrier
