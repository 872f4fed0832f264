"""What the roles say before a run: who is asked for what, and that both sides mean the same model, key, plan and tape.

A request names the role that it is meant for, so that whoever reached the wrong one hears it in one sentence. Messages
are JSON objects over an authenticated channel; none holds a secret except a model key, which a dealer tells its owner.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.errors import LocalError, PeerError, PeerMismatch, RoundelayError
from engine.scheduler.link import Link
from engine.scheduler.plan import Plan

__all__ = [
    "VERSION",
    "binding",
    "check_request",
    "compare",
    "deliberate",
    "lengths_of",
    "request",
    "tape_id_of",
    "unhurried",
    "whereabouts",
]

VERSION = 1
ROLES = {"owner": "a model owner", "dealer": "a dealer"}


def binding(plan: Plan, key: str) -> bytes:
    """What a tape is bound to: the plan, and the model key whose masks it was dealt against."""
    return hashlib.sha256(b"roundelay run 1" + plan.digest + key.encode()).digest()


def request(to: str, want: str, **fields: Any) -> dict[str, Any]:
    """A request for a role, 'owner' or 'dealer'."""
    return {"version": VERSION, "to": to, "want": want, **fields}


def check_request(message: Mapping[str, Any], me: str) -> str:
    """What the peer wants of this role. Raises PeerMismatch for another version, or for a request to another role."""
    compare({"version": VERSION}, message, ["version"])
    to = message.get("to")
    if to != me:
        wanted = ROLES.get(str(to), "something unknown")
        raise PeerMismatch(f"this is {ROLES[me]}, and {wanted} was asked for: check the address and the key given")
    return str(message.get("want"))


def compare(mine: Mapping[str, Any], theirs: Mapping[str, Any], fields: Sequence[str]) -> None:
    """Raises PeerMismatch naming the first field on which the two sides differ."""
    for name in fields:
        if mine[name] != theirs.get(name):
            here, there = _shown(mine[name]), _shown(theirs.get(name))
            raise PeerMismatch(f"the two sides disagree about the {name}: here {here}, there {there}{_advice(name)}")


def _advice(field: str) -> str:
    if field in ("model", "key"):
        return " (the model was compiled anew, or this pairing is of another one: pair again)"
    return " (both sides need the same version of roundelay)" if field in ("version", "plan") else ""


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."


def lengths_of(message: Mapping[str, Any]) -> tuple[int, ...]:
    """The public lengths in a request. Raises PeerError if they are none."""
    lengths = message.get("lengths")
    if not isinstance(lengths, list):
        raise PeerError("the other side asks for a run without saying its lengths")
    if any(type(n) is not int or n < 1 for n in lengths):
        raise PeerError("the other side gives a length that is no positive number")
    return tuple(lengths)


def tape_id_of(text: object) -> bytes:
    """A tape id from its hexadecimal digits. Raises PeerError."""
    try:
        tape = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        tape = b""
    if len(tape) != 16:
        raise PeerError("the other side named no tape")
    return tape


@contextmanager
def unhurried(link: Link, seconds: float) -> Iterator[None]:
    """Waits in the body may last at least this long: for a peer that has nothing to say yet."""
    usual = link.channel.deadline
    link.channel.deadline = max(usual, seconds)
    try:
        yield
    finally:
        link.channel.deadline = usual


def deliberate(error: BaseException) -> RoundelayError:
    """The one error to report: the first deliberate one of a group, this side's own before the peer's. What nobody
    raised on purpose becomes a LocalError that says where, and no value."""
    leaves = list(_leaves(error))
    known = [e for e in leaves if isinstance(e, RoundelayError)]
    own = [e for e in known if not isinstance(e, PeerError)]
    return (own or known or [_unforeseen(leaves[0])])[0]


def whereabouts(error: BaseException) -> str:
    """Where an error came from, for a log: files, lines and source, but no message, which might quote a value."""
    return f"{type(error).__name__}\n" + "".join(traceback.format_tb(error.__traceback__))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for inner in error.exceptions:
        yield from _leaves(inner)


def _unforeseen(error: BaseException) -> LocalError:
    if isinstance(error, MemoryError):
        return LocalError("this machine has too little memory for the run: use shorter or fewer texts at a time")
    if isinstance(error, OSError) and error.strerror:
        return LocalError(f"{error.filename or 'the system'}: {error.strerror}")
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
    return LocalError(f"an internal error, {type(error).__name__} at {where}: please report it")
