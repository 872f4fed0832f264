"""What a party recorded, from one process to another on the same machine: a file of JSON."""

from __future__ import annotations

import json
from pathlib import Path

from engine.errors import LocalError
from engine.report.recording import Side
from engine.scheduler.timeline import Event

__all__ = ["load_side", "save_side"]


def save_side(side: Side, path: Path) -> None:
    """Raises LocalError."""
    rows = [[e.lane, e.what, e.start, e.stop, e.round, e.bytes, e.gate] for e in side.events]
    try:
        path.write_text(json.dumps({"phases": dict(side.phases), "events": rows}, separators=(",", ":")))
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror}") from error


def load_side(path: Path) -> Side | None:
    """None where that party recorded nothing."""
    if not path.exists():
        return None
    data = json.loads(path.read_text())
    return Side([Event(*row) for row in data["events"]], {name: (a, b) for name, (a, b) in data["phases"].items()})
