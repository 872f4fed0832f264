"""A dealer and both parties in one process, in lockstep: the reference run that every other way of running must equal.

`run_local` deals to memory, walks the plan with both parties, exchanges messages directly, and reports what crossed,
what was read and what was drawn, so that tests compare them with the plan, and what `clear` says of the same run.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.clear import Masks, Seen, clear
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
from engine.testing.scripted import Drawn, MaskScript, ScriptedKernels, scripted

__all__ = ["LocalRun", "Message", "Setup", "run_local", "setup_weights"]


@dataclass(frozen=True)
class Setup:
    """What pairing leaves: each role's parameters, and the bytes that W_hat took."""

    dealer: DealerParameters
    parties: tuple[PartyParameters, PartyParameters]
    weights: Mapping[str, Small] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """What one party sent for one opening; `static` ones belong to the prepare phase."""

    call: int
    node: int
    party: int
    static: bool
    data: NDArray[np.uint8] = field(repr=False)


@dataclass
class LocalRun:
    """Outputs, what clear predicts from the same masks, and what was counted.

    By (call, node): `masks` of inputs and openings, and `opened` x_hat. `tape_read`: bytes by (call, node, party).
    `drawn`: pieces of keystream, by role (dealer, parties) and by whose seed."""

    outputs: dict[str, NDArray[np.int64]]
    predicted: dict[str, NDArray[np.int64]]
    bytes_sent: list[int]
    prepare_bytes: list[int]
    tape_bytes: list[int]
    rounds: int
    messages: list[Message] = field(default_factory=list, repr=False)
    masks: dict[tuple[int, int], NDArray[Any]] = field(default_factory=dict, repr=False)
    opened: dict[tuple[int, int], NDArray[Any]] = field(default_factory=dict, repr=False)
    tape_read: dict[tuple[int, int, int], int] = field(default_factory=dict, repr=False)
    drawn: dict[str, tuple[Drawn, Drawn]] = field(default_factory=dict, repr=False)


def setup_weights(plan: Plan, weights: Mapping[str, Small], kernels: Kernels, seed: bytes | None = None) -> Setup:
    """Pair in memory: mask private weights, share the shared ones."""
    masks = MaskSource(kernels, seed or secrets.token_bytes(16))
    sharing = MaskSource(kernels, _derive(masks.seed, "shares of weights"))
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
                shares[0][name] = sharing.mask(name, hat.shape, 64)
                shares[1][name] = to_ring(weights[name], 64) - shares[0][name]
    parties = [PartyParameters({**plain[p], **public}, hats[p], shares[p]) for p in (0, 1)]
    return Setup(DealerParameters(masks, public), (parties[0], parties[1]), weights)


def run_local(
    plan: Plan,
    inputs: Mapping[str, NDArray[np.int64]],
    setup: Setup | None = None,
    kernels: Kernels | None = None,
    check: bool = False,
    *,
    seed: bytes | None = None,
    masks: Masks | None = None,
    seen: Seen | None = None,
    clear_kernels: Kernels | None = None,
) -> LocalRun:
    """One run, all three roles, and the prediction of `clear`.

    `seed` makes the run repeatable. `masks`, if given, chooses the mask of every input and opening (it is asked in the
    order of evaluation, by call and node); without it they are what the parties' seeds give. `check` and `seen` are
    those of `clear`, which runs on `clear_kernels` if other ones are to judge."""
    kernels = kernels or get_kernels()
    setup = setup or setup_weights(plan, {}, kernels, None if seed is None else _derive(seed, "model key"))
    seed = seed or secrets.token_bytes(16)
    seeds, tape_id = (_derive(seed, "seed 0"), _derive(seed, "seed 1")), _derive(seed, "tape")
    wanted: dict[tuple[int, int], Words] = {}
    predict = _predictor(plan, clear_kernels or kernels, inputs, setup, check, seen)
    predicted = predict(_remembering(masks, wanted)) if masks is not None else None

    (dealing, dealt), (running, ran) = scripted(kernels), scripted(kernels)
    observer = MaskScript(plan, seeds, ran, lambda call, node: wanted.get((call, node)))
    tapes = [MemoryTape(TapeHeader(p, plan.digest, tape_id, seeds[p], plan.tape_bytes[p])) for p in (0, 1)]
    deal(plan, dealing, seeds, tape_id, setup.dealer, (tapes[0], tapes[1]), observer)
    if predicted is None:
        predicted = predict(lambda call, node: np.asarray(observer.masks[call, node.index]).astype(np.uint64))

    run = LocalRun({}, predicted, [0, 0], [0, 0], [t.size for t in tapes], 0, masks=observer.masks)
    values: list[list[list[Any]]] = []
    for call in plan.calls:
        states = [
            PartyCall(p, call, running, SeedStream(running, seeds[p]), tape_id, setup.parties[p], dict(inputs))
            for p in (0, 1)
        ]
        for p, state in enumerate(states):
            for wire, (source, position) in zip(call.segment.graph.inputs(), call.call.inputs, strict=True):
                state.values[wire.index] = values[source][p][position]
        _walk(call, states, tapes, run)
        values.append([[s.values[i] for i in call.segment.graph.outputs] for s in states])
    run.drawn = {"dealer": _drawn(dealt, seeds), "parties": _drawn(ran, seeds)}
    return run


