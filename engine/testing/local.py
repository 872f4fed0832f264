"""A dealer and both parties in one process, in lockstep: the reference run that every other way of running must equal.

`run_local` deals to memory, walks the plan with both parties, exchanges messages directly, and reports what crossed and
what was read, so that tests compare bytes with the plan. `predict` gives what `clear` says of the same run.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.clear import clear
from engine.dealer import deal
from engine.fss.prg import SeedStream
from engine.graph import Node
from engine.kernels import get_kernels
from engine.kernels.interface import Kernels
from engine.parameters import DealerParameters, MaskSource, PartyParameters, Small, mask_weight
from engine.party import PartyCall
from engine.ring import U64, Words, reduce, to_ring
from engine.scheduler.plan import Plan, PlannedCall
from engine.tape import MemoryTape, TapeHeader

__all__ = ["LocalRun", "Setup", "run_local", "setup_weights"]


@dataclass(frozen=True)
class Setup:
    """What pairing leaves: each role's parameters, and the bytes that W_hat took."""

    dealer: DealerParameters
    parties: tuple[PartyParameters, PartyParameters]
    weights: Mapping[str, Small] = field(repr=False)


@dataclass
class LocalRun:
    """Outputs, what clear predicts from the same masks, and what was counted."""

    outputs: dict[str, NDArray[np.int64]]
    predicted: dict[str, NDArray[np.int64]]
    bytes_sent: list[int]
    prepare_bytes: list[int]
    tape_bytes: list[int]
    rounds: int


def setup_weights(plan: Plan, weights: Mapping[str, Small], kernels: Kernels, seed: bytes | None = None) -> Setup:
    """Pair in memory: mask private weights, share the shared ones."""
    masks = MaskSource(kernels, seed or secrets.token_bytes(16))
    public: dict[str, Small] = {}
    plain: tuple[dict[str, Small], ...] = ({}, {})
    hats: tuple[dict[str, Words], ...] = ({}, {})
    shares: tuple[dict[str, Words], ...] = ({}, {})
    for call in plan.calls:
        for node in call.segment.graph.weights():
            name, owner = call.call.prefix + node.text("name"), node["owner"]
            if owner == "public":
                public[name] = weights[name]
                continue
            hat = mask_weight(weights[name], name, node.type.ring, masks)
            for p in (0, 1):
                if owner == p:
                    plain[p][name] = weights[name]
                else:
                    hats[p][name] = hat
            if owner == "shared":
                shares[0][name] = np.frombuffer(secrets.token_bytes(8 * hat.size), U64).reshape(hat.shape)
                shares[1][name] = to_ring(weights[name], 64) - shares[0][name]
    parties = [PartyParameters({**plain[p], **public}, hats[p], shares[p]) for p in (0, 1)]
    return Setup(DealerParameters(masks, public), (parties[0], parties[1]), weights)


def run_local(
    plan: Plan,
    inputs: Mapping[str, NDArray[np.int64]],
    setup: Setup | None = None,
    kernels: Kernels | None = None,
    check: bool = False,
) -> LocalRun:
    """One run, all three roles, and the prediction of `clear` from the dealer's masks."""
    kernels = kernels or get_kernels()
    setup = setup or setup_weights(plan, {}, kernels)
    seeds, tape_id = (secrets.token_bytes(16), secrets.token_bytes(16)), secrets.token_bytes(16)
    tapes = [MemoryTape(TapeHeader(p, plan.digest, tape_id, seeds[p], plan.tape_bytes[p])) for p in (0, 1)]
    masks: dict[tuple[int, int], Words] = {}
    deal(
        plan, kernels, seeds, tape_id, setup.dealer, (tapes[0], tapes[1]),
        observer=lambda call, node, r: masks.__setitem__((call, node), r),
    )  # fmt: skip
    run = LocalRun({}, {}, [0, 0], [0, 0], [t.size for t in tapes], 0)
    values: list[list[list[Any]]] = []
    for call in plan.calls:
        states = [
            PartyCall(p, call, kernels, SeedStream(kernels, seeds[p]), tape_id, setup.parties[p], dict(inputs))
            for p in (0, 1)
        ]
        for p, state in enumerate(states):
            for wire, (source, position) in zip(call.segment.graph.inputs(), call.call.inputs, strict=True):
                state.values[wire.index] = values[source][p][position]
        _walk(call, states, tapes, run)
        values.append([[s.values[i] for i in call.segment.graph.outputs] for s in states])
    run.predicted = clear(
        plan, kernels, inputs, setup.weights, lambda call, node: reduce(_words(masks[call, node.index]), 64), check=check
    )
    return run


def _words(a: Any) -> Words:
    return np.asarray(a).astype(U64)


def _walk(call: PlannedCall, states: list[PartyCall], tapes: list[MemoryTape], run: LocalRun) -> None:
    s = call.segment
    for position, index in enumerate(s.schedule.order):
        node = s.graph[index]
        for p in (0, 1):
            states[p].evaluate(node, tapes[p].read)
        if node.opening:
            _exchange(node, call, states, run)
        for i in node.inputs:
            if s.last_use.get(i) == position:
                for state in states:
                    state.forget(i)
    run.rounds += s.rounds
    for state in states:
        run.outputs.update(state.outputs)


def _exchange(node: Node, call: PlannedCall, states: list[PartyCall], run: LocalRun) -> None:
    opening = call.segment.opening_of[node.index]
    messages: list[NDArray[np.uint8] | None] = [None, None]
    for p in (*opening.senders, *opening.static):
        message = messages[p] = states[p].message(node)
        (run.bytes_sent if p in opening.senders else run.prepare_bytes)[p] += message.size
    for p in (0, 1):
        states[p].opened(node, messages[p], messages[1 - p])
