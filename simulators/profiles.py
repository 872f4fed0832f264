"""Networks by name, as the literature uses them, and networks that the user describes.

Bandwidth is per direction in bits per second, round-trip times are seconds; a message is delayed by half a round trip.
Loss is what TCP makes of it: a lost segment is sent again one round trip later, with all behind it waiting, and the
window that loss allows bounds the rate (Mathis, Semke, Mahdavi, Ott, CCR 1997).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from engine.errors import InputError
from engine.transport.linkmodel import SEGMENT_BYTES, Link

__all__ = ["PROFILES", "Network", "network"]

BITS = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
PARTS = {"%": 1e-2, "ppm": 1e-6}
UNITS = {"rtt": SECONDS, "jitter": SECONDS, "bandwidth": BITS, "back": BITS, "loss": PARTS}
LONGEST = 3600.0
MOST_LOSS = 0.1
"""Beyond this TCP lives on time-outs, which the formula of Mathis et al. does not know."""


@dataclass(frozen=True, slots=True)
class Network:
    """bandwidth: bits per second from P0 to P1, and back too unless `back` gives another; rtt, jitter: seconds. Jitter
    is the most that one message is delayed beyond rtt / 2; loss: the part of the segments that is lost. Raises
    InputError for impossible numbers."""

    name: str
    bandwidth: float
    rtt: float
    jitter: float = 0.0
    source: str = "user"
    back: float | None = None
    loss: float = 0.0

    def __post_init__(self) -> None:
        for field, bits in (("bandwidth", self.bandwidth), ("back", self.back)):
            if bits is not None and not (bits > 0 and math.isfinite(bits)):
                raise InputError(f"network {self.name!r}: {field} must be positive, not {bits:g} bit/s")
        if not 0 <= self.loss <= MOST_LOSS:
            raise InputError(f"network {self.name!r}: loss must be 0 to {MOST_LOSS:.0%}, not {self.loss:.3g}")
        for field, value in (("rtt", self.rtt), ("jitter", self.jitter)):
            if not 0 <= value <= LONGEST:
                raise InputError(f"network {self.name!r}: {field} must be 0 to {LONGEST:g} s, not {value:g} s")

    @property
    def delay(self) -> float:
        """Seconds one way, without jitter."""
        return self.rtt / 2

    @property
    def bandwidths(self) -> tuple[float, float]:
        """Bits per second from P0 to P1, and back."""
        return self.bandwidth, self.back or self.bandwidth

    def rate(self, way: int) -> float:
        """Bits per second that one TCP connection reaches: less than the bandwidth where segments are lost."""
        if not (self.loss and self.rtt):
            return self.bandwidths[way]
        return min(self.bandwidths[way], math.sqrt(1.5 / self.loss) * SEGMENT_BYTES * 8 / self.rtt)

    @property
    def rates(self) -> tuple[float, float]:
        """Bits per second of one TCP connection from P0 to P1, and back."""
        return self.rate(0), self.rate(1)

    def links(self, seed: int = 0) -> tuple[Link, Link]:
        """Both directions, with independent jitter and loss."""
        first, second = (
            Link(self.delay, self.rate(way), self.jitter, 2 * seed + way, self.loss, self.rtt) for way in (0, 1)
        )
        return first, second

    def as_dict(self) -> dict[str, str | float]:
        """name, rtt, bandwidth, jitter, and back and loss where they matter: what `network` takes as JSON."""
        data: dict[str, str | float] = {"name": self.name, "rtt": self.rtt, "bandwidth": self.bandwidth}
        data["jitter"] = self.jitter
        if self.back is not None:
            data["back"] = self.back
        return data | ({"loss": self.loss} if self.loss else {})

    def __str__(self) -> str:
        jitter = f", jitter {self.jitter * 1e3:g} ms" if self.jitter else ""
        loss = f", loss {self.loss * 100:g}%" if self.loss else ""
        back = "per direction" if self.back is None else f"from P0, {self.back / 1e6:g} Mb/s from P1"
        return (
            f"{self.name}: {self.bandwidth / 1e6:g} Mb/s {back}, RTT {self.rtt * 1e3:g} ms, "
            f"one-way delay {self.delay * 1e3:g} ms{jitter}{loss} ({self.source})"
        )


PROFILES = {
    profile.name: profile
    for profile in (
        Network("lan-10g", 9.4e9, 0.05e-3, source="SIGMA"),
        Network("lan-5g", 5e9, 0.4e-3, source="Ditto, PUMA"),
        Network("lan-3g", 3e9, 0.8e-3, source="Iron, BOLT, Nimbus; they give 0.8 to 1 ms"),
        Network("lan-1g", 1e9, 1e-3, source="CryptPEFT, SHAFT"),
        Network("wan-1g-10ms", 1e9, 10e-3, source="PermLLM"),
        Network("wan-400m-8ms", 400e6, 8e-3, source="SHAFT, BumbleBee, CryptPEFT"),
        Network("wan-400m-40ms", 400e6, 40e-3, source="Ditto"),
        Network("wan-300m-60ms", 305e6, 60e-3, source="SIGMA"),
        Network("wan-100m-80ms", 100e6, 80e-3, source="NEXUS"),
    )
}


def network(text: str) -> Network:
    """A network by its name, or described as `rtt=60ms,bandwidth=305mbit,jitter=2ms` or as a JSON object of these.

    Besides: `back=40mbit`, from P1 to P0 where that differs, and `loss=0.1%`. In JSON plain numbers are seconds, bits
    per second and parts of one. Raises InputError: unknown name or field (with the nearest
    ones), malformed or impossible number, missing field.
    """
    text = text.strip()
    if text.startswith("{"):
        return _described(text, _json_fields(text))
    if "=" in text:
        return _described(text, _assignments(text))
    if text not in PROFILES:
        raise InputError(f"unknown network {text!r}; did you mean {_nearest(text, PROFILES)}?")
    return PROFILES[text]


def _nearest(text: str, known: Iterable[str]) -> str:
    return " or ".join(get_close_matches(text, list(known)) or known)


def _json_fields(text: str) -> dict[str, object]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"network {text!r} is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InputError(f"network {text!r} is not a JSON object")
    return fields


def _assignments(text: str) -> dict[str, object]:
    fields: dict[str, object] = {}
    for item in text.split(","):
        field, equals, value = (part.strip() for part in item.partition("="))
        if not equals or field in fields:
            raise InputError(f"network {text!r}: {item!r} is not a field=value of its own")
        fields[field] = value
    return fields


def _described(text: str, fields: dict[str, object]) -> Network:
    for field in fields:
        if field not in UNITS and field != "name":
            raise InputError(f"network {text!r}: unknown field {field!r}; did you mean {_nearest(field, UNITS)}?")
    for field in ("rtt", "bandwidth"):
        if field not in fields:
            raise InputError(f"network {text!r}: {field} is missing, as in rtt=60ms,bandwidth=305mbit")
    rtt, jitter, bandwidth, back, loss = (_quantity(field, fields.get(field, 0)) for field in UNITS)
    return Network(
        str(fields.get("name", "custom")), bandwidth, rtt, jitter, back=back if "back" in fields else None, loss=loss
    )


def _quantity(field: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    units = UNITS[field]
    match = re.fullmatch(r"([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)\s*([a-z%]+)", str(value).lower())
    if match is None or match[2] not in units:
        raise InputError(f"{field} {value!r} is not a number with one of the units {', '.join(units)}")
    try:
        return float(match[1]) * units[match[2]]
    except ValueError:
        raise InputError(f"{field} {value!r} is not a number with one of the units {', '.join(units)}") from None
