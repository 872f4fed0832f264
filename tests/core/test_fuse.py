"""Chains of linear operations give what their links give, and are made of no value that somebody else wants."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from engine import fuse
from engine.fss.prg import SeedStream
from engine.fuse import Chain, chains, readers
from engine.graph import Graph, WireType
from engine.kernels.interface import Kernels
from engine.models.bert import bert
from engine.models.calibrate import default_ranges
from engine.models.shapes import SHAPES
from engine.parameters import Parameters
from engine.party import PartyCall, ReadTape
from engine.ring import Words, packed_bytes, reduce, ring_mask
from engine.scheduler.plan import Call, Plan, PlannedCall, Program, Segment, segment
from engine.scheduler.steps import steps
from engine.testing.registry import gates
from engine.testing.traced import trace
from engine.wires import Masked

TINY = SHAPES["bert-tiny"]
SEGMENTS = [
    *(trace(spec, 3).segment for spec in gates().values()),
    *Plan(bert(TINY, default_ranges(TINY), (16,))).program.segments,
]


def found(s: Segment, party: int) -> list[tuple[int, Chain]]:
    return [chain for step in steps(s, party) for chain in step.chains]


def no_tape(count: int) -> Words:
    raise AssertionError(f"a linear operation asks for {count} bytes of the tape")


def state_of(s: Segment, party: int, kernels: Kernels) -> PartyCall:
    call = PlannedCall(0, Call(0, "call"), s, 0, (0, 0), (0, 0))
    return PartyCall(party, call, kernels, SeedStream(kernels, bytes(16)), bytes(16), cast(Parameters, None))


def link_by_link(state: PartyCall, index: int, sources: tuple[int, ...], tape: ReadTape) -> Words:
    if index not in state.values:
        assert index not in sources
        node = state.call.segment.graph[index]
        for i in node.inputs:
            link_by_link(state, i, sources, tape)
        state.evaluate(node, tape)
    value: Words = state.values[index]
    return value


@pytest.mark.parametrize("s", SEGMENTS, ids=lambda s: s.graph.name)
def test_a_chain_is_what_its_links_are(s: Segment, kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse, "LEAST", 1)
    rng = np.random.default_rng(5)
    for party in (0, 1):
        for index, chain in found(s, party):
            state, node = state_of(s, party, kernels), s.graph[index]
            for i in chain.sources:
                kind = s.graph[i].type
                words = rng.integers(0, 1 << 64, kind.shape, np.uint64, endpoint=False) & ring_mask(kind.ring)
                if rng.integers(2) and kind.shape:  # as a view of one row
                    words = np.broadcast_to(words[:1], kind.shape)
                state.values[i] = words
            expected = link_by_link(state, index, chain.sources, no_tape)
            state.forget(index)
            state.evaluate_chain(node, chain)
            got = state.values[index]
            assert got.shape == node.type.shape
            assert np.array_equal(reduce(got, node.type.ring), reduce(expected, node.type.ring)), node.canonical()


@pytest.mark.parametrize("s", SEGMENTS, ids=lambda s: s.graph.name)
def test_what_is_left_out_is_wanted_by_one_chain_alone(s: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [steps(s, party) for party in (0, 1)]
    monkeypatch.setattr(fuse, "LEAST", 1)
    for party in (0, 1):
        for plain, step in zip(whole[party], steps(s, party), strict=True):
            assert (step.waits, step.forget, step.opening, step.outputs) == (
                plain.waits, plain.forget, plain.opening, plain.outputs)  # fmt: skip
            gone = [i for i in plain.nodes if i not in step.nodes]
            assert [i for i in plain.nodes if i in step.nodes] == list(step.nodes)
            for i in gone:
                readers = {n.index for n in s.graph if i in n.inputs}
                assert len(readers) == 1 and i not in s.graph.outputs
                assert readers <= {*gone, *(index for index, _ in step.chains)}
            for _, chain in step.chains:
                assert not set(chain.sources) & set(gone)


def test_centring_a_row_is_one_pass() -> None:
    """floor((768 y - sum y) / 2^t) of a wire and of its sums."""
    s = trace(gates()["layer_norm"], 3).segment
    assert not found(s, 0)  # 16 columns: a chain would be no shorter
    g = Graph("norm")
    y = Masked(g, g.add("wire", (), WireType("masked", (16, 768), 40, 20, 1 << 28), at=0))
    total = y.sum()
    centred = y.times(768, 30) - total.broadcast_to(16, 768).times(1, 30)
    g.outputs = (centred.bounded(1 << 38).truncate(11).index,)
    (last,) = g.outputs
    ((index, chain),) = found(segment(g), 0)
    assert (index, chain.ring, chain.drop) == (last, 40, 19)
    assert chain.sources == (y.index, total.index)
    assert chain.formula.terms == ((768, (0,)), ((1 << 64) - 1, (1,)))


def test_a_value_of_a_narrower_ring_is_no_link() -> None:
    """x mod 2^20 says nothing of x mod 2^30."""
    g = Graph("narrow")
    x = g.add("wire", (), WireType("masked", (5000,), 20, 0, 1 << 10), at=0)
    narrow = g.add("scale", (x,), WireType("masked", (5000,), 20, 0, 1 << 12), factor=3)
    wide = g.add("add", (narrow, narrow), WireType("masked", (5000,), 30, 0, 1 << 13))
    g.outputs = (wide,)
    assert chains(g, (narrow, wide), readers(g)) == ((narrow, wide), ())


def test_two_readers_keep_a_value() -> None:
    g = Graph("kept")
    kind = WireType("masked", (5000,), 20, 0, 1 << 10)
    x = g.add("wire", (), kind, at=0)
    thrice = g.add("scale", (x,), kind, factor=3)
    both = g.add("add", (thrice, x), kind), g.add("sub", (thrice, x), kind)
    g.outputs = both
    assert chains(g, (thrice, *both), readers(g)) == ((thrice, *both), ())
    g.outputs = (both[0], thrice)
    assert chains(g, (thrice, both[0]), readers(g)) == ((thrice, both[0]), ())
    g.outputs = (both[0],)
    assert chains(g, (both[0],), readers(g)) == ((both[0],), ())


def test_what_is_only_broadcast_stays_a_view() -> None:
    g = Graph("view")
    x = g.add("wire", (), WireType("masked", (1, 5000), 20, 0, 1 << 10), at=0)
    scaled = g.add("scale", (x,), WireType("masked", (1, 5000), 20, 0, 1 << 10), factor=0)
    rows = g.add("broadcast", (scaled,), WireType("masked", (9, 5000), 20, 0, 1 << 10))
    g.outputs = (rows,)
    assert chains(g, (scaled, rows), readers(g)) == ((scaled, rows), ())
    assert Program((segment(g),), ()).segments[0].graph[rows].op == "broadcast"


# ---------------------------------------------------------------------- what is opened truncated
def opened_wire(readers: int, output: bool = False) -> Graph:
    g = Graph("opened")
    x = Masked(g, g.add("wire", (), WireType("masked", (3,), 20, 12, 1 << 14))).as_share().open()
    ends = [x.truncate(12 - bits).as_share() for bits in (5, 3, 8)[:readers]]
    for i, end in enumerate(ends):
        end.reveal(0, f"y{i}")
    g.outputs = (x.index,) if output else ()
    return g


@pytest.mark.parametrize(("readers", "bits"), [(0, None), (1, 5), (2, 3), (3, 3)])
def test_what_every_reader_truncates_is_not_written(readers: int, bits: int | None) -> None:
    g = opened_wire(readers)
    (x,) = (n.index for n in g if n.op == "open")
    assert segment(g).dropped.get(x) == bits


def test_what_anybody_wants_whole_is_written_whole() -> None:
    assert not segment(opened_wire(1, output=True)).dropped
    g = opened_wire(2)
    (x,) = (n.index for n in g if n.op == "open")
    Masked(g, x).as_share().reveal(0, "x")
    assert not segment(g).dropped


@pytest.mark.parametrize("own", [False, True])
def test_an_opened_value_is_truncated_once(own: bool, kernels: Kernels) -> None:
    """Three readers of 5, 3 and 8 bits less, from two messages and from one."""
    s = segment(opened_wire(3))
    state, x = state_of(s, 0, kernels), next(n for n in s.graph if n.op == "open")
    rng = np.random.default_rng(own)
    parts = rng.integers(0, 1 << 20, (2, 3)).astype(np.uint64)
    packed = np.zeros((2, packed_bytes(3, 20)), np.uint8)
    for value, out in zip(parts, packed, strict=True):
        kernels.pack(value, 20, out)
    state.opened(x, packed[0] if own else None, packed[1])
    total = reduce(parts[0] * np.uint64(own) + parts[1], 20)
    for node in s.graph:
        if node.op == "truncate":
            state.evaluate(node, no_tape)
            assert np.array_equal(state.values[node.index], total >> np.uint64(node.integer("bits")))
