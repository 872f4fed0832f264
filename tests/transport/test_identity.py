"""Key pairs in folders: their files, their modes, and what is said when something is wrong with them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.transport.identity import Identity, check_public_key, create, load


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return create(tmp_path / "me")


def test_what_was_created_is_loaded(tmp_path: Path, identity: Identity) -> None:
    assert load(tmp_path / "me") == identity
    assert stat.S_IMODE((tmp_path / "me" / "secret.key").stat().st_mode) == 0o600
    assert (tmp_path / "me" / "public.key").read_text().strip() == identity.public
    assert create(tmp_path / "other").public != identity.public


def test_the_secret_is_in_no_repr(identity: Identity) -> None:
    assert identity.secret.hex() not in repr(identity) and "secret" not in repr(identity)


def test_an_identity_is_never_overwritten(tmp_path: Path, identity: Identity) -> None:
    with pytest.raises(InputError, match="exists already"):
        create(tmp_path / "me")
    assert load(tmp_path / "me") == identity


@pytest.mark.parametrize("name", ["public.key", "secret.key"])
@pytest.mark.parametrize("text", ["", "00", "g" * 64, "\xff" * 64])
def test_malformed_files_are_named_and_not_shown(tmp_path: Path, identity: Identity, name: str, text: str) -> None:
    path = tmp_path / "me" / name
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=name) as caught:
        load(tmp_path / "me")
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("name", ["public.key", "secret.key"])
def test_missing_files_are_named(tmp_path: Path, identity: Identity, name: str) -> None:
    (tmp_path / "me" / name).unlink()
    with pytest.raises(InputError, match=f"there is no .*{name}"):
        load(tmp_path / "me")


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, identity: Identity) -> None:
    (tmp_path / "me" / "secret.key").chmod(0o640)
    with pytest.raises(InputError, match="0600"):
        load(tmp_path / "me")


def test_keys_that_do_not_belong_together_are_refused(tmp_path: Path, identity: Identity) -> None:
    (tmp_path / "me" / "public.key").write_text(create(tmp_path / "other").public)
    with pytest.raises(InputError, match="does not belong"):
        load(tmp_path / "me")


def test_public_keys_are_checked() -> None:
    assert check_public_key(" " + "AB" * 32 + "\n") == "ab" * 32
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        check_public_key("ab")
