"""Sealed records without sockets: their layout, and everything an attacker on the path can do to them."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from hashlib import blake2b

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.errors import LocalError, PeerError
from engine.transport import sealed
from engine.transport.handshake import Session
from engine.transport.sealed import HEADER, Opener, Record, Sealer
from tests.transport.pairs import sealed_record, sessions


def opened(opener: Opener, record: bytes) -> bytes:
    return opener.open(*HEADER.unpack_from(record), record[HEADER.size :])


def test_a_record_has_its_documented_layout() -> None:
    a, b = sessions()
    record = sealed_record(a.sealer, Record.MESSAGE, 5, b"hello")
    assert record[:8] == struct.pack("<II", 2, 5) and len(record) == 8 + 5 + 16
    assert b"hello" not in record and opened(b.opener, record) == b"hello"


def test_a_record_by_the_library_alone() -> None:
    """Key, nonce and associated data written out once more, from the documentation."""
    key, session = os.urandom(32), os.urandom(64)
    sealer = Sealer(key, session, "client")
    binding = blake2b(session, digest_size=16, person=b"client").digest()
    for number in range(3):
        record = sealed_record(sealer, Record.MESSAGE, 3, b"abc")
        context = binding + struct.pack("<QII", number, 2, 3)
        assert AESGCM(key).decrypt(number.to_bytes(12, "big"), record[8:], context) == b"abc"


def both_ways() -> tuple[Session, Session, list[bytes], list[bytes]]:
    a, b = sessions()
    there = [sealed_record(a.sealer, Record.MESSAGE, 1, bytes([i])) for i in range(4)]
    back = [sealed_record(b.sealer, Record.MESSAGE, 1, bytes([i])) for i in range(4)]
    return a, b, there, back


def altered(record: bytes, at: int) -> bytes:
    return record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :]


ATTACKS: dict[str, Callable[[list[bytes], list[bytes]], list[bytes]]] = {
    "replayed": lambda there, back: [there[0], there[0]],
    "reordered": lambda there, back: [there[1], there[0]],
    "left out": lambda there, back: [there[0], there[2]],
    "truncated body": lambda there, back: [there[0][:8] + there[0][9:]],
    "truncated tag": lambda there, back: [there[0][:-1]],
    "empty": lambda there, back: [there[0][:8]],
    "reflected": lambda there, back: [back[0]],
    "kind changed": lambda there, back: [altered(there[0], 0)],
    "length changed": lambda there, back: [altered(there[0], 4)],
    "body changed": lambda there, back: [altered(there[0], 8)],
    "tag changed": lambda there, back: [altered(there[0], len(there[0]) - 1)],
    "of another session": lambda there, back: [both_ways()[2][0]],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_on_records_are_refused(name: str) -> None:
    _, b, there, back = both_ways()
    *good, bad = ATTACKS[name](there, back)
    for record in good if name != "reordered" else []:
        opened(b.opener, record)
    with pytest.raises(PeerError):
        opened(b.opener, bad if name != "reordered" else there[1])
    with pytest.raises(LocalError):
        opened(b.opener, there[1])


def test_numbers_are_never_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "RECORDS", 3)
    sealer = Sealer(bytes(32), b"", "client")
    assert len({sealed_record(sealer, Record.MESSAGE, 1, b"x") for _ in range(3)}) == 3
    with pytest.raises(LocalError, match="connect again"):
        sealed_record(sealer, Record.MESSAGE, 1, b"x")
