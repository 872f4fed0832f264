"""Where a party keeps what must outlive a process: identity, ledger, pairings, tapes. A folder for its user alone.

HOME/identity/           the Curve25519 key pair
HOME/ledger.sqlite       spent tapes and model keys
HOME/models/DIGEST/      a client's pairing: public.json, tokenizer.json, pairing.json, hats/NAME.npy
HOME/tapes/ID.p0, .p1    tapes that were brought by hand and are not spent yet
HOME/fetched/            tapes that a dealer's service is sending for a run; gone once they are open
HOME/keys/ID.json        model keys that a dealer wrote to files; an owner's ledger takes them in when they are needed
HOME/waiting/CLIENT/     a dealer's: tapes that its service has dealt and the client has not fetched yet
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engine.errors import InputError, TapeError
from engine.files import private_folder, whole_file
from engine.ledger import Ledger, ModelKey
from engine.tape import HEADER_BYTES, TapeHeader
from engine.transport import identity
from engine.transport.identity import Identity

__all__ = ["Home", "default_home"]

STALE_SECONDS = 24 * 3600
"""Without a byte more: longer than any tape takes to come."""


def default_home() -> Path:
    """ROUNDELAY_HOME, else ~/.roundelay."""
    return Path(os.environ.get("ROUNDELAY_HOME") or Path.home() / ".roundelay")


@dataclass(frozen=True)
class Home:
    """One role's folder. What cannot be made or written raises LocalError."""

    path: Path

    @cached_property
    def identity(self) -> Identity:
        """Raises InputError if there is none: `roundelay keygen` makes one."""
        if not (self.path / "identity").exists():
            raise InputError(
                f"there is no identity in {self.path}: run `roundelay keygen` first, or name another --home"
            )
        return identity.load(self.path / "identity")

    def new_identity(self) -> Identity:
        """Raises InputError if there is one already: an identity is never overwritten."""
        folder = self.path / "identity"
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"an identity is in {folder} already, with public key {self.identity.public}: it stays")
        return identity.create(private_folder(folder))

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.path / "ledger.sqlite")

    @property
    def models(self) -> Path:
        return self.path / "models"

    @cached_property
    def tapes(self) -> Path:
        return private_folder(self.path / "tapes")

    def tape(self, tape_id: bytes, party: int) -> Path:
        return self.tapes / f"{tape_id.hex()}.p{party}"

    def fetched(self, tape_id: bytes, party: int) -> Path:
        """Where a tape from a dealer's service lies until it is opened."""
        return self._fetched / f"{tape_id.hex()}.p{party}"

    @cached_property
    def _fetched(self) -> Path:
        """Without what processes that died left there: nothing is fetched for as long as a day."""
        folder = private_folder(self.path / "fetched")
        for path in folder.iterdir():
            with suppress(FileNotFoundError):  # another process looks too
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()
        return folder

    def waiting(self, client: str) -> Path:
        """Where a dealer keeps what a client has not fetched."""
        return private_folder(self.path / "waiting" / client)

    def unspent(self, party: int, binding: bytes) -> list[bytes]:
        """Ids of the tapes for exactly this run that are still unspent; spent ones that a crash left are removed."""
        found = []
        for path, header in self._headers(party):
            if self.ledger.spent(header.tape, party):
                path.unlink(missing_ok=True)
            elif header.plan == binding:
                found.append(header.tape)
        return found

    def _headers(self, party: int) -> Iterator[tuple[Path, TapeHeader]]:
        for path in sorted(self.tapes.glob(f"*.p{party}")):
            try:
                with open(path, "rb") as f:
                    header = TapeHeader.decode(f.read(HEADER_BYTES), str(path))
            except (OSError, TapeError):
                continue
            if header.party == party and path == self.tape(header.tape, party):
                yield path, header

    # ------------------------------------------------------------------ model keys in files
    def put_key(self, key: ModelKey) -> None:
        """Write a model key for its owner to bring home."""
        with whole_file(private_folder(self.path / "keys") / f"{key.id}.json") as f:
            f.write(
                json.dumps({"key": key.id, "model": key.model, "client": key.client, "seed": key.seed.hex()}).encode()
            )

    def find_key(self, model: str, client: str) -> ModelKey | None:
        """The key of this model and client, from the ledger, or from a file, which the ledger then takes in.
        Raises InputError for a key that clashes with one in the ledger."""
        held = self.ledger.find_key(model, client)
        if held is not None:
            return held
        for key in self._key_files():
            if (key.model, key.client) == (model, client):
                self.ledger.adopt(key)
                return key
        return None

    def _key_files(self) -> Iterator[ModelKey]:
        for path in sorted((self.path / "keys").glob("*.json")):
            try:
                data = json.loads(path.read_text())
                yield ModelKey(str(data["key"]), str(data["model"]), str(data["client"]), bytes.fromhex(data["seed"]))
            except (OSError, ValueError, TypeError, KeyError):
                raise InputError(f"{path} is not a model key: bring the dealer's file over again") from None
