"""The one model of a link: serialisation at a bandwidth, then a one-way delay with jitter, in order.

Explicit times, no clock: the delayed channel and the simulators both ask this file when a message arrives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from engine.errors import InputError

__all__ = ["SEGMENT_BYTES", "Link", "LinkModel"]

SEGMENT_BYTES = 1448
"""Payload of a TCP segment on Ethernet."""


@dataclass(frozen=True, slots=True)
class Link:
    """One direction of a link. delay, jitter: seconds one way; bandwidth: bits per second, math.inf for unlimited.

    Each message is delayed by `delay` plus a uniform part of `jitter`, drawn from `seed`. Each of its segments is lost
    with probability `loss`: then the message, and what is behind it, waits `recovery` seconds more, in which TCP finds
    that out and sends again. Raises InputError for impossible numbers.
    """

    delay: float = 0.0
    bandwidth: float = math.inf
    jitter: float = 0.0
    seed: int = 0
    loss: float = 0.0
    recovery: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.loss < 1:
            raise InputError(f"a link's loss must be a part of its segments, 0 <= loss < 1, not {self.loss!r}")
        for name in ("delay", "jitter", "recovery"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise InputError(f"a link's {name} must be a finite number of seconds >= 0, not {value!r}")
        if not self.bandwidth > 0:
            raise InputError(f"a link's bandwidth must be a positive number of bits per second, not {self.bandwidth!r}")

    def transmission(self, nbytes: int) -> float:
        """Seconds that `nbytes` occupy the wire."""
        return nbytes * 8 / self.bandwidth


class LinkModel:
    """The state of one direction: when its wire is free, and when the last message arrives."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.free = -math.inf
        self._last = -math.inf
        self._random = Random(link.seed)

    def arrival(self, now: float, nbytes: int) -> float:
        """When a message of `nbytes` that is handed over at `now` has arrived whole; occupies the wire meanwhile.

        Messages queue for the wire, and none overtakes another: a jittered one holds up those behind it.
        """
        self.free = max(now, self.free) + self.link.transmission(nbytes)
        jitter = self.link.jitter * self._random.random() if self.link.jitter else 0.0
        self._last = max(self._last, self.free + self.link.delay + jitter + self._recovered(nbytes))
        return self._last

    def _recovered(self, nbytes: int) -> float:
        """Seconds that a message waits for segments that were lost: those of one flight are sent again together."""
        if not self.link.loss:
            return 0.0
        whole = (1 - self.link.loss) ** math.ceil(nbytes / SEGMENT_BYTES)
        return self.link.recovery if self._random.random() >= whole else 0.0
