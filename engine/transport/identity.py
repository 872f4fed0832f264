"""Who a side is: a Curve25519 key pair in a folder. Public keys are written as 64 hexadecimal digits."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from engine.errors import InputError

__all__ = ["Identity", "check_public_key", "create", "load"]

PUBLIC_FILE, SECRET_FILE = "public.key", "secret.key"
KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Identity:
    """public: the key that peers pin; secret: 32 bytes that appear in no repr."""

    public: str
    secret: bytes = field(repr=False)


def check_public_key(text: str) -> str:
    """The key in lower case. Raises InputError unless it is 64 hexadecimal digits."""
    key = text.strip().lower()
    if not KEY.fullmatch(key):
        raise InputError(f"a public key has 64 hexadecimal digits, not the {len(key)} characters given")
    return key


def create(folder: Path) -> Identity:
    """Makes a new key pair in `folder`, which is created if need be; the secret file is readable by its owner only.

    Raises InputError if the folder holds an identity already, or cannot be written.
    """
    secret = os.urandom(32)
    identity = Identity(_public_of(secret), secret)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_new(folder / SECRET_FILE, secret.hex(), 0o600)
        _write_new(folder / PUBLIC_FILE, identity.public, 0o644)
    except FileExistsError as error:
        raise InputError(f"{error.filename} exists already: an identity is never overwritten") from None
    except OSError as error:
        raise InputError(f"cannot write an identity to {folder}: {error.strerror}") from None
    return identity


def load(folder: Path) -> Identity:
    """The identity in `folder`. Raises InputError for missing, malformed, mismatched or widely readable files."""
    secret_file = folder / SECRET_FILE
    secret = bytes.fromhex(_read_key(secret_file))
    if secret_file.stat().st_mode & 0o077:
        raise InputError(f"{secret_file} can be read by others: set its mode to 0600, and replace the key if it leaked")
    public = _read_key(folder / PUBLIC_FILE)
    if public != _public_of(secret):
        raise InputError(f"{folder / PUBLIC_FILE} does not belong to the secret key beside it")
    return Identity(public, secret)


def _write_new(path: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="ascii") as file:
        file.write(text + "\n")


def _read_key(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise InputError(f"there is no {path}: create an identity first") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a key: {type(error).__name__}") from None
    if not KEY.fullmatch(text):
        raise InputError(f"{path} does not hold a key of 64 hexadecimal digits")
    return text


def _public_of(secret: bytes) -> str:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw().hex()
