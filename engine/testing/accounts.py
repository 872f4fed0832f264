"""Does a run agree with its plan, exactly? Bytes online and in the prepare phase, tape, seed words, rounds."""

from __future__ import annotations

import numpy as np

from engine.scheduler.plan import Plan
from engine.testing.local import LocalRun
from engine.testing.scripted import Drawn

__all__ = ["differences", "planned_bytes"]


def differences(plan: Plan, run: LocalRun) -> list[str]:
    """One sentence for each account of a `run_local` that differs from the plan; none if they agree."""
    out = _totals(plan, run) + _messages(plan, run) + _tape(plan, run)
    for who, drawn in run.drawn.items():
        for party in (0, 1):
            out += _seed(plan, who, party, drawn[party])
    return out


def planned_bytes(plan: Plan, party: int, static: bool) -> int:
    """What a party sends in a run of this plan: online, or in the prepare phase."""
    openings = (o for c in plan.calls for o in c.segment.openings)
    return sum(o.bytes for o in openings if party in (o.static if static else o.senders))


def _totals(plan: Plan, run: LocalRun) -> list[str]:
    pairs = [("rounds", plan.rounds, run.rounds)]
    for p in (0, 1):
        pairs += [
            (f"online bytes of party {p}", planned_bytes(plan, p, False), run.bytes_sent[p]),
            (f"prepare bytes of party {p}", planned_bytes(plan, p, True), run.prepare_bytes[p]),
            (f"tape bytes of party {p}", plan.tape_bytes[p], run.tape_bytes[p]),
        ]
    return [f"{what}: planned {planned}, counted {counted}" for what, planned, counted in pairs if planned != counted]


def _messages(plan: Plan, run: LocalRun) -> list[str]:
    out = []
    for m in run.messages:
        segment = plan.calls[m.call].segment
        node, opening = segment.graph[m.node], segment.opening_of[m.node]
        if m.data.size != opening.bytes:
            out.append(f"{node.origin}: '{node.op}' planned {opening.bytes} bytes, party {m.party} sent {m.data.size}")
    return out


def _tape(plan: Plan, run: LocalRun) -> list[str]:
    """Node by node: what a party reads of its tape is what the plan gives the node."""
    out = []
    for call in plan.calls:
        for i in call.segment.schedule.order:
            for p in (0, 1):
                planned, read = call.segment.needs[i].tape[p], run.tape_read.get((call.index, i, p), 0)
                if planned != read:
                    node = call.segment.graph[i]
                    out.append(f"{node.origin}: '{node.op}' has {planned} bytes of tape {p}, its reader took {read}")
    return out


def _seed(plan: Plan, who: str, party: int, drawn: Drawn) -> list[str]:
    """Every word of keystream that the plan lays out is drawn, once or again, and no other."""
    planned, got = (np.zeros(plan.seed_words[party], bool) for _ in range(2))
    for call in plan.calls:
        for i in call.segment.schedule.order:
            at = call.seed[party] + call.segment.seed_offset[i][party]
            planned[at : at + call.segment.needs[i].seed[party]] = True
    for at, count in drawn:
        if at + count > got.size:
            return [f"seed {party} as the {who} draw it: word {at + count} is beyond the {got.size} of the plan"]
        got[at : at + count] = True
    missing, extra = int((planned & ~got).sum()), int((got & ~planned).sum())
    if missing or extra:
        return [f"seed {party} as the {who} draw it: {missing} planned words are never drawn, {extra} are not planned"]
    return []
