"""Prediction: what a run of a plan would take on a network and a device, without running it.

Both parties' tasks are followed as engine/scheduler/executor.py has them (prefetch within its budget, evaluation in
order, frames queued for one sender, one receiver), over the link model of engine/transport/linkmodel.py, with the
costs of a calibrated device. Rounds and bytes are counted as the frames pass; they equal the plan and the wire.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from engine.errors import InputError
from engine.scheduler.plan import Plan
from engine.scheduler.timeline import Timeline
from engine.transport.linkmodel import LinkModel
from simulators.actor import Actor, Side
from simulators.device import Device
from simulators.events import Events, Processors
from simulators.path import Leg, critical_path
from simulators.pricing import Pricing
from simulators.profiles import Network
from simulators.wire import Wire

__all__ = ["Prediction", "predict"]

T = TypeVar("T")
Pair = tuple[float, float]
Count = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seconds of the slower party from the beginning of its phase; pairs are (P0, P1), or (P0 to P1, back).

    online, prepare: as bench reports them. evaluate: what each party computes online, alone on its machine. link_use:
    how much of the online time each direction was occupied; cores_use: how much of the processors' time was used.
    path: the critical path of the online phase; it adds up to `online` of the party that ends last. timelines: of P0
    and P1, one clock for both, which starts with the prepare phase.
    """

    network: Network
    device: str
    transport: str
    overlap: bool
    cores: float
    prepare: float
    online: float
    rounds: int
    bytes_sent: Count
    prepare_bytes: Count
    frames: Count
    evaluate: Pair
    link_use: Pair
    cores_use: float
    path: tuple[Leg, ...] = field(repr=False)
    timelines: tuple[Timeline, Timeline] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The fields of docs/results.md, without the timelines."""
        return {
            "network": self.network.as_dict(), "device": self.device, "transport": self.transport,
            "overlap": self.overlap, "cores": self.cores,
            "seconds": {"prepare": self.prepare, "online": self.online}, "rounds": self.rounds,
            "bytes_sent": list(self.bytes_sent), "prepare_bytes": list(self.prepare_bytes),
            "frames": list(self.frames), "evaluate_seconds": list(self.evaluate), "link_use": list(self.link_use),
            "cores_use": self.cores_use, "path": [leg.as_dict() for leg in self.path],
        }  # fmt: skip


def predict(
    plan: Plan, network: Network, device: Device, overlap: bool = True, cores: float | None = None, *,
    transport: str = "tcp", emulated: bool = False, seed: int = 0,
) -> Prediction:  # fmt: skip
    """The prediction for one run of `plan`.

    cores: processors that both parties share, by default those of the device, as when both run on one machine; for two
    machines give 2 * their number. transport: which calibrated cost a frame has. emulated: as a run behind the `wan`
    channel, which takes time of its own for every frame, and whose timers fire late. seed: of the jitter. Raises
    InputError for impossible numbers, a transport or an operation that the device was not calibrated for.
    """
    cores = device.cores if cores is None else cores
    if not (cores > 0 and math.isfinite(cores)):
        raise InputError(f"parties run on a positive number of cores, not on {cores:g}")
    events = Events()
    processors, pricing = Processors(events, cores), Pricing(plan, device, transport, emulated)
    actors = [Actor(events, processors, pricing, p, overlap) for p in (0, 1)]
    late = device.wake + (device.late if emulated else 0.0)
    for p, link in enumerate(network.links(seed)):
        actors[p].outward = Wire(events, LinkModel(link), late, actors[1 - p].deliver)
    for actor in actors:
        events.start(actor.run())
    events.run()
    return _prediction(pricing, network, overlap, cores, (actors[0].side, actors[1].side))


def _prediction(
    pricing: Pricing, network: Network, overlap: bool, cores: float, sides: tuple[Side, Side]
) -> Prediction:
    lines = (sides[0].timeline, sides[1].timeline)
    lasting = {phase: _pair(lambda s, p=phase: _lasted(s.timeline, p), sides) for phase in ("prepare", "online")}  # type: ignore[misc]
    begin, end = (pick(line.phases["online"][i] for line in lines) for i, pick in enumerate((min, max)))
    slower = max(sides, key=lambda s: s.timeline.phases["online"][1])
    busy = max(s.used[1][1] for s in sides) - min(s.used[0][1] for s in sides)
    return Prediction(
        network, pricing.device.name, pricing.transport, overlap, cores,
        prepare=max(lasting["prepare"]), online=max(lasting["online"]), rounds=len(sides[0].rounds | sides[1].rounds),
        bytes_sent=_pair(lambda s: s.sent["online"], sides), prepare_bytes=_pair(lambda s: s.sent["prepare"], sides),
        frames=_pair(lambda s: s.frames["online"], sides), evaluate=_pair(lambda s: s.evaluated, sides),
        link_use=_pair(lambda s: (s.used[1][0] - s.used[0][0]) / (end - begin) if end > begin else 0.0, sides),
        cores_use=busy / (cores * (end - begin)) if end > begin else 0.0,
        path=critical_path(slower.last, slower.timeline.phases["online"][0]), timelines=lines,
    )  # fmt: skip


def _pair(value: Callable[[Side], T], sides: tuple[Side, Side]) -> tuple[T, T]:
    return value(sides[0]), value(sides[1])


def _lasted(timeline: Timeline, phase: str) -> float:
    start, stop = timeline.phases[phase]
    return stop - start
