"""Where a party keeps what must outlive a process: identity, ledger, pairings, tapes. One folder, readable by its user alone.

    HOME/identity/           the Curve25519 key pair
    HOME/ledger.sqlite       spent tapes and model keys
    HOME/models/DIGEST/      a client's pairing: public.json, tokenizer.json, pairing.json, hats/NAME.npy
    HOME/tapes/ID.p0, .p1    tapes that are not spent yet
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engine.errors import LocalError, TapeError
from engine.ledger import Ledger
from engine.tape import HEADER_BYTES, TapeHeader
from engine.transport import identity
from engine.transport.identity import Identity

__all__ = ["Home", "default_home"]


def default_home() -> Path:
    """ROUNDELAY_HOME, else ~/.roundelay."""
    return Path(os.environ.get("ROUNDELAY_HOME") or Path.home() / ".roundelay")


@dataclass(frozen=True)
class Home:
    """One role's folder."""

    path: Path

    @cached_property
    def identity(self) -> Identity:
        """Raises InputError if there is none: `roundelay keygen` makes one."""
        return identity.load(self.path / "identity")

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.path / "ledger.sqlite")

    @property
    def models(self) -> Path:
        return self.path / "models"

    @cached_property
    def tapes(self) -> Path:
        folder = self.path / "tapes"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as e:
            raise LocalError(f"cannot make {folder}: {e.strerror}") from e
        return folder

    def tape(self, tape_id: bytes, party: int) -> Path:
        return self.tapes / f"{tape_id.hex()}.p{party}"

    def unspent(self, party: int, binding: bytes) -> Path | None:
        """A tape for exactly this run that is still unspent; spent ones that a crash left behind are removed."""
        for path in sorted(self.tapes.glob(f"*.p{party}")):
            try:
                with open(path, "rb") as f:
                    header = TapeHeader.decode(f.read(HEADER_BYTES), str(path))
            except (OSError, TapeError):
                continue
            if self.ledger.spent(header.tape):
                path.unlink(missing_ok=True)
            elif header.plan == binding and header.party == party:
                return path
        return None
