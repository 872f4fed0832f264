"""Tapes are used once, whole, and for the run that they were dealt for: everything else ends before any data moves."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.errors import LocalError, PeerError, RoundelayError, TapeError
from engine.scheduler.executor import Executor
from engine.session import ClientSession
from engine.tape import HEADER_BYTES
from tests.session.stage import OTHER, Stage, ids

TEXT = ids("the dog ran")


async def fails(session: ClientSession, kind: type[RoundelayError], sentence: str) -> None:
    """The run is refused, and neither openings nor messages of the prepare phase have left this side."""
    with pytest.raises(kind, match=sentence):
        await session.run(TEXT)
    assert session.link.sent == {"prepare": 0, "online": 0, "bulk": 0}
    assert session.link.rounds == set()


@pytest.fixture
def tape(stage: Stage) -> bytes:
    return stage.deal((len(TEXT[0]),))


@pytest.fixture
def paths(stage: Stage, tape: bytes) -> list[Path]:
    return [stage.client().tape(tape, 0), stage.owner.tape(tape, 1)]


@pytest.mark.parametrize("party", [0, 1])
async def test_a_tape_that_was_copied_back_is_refused(
    stage: Stage, tape: bytes, paths: list[Path], party: int, tmp_path: Path
) -> None:
    for p in paths:
        shutil.copy(p, tmp_path)
    async with stage.session(from_files=True) as session:
        await session.run(TEXT)
    shutil.copy(tmp_path / paths[party].name, paths[party])
    async with stage.session(from_files=True) as session:
        await fails(session, TapeError, "no unspent tape for this run is in .*: deal one with --tokens 5")
    if party == 0:
        assert not paths[0].exists(), "a spent tape is swept away"


async def test_a_pair_that_was_copied_back_to_a_new_client_home_is_refused_by_the_owner(
    stage: Stage, tape: bytes, paths: list[Path], tmp_path: Path
) -> None:
    for p in paths:
        shutil.copy(p, tmp_path)
    async with stage.session(from_files=True) as session:
        await session.run(TEXT)
    for p in paths:
        shutil.copy(tmp_path / p.name, p)
    for file in stage.client().path.glob("ledger*"):
        file.unlink()
    async with stage.session(from_files=True) as session:
        await fails(session, PeerError, "gave up: none of the client's 1 tape for this run is here unspent")


@pytest.mark.parametrize("party", [0, 1])
async def test_a_run_that_crashed_has_spent_its_tape(
    stage: Stage, tape: bytes, paths: list[Path], party: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = Executor.prepare

    async def crash(self: Executor) -> None:
        if self.party == party:
            raise RuntimeError("power cut")
        await prepare(self)

    monkeypatch.setattr(Executor, "prepare", crash)
    async with stage.session(from_files=True) as session:
        with pytest.raises((LocalError, PeerError)):
            await session.run(TEXT)
    monkeypatch.undo()
    home = (stage.client(), stage.owner)[party]
    assert home.ledger.spent(tape, party)
    async with stage.session(from_files=True) as session:
        await fails(session, RoundelayError, "no unspent tape|none of the client's 1 tape")


async def test_a_tape_that_one_side_lacks(stage: Stage, paths: list[Path]) -> None:
    paths[1].unlink()
    async with stage.session(from_files=True) as session:
        await fails(session, PeerError, "gave up: none of the client's 1 tape .*: deal a new pair")
    assert paths[0].exists(), "nothing was spent for it"
    paths[0].unlink()
    async with stage.session(from_files=True) as session:
        await fails(session, TapeError, "no unspent tape for this run")


async def test_a_tape_of_another_plan_is_no_tape_for_this_run(stage: Stage) -> None:
    stage.deal((len(TEXT[0]) + 1,))
    async with stage.session(from_files=True) as session:
        await fails(session, TapeError, "no unspent tape for this run")


async def test_a_tape_of_another_client_is_no_tape_for_this_run(stage: Stage) -> None:
    foreign = stage.deal((len(TEXT[0]),), OTHER)
    shutil.copy(stage.client(OTHER).tape(foreign, 0), stage.client().tape(foreign, 0))
    async with stage.session(from_files=True) as session:
        await fails(session, TapeError, "no unspent tape for this run")


@pytest.mark.parametrize("party", [0, 1])
async def test_a_renamed_tape_is_no_tape_for_this_run(stage: Stage, tape: bytes, paths: list[Path], party: int) -> None:
    """A spent tape under the name of an unspent one would pass for it."""
    paths[party].rename(paths[party].with_name(f"{'0' * 32}.p{party}"))
    async with stage.session(from_files=True) as session:
        await fails(session, RoundelayError, "no unspent tape|none of the client's 1 tape")


@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("kept", [HEADER_BYTES, HEADER_BYTES + 1000, -1, -32, -33])
async def test_a_truncated_tape(stage: Stage, paths: list[Path], party: int, kept: int) -> None:
    data = paths[party].read_bytes()
    paths[party].write_bytes(data[:kept])
    async with stage.session(from_files=True) as session:
        await fails(session, TapeError if party == 0 else PeerError, "is truncated")
    assert all(p.exists() for p in paths), "nothing was spent for it"


@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("place", [HEADER_BYTES - 20, HEADER_BYTES, HEADER_BYTES + 12345, -33, -1])
async def test_a_tape_with_one_flipped_bit(stage: Stage, paths: list[Path], party: int, place: int) -> None:
    data = np.fromfile(paths[party], np.uint8)
    data[place] ^= 1
    data.tofile(paths[party])
    async with stage.session(from_files=True) as session:
        await fails(session, TapeError if party == 0 else PeerError, "was altered: its checksum does not match")


async def test_a_tape_that_has_grown(stage: Stage, paths: list[Path]) -> None:
    with open(paths[0], "ab") as f:
        f.write(b"\0")
    async with stage.session(from_files=True) as session:
        await fails(session, TapeError, "was altered")


@pytest.mark.parametrize("party", [0, 1])
async def test_a_tape_that_cannot_be_read(stage: Stage, paths: list[Path], party: int) -> None:
    """Under the name of a tape, something else."""
    paths[party].write_bytes(b"not a tape at all")
    async with stage.session(from_files=True) as session:
        await fails(session, RoundelayError, "no unspent tape|none of the client's 1 tape")


async def test_a_tape_that_another_process_spends_meanwhile(
    stage: Stage, tape: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After both sides have verified it, and before the run begins."""
    ledger = stage.client().ledger
    async with stage.session(from_files=True) as session:
        spend = session.home.ledger.spend

        def late(tape_id: bytes, party: int) -> None:
            ledger.spend(tape_id, party)
            spend(tape_id, party)

        monkeypatch.setattr(session.home.ledger, "spend", late)
        await fails(session, TapeError, "was spent already: deal a new one")
