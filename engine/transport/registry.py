"""Transports by name, from the entry-point group `roundelay.channels`."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.metadata import entry_points

from engine.errors import InputError
from engine.transport.channel import Transport

__all__ = ["GROUP", "open_transport", "transport_names"]

GROUP = "roundelay.channels"


def transport_names() -> list[str]:
    """The names of all installed transports, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def open_transport(name: str) -> Transport:
    """The transport of that name. Raises InputError for an unknown name, with the nearest ones, and for one that does
    not load."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        near = get_close_matches(name, found) or sorted(found)
        raise InputError(f"unknown transport {name!r}; did you mean {' or '.join(near) or 'to install one first'}?")
    try:
        transport: Transport = found[name].load()()
    except (ImportError, AttributeError) as error:
        raise InputError(f"transport {name!r} cannot be loaded: {error}") from error
    return transport
