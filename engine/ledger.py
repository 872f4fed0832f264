"""What must never happen twice, kept through crashes: tapes are spent once, and no mask of weights serves two models.

A ledger is one SQLite file. Its rollback journal is deleted at commit; with synchronous = EXTRA the folder is synced
after that too, or a power cut could bring the journal back, and with it a spent tape as unspent.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import InputError, LocalError, TapeError
from engine.files import private_folder

__all__ = ["Ledger", "ModelKey"]

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS spent (tape BLOB NOT NULL, party INTEGER NOT NULL, PRIMARY KEY (tape, party))
       WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, model TEXT NOT NULL, client TEXT NOT NULL,
       seed BLOB NOT NULL UNIQUE, UNIQUE (model, client)) WITHOUT ROWID""",
)
_KEY = "SELECT id, model, client, seed FROM keys WHERE "


@dataclass(frozen=True, slots=True)
class ModelKey:
    """The seed of every R_W of one (model digest, dealer, client). `id` is public; the seed is not, and never shows."""

    id: str
    model: str
    client: str
    seed: bytes = field(repr=False)


class Ledger:
    """Open with a path; every method is one transaction. Raises LocalError if the file cannot be read or written; waits
    `patience` seconds for another process that writes."""

    def __init__(self, path: Path, patience: float = 10.0) -> None:
        self.path = path
        private_folder(path.parent)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDONLY, 0o600))
            self._db = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA synchronous = EXTRA")
        except (OSError, sqlite3.Error) as e:
            raise LocalError(f"cannot open the ledger {path}: {e}") from e
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'keys'"):
            with self._writing() as cursor:
                for table in _SCHEMA:
                    cursor.execute(table)

    def _rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as e:
            raise LocalError(f"cannot read the ledger {self.path}: {e}") from e

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Cursor]:
        """A transaction. An IntegrityError is the caller's to explain."""
        cursor = self._db.cursor()
        try:
            cursor.execute("BEGIN IMMEDIATE")
            yield cursor
            cursor.execute("COMMIT")
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as e:
            raise LocalError(f"cannot write the ledger {self.path}: {e}") from e
        finally:
            if self._db.in_transaction:
                with suppress(sqlite3.Error):  # the first error is the one to tell; the next opening rolls back too
                    self._db.rollback()

    def spend(self, tape: bytes, party: int) -> None:
        """Record a tape as spent. Raises TapeError if it was already: one-time keys are used once."""
        try:
            with self._writing() as cursor:
                cursor.execute("INSERT INTO spent VALUES (?, ?)", (tape, party))
        except sqlite3.IntegrityError:
            raise TapeError(f"tape {tape.hex()[:12]} was spent already: deal a new one") from None

    def spent(self, tape: bytes, party: int) -> bool:
        """Whether this party's tape of a pair was spent here."""
        return bool(self._rows("SELECT 1 FROM spent WHERE tape = ? AND party = ?", tape, party))

    def model_key(self, model: str, client: str) -> ModelKey:
        """The dealer's key for a model and a client, made on first use. Another model never gets the same seed."""
        held = self.find_key(model, client)
        if held is not None:
            return held
        fresh = (secrets.token_hex(16), model, client, secrets.token_bytes(16))
        with self._writing() as cursor:  # another process may have made it meanwhile: then that one counts
            cursor.execute("INSERT INTO keys VALUES (?, ?, ?, ?) ON CONFLICT (model, client) DO NOTHING", fresh)
        made = self.find_key(model, client)
        assert made is not None
        return made

    def key(self, identifier: str) -> ModelKey:
        """A model key by its id. Raises InputError if this ledger has none."""
        rows = self._rows(_KEY + "id = ?", identifier)
        if not rows:
            raise InputError(
                f"no model key {identifier[:12]} is known here: it is another dealer's, or its ledger was lost"
            )
        return _model_key(rows[0])

    def find_key(self, model: str, client: str) -> ModelKey | None:
        """The key of exactly this model and client, if there is one."""
        rows = self._rows(_KEY + "model = ? AND client = ?", model, client)
        return _model_key(rows[0]) if rows else None

    def adopt(self, key: ModelKey) -> None:
        """An owner keeps the key that the dealer gave it. Raises InputError for a seed that serves another model, and
        for a second key of one model and client."""
        if self.find_key(key.model, key.client) == key:
            return
        try:
            with self._writing() as cursor:
                cursor.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (key.id, key.model, key.client, key.seed))
        except sqlite3.IntegrityError:
            raise InputError(
                f"model key {key.id[:12]} clashes with one in {self.path}: a key serves one model and one client, and "
                "a model has one dealer (to change the dealer, compile the model again)"
            ) from None

    def close(self) -> None:
        self._db.close()


def _model_key(row: tuple[object, ...]) -> ModelKey:
    identifier, model, client, seed = row
    assert isinstance(seed, bytes)
    return ModelKey(str(identifier), str(model), str(client), seed)
