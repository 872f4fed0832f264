"""A recording as a trace in Chrome's format, for Perfetto (ui.perfetto.dev) and chrome://tracing, and back again.

Every party of every run is a process, every lane a thread, every event a complete event in microseconds of the party's
clock; an arrow joins each frame's sending to its arrival. What else a recording holds is in `otherData`, so that a
trace of each side, brought together, makes a page of both.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.cost import Cost
from engine.errors import InputError
from engine.files import whole_file
from engine.report.recording import ROLES, GateCost, RecordedRun, Recording, Side, Sides
from engine.scheduler.timeline import LANES, Event

__all__ = ["LARGEST", "read_trace", "trace_bytes", "write_trace"]

LARGEST = 1 << 30
"""Bytes of a trace that viewers in a browser still open."""
SPARE_BYTES = 64 << 20
EVENT_BYTES = 260
"""More than an event takes on average, its arrow included."""
FORMAT = "roundelay trace 1"
KINDS = ("sides", "predicted")


def write_trace(recording: Recording, path: Path) -> None:
    """Raises InputError, before anything is written, if the trace would be too large for a viewer or for the disk;
    LocalError if it cannot be written."""
    check_size(path, trace_bytes(recording))
    with whole_file(path) as f:
        f.write(b'{"displayTimeUnit":"ms","traceEvents":[')
        for number, row in enumerate(_rows(recording)):
            f.write((",\n" if number else "\n").encode() + json.dumps(row, separators=(",", ":")).encode())
        f.write(b'\n],"otherData":' + json.dumps(_head(recording)).encode() + b"}\n")


def trace_bytes(recording: Recording) -> int:
    """An upper estimate of the file's size."""
    events = sum(len(s.events) for run in recording.runs for s in (*run.sides, *run.predicted) if s is not None)
    return events * EVENT_BYTES + len(json.dumps(_head(recording)))


def check_size(path: Path, needed: int) -> None:
    """Raises InputError."""
    if needed > LARGEST:
        raise InputError(
            f"a trace of this run would take {needed / 1e9:.2f} GB, more than the {LARGEST / 1e9:.2f} GB that trace "
            "viewers open: use --report, which gathers events, or run fewer tokens or fewer runs"
        )
    free = shutil.disk_usage(path.absolute().parent).free
    if needed + SPARE_BYTES > free:
        raise InputError(
            f"a trace of this run would take {needed / 1e6:.0f} MB, and {path.absolute().parent} has "
            f"{free / 1e6:.0f} MB free: choose another place for --trace"
        )


def _rows(recording: Recording) -> Iterator[dict[str, Any]]:
    for number, run in enumerate(recording.runs):
        for kind in KINDS:
            sides: Sides = getattr(run, kind)
            for party, side in enumerate(sides):
                if side is not None:
                    name = f"{run.name}: {ROLES[party]}" + (" (predicted)" if kind == "predicted" else "")
                    yield from _process(_pid(number, kind, party), name, side)
            if sides[0] is not None and sides[1] is not None:
                yield from _arrows(number, kind, (sides[0], sides[1]))


def _pid(run: int, kind: str, party: int) -> int:
    """1 and 2 are the parties of the first run, 3 and 4 those predicted, and so on."""
    return 1 + 4 * run + 2 * KINDS.index(kind) + party


def _process(pid: int, name: str, side: Side) -> Iterator[dict[str, Any]]:
    yield {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}}
    yield {"ph": "M", "name": "process_sort_index", "pid": pid, "args": {"sort_index": pid}}
    for tid, lane in enumerate(LANES, 1):
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": lane}}
        yield {"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": tid}}
    for e in side.events:
        yield {
            "ph": "X", "name": e.gate or e.what, "cat": e.lane, "pid": pid, "tid": LANES.index(e.lane) + 1,
            "ts": _microseconds(e.start), "dur": _microseconds(e.stop - e.start),
            "args": {"call": e.what, "gate": e.gate, "round": e.round, "bytes": e.bytes},
        }  # fmt: skip


