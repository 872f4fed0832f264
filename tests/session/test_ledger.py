"""The ledger: spent once, by one process of many, through crashes; model keys bound to one model and client."""

from __future__ import annotations

import multiprocessing
import sqlite3
import stat
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from engine.errors import InputError, LocalError, TapeError
from engine.ledger import Ledger, ModelKey
from tests.session.disk import full_disk

TAPE = bytes(range(16))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "ledger.sqlite"


def test_a_tape_is_spent_once_by_each_party(path: Path) -> None:
    ledger = Ledger(path)
    ledger.spend(TAPE, 0)
    assert ledger.spent(TAPE, 0) and not ledger.spent(TAPE, 1)
    ledger.spend(TAPE, 1)
    for party in (0, 1):
        with pytest.raises(TapeError, match=r"tape 000102030405 was spent already: deal a new one"):
            ledger.spend(TAPE, party)


def test_what_was_spent_stays_spent_for_the_next_process(path: Path) -> None:
    Ledger(path).spend(TAPE, 0)  # never closed, as in a crash
    assert Ledger(path).spent(TAPE, 0)


def _spend(path: Path, start: Barrier, results: multiprocessing.Queue[str]) -> None:
    ledger = Ledger(path)
    start.wait()
    for number in range(10):
        try:
            ledger.spend(number.to_bytes(16, "big"), 0)
            results.put(f"spent {number}")
        except TapeError:
            results.put("refused")


def test_of_two_processes_that_spend_the_same_tapes_exactly_one_succeeds(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_spend, args=(path, start, results)) for _ in range(2)]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=60) for _ in range(20)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(o for o in outcomes if o != "refused") == sorted(f"spent {n}" for n in range(10))


def test_a_commit_is_on_disk_with_its_journals_deletion(path: Path) -> None:
    """synchronous = EXTRA (3): FULL does not sync the folder after the rollback journal goes, and a power cut would
    bring the journal back, and a spent tape with it."""
    database = Ledger(path)._db
    assert database.execute("PRAGMA synchronous").fetchone() == (3,)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_transaction_that_was_cut_off_is_rolled_back(path: Path) -> None:
    """A journal that a crash left behind: what was not committed was not spent, and the next process can write."""
    Ledger(path).close()
    crashed = sqlite3.connect(path, isolation_level=None)
    crashed.execute("BEGIN IMMEDIATE")
    crashed.execute("INSERT INTO spent VALUES (?, 0)", (TAPE,))
    crashed.close()
    ledger = Ledger(path)
    assert not ledger.spent(TAPE, 0)
    ledger.spend(TAPE, 0)


def test_only_its_user_can_read_it(path: Path) -> None:
    Ledger(path).model_key("m" * 64, "c")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_ledger_that_another_process_holds(path: Path) -> None:
    ledger = Ledger(path, patience=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LocalError, match=r"cannot write the ledger .*: database is locked"):
        ledger.spend(TAPE, 0)
    with pytest.raises(LocalError, match=r"cannot read the ledger .*: database is locked"):
        ledger.spent(TAPE, 0)
    other.execute("ROLLBACK")
    ledger.spend(TAPE, 0)


def test_a_ledger_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(path)
    ledger._db.execute("PRAGMA query_only = 1")  # as a read-only file is; root may write those
    with pytest.raises(LocalError, match=r"cannot write the ledger .*readonly"):
        ledger.spend(TAPE, 0)
    assert not ledger.spent(TAPE, 0)


def test_a_full_disk_spends_nothing(path: Path) -> None:
    ledger = Ledger(path)
    with full_disk(100), pytest.raises(LocalError, match=r"cannot write the ledger"):
        ledger.spend(TAPE, 0)
    assert not ledger.spent(TAPE, 0)
    ledger.spend(TAPE, 0)


@pytest.mark.parametrize("content", [b"these are not tables at all" * 100, b"SQLite format 3\0" + bytes(4000)])
def test_a_damaged_ledger(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(LocalError, match=r"the ledger .*ledger.sqlite: "):
        Ledger(path)


def test_a_folder_in_its_place(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(LocalError, match=r"cannot open the ledger"):
        Ledger(path)


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match=r"cannot make the folder .*: (Not a directory|File exists)"):
        Ledger(tmp_path / "file" / "home" / "ledger.sqlite")


# ---------------------------------------------------------------------- model keys
def test_a_model_key_is_made_once_for_a_model_and_a_client(path: Path) -> None:
    ledger = Ledger(path)
    key = ledger.model_key("model", "client")
    assert ledger.model_key("model", "client") == Ledger(path).model_key("model", "client") == key
    others = [ledger.model_key("model 2", "client"), ledger.model_key("model", "client 2")]
    assert len({k.seed for k in (key, *others)}) == len({k.id for k in (key, *others)}) == 3
    assert ledger.key(key.id) == key
    assert ledger.find_key("model 3", "client") is None


def test_two_dealers_on_one_ledger_make_one_key(path: Path) -> None:
    """The second looks before the first has written."""
    first, second = Ledger(path), Ledger(path)
    looked = iter([None])
    find = second.find_key
    second.find_key = lambda m, c: next(looked, None) or find(m, c)  # type: ignore[method-assign]
    made = first.model_key("model", "client")
    assert second.model_key("model", "client") == made


def test_an_unknown_key(path: Path) -> None:
    with pytest.raises(InputError, match=r"no model key 000000000000 is known here"):
        Ledger(path).key("0" * 32)


def test_a_key_serves_one_model_and_client(path: Path) -> None:
    ledger = Ledger(path)
    key = ModelKey("id 1", "model", "client", bytes(16))
    ledger.adopt(key)
    ledger.adopt(key)
    clashes = [
        ModelKey(
            "id 2", "another model", "client", bytes(16)
        ),  # the same masks under two models reveal their difference
        ModelKey("id 1", "another model", "client", bytes(15) + b"1"),
        ModelKey("id 3", "model", "client", bytes(15) + b"2"),
    ]
    for clash in clashes:
        with pytest.raises(InputError, match=r"clashes with one in .*: a key serves one model and one client"):
            ledger.adopt(clash)
    assert ledger.find_key("model", "client") == key
