"""Every error that Roundelay raises on purpose. The class says whose fault it is; the message is one sentence a user
can act on.

    RoundelayError
      InputError       what the user gave is wrong: a file, an option, a text           exit code 2
        TraceError     a gate or model was written wrong; carries the author's file:line
        BoundError     a value lies beyond the bound that the plan declares for its wire
      PeerError        the other side broke the protocol or vanished                     exit code 3
        PeerTimeout    nothing arrived before the deadline
        PeerMismatch   the handshake found a field on which the sides differ
        PeerRefused    authentication failed: wrong key, wrong role
      TapeError        a tape is spent, foreign, truncated or altered                    exit code 4
      LocalError       this side failed: disk full, a broken invariant                   exit code 5

No message, repr or argument of these ever contains a secret: name wires, sizes and places, never values.
"""

from __future__ import annotations

__all__ = [
    "BoundError",
    "InputError",
    "LocalError",
    "PeerError",
    "PeerMismatch",
    "PeerRefused",
    "PeerTimeout",
    "RoundelayError",
    "TapeError",
    "TraceError",
]


class RoundelayError(Exception):
    """Base of all deliberate errors; `exit_code` is what the command line exits with."""

    exit_code = 1


class InputError(RoundelayError):
    """The user's input is wrong: says what, where, and what to do."""

    exit_code = 2


class TraceError(InputError):
    """A gate or model is ill-typed; the message begins with the author's `file:line`."""


class BoundError(InputError):
    """A value lies beyond the bound that the plan declares for its wire."""


class PeerError(RoundelayError):
    """The other side broke the protocol, or went away."""

    exit_code = 3


class PeerTimeout(PeerError):
    """Nothing arrived from the other side before the deadline."""


class PeerMismatch(PeerError):
    """The two sides disagree about a field of the handshake; the message names it."""


class PeerRefused(PeerError):
    """The other side is not who was expected: wrong key or wrong role."""


class TapeError(RoundelayError):
    """A tape is spent, foreign, truncated or altered."""

    exit_code = 4


class LocalError(RoundelayError):
    """This side failed: disk full, an internal invariant broken."""

    exit_code = 5
