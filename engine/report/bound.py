"""What bounds a run: of every instant of the online phase, whether somebody computes or both wait for the network.

A wait for bytes that the other side is still computing is the other side's computing. What is left of the waits, with
nobody computing, is the network's: in each round as much bandwidth as its bytes take on the wire, the rest latency.
Where the bandwidth is not known, it is what the waits of rounds grow by with their bytes (least squares).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from engine.report.intervals import Union
from engine.report.recording import Side, Sides

__all__ = ["Bound", "what_bounds"]


@dataclass(frozen=True, slots=True)
class Bound:
    """Shares of the online phase, adding up to 1; `peer`: waits of which nobody can say whose, as one side alone is
    known. `link`: share of the phase that the busier direction's bytes occupy the wire, None without a bandwidth.
    `kind` is the largest share: compute, latency, bandwidth, peer or other."""

    seconds: float
    compute: float
    latency: float
    bandwidth: float
    peer: float
    other: float
    link: float | None
    kind: str
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def what_bounds(sides: Sides, bandwidth: float | None = None) -> Bound | None:
    """None where nothing was recorded. bandwidth: bits per second in each direction."""
    known = [s for s in sides if s is not None and s.events]
    if not known:
        return None
    window = min(s.online[0] for s in known), max(s.online[1] for s in known)
    seconds = max(window[1] - window[0], 1e-9)
    computing = Union(((e.start, e.stop) for s in known for e in s.events if e.lane == "evaluate"), window)
    waits = Union(((e.start, e.stop) for s in known for e in s.events if e.lane == "wait"), window)
    waiting = float(computing.free(waits.start, waits.stop).sum())
    sent = _sent(known)
    latency, wire = (0.0, 0.0) if len(known) == 1 else _split(known, computing, sent, waiting, bandwidth)
    busiest = max((sum(way.values()) for way in sent), default=0)
    shares = {
        "compute": computing.total / seconds, "latency": latency / seconds, "bandwidth": wire / seconds,
        "peer": waiting / seconds if len(known) == 1 else 0.0,
    }  # fmt: skip
    shares["other"] = max(0.0, 1.0 - sum(shares.values()))
    link = None if bandwidth is None else busiest * 8 / bandwidth / seconds
    kind = max(shares, key=lambda name: shares[name])
    return Bound(seconds, **shares, link=link, kind=kind, sentence=_sentence(kind, shares, link))


def _sent(known: list[Side]) -> list[dict[int, int]]:
    """Bytes by round, of each direction, online."""
    ways = []
    for lane in ("send", "receive") if len(known) == 1 else ("send",):
        for side in known:
            way: dict[int, int] = defaultdict(int)
            begin = side.online[0]
            for e in side.events:
                if e.lane == lane and e.start >= begin:
                    way[e.round] += e.bytes
            ways.append(way)
    return ways


def _split(
    known: list[Side], computing: Union, sent: list[dict[int, int]], waiting: float, bandwidth: float | None
) -> tuple[float, float]:
    """Seconds of latency and of bandwidth in what both sides wait without anybody computing."""
    gaps: dict[int, float] = defaultdict(float)
    for side in known:
        for number, gap in _gaps(side, computing).items():
            gaps[number] = max(gaps[number], gap)
    if not gaps or waiting <= 0:
        return 0.0, 0.0
    bytes_of = {number: max(way.get(number, 0) for way in sent) for number in gaps}
    wire = _wire(gaps, bytes_of, bandwidth)
    scale = waiting / max(sum(gaps.values()), 1e-12)
    return (sum(gaps.values()) - wire) * scale, wire * scale


def _gaps(side: Side, computing: Union) -> dict[int, float]:
    waits = [e for e in side.events if e.lane == "wait"]
    times = np.array([(e.start, e.stop) for e in waits], np.float64).reshape(-1, 2)
    gaps: dict[int, float] = defaultdict(float)
    for e, gap in zip(waits, computing.free(times[:, 0], times[:, 1]), strict=True):
        gaps[e.round] += float(gap)
    return gaps


def _wire(gaps: Mapping[int, float], bytes_of: Mapping[int, int], bandwidth: float | None) -> float:
    if bandwidth is not None:
        return sum(min(gap, bytes_of[number] * 8 / bandwidth) for number, gap in gaps.items())
    waited = np.array([gaps[number] for number in gaps])
    sizes = np.array([bytes_of[number] for number in gaps], np.float64)
    spread = sizes - sizes.mean()
    slope = max(0.0, float(spread @ waited) / max(float(spread @ spread), 1e-12))
    return float(np.minimum(waited, slope * sizes).sum())


def _sentence(kind: str, shares: Mapping[str, float], link: float | None) -> str:
    part = {name: f"{share:.0%}" for name, share in shares.items()}
    if shares["peer"]:
        head = "Computing" if kind == "compute" else "Waiting"
        return (
            f"{head} takes most of this side's time: it evaluates during {part['compute']} of the online phase and "
            f"waits for the other side or the network during {part['peer']}; the other side's trace would tell which."
        )
    busy = "" if link is None else f", and the link's busier direction carries bytes {link:.0%} of the time"
    network = (
        f"nobody does, and bytes are waited for, during {shares['latency'] + shares['bandwidth']:.0%} "
        f"({part['latency']} latency, {part['bandwidth']} bandwidth){busy}"
    )
    rest = f"{part['other']} goes to handing over between tasks and to reading tape"
    head, much = _HEADS[kind]
    verb = "bounds" if shares[kind] >= 0.5 else "takes most of"
    compute = f"somebody evaluates during {part['compute']} of the online phase"
    return f"{head} {verb} this run{much}: {compute}; {network}; {rest}."


_HEADS = {
    "compute": ("Computing", ""),
    "latency": ("Latency", ", so fewer rounds would make it faster"),
    "bandwidth": ("Bandwidth", ", so fewer bytes would make it faster"),
    "other": ("Hand-over inside a party", ""),
}
