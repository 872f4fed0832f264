"""What must never happen twice, kept through crashes: tapes are spent once, and no mask of weights serves two models.

A ledger is one SQLite file with full synchronisation: an entry is on disk before its caller goes on.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import InputError, LocalError, TapeError

__all__ = ["Ledger", "ModelKey"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spent (tape BLOB PRIMARY KEY, party INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, model TEXT NOT NULL, client TEXT NOT NULL, seed BLOB NOT NULL UNIQUE,
                                 UNIQUE (model, client)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class ModelKey:
    """The seed of every R_W of one (model digest, dealer, client). `id` is public; the seed is not, and never shows."""

    id: str
    model: str
    client: str
    seed: bytes = field(repr=False)


class Ledger:
    """Open with a path; every method is one transaction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = not path.exists()
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
            if new:
                path.chmod(0o600)
        except (OSError, sqlite3.Error) as e:
            raise LocalError(f"cannot open the ledger {path}: {e}") from e

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Cursor]:
        cursor = self._db.cursor()
        try:
            cursor.execute("BEGIN IMMEDIATE")
            yield cursor
            cursor.execute("COMMIT")
        except sqlite3.IntegrityError:
            cursor.execute("ROLLBACK")
            raise
        except sqlite3.Error as e:
            raise LocalError(f"cannot write the ledger {self.path}: {e}") from e

    def spend(self, tape: bytes, party: int) -> None:
        """Record a tape as spent. Raises TapeError if it was already: one-time keys are used once."""
        try:
            with self._writing() as cursor:
                cursor.execute("INSERT INTO spent VALUES (?, ?)", (tape, party))
        except sqlite3.IntegrityError:
            raise TapeError(f"tape {tape.hex()[:12]} was spent already: deal a new one") from None

    def spent(self, tape: bytes) -> bool:
        return self._db.execute("SELECT 1 FROM spent WHERE tape = ?", (tape,)).fetchone() is not None

    def model_key(self, model: str, client: str) -> ModelKey:
        """The dealer's key for a model and a client, made on first use. Another model never gets the same seed."""
        row = self._db.execute("SELECT id, seed FROM keys WHERE model = ? AND client = ?", (model, client)).fetchone()
        if row is None:
            key = ModelKey(secrets.token_hex(16), model, client, secrets.token_bytes(16))
            self._store(key)
            return key
        return ModelKey(row[0], model, client, row[1])

    def key(self, identifier: str) -> ModelKey:
        """A model key by its id. Raises InputError if this ledger has none."""
        row = self._db.execute("SELECT model, client, seed FROM keys WHERE id = ?", (identifier,)).fetchone()
        if row is None:
            raise InputError(f"no model key {identifier[:12]} is known here: pair first")
        return ModelKey(identifier, *row)

    def find_key(self, model: str, client: str) -> ModelKey | None:
        """The key of exactly this model and client, if there is one."""
        row = self._db.execute("SELECT id, seed FROM keys WHERE model = ? AND client = ?", (model, client)).fetchone()
        return None if row is None else ModelKey(row[0], model, client, row[1])

    def adopt(self, key: ModelKey) -> None:
        """An owner keeps the key that the dealer gave it. Raises InputError for a seed that serves another model."""
        held = self.find_key(key.model, key.client)
        if held == key:
            return
        self._store(key)

    def _store(self, key: ModelKey) -> None:
        try:
            with self._writing() as cursor:
                cursor.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (key.id, key.model, key.client, key.seed))
        except sqlite3.IntegrityError:
            raise InputError(
                f"model key {key.id[:12]} clashes with one in the ledger: a key serves one model and one client only"
            ) from None

    def close(self) -> None:
        self._db.close()
