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
from engine.report.recording import Rates, Side, Sides

__all__ = ["Bound", "what_bounds"]

Bytes = dict[int, int]
"""By round."""


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


def what_bounds(sides: Sides, rates: Rates | None = None) -> Bound | None:
    """None where nothing was recorded. rates: bits per second from P0 and from P1."""
    known = [s for s in sides if s is not None and s.events]
    if not known:
        return None
    window = min(s.online[0] for s in known), max(s.online[1] for s in known)
    seconds = max(window[1] - window[0], 1e-9)
    computing = Union(((e.start, e.stop) for s in known for e in s.events if e.lane == "evaluate"), window)
    waits = Union(((e.start, e.stop) for s in known for e in s.events if e.lane == "wait"), window)
    waiting = float(computing.free(waits.start, waits.stop).sum())
    sent = _sent(sides)
    latency, wire = (0.0, 0.0) if len(known) == 1 else _split(known, computing, sent, waiting, rates)
    shares = {
        "compute": computing.total / seconds, "latency": latency / seconds, "bandwidth": wire / seconds,
        "peer": waiting / seconds if len(known) == 1 else 0.0,
    }  # fmt: skip
    shares["other"] = max(0.0, 1.0 - sum(shares.values()))
    link = None if rates is None else max(_wired(sum(sent[p].values()), rates, p) for p in (0, 1)) / seconds
    kind = max(shares, key=lambda name: shares[name])
    return Bound(seconds, **shares, link=link, kind=kind, sentence=_sentence(kind, shares, link))


def _sent(sides: Sides) -> tuple[Bytes, Bytes]:
    """Bytes by round that each party sends online; of one that is not known, what the other receives."""
    ways: tuple[Bytes, Bytes] = ({}, {})
    for party, side in enumerate(sides):
        lane, teller = ("send", side) if side is not None else ("receive", sides[1 - party])
        assert teller is not None
        begin = teller.online[0]
        for e in teller.events:
            if e.lane == lane and e.start >= begin:
                ways[party][e.round] = ways[party].get(e.round, 0) + e.bytes
    return ways


def _split(
    known: list[Side], computing: Union, sent: tuple[Bytes, Bytes], waiting: float, rates: Rates | None
) -> tuple[float, float]:
    """Seconds of latency and of bandwidth in what both sides wait without anybody computing."""
    gaps: dict[int, float] = defaultdict(float)
    for side in known:
        for number, gap in _gaps(side, computing).items():
            gaps[number] = max(gaps[number], gap)
    if not gaps or waiting <= 0:
        return 0.0, 0.0
    wire = _fitted(gaps, sent) if rates is None else _known(gaps, sent, rates)
    scale = waiting / max(sum(gaps.values()), 1e-12)
    return (sum(gaps.values()) - wire) * scale, wire * scale


def _gaps(side: Side, computing: Union) -> dict[int, float]:
    waits = [e for e in side.events if e.lane == "wait"]
    times = np.array([(e.start, e.stop) for e in waits], np.float64).reshape(-1, 2)
    gaps: dict[int, float] = defaultdict(float)
    for e, gap in zip(waits, computing.free(times[:, 0], times[:, 1]), strict=True):
        gaps[e.round] += float(gap)
    return gaps


def _known(gaps: Mapping[int, float], sent: tuple[Bytes, Bytes], rates: Rates) -> float:
    """Seconds that the bytes of the rounds take on the wire, as far as they were waited for."""
    return sum(min(gap, max(_wired(sent[p].get(n, 0), rates, p) for p in (0, 1))) for n, gap in gaps.items())


def _wired(count: int, rates: Rates, party: int) -> float:
    return count * 8 / rates[party]


def _fitted(gaps: Mapping[int, float], sent: tuple[Bytes, Bytes]) -> float:
    """The same from what the waits grow by with the larger direction's bytes: a line by least squares."""
    waited = np.array([gaps[number] for number in gaps])
    sizes = np.array([max(way.get(number, 0) for way in sent) for number in gaps], np.float64)
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
    verb = "bounds" if shares[kind] >= 0.5 else "takes the largest part of"
    compute = f"somebody evaluates during {part['compute']} of the online phase"
    return f"{head} {verb} this run{much}: {compute}; {network}; {rest}."


_HEADS = {
    "compute": ("Computing", ""),
    "latency": ("Latency", ", so fewer rounds would make it faster"),
    "bandwidth": ("Bandwidth", ", so fewer bytes would make it faster"),
    "other": ("Hand-over inside a party", ""),
}
