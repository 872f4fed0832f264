"""Who may come into a ZeroMQ socket, decided before libzmq takes a single message from them.

A client shows its hello, the first message of the handshake, as the password of ZeroMQ's PLAIN mechanism; libzmq asks
over ZAP (ZeroMQ RFC 27) whether that is right. Only whoever knows a listed client's secret key, and the listener's
public one, can make such a hello, and each is taken once. Who has merely recorded one elsewhere gets no further than
the answer to it: a listed client must then confirm that it holds the session keys.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TypeVar

import zmq

from engine.errors import PeerError
from engine.transport.door import STRANGERS
from engine.transport.handshake import Handshake, Verdict, listener_handshake
from engine.transport.identity import Identity
from engine.transport.zmqloop import LoopSocket

__all__ = ["NAME", "REFUSALS", "Gate"]

K = TypeVar("K")
V = TypeVar("V")

NAME = b"roundelay"
ADDRESS = "inproc://zeromq.zap.01"
WELCOME, UNLISTED, UNOPENED = b"200", b"400", b"500"
REFUSALS = {
    int(UNLISTED): "it does not list this side's public key",
    int(UNOPENED): "it could not open this side's hello: its public key is another one, or its version",
}
"""What a client learns; unauthenticated, it can only refuse."""
REMEMBERED = 1 << 16
"""Hellos that are not taken again; only listed clients can fill this."""


class Gate:
    """The authenticator of one ZeroMQ context. `waiting` are those who may come in and have not spoken yet."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], identity: Identity, listed: Collection[str]) -> None:
        self._identity = identity
        self._listed = listed
        self._waiting: dict[str, Handshake] = {}  # the oldest first, as below
        self._seen: dict[bytes, None] = {}
        socket = context.socket(zmq.REP)
        socket.bind(ADDRESS)
        self._questions = LoopSocket(socket, self._asked)

    def take(self, token: str) -> Handshake | None:
        """The handshake of the client that libzmq gave this token; the first time only."""
        return self._waiting.pop(token, None)

    def close(self) -> None:
        """Nobody is let in any more."""
        self._questions.close()

    def _asked(self, frames: list[zmq.Frame]) -> None:
        version, request, _domain, _address, _routing, mechanism, *credentials = (frame.bytes for frame in frames)
        shown = mechanism == b"PLAIN" and len(credentials) == 2 and credentials[0] == NAME
        status, token = self._judge(credentials[1]) if shown else (UNOPENED, "")
        self._questions.send([version, request, status, b"", token.encode(), b""])

    def _judge(self, hello: bytes) -> tuple[bytes, str]:
        handshake = listener_handshake(self._identity, self._listed)
        if len(hello) != handshake.needed or hello in self._seen:
            return UNOPENED, ""
        try:
            handshake.feed(hello)
        except PeerError:
            opened = handshake.outgoing()[:1] == bytes([Verdict.OPENED])
            return (UNLISTED if opened else UNOPENED), ""
        remember(self._seen, hello, None, REMEMBERED)
        token = os.urandom(16).hex()
        remember(self._waiting, token, handshake, STRANGERS)
        return WELCOME, token


def remember(kept: dict[K, V], key: K, value: V, most: int) -> None:
    """Adds an entry; the oldest gives way."""
    if len(kept) >= most:
        del kept[next(iter(kept))]
    kept[key] = value
