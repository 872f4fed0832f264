"""Files and folders that hold secrets: for their user alone, whole or not there at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from engine.errors import LocalError

__all__ = ["file_digest", "private_folder", "whole_file"]


def private_folder(path: Path) -> Path:
    """The folder; whatever of it has to be made, parents too, is for its user alone. Raises LocalError."""
    try:
        for folder in reversed([path, *path.parents]):
            folder.mkdir(exist_ok=True, mode=0o700)  # unlike parents=True, which gives the mode to the last alone
    except OSError as e:
        raise LocalError(f"cannot make the folder {path}: {e.strerror}") from e
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file of mode 0600 to write: it appears under its name when the body ends well, on disk, or not at all.
    Raises LocalError."""
    part = path.with_name(path.name + ".part")
    try:
        with open(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, path)
    except OSError as e:
        raise LocalError(f"cannot write {path}: {e.strerror or e}") from e
    finally:
        part.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal. Raises OSError."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
