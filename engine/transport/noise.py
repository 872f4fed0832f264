"""The handshake Noise_IK_25519_AESGCM_BLAKE2b (Noise Protocol Framework, revision 34), without any I/O.

Each side has a static and an ephemeral X25519 key. Four products of theirs are mixed, one after another, into a
chaining key, and everything that is sent into a transcript hash that each encryption authenticates:

    -> e, es, s, ss      the initiator knows the responder's static key and encrypts its own under es
    <- e, ee, se         whoever opens this knows that the responder holds its static key; ee gives forward secrecy

What the initiator's first message proves can be replayed; only its first use of the session keys proves that it is
there. `engine.transport.handshake` therefore demands such a use before it lets anybody in.
"""

from __future__ import annotations

import os
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import BLAKE2b
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engine.errors import InputError, LocalError, PeerRefused

__all__ = ["KEY_BYTES", "TAG_BYTES", "NoiseIK"]

NAME = b"Noise_IK_25519_AESGCM_BLAKE2b"
KEY_BYTES, TAG_BYTES, HASH_BYTES = 32, 16, 64
PATTERN = (("e", "es", "s", "ss"), ("e", "ee", "se"))
"""The tokens of each message. A product's first letter is the initiator's key, its second the responder's."""


class _Symmetric:
    """The chaining key, the transcript hash and the key that encrypts within the handshake."""

    def __init__(self) -> None:
        self.hash = NAME.ljust(HASH_BYTES, b"\0")
        self._chaining = self.hash
        self._cipher: AESGCM | None = None
        self._count = 0

    def mix_hash(self, data: bytes) -> None:
        self.hash = blake2b(self.hash + data).digest()

    def mix_key(self, shared: bytes) -> None:
        self._chaining, key = _two_keys(self._chaining, shared)
        self._cipher, self._count = AESGCM(key[:KEY_BYTES]), 0

    def encrypt(self, data: bytes) -> bytes:
        cipher, nonce = self._next()
        sealed = cipher.encrypt(nonce, data, self.hash)
        self.mix_hash(sealed)
        return sealed

    def decrypt(self, sealed: bytes) -> bytes:
        cipher, nonce = self._next()
        data = cipher.decrypt(nonce, sealed, self.hash)
        self.mix_hash(sealed)
        return data

    def split(self) -> tuple[bytes, bytes]:
        first, second = _two_keys(self._chaining, b"")
        return first[:KEY_BYTES], second[:KEY_BYTES]

    def _next(self) -> tuple[AESGCM, bytes]:
        assert self._cipher is not None, "every pattern mixes a key before it encrypts"
        nonce = self._count.to_bytes(12, "big")
        self._count += 1
        return self._cipher, nonce


def _two_keys(chaining: bytes, shared: bytes) -> tuple[bytes, bytes]:
    both = HKDF(BLAKE2b(HASH_BYTES), 2 * HASH_BYTES, salt=chaining, info=b"").derive(shared)
    return both[:HASH_BYTES], both[HASH_BYTES:]


class NoiseIK:
    """One side of one handshake. The initiator writes, reads; the responder reads, writes; then both `split`.

    secret     this side's static key, 32 bytes
    remote     the responder's public key: 32 bytes for the initiator, None for the responder
    prologue   what both sides must agree on before
    ephemeral  for test vectors only; otherwise it is drawn

    A message that does not open, or a key of low order, raises PeerRefused; messages out of turn are LocalError.
    """

    def __init__(
        self, secret: bytes, remote: bytes | None, prologue: bytes = b"", ephemeral: bytes | None = None
    ) -> None:
        self.initiator = remote is not None
        self._own = {
            "s": X25519PrivateKey.from_private_bytes(secret),
            "e": X25519PrivateKey.from_private_bytes(ephemeral or os.urandom(KEY_BYTES)),
        }
        self._theirs: dict[str, bytes] = {} if remote is None else {"s": remote}
        self._state = _Symmetric()
        self._state.mix_hash(prologue)
        self._state.mix_hash(self._public("s") if remote is None else remote)
        self._turn = 0

    @property
    def remote(self) -> bytes:
        """The other side's static public key; the responder knows it once the first message is read."""
        return self._theirs["s"]

    @property
    def hash(self) -> bytes:
        """64 bytes that only these two sides of this very handshake share; no secret."""
        return self._state.hash

    def write(self, payload: bytes) -> bytes:
        """The next message, which carries `payload` encrypted. Raises InputError if `remote` is of low order."""
        try:
            return self._write(payload)
        except ValueError:  # only the initiator's: what it reads from others is checked there
            raise InputError(
                "the pinned public key is none that anybody can hold: ask the other side for its key"
            ) from None

    def _write(self, payload: bytes) -> bytes:
        message = b""
        for token in self._tokens(writing=True):
            if token == "e":
                message += self._public("e")
                self._state.mix_hash(self._public("e"))
            elif token == "s":
                message += self._state.encrypt(self._public("s"))
            else:
                self._mix_product(token)
        return message + self._state.encrypt(payload)

    def read(self, message: bytes) -> bytes:
        """The payload of the other side's message."""
        try:
            return self._read(message)
        except (InvalidTag, ValueError):
            raise PeerRefused("the handshake failed: the other side does not hold the expected key") from None

    def _read(self, message: bytes) -> bytes:
        for token in self._tokens(writing=False):
            if token == "e":
                self._theirs["e"], message = message[:KEY_BYTES], message[KEY_BYTES:]
                self._state.mix_hash(self._theirs["e"])
            elif token == "s":
                length = KEY_BYTES + TAG_BYTES
                self._theirs["s"], message = self._state.decrypt(message[:length]), message[length:]
            else:
                self._mix_product(token)
        return self._state.decrypt(message)

    def split(self) -> tuple[bytes, bytes]:
        """The session keys: this side's for sending, then for receiving."""
        if self._turn != len(PATTERN):
            raise LocalError("session keys exist only after both messages of the handshake")
        first, second = self._state.split()
        return (first, second) if self.initiator else (second, first)

    def _tokens(self, writing: bool) -> tuple[str, ...]:
        if self._turn >= len(PATTERN) or writing != (self.initiator == (self._turn % 2 == 0)):
            raise LocalError("this handshake message is not due")
        self._turn += 1
        return PATTERN[self._turn - 1]

    def _mix_product(self, token: str) -> None:
        mine, theirs = (token[0], token[1]) if self.initiator else (token[1], token[0])
        remote = X25519PublicKey.from_public_bytes(self._theirs[theirs])
        self._state.mix_key(self._own[mine].exchange(remote))  # ValueError for a point of low order

    def _public(self, which: str) -> bytes:
        return self._own[which].public_key().public_bytes_raw()
