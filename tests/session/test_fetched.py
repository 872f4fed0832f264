"""Tapes that a dealer's service sends are for one run: one that never begins leaves nothing of them on either side."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.dealing import DealerClient, Dealing
from engine.errors import PeerError, PeerRefused, RoundelayError
from engine.handshake import binding
from engine.home import STALE_SECONDS, Home
from engine.run import open_fetched
from tests.session.stage import CLIENT, OWNER, Stage, ids

TEXT = ids("the dog ran")


def tapes(stage: Stage) -> set[str]:
    """Files with a tape or a part of one, at both sides."""
    homes = (stage.client(), stage.owner)
    return {p.name for h in homes for d in ("tapes", "fetched") for p in (h.path / d).glob("*") if p.is_file()}


@contextlib.asynccontextmanager
async def refusing() -> AsyncIterator[DealerClient]:
    """What a client meets that has the wrong key of the dealer."""
    raise PeerRefused("at the dealer: its key is another one")
    yield


def vanishing(stage: Stage, after: bool) -> Dealing:
    """A dealer that is gone before it has sent its tape, or before it says goodbye."""

    @contextlib.asynccontextmanager
    async def connection() -> AsyncIterator[DealerClient]:
        async with stage.dealing(CLIENT)() as dealer:
            if not after:
                await dealer.link.channel.aclose()
            yield dealer
        if after:
            raise PeerError("at the dealer: the peer closed the channel")

    return connection


async def fails(stage: Stage, dealer: Dealing, kind: type[RoundelayError], says: str) -> None:
    async with stage.session() as session:
        session.dealer = dealer
        with pytest.raises(kind, match=says):
            await session.run(TEXT)


async def test_a_client_that_cannot_reach_the_dealer_leaves_no_tape_at_the_owner(stage: Stage) -> None:
    for _ in range(2):
        await fails(stage, refusing, PeerRefused, "its key is another one")
        assert tapes(stage) == set()
    async with stage.session() as session:
        await session.run(TEXT)
    assert tapes(stage) == set()


@pytest.mark.parametrize("after", [False, True])
async def test_a_dealer_that_vanishes_leaves_no_tape_on_either_side(stage: Stage, after: bool) -> None:
    await fails(stage, vanishing(stage, after), RoundelayError, "closed|failed")
    assert tapes(stage) == set()


async def test_a_tape_that_was_altered_on_its_way_is_gone_too(stage: Stage) -> None:
    plan, key = stage.model.public.plan((5,)), stage.key()
    service = stage.dealing(OWNER)
    async with service() as dealer:
        tape = await dealer.deal(stage.model.public, plan, key.id, (5,), stage.owner)
    path = stage.owner.fetched(tape, 1)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RoundelayError, match="altered"):
        await open_fetched(stage.owner, tape, 1, binding(plan, key.id))
    assert tapes(stage) == set()


async def test_a_tape_has_no_file_from_when_it_is_open(stage: Stage) -> None:
    plan, key = stage.model.public.plan((5,)), stage.key()
    async with stage.dealing(OWNER)() as dealer:
        tape = await dealer.deal(stage.model.public, plan, key.id, (5,), stage.owner)
    assert tapes(stage) == {f"{tape.hex()}.p1"}
    reader = await open_fetched(stage.owner, tape, 1, binding(plan, key.id))
    assert tapes(stage) == set() and not stage.owner.ledger.spent(tape, 1)
    assert reader.read(64).size == 64
    reader.close()
    with pytest.raises(RoundelayError, match="this side has no tape"):
        await open_fetched(stage.owner, tape, 1, binding(plan, key.id))


def aged(path: Path, seconds: float) -> Path:
    path.write_bytes(b"a piece of a tape")
    at = path.stat().st_mtime - seconds
    os.utime(path, (at, at))
    return path


def test_what_a_process_that_died_left_goes_and_what_another_is_fetching_stays(tmp_path: Path) -> None:
    place = Home(tmp_path).fetched(bytes(16), 1).parent
    old = [aged(place / name, STALE_SECONDS + 60) for name in ("aa.p1", "bb.p0.part")]
    new = [aged(place / name, STALE_SECONDS - 60) for name in ("cc.p1", "dd.p0.part")]
    Home(tmp_path).fetched(bytes(16), 0)
    assert not any(p.exists() for p in old) and all(p.exists() for p in new)


async def test_a_tape_brought_by_hand_stays_until_it_is_spent(stage: Stage) -> None:
    """A run that failed before it began spends nothing: the pair serves the next one."""
    tape = stage.deal((len(TEXT[0]),))
    async with stage.session(from_files=True) as session:
        stage.owner.tape(tape, 1).rename(stage.path / "aside")
        with pytest.raises(RoundelayError):
            await session.run(TEXT)
    (stage.path / "aside").rename(stage.owner.tape(tape, 1))
    async with stage.session(from_files=True) as session:
        await session.run(TEXT)
    assert tapes(stage) == set()
