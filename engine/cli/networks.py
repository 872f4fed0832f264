"""`networks`: the named networks, and how to describe another."""

from __future__ import annotations

import math

import click
from rich.table import Table

from engine.cli.common import Output, json_option, text_errors
from simulators.profiles import PROFILES, Network, network

__all__ = ["networks"]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
@text_errors
def networks(names: tuple[str, ...], as_json: bool) -> None:
    """List networks: all named ones, or those of NAME, which may also describe one of your own.

    \b
    A description gives the round-trip time and the bandwidth of each direction, and may go on:
      rtt=60ms,bandwidth=305mbit                 what SIGMA calls WAN
      rtt=30ms,bandwidth=100mbit,back=20mbit     P1 sends slower than P0
      rtt=30ms,bandwidth=100mbit,jitter=2ms      up to 2 ms more for any message
      rtt=30ms,bandwidth=1gbit,loss=0.01%        as TCP sees it: less bandwidth, now and then a round trip more

    A message takes half the RTT, and its bytes over the bandwidth; papers that call the one-way delay of `netem` their
    latency mean half of their RTT. Whatever takes --network takes these.
    """
    chosen = [network(name) for name in names] or list(PROFILES.values())
    Output(as_json).result({"networks": [described(n) for n in chosen]}, _table(chosen))


def described(n: Network) -> dict[str, object]:
    """The fields of docs/results.md."""
    first, back = (n.rate(way) for way in (0, 1))
    return {
        "name": n.name, "rtt": n.rtt, "one_way": n.delay, "bandwidth": list(n.bandwidths), "jitter": n.jitter,
        "loss": n.loss, "rate": [first, back], "source": n.source,
    }  # fmt: skip


def _table(chosen: list[Network]) -> Table:
    table = Table("network", "P0 to P1", "P1 to P0", "RTT", "one way", "jitter", "loss", "64 B", "1 MB", "who uses it")
    for n in chosen:
        table.add_row(
            n.name, *(_rate(n.rate(way)) for way in (0, 1)), *(_ms(t) for t in (n.rtt, n.delay, n.jitter)),
            f"{n.loss * 100:g}%", *(_ms(n.delay + size * 8 / n.rate(0)) for size in (64, 10**6)), n.source,
        )  # fmt: skip
    return table


def _rate(bits: float) -> str:
    unit, factor = ("Gb/s", 1e9) if bits >= 1e9 else ("Mb/s", 1e6)
    return f"{bits / factor:.4g} {unit}"


def _ms(seconds: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(seconds * 1e3))) if seconds else 0
    return (
        f"{seconds * 1e3:.{min(digits, 3)}f}".rstrip("0").rstrip(".") + " ms" if digits else f"{seconds * 1e3:.0f} ms"
    )