def _arrows(run: int, kind: str, sides: tuple[Side, Side]) -> Iterator[dict[str, Any]]:
    """The k-th frame that one side sends is the k-th that the other receives."""
    for party in (0, 1):
        sent = [e for e in sides[party].events if e.lane == "send"]
        received = [e for e in sides[1 - party].events if e.lane == "receive"]
        for number, (a, b) in enumerate(zip(sent, received, strict=False)):
            common = {"name": "frame", "cat": "frame", "id": f"{_pid(run, kind, party)}.{number}"}
            for ph, e, at, lane in (("s", a, party, "send"), ("f", b, 1 - party, "receive")):
                more = {"bp": "e"} if ph == "f" else {}
                yield {
                    "ph": ph, **common, **more, "pid": _pid(run, kind, at), "tid": LANES.index(lane) + 1,
                    "ts": _microseconds(e.start),
                }  # fmt: skip


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 3)


def _head(recording: Recording) -> dict[str, Any]:
    runs = [
        {
            "name": r.name, "tape": r.tape, "rates": r.rates, "totals": dict(r.totals),
            "costs": [c.as_dict() for c in r.costs],
            **{kind: [None if s is None else dict(s.phases) for s in getattr(r, kind)] for kind in KINDS},
        }
        for r in recording.runs
    ]  # fmt: skip
    return {
        "format": FORMAT, "title": recording.title, "what": recording.what, "facts": dict(recording.facts),
        "result": dict(recording.result), "simulated": recording.simulated,
        "runs": runs,
    }  # fmt: skip


def read_trace(path: Path) -> Recording:
    """The inverse of `write_trace`. Raises InputError if the file is not a whole trace of ours."""
    try:
        data = json.loads(path.read_bytes())
        head = data["otherData"]
        if head["format"] != FORMAT:
            raise InputError(f"{path} is of the format {head['format']!r}, this version reads {FORMAT!r}")
        events: dict[int, list[Event]] = {}
        for row in data["traceEvents"]:
            if row["ph"] == "X":
                events.setdefault(int(row["pid"]), []).append(_event(row))
        runs = tuple(_run(number, run, events) for number, run in enumerate(head["runs"]))
        return Recording(
            str(head["title"]), str(head["what"]), dict(head["facts"]), dict(head["result"]), runs,
            bool(head["simulated"]),
        )  # fmt: skip
    except OSError as error:
        raise InputError(f"cannot read the trace {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path} is not a trace that `--trace` wrote: {type(error).__name__}") from error


def _event(row: Mapping[str, Any]) -> Event:
    args, start = row["args"], float(row["ts"]) / 1e6
    lane = LANES[LANES.index(row["cat"])]
    stop = start + float(row["dur"]) / 1e6
    return Event(lane, str(args["call"]), start, stop, int(args["round"]), int(args["bytes"]), str(args["gate"]))


def _run(number: int, run: Mapping[str, Any], events: Mapping[int, list[Event]]) -> RecordedRun:
    costs = tuple(GateCost(str(c["call"]), _cost(c)) for c in run["costs"])
    first, predicted = (
        tuple(
            None if phases is None else Side(
                events.get(_pid(number, kind, party), []), {k: (a, b) for k, (a, b) in phases.items()}
            )
            for party, phases in enumerate(run[kind])
        )
        for kind in KINDS
    )  # fmt: skip
    return RecordedRun(
        str(run["name"]), costs, (first[0], first[1]), dict(run["totals"]), (predicted[0], predicted[1]),
        str(run["tape"]), None if run["rates"] is None else (float(run["rates"][0]), float(run["rates"][1])),
    )  # fmt: skip


def _cost(row: Mapping[str, Any]) -> Cost:
    online, prepare, tape = ((int(a), int(b)) for a, b in (row[k] for k in _PAIRS))
    return Cost(str(row["gate"]), int(row["rounds"]), online, prepare, tape, int(row["aes_steps"]))


_PAIRS = ("bytes_sent", "prepare_bytes", "tape_bytes")
