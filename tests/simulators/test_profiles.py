"""Networks by name and by description."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError
from engine.transport.linkmodel import LinkModel
from simulators.profiles import PROFILES, Network, network

EXPECTED = {
    "lan-10g": (9.4e9, 0.05e-3),
    "lan-5g": (5e9, 0.4e-3),
    "lan-3g": (3e9, 0.8e-3),
    "lan-1g": (1e9, 1e-3),
    "wan-1g-10ms": (1e9, 10e-3),
    "wan-400m-8ms": (400e6, 8e-3),
    "wan-400m-40ms": (400e6, 40e-3),
    "wan-300m-60ms": (305e6, 60e-3),
    "wan-100m-80ms": (100e6, 80e-3),
}


def test_the_named_networks() -> None:
    assert {name: (p.bandwidth, p.rtt) for name, p in PROFILES.items()} == EXPECTED
    assert all(network(name) is profile and profile.source for name, profile in PROFILES.items())


def test_the_one_way_delay_is_half_a_round_trip_and_is_printed() -> None:
    profile = network("wan-300m-60ms")
    assert profile.delay == 0.03
    assert str(profile) == "wan-300m-60ms: 305 Mb/s per direction, RTT 60 ms, one-way delay 30 ms (SIGMA)"
    there, back = profile.links()
    assert LinkModel(there).arrival(0.0, 305_000_000 // 8) == LinkModel(back).arrival(0.0, 305_000_000 // 8) == 1.03


def test_directions_and_seeds_jitter_independently() -> None:
    profile = network("rtt=60ms,bandwidth=305mbit,jitter=2ms")
    times = [LinkModel(link).arrival(0.0, 0) for seed in range(3) for link in profile.links(seed)]
    assert len(set(times)) == 6 and all(0.03 <= time <= 0.032 for time in times)


@pytest.mark.parametrize(
    "text",
    [
        "rtt=60ms,bandwidth=305mbit,jitter=2ms",
        " rtt = 0.06s , jitter=2000us, bandwidth=0.305gbit",
        "rtt=60MS,bandwidth=305e6bit,jitter=2ms",
        '{"rtt": "60ms", "bandwidth": "305000kbit", "jitter": 0.002}',
        '{"name": "custom", "rtt": 0.06, "bandwidth": 305000000, "jitter": 2e-3}',
    ],
)
def test_descriptions(text: str) -> None:
    got = network(text)
    assert got.name == "custom" and got.source == "user"
    assert (
        got.bandwidth == pytest.approx(305e6) and got.rtt == pytest.approx(0.06) and got.jitter == pytest.approx(2e-3)
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("wan-300-60ms", "did you mean wan-300m-60ms"),
        ("nonsense", "lan-10g or lan-5g"),
        ("rtt=60ms,bandwith=305mbit", "unknown field 'bandwith'; did you mean bandwidth"),
        ("rtt=60ms", "bandwidth is missing"),
        ("bandwidth=1gbit", "rtt is missing"),
        ("rtt=60,bandwidth=1gbit", "rtt '60' is not a number with one of the units s, ms, us"),
        ("rtt=60ms,bandwidth=1gb", "bandwidth '1gb' is not a number"),
        ("rtt=1.2.3ms,bandwidth=1gbit", "rtt '1.2.3ms' is not a number"),
        ("rtt=-1ms,bandwidth=1gbit", "rtt must be 0 to 3600 s, not -0.001 s"),
        ("rtt=2000000ms,bandwidth=1gbit,jitter=3601s", "jitter must be"),
        ("rtt=1ms,bandwidth=0bit", "bandwidth must be positive"),
        ("rtt=1ms,rtt=2ms,bandwidth=1gbit", "'rtt=2ms' is not a field=value of its own"),
        ("rtt=1ms,,bandwidth=1gbit", "'' is not a field=value"),
        ("{", "not valid JSON"),
        ('{"rtt": null, "bandwidth": 1}', "rtt None is not a number"),
        ('{"rtt": true, "bandwidth": 1}', "rtt True is not a number"),
        ('{"rtt": NaN, "bandwidth": 1}', "rtt must be"),
        ('{"rtt": 0, "bandwidth": Infinity}', "bandwidth must be positive"),
    ],
)
def test_wrong_descriptions_get_one_clear_sentence(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        network(text)
    assert says in str(caught.value)


@given(st.floats(1, 1e12), st.floats(0, 3600), st.floats(0, 3600))
def test_a_possible_network_gives_possible_links(bandwidth: float, rtt: float, jitter: float) -> None:
    for link in Network("n", bandwidth, rtt, jitter).links():
        assert math.isfinite(LinkModel(link).arrival(0.0, 1000))


def test_the_profiles_are_the_ones_of_the_literature_table() -> None:
    """The names and sources that the documentation lists."""
    text = (Path(__file__).parents[2] / "docs" / "transports.md").read_text()
    assert all(f"`{name}`" in text for name in PROFILES)
