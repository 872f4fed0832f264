"""A made-up device: every piece of work takes something, so that nothing is left out unseen."""

from __future__ import annotations

from functools import cache

from engine.bench.samples import sample_plans
from engine.scheduler.plan import Plan
from simulators.device import Device
from simulators.work import evaluated, message, opened

__all__ = ["device", "features"]


def features(plan: Plan) -> set[str]:
    """Everything that costs something in a plan."""
    found = {"step"}
    for s in plan.program.segments:
        for node in (s.graph[i] for i in s.schedule.order):
            for party in (0, 1):
                found |= set(evaluated(s, node.index, party))
                found |= {*message(node), *opened(s, node.index, party)} if node.opening else set()
    return found


@cache
def _known() -> frozenset[str]:
    return frozenset().union(*(features(plan) for plan in sample_plans()))


@cache
def device(cores: float = 2.0, scale: float = 1.0) -> Device:
    """A nanosecond for everything, a microsecond for what counts calls; `scale`: how many times as slow it is."""
    costs = {name: (1e-9 if "." in name else 1e-6) * scale for name in sorted(_known())}
    lanes = ((2e-5, 3e-10), {"tcp": (2e-5, 4e-10)}, (1e-5, 1e-10), 1e-4, 1e-4, 1e-9, cores)
    return Device("made up", costs | {"step": 1e-4 * scale}, *lanes)
