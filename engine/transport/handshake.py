"""How two sides that pin each other's public keys agree on session keys, without any I/O.

    client -> listener   HELLO    prefix, first Noise message (the client's key, encrypted)
    listener -> client   VERDICT  one byte: whether the hello could be opened; it proves nothing
                         ANSWER   second Noise message with one byte: whether the client's key is listed
    client -> listener   CONFIRM  a sealed record: the client holds the session keys

Each side follows `NEXT`; messages have fixed sizes, so a stranger never makes a listener hold more than a hello. Keys
come from the two static and two ephemeral keys of this handshake alone.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from engine.errors import LocalError, PeerError, PeerMismatch, PeerRefused
from engine.transport.identity import Identity
from engine.transport.noise import KEY_BYTES, TAG_BYTES, NoiseIK
from engine.transport.sealed import HEADER, OVERHEAD, Opener, Record, Sealer

__all__ = ["Handshake", "Session", "State", "Verdict", "client_handshake", "listener_handshake"]

VERSION = 1
PREFIX = struct.Struct("<6sH")
MAGIC = b"rndlay"
CLIENT, LISTENER = "client", "listener"


class Verdict(IntEnum):
    """The listener's first byte, and the payload of its answer."""

    OPENED = 1
    UNOPENED = 2  # the hello is not encrypted to the listener's key
    VERSION = 3  # the hello is of another version
    UNLISTED = 4  # within the answer only


class State(Enum):
    """What a side waits for."""

    HELLO = "a hello"
    CONFIRM = "the client's confirmation"
    VERDICT = "the listener's verdict"
    ANSWER = "the listener's answer"
    OPEN = "nothing more"
    FAILED = "nothing more: the handshake failed"


NEXT = {
    State.HELLO: State.CONFIRM,
    State.CONFIRM: State.OPEN,
    State.VERDICT: State.ANSWER,
    State.ANSWER: State.OPEN,
}
"""The listener waits for HELLO and CONFIRM, the client for VERDICT and ANSWER; any fault leads to FAILED."""

SIZES = {
    State.HELLO: PREFIX.size + KEY_BYTES + (KEY_BYTES + TAG_BYTES) + TAG_BYTES,
    State.CONFIRM: OVERHEAD,
    State.VERDICT: 1,
    State.ANSWER: KEY_BYTES + 1 + TAG_BYTES,
}


@dataclass(frozen=True, slots=True)
class Session:
    """What a handshake gives: the peer's authenticated public key and the two directions."""

    peer: str
    sealer: Sealer = field(repr=False)
    opener: Opener = field(repr=False)


class Handshake:
    """One side. The caller sends what `outgoing()` gives and feeds what arrives, `needed` bytes at most at a time,
    until there is a `session`. A fault raises PeerRefused or PeerMismatch; `outgoing()` may then hold a last word."""

    def __init__(self, noise: NoiseIK, listed: Collection[str]) -> None:
        self.session: Session | None = None
        self.state = State.VERDICT if noise.initiator else State.HELLO
        self._noise = noise
        self._listed = listed
        self._received = b""
        self._outgoing = b""
        if noise.initiator:
            self._outgoing = PREFIX.pack(MAGIC, VERSION) + noise.write(b"")

    @property
    def needed(self) -> int:
        """How many bytes are missing from the message that this side waits for; 0 at the end."""
        return SIZES.get(self.state, 0) - len(self._received)

    def outgoing(self) -> bytes:
        """What is to be sent now; empty the second time."""
        data, self._outgoing = self._outgoing, b""
        return data

    def feed(self, data: bytes) -> None:
        """Takes in what has arrived. Raises LocalError for more than was needed."""
        if len(data) > self.needed:
            raise LocalError(f"a handshake that waits for {self.state.value} was fed {len(data)} bytes")
        self._received += data
        if data and not self.needed:
            message, state = self._received, self.state
            self._received, self.state = b"", State.FAILED
            TAKES[state](self, message)
            self.state = NEXT[state]

    def _hello(self, message: bytes) -> None:
        magic, version = PREFIX.unpack_from(message)
        if magic != MAGIC:
            raise PeerRefused("a connection did not begin with a hello")
        if version != VERSION:
            self._outgoing = bytes([Verdict.VERSION])
            raise PeerMismatch(f"the other side speaks version {version} of the handshake, this side version {VERSION}")
        self._outgoing = bytes([Verdict.UNOPENED])
        self._noise.read(message[PREFIX.size :])
        listed = self._noise.remote.hex() in self._listed
        self._outgoing = bytes([Verdict.OPENED]) + self._noise.write(
            bytes([Verdict.OPENED if listed else Verdict.UNLISTED])
        )
        if not listed:
            raise PeerRefused("a client's public key is not listed")
        self._keys = self._session()

    def _confirm(self, message: bytes) -> None:
        try:
            if HEADER.unpack_from(message) != (Record.CONFIRM, 0):
                raise PeerError("no confirmation")
            self._keys.opener.open(Record.CONFIRM, 0, message[HEADER.size :])
        except PeerError:
            raise PeerRefused("a client did not confirm that it holds the session keys") from None
        self.session = self._keys

    def _verdict(self, message: bytes) -> None:
        if message[0] == Verdict.VERSION:
            raise PeerMismatch(f"it does not speak version {VERSION} of the handshake")
        if message[0] == Verdict.UNOPENED:
            raise PeerRefused("it could not open this side's hello: its public key is another one")
        if message[0] != Verdict.OPENED:
            raise PeerRefused("it does not speak this protocol")

    def _answer(self, message: bytes) -> None:
        if self._noise.read(message)[0] != Verdict.OPENED:
            raise PeerRefused("it does not list this side's public key")
        session = self._session()
        confirm = memoryview(bytearray(OVERHEAD))
        session.sealer.seal(Record.CONFIRM, 0, b"", confirm)
        self._outgoing = bytes(confirm)
        self.session = session

    def _session(self) -> Session:
        noise = self._noise
        here, there = (CLIENT, LISTENER) if noise.initiator else (LISTENER, CLIENT)
        send, receive = noise.split()
        return Session(noise.remote.hex(), Sealer(send, noise.hash, here), Opener(receive, noise.hash, there))


TAKES = {
    State.HELLO: Handshake._hello,
    State.CONFIRM: Handshake._confirm,
    State.VERDICT: Handshake._verdict,
    State.ANSWER: Handshake._answer,
}


def client_handshake(identity: Identity, listener: str, ephemeral: bytes | None = None) -> Handshake:
    """The connecting side, which pins the listener's public key. `ephemeral` is for test vectors only."""
    return Handshake(_noise(identity, bytes.fromhex(listener), ephemeral), ())


def listener_handshake(identity: Identity, listed: Collection[str], ephemeral: bytes | None = None) -> Handshake:
    """The listening side, which lets in the listed public keys."""
    return Handshake(_noise(identity, None, ephemeral), listed)


def _noise(identity: Identity, remote: bytes | None, ephemeral: bytes | None) -> NoiseIK:
    return NoiseIK(identity.secret, remote, PREFIX.pack(MAGIC, VERSION), ephemeral)