def _derive(seed: bytes, purpose: str) -> bytes:
    return hashlib.blake2b(purpose.encode(), key=seed, digest_size=16, person=b"roundelay tests").digest()


def _drawn(script: ScriptedKernels, seeds: tuple[bytes, bytes]) -> tuple[Drawn, Drawn]:
    return script.drawn.get(seeds[0], set()), script.drawn.get(seeds[1], set())


def _predictor(
    plan: Plan, kernels: Kernels, inputs: Mapping[str, NDArray[np.int64]], setup: Setup, check: bool, seen: Seen | None
) -> Callable[[Masks], dict[str, NDArray[np.int64]]]:
    return lambda masks: clear(plan, kernels, inputs, setup.weights, masks, check=check, seen=seen)


def _remembering(masks: Masks, into: dict[tuple[int, int], Words]) -> Masks:
    def draw(call: int, node: Node) -> Words:
        into[call, node.index] = reduce(masks(call, node), node.type.ring)
        return into[call, node.index]

    return draw


def _walk(call: PlannedCall, states: list[PartyCall], tapes: list[MemoryTape], run: LocalRun) -> None:
    s = call.segment
    for position, index in enumerate(s.schedule.order):
        node = s.graph[index]
        for p in (0, 1):
            states[p].evaluate(node, _counted(tapes[p], run, (call.index, index, p)))
        if node.opening:
            _exchange(node, call, states, run)
        for i in node.inputs:
            if s.last_use.get(i) == position:
                for state in states:
                    state.forget(i)
    run.rounds += s.rounds
    for state in states:
        run.outputs.update(state.outputs)


def _counted(tape: MemoryTape, run: LocalRun, place: tuple[int, int, int]) -> Callable[[int], NDArray[np.uint8]]:
    def read(count: int) -> NDArray[np.uint8]:
        run.tape_read[place] = run.tape_read.get(place, 0) + count
        return tape.read(count)

    return read


def _total(node: Node, messages: list[NDArray[np.uint8] | None], state: PartyCall) -> NDArray[Any]:
    """What was opened, with the bits that nobody reads."""
    if node.type.kind == "bit":
        return state.values[node.index]  # type: ignore[no-any-return]
    total, part = np.zeros(node.type.shape, U64), np.empty(node.type.size, U64)
    for message in messages:
        if message is not None:
            state.kernels.unpack(message, node.type.ring, part)
            total += part.reshape(node.type.shape)
    return reduce(total, node.type.ring)


def _exchange(node: Node, call: PlannedCall, states: list[PartyCall], run: LocalRun) -> None:
    opening = call.segment.opening_of[node.index]
    messages: list[NDArray[np.uint8] | None] = [None, None]
    for p in (*opening.senders, *opening.static):
        message = messages[p] = states[p].message(node)
        (run.bytes_sent if p in opening.senders else run.prepare_bytes)[p] += message.size
        run.messages.append(Message(call.index, node.index, p, p in opening.static, message))
    for p in (0, 1):
        states[p].opened(node, messages[p], messages[1 - p])
    if node.op != "reveal":
        run.opened[call.index, node.index] = _total(node, messages, states[0])
        if not np.array_equal(states[0].values[node.index], states[1].values[node.index]):
            raise AssertionError(f"{node.origin}: the parties hold different openings")
