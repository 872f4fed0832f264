"""Variants of gates: the choices that a plan is made of, each with a name, as a value that is part of the plan.

    maximum     histogram    counts, a zero test, M: three rounds, any length
                direct       the zero test as pieces on arithmetic leaves: two rounds, larger keys for every bucket
                tournament   pairs of scores: 2 ceil(log2 S) rounds, for short rows
    exp         lookup       a table of values, A opened, then T (1 + d): two rounds
                leaf         pieces on arithmetic leaves: one round, larger keys, an AES call for every entry
    activation  interpolated tables of values and slopes: two rounds
                plain        one table of values at 2^-8: two rounds, fewer bits, a wider domain
                leaf         one piece over the whole range: one round, an AES call for every entry
    up          after        n is opened, then the product with W
                before       the product with the row before it is scaled, opened beside its sum of squares
    scores      after        q and k are products with n
                before       q and k as `up=before`: an opening more a value, a round less
    scaling     merged       rows are scaled in one polynomial, which lifts both factors
                opened       the factor of a row is lifted and opened first: a round more, fewer coefficients for every
                             element
    frame       bytes at which large openings are cut: what is evaluated, packed and sent at the same time
    bands       bands of rows that flow through a block's rounds on their own: one is evaluated while another's openings
                are under way, and products with weights read the weights once for each

docs/protocols.md, section 7, says which round of a block each removes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from difflib import get_close_matches
from itertools import product

from engine.errors import InputError

__all__ = ["BANDS", "DEFAULT", "FEWEST_ROUNDS", "FRAMES", "NAMED", "OPTIONS", "Variants", "combinations", "parse"]

OPTIONS: dict[str, tuple[str, ...]] = {
    "maximum": ("histogram", "direct", "tournament"),
    "exp": ("lookup", "leaf"),
    "activation": ("interpolated", "plain", "leaf"),
    "up": ("after", "before"),
    "scores": ("after", "before"),
    "scaling": ("merged", "opened"),
}
"""Defaults first."""
FRAMES = (1 << 20, 1 << 18, 1 << 16)
LARGEST_FRAME = 1 << 24
BANDS = (1, 2, 3, 4)
MOST_BANDS = 64
NUMBERS = {"frame": "bytes", "bands": "bands"}


@dataclass(frozen=True, slots=True)
class Variants:
    """One choice of each kind. Raises InputError for a name that is not among `OPTIONS`."""

    maximum: str = "histogram"
    exp: str = "lookup"
    activation: str = "interpolated"
    up: str = "after"
    scores: str = "after"
    scaling: str = "merged"
    frame: int = FRAMES[0]
    bands: int = BANDS[0]

    def __post_init__(self) -> None:
        for kind, known in OPTIONS.items():
            if getattr(self, kind) not in known:
                raise InputError(f"no variant {kind}={getattr(self, kind)}: one of {', '.join(known)}")
        if type(self.frame) is not int or not 1 << 12 <= self.frame <= LARGEST_FRAME or self.frame & self.frame - 1:
            raise InputError(f"a frame holds a power of two from 4096 to {LARGEST_FRAME} bytes, not {self.frame}")
        if type(self.bands) is not int or not 1 <= self.bands <= MOST_BANDS:
            raise InputError(f"rows go in 1 to {MOST_BANDS} bands, not in {self.bands}")

    def __str__(self) -> str:
        """What differs from the defaults, as `parse` reads it; 'default' where nothing does."""
        chosen = [(f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default]
        return ",".join(f"{name}={value}" for name, value in chosen) or "default"


DEFAULT = Variants()
FEWEST_ROUNDS = Variants("direct", "leaf", "leaf", "before", "before")
NAMED = {"default": DEFAULT, "fewest-rounds": FEWEST_ROUNDS}


def parse(text: str) -> Variants:
    """`default`, `fewest-rounds`, or what differs from the defaults: `maximum=direct,exp=leaf`. Raises InputError."""
    if text.strip() in NAMED:
        return NAMED[text.strip()]
    chosen: dict[str, str] = {}
    for item in text.split(","):
        kind, equals, value = (part.strip() for part in item.partition("="))
        if not equals or kind in chosen:
            known = ", ".join(NAMED)
            raise InputError(f"variants {text!r}: {item!r} is no kind=variant of its own (or one of {known})")
        if kind not in OPTIONS and kind not in NUMBERS:
            near = " or ".join(get_close_matches(kind, [*OPTIONS, *NUMBERS]) or [*OPTIONS, *NUMBERS])
            raise InputError(f"variants {text!r}: unknown kind {kind!r}; did you mean {near}?")
        chosen[kind] = value
    numbers = {kind: chosen.pop(kind) for kind in NUMBERS if kind in chosen}
    for kind, value in numbers.items():
        if not value.isdecimal():
            raise InputError(f"variants {text!r}: {kind} {value!r} is no number of {NUMBERS[kind]}")
    return Variants(**chosen, **{kind: int(value) for kind, value in numbers.items()})  # type: ignore[arg-type]


def combinations() -> Iterator[Variants]:
    """Every choice of gates, with frames of the default size; the defaults first."""
    for maximum, exp, activation, up, scores, scaling in product(*OPTIONS.values()):
        yield Variants(maximum, exp, activation, up, scores, scaling)
