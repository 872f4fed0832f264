"""No seed, key, text, token or mask in a log line, a repr or an error."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from engine.dealing import DealerClient, DealerService
from engine.errors import RoundelayError
from engine.handshake import deliberate, whereabouts
from engine.home import Home
from engine.kernels import get_kernels
from engine.models.text import Tokenizer
from engine.parameters import DealerParameters, MaskSource
from engine.scheduler.link import Link
from engine.tape import HEADER_BYTES, TapeHeader
from engine.transport.memory import memory_pair
from tests.scheduler.parties import Parties
from tests.session.stage import CLIENT, OWNER, Broken, Stage, checkpoint, ids

TEXT = "the red dog sat"


def forms(secret: bytes) -> list[str]:
    """How bytes could show: hexadecimal, a bytes literal, a list of numbers, the digits of an integer."""
    return [
        secret.hex(), secret.hex().upper(), repr(secret)[2:-1], ", ".join(map(str, secret)),
        str(int.from_bytes(secret, "little")), str(int.from_bytes(secret, "big")),
        str(int(np.frombuffer(secret, np.uint64)[0])), str(np.frombuffer(secret, np.uint8)),
    ]  # fmt: skip


def clean(shown: str, *secrets: bytes) -> None:
    for secret in secrets:
        for form in forms(secret):
            assert form not in shown


async def test_logs_of_every_role_name_sizes_and_peers_only(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seeds: list[bytes] = []
    decode = TapeHeader.decode

    def remember(data: bytes, where: str) -> TapeHeader:
        header = decode(data, where)
        seeds.append(header.seed)
        return header

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TapeHeader, "decode", staticmethod(remember))
        async with stage.session() as session:
            await session.embed([TEXT])
            session.kernels = Broken(stage.kernels, "mask", ValueError(TEXT))  # type: ignore[assignment]
            with pytest.raises(RoundelayError) as caught:
                await session.embed([TEXT])
    key = stage.key()
    assert len(seeds) == 4 and "dealt tape" in caplog.text and "served a run of 6 tokens" in caplog.text
    for shown in (caplog.text, str(caught.value), repr(caught.value)):
        clean(shown, key.seed, *seeds)
        assert TEXT not in shown and "red dog" not in shown
        assert str(list(map(int, ids(TEXT)[0]))) not in shown


async def test_reprs_show_no_secret(stage: Stage) -> None:
    home = Home(stage.path / "someone")
    identity = home.new_identity()
    key = stage.key()
    tape = stage.deal((len(ids(TEXT)[0]),))
    path = stage.client().tape(tape, 0)
    header = TapeHeader.decode(path.read_bytes()[:HEADER_BYTES], "tape")
    masks = MaskSource(stage.kernels, key.seed)
    here, _ = memory_pair()
    async with stage.session(from_files=True) as session:
        result = await session.embed([TEXT])
        shown = [
            home, identity, key, header, masks, DealerParameters(masks), session, session.pairing, session.parameters,
            session.kernels, result, stage.model, stage.owner_service(), stage.owner.ledger, DealerClient(Link(here)),
            DealerService(stage.dealer, OWNER, (CLIENT,), get_kernels()), Tokenizer(checkpoint()), result.timeline,
        ]  # fmt: skip
    weights = [w for w in stage.model.integers.values() if w.size > 100]
    for thing in shown:
        text = f"{thing!r} {thing}"
        clean(text, identity.secret, key.seed, header.seed)
        assert not any(str(w.reshape(-1)[:4])[1:-1] in text for w in weights)
        assert f"{result.outputs[0][0]:.6f}" not in text


async def test_reprs_of_a_running_party_show_no_secret(stage: Stage) -> None:
    parties = Parties.small(TEXT)
    tapes = parties.tapes()
    for party, end in enumerate(memory_pair()):
        executor = parties.executor(party, end, tapes[party])
        state = executor._state(parties.plan.calls[0])
        text = (
            f"{executor!r} {state!r} {parties.setup.parties[party]!r} {parties.setup.dealer!r} {tapes[party].header!r}"
        )
        clean(text, tapes[party].header.seed, parties.setup.dealer.masks.seed)
        assert "one-hot" not in text and "array(" not in text


def test_what_went_wrong_inside_is_told_without_its_message() -> None:
    secret = "0123456789abcdef"
    try:
        raise ValueError(f"seed {secret}")
    except ValueError as failure:
        for shown in (str(deliberate(failure)), whereabouts(failure)):
            assert secret not in shown
            assert "test_secrets.py" in shown


def test_a_text_that_cannot_be_run_is_not_quoted(tmp_path: Path) -> None:
    tokenizer = Tokenizer(checkpoint())
    for text in (TEXT * 50, "\ud800 " + TEXT):
        with pytest.raises(RoundelayError) as caught:
            tokenizer.encode(text)
        assert "dog" not in str(caught.value)
