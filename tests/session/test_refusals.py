"""Who may ask whom for what, and what both sides must agree on: every refusal is one sentence, on both sides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.dealing import MOST_WAITING, DealerClient, DealerService
from engine.errors import InputError, LocalError, PeerError, PeerMismatch, PeerTimeout, TapeError
from engine.handshake import VERSION, binding, check_request, compare, request
from engine.kernels import get_kernels
from engine.models.compiled import CompiledModel
from engine.owner import OwnerService
from engine.pairing import find_pairing, receive_pairing
from engine.scheduler.executor import Executor
from engine.scheduler.link import Link
from engine.service import IDLE_SECONDS
from engine.transport.channel import Channel
from engine.transport.memory import memory_pair
from tests.session.stage import CLIENT, DEALER, OTHER, OWNER, Broken, Stage, checkpoint, compiled, ids, served

TEXT = ids("the dog ran")


@pytest.fixture
def anew(tmp_path: Path) -> CompiledModel:
    """The same checkpoint compiled a second time: another salt, so another digest."""
    return compiled(checkpoint(), tmp_path / "anew")


@contextlib.asynccontextmanager
async def owner_link(stage: Stage, client: str = CLIENT, **settings: Any) -> AsyncIterator[Link]:
    async with served(stage.owner_service(**settings).session, client, OWNER, stage.options) as channel:
        yield Link(channel)


@contextlib.asynccontextmanager
async def dealer_link(stage: Stage, asker: str) -> AsyncIterator[Link]:
    service = DealerService(stage.dealer, OWNER, stage.clients, get_kernels())
    async with served(service.session, asker, DEALER, stage.options) as channel:
        yield Link(channel)


# ---------------------------------------------------------------------- a model that changed
async def test_a_model_compiled_anew_is_refused_by_the_owner_until_paired_again(
    stage: Stage, anew: CompiledModel
) -> None:
    old = stage.model.public.digest
    owner = OwnerService(anew, stage.owner, stage.kernels, stage.dealing(OWNER))
    async with stage.session(owner=owner) as session:
        with pytest.raises(PeerError, match=r"gave up: the two sides disagree about the model.*: pair again"):
            await session.run(TEXT)
    first = stage.dealer.ledger.find_key(old, CLIENT)
    stage.model = anew
    async with stage.session() as session:
        await session.run(TEXT)
    second = stage.dealer.ledger.find_key(anew.public.digest, CLIENT)
    assert first is not None and second is not None
    assert first.id != second.id and first.seed != second.seed, "the new model has a new key"
    assert stage.dealer.ledger.find_key(old, CLIENT) == stage.owner.ledger.find_key(old, CLIENT) == first


async def test_a_model_compiled_anew_is_refused_by_the_client(stage: Stage, anew: CompiledModel) -> None:
    """An owner that does not look at what the client says."""

    async def careless(channel: Channel) -> None:
        link = Link(channel)
        hello = await link.request("a request")
        assert hello is not None
        await link.control({**hello, "model": anew.public.digest, "tape": "0" * 32})
        with contextlib.suppress(PeerError):
            await link.request("a complaint")

    await stage.pair()
    stage.deal((len(TEXT[0]),))
    async with stage.session(from_files=True) as session, served(careless, CLIENT, OWNER, stage.options) as channel:
        session.link = Link(channel)
        with pytest.raises(PeerMismatch, match=r"disagree about the model: here .*, there .*: pair again"):
            await session.run(TEXT)


async def test_tapes_of_the_old_model_serve_no_run_of_the_new_one(stage: Stage, anew: CompiledModel) -> None:
    tape = stage.deal((len(TEXT[0]),))
    old = stage.key()
    stage.model = anew
    bound = binding(anew.public.plan((len(TEXT[0]),)), stage.key().id)
    assert stage.owner.unspent(1, bound) == []
    stage.model = compiled(checkpoint(), stage.path / "third")
    assert stage.owner.ledger.key(old.id) == old
    assert stage.owner.tape(tape, 1).exists()


async def test_an_owner_whose_key_is_another_one(stage: Stage) -> None:
    """The client's pairing and the owner's ledger belong to different dealers."""
    await stage.pair()
    fields = {"model": stage.model.public.digest, "key": "0" * 32, "plan": "00", "lengths": [5]}
    async with owner_link(stage) as link:
        await link.control(request("owner", "run", **fields))
        with pytest.raises(PeerError, match=r"disagree about the key: .*: pair again"):
            await link.message("an answer")


async def test_sides_whose_plans_differ(stage: Stage) -> None:
    pairing, _ = await stage.pair()
    fields = {"model": stage.model.public.digest, "key": pairing.key, "plan": "00" * 32, "lengths": [5]}
    async with owner_link(stage) as link:
        await link.control(request("owner", "run", **fields))
        with pytest.raises(PeerError, match=r"disagree about the plan: .* \(both sides need the same version"):
            await link.message("an answer")


# ---------------------------------------------------------------------- roles
async def test_a_dealer_asked_as_an_owner(stage: Stage) -> None:
    async with dealer_link(stage, CLIENT) as link:
        await link.control(request("owner", "pair"))
        with pytest.raises(PeerError, match=r"gave up: this is a dealer, and a model owner was asked for: check"):
            await receive_pairing(link, stage.client(), stage.kernels)
    assert not any(stage.client().models.glob("*"))


async def test_an_owner_asked_as_a_dealer(stage: Stage) -> None:
    async with owner_link(stage) as link:
        with pytest.raises(PeerError, match=r"gave up: this is a model owner, and a dealer was asked for"):
            await DealerClient(link).fetch(bytes(16), stage.model.public.plan((5,)), stage.client())


@pytest.mark.parametrize("want", ["key", "deal"])
async def test_a_client_that_asks_the_dealer_for_what_is_the_owners(stage: Stage, want: str) -> None:
    async with dealer_link(stage, CLIENT) as link:
        await link.control(request("dealer", want, model=stage.model.public.digest, client=CLIENT))
        with pytest.raises(PeerError, match=f"only the model owner may ask the dealer for '{want}'"):
            await link.message("an answer")


async def test_an_owner_that_asks_the_dealer_for_a_clients_tape(stage: Stage) -> None:
    async with dealer_link(stage, OWNER) as link:
        with pytest.raises(PeerError, match=r"this key may not ask that of the dealer"):
            await DealerClient(link).fetch(bytes(16), stage.model.public.plan((5,)), stage.owner)


async def test_a_key_for_a_client_that_the_dealer_does_not_serve(stage: Stage) -> None:
    async with dealer_link(stage, OWNER) as link:
        with pytest.raises(PeerError, match=r"client ffffffffffff is not one that this dealer serves"):
            await DealerClient(link).key(stage.model.public.digest, "f" * 64)


async def test_another_clients_tape_is_not_handed_out(stage: Stage) -> None:
    plan, key = stage.model.public.plan((5,)), stage.key()
    async with dealer_link(stage, OWNER) as link:
        tape = await DealerClient(link).deal(stage.model.public, plan, key.id, (5,), stage.owner)
    async with dealer_link(stage, OTHER) as link:
        with pytest.raises(PeerError, match=f"no tape {tape.hex()[:12]} waits for this client"):
            await DealerClient(link).fetch(tape, plan, stage.client(OTHER))
    async with dealer_link(stage, CLIENT) as link:
        await DealerClient(link).fetch(tape, plan, stage.client())
    async with dealer_link(stage, CLIENT) as link:
        with pytest.raises(PeerError, match=r"waits for this client: run again"):
            await DealerClient(link).fetch(tape, plan, stage.client())


async def test_tapes_that_nobody_fetches_do_not_pile_up(stage: Stage) -> None:
    plan, key = stage.model.public.plan((1,)), stage.key()
    async with dealer_link(stage, OWNER) as link:
        tapes = [
            await DealerClient(link).deal(stage.model.public, plan, key.id, (1,), stage.owner)
            for _ in range(MOST_WAITING + 2)
        ]
    waiting = {p.stem for p in stage.dealer.waiting(CLIENT).iterdir()}
    assert waiting == {t.hex() for t in tapes[2:]}


async def test_a_dealer_whose_ledger_was_lost(stage: Stage) -> None:
    public = stage.model.public
    async with dealer_link(stage, OWNER) as link:
        with pytest.raises(PeerError, match=r"no model key .* is known here: it is another dealer's"):
            await DealerClient(link).deal(public, public.plan((5,)), "0" * 32, (5,), stage.owner)


async def test_a_dealer_is_not_asked_with_the_key_of_another_model(stage: Stage, anew: CompiledModel) -> None:
    key = stage.key()
    async with dealer_link(stage, OWNER) as link:
        with pytest.raises(PeerError, match=r"the model changed since its key was made: pair the client again"):
            await DealerClient(link).deal(anew.public, anew.public.plan((5,)), key.id, (5,), stage.owner)


async def test_an_owner_without_a_key_for_the_client_says_how_to_get_one(stage: Stage) -> None:
    with pytest.raises(PeerError, match=r"has no key of model .* for client c1c1c1c1c1c1: start it with --dealer, or"):
        await stage.pair(owner=stage.owner_service())


async def test_a_client_that_names_no_dealer(stage: Stage) -> None:
    await stage.pair()
    async with stage.session(from_files=True) as session:
        with pytest.raises(TapeError, match=r"or name a dealer"):
            await session.run(TEXT)


# ---------------------------------------------------------------------- nonsense
NONSENSE: list[dict[str, Any]] = [
    {},
    {"version": VERSION + 1, "to": "owner"},
    {"version": VERSION, "to": ["owner"]},
    {"version": VERSION, "to": "owner", "want": "the weights"},
    {"version": VERSION, "to": "owner", "want": "run"},
    {"version": VERSION, "to": "owner", "want": "run", "lengths": []},
    {"version": VERSION, "to": "owner", "want": "run", "lengths": [0]},
    {"version": VERSION, "to": "owner", "want": "run", "lengths": [True]},
    {"version": VERSION, "to": "owner", "want": "run", "lengths": [5] * 5000},
    {"version": VERSION, "to": "dealer", "want": "tape", "tape": "../../secret"},
    {"version": VERSION, "to": "dealer", "want": "tape", "tape": 7},
    {"version": VERSION, "to": "dealer", "want": "deal", "model": "{}", "key": {}, "lengths": "x"},
    {"version": VERSION, "to": "dealer", "want": "key", "model": None, "client": None},
]


@pytest.mark.parametrize("message", NONSENSE)
async def test_nonsense_ends_its_session_with_a_sentence_and_nobody_elses(
    stage: Stage, message: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    for link_to, asker in ((owner_link, CLIENT), (dealer_link, CLIENT), (dealer_link, OWNER)):
        async with link_to(stage, asker) as link:
            await link.control(message)
            with pytest.raises(PeerError, match=r"gave up: ") as caught:
                await link.message("an answer")
            assert "internal" not in str(caught.value)
    assert not [r for r in caplog.records if "internal" in r.getMessage()]


@pytest.mark.parametrize(
    "change",
    [
        {"tapes": ["xyz"]}, {"tapes": [7]}, {"tapes": "abc"}, {"tapes": None}, {"tapes": {}}, {"tapes": ["00" * 16]},
        {"lengths": [23, 99]}, {"dealer": "maybe"},
    ],
)  # fmt: skip
async def test_nonsense_within_a_good_request(stage: Stage, change: dict[str, Any]) -> None:
    pairing, _ = await stage.pair()
    plan = stage.model.public.plan((5,))
    good = {"model": stage.model.public.digest, "key": pairing.key, "plan": plan.digest.hex(), "lengths": [5]}
    async with owner_link(stage) as link:
        await link.control(request("owner", "run", **(good | change)))
        with pytest.raises(PeerError, match=r"gave up: ") as caught:
            await link.message("an answer")
    assert "failed on its side" not in str(caught.value)


async def test_a_service_outlives_a_bug_and_tells_no_details(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    value = 12345

    def broken(*_: object) -> None:
        raise ValueError(f"value {value}")

    async with stage.session() as session:
        monkeypatch.setattr("engine.owner.lengths_of", broken)
        with pytest.raises(PeerError, match=r"gave up: the model owner failed on its side$"):
            await session.run(TEXT)
    assert "an internal error, ValueError at test_refusals.py" in caplog.text
    assert "in broken" in caplog.text and "12345" not in caplog.text
    monkeypatch.undo()
    async with stage.session() as session:
        await session.run(TEXT)


async def test_a_failure_in_evaluation_is_one_sentence_without_details_on_the_other_side(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    error = Link.error

    async def hear(self: Link, sentence: str) -> None:
        heard.append(sentence)
        await error(self, sentence)

    monkeypatch.setattr(Link, "error", hear)
    async with stage.session() as session:
        session.kernels = Broken(stage.kernels, "dpf_eval", FloatingPointError("x_hat = 123"))  # type: ignore[assignment]
        with pytest.raises(
            LocalError, match=r"an internal error, FloatingPointError at stage.py:\d+: please report it"
        ):
            await session.run(TEXT)
        with pytest.raises(LocalError, match=r"this session ended with its failed run: connect again"):
            await session.run(TEXT)
    assert heard[0] == "the client failed on its side"


async def test_too_little_memory_is_a_sentence(stage: Stage) -> None:
    async with stage.session() as session:
        session.kernels = Broken(stage.kernels, "unpack", MemoryError())  # type: ignore[assignment]
        with pytest.raises(LocalError, match=r"too little memory for the run: use shorter or fewer texts"):
            await session.run(TEXT)


async def test_a_dealer_out_of_reach_is_told_to_the_client(stage: Stage) -> None:
    @contextlib.asynccontextmanager
    async def absent() -> AsyncIterator[DealerClient]:
        raise PeerTimeout("at the dealer: waited 60 s for an answer from tcp://10.0.0.1:7001")
        yield

    await stage.pair()
    async with stage.session(owner=stage.owner_service(absent)) as session:
        with pytest.raises(PeerError, match=r"gave up: at the dealer: waited 60 s for an answer"):
            await session.run(TEXT)


async def test_a_dealing_that_nobody_waits_for_leaves_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner vanishes while its tapes are dealt."""
    plan, key = stage.model.public.plan((5,)), stage.key()
    here, there = memory_pair(stage.options, (OWNER, DEALER))
    service = DealerService(stage.dealer, OWNER, stage.clients, get_kernels())
    deal, steps = DealerService._in_thread, []

    async def slow(*args: Any) -> Any:
        steps.append("began")
        here.vanish()
        await asyncio.sleep(3)  # virtual: long enough for a sign of life to find nobody
        return await deal(*args)

    monkeypatch.setattr(DealerService, "_in_thread", slow)
    async with asyncio.TaskGroup() as group:
        group.create_task(service.session(there))
        with pytest.raises((PeerError, LocalError)):
            await DealerClient(Link(here)).deal(stage.model.public, plan, key.id, (5,), stage.owner)
    assert steps == ["began"]
    assert [p for p in stage.dealer.path.rglob("*") if p.suffix in (".p0", ".p1", ".part")] == []


async def test_signs_of_life_keep_a_slow_dealing_within_a_short_deadline(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    deal = DealerService._in_thread

    async def slow(*args: Any) -> Any:
        await asyncio.sleep(100)
        return await deal(*args)

    monkeypatch.setattr(DealerService, "_in_thread", slow)
    async with stage.session() as session:
        session.link.channel.deadline = 2.5
        result = await session.run(TEXT)
    assert result.rounds == stage.model.public.plan((5,)).rounds


async def test_signs_of_life_do_not_last_for_ever(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(DealerService, "_in_thread", never)
    async with stage.session() as session:
        with pytest.raises(PeerTimeout, match=r"waited 3600 s for the owner's handshake"):
            await session.run(TEXT)


async def test_a_client_that_says_nothing_is_let_go(stage: Stage) -> None:
    async with owner_link(stage) as link:
        await asyncio.sleep(2 * IDLE_SECONDS)
        with pytest.raises(PeerError, match=r"gave up: waited 3600 s for a request"):
            await link.message("an answer")


async def test_an_owner_that_vanishes_before_its_report_does_not_take_the_result_away(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async def abrupt(self: Executor) -> Any:
        result = await online(self)
        if self.party == 1:
            raise PeerError("vanished")
        return result

    online = Executor.online
    async with stage.session() as session:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Executor, "online", abrupt)
            result = await session.run(TEXT)
        assert result.outputs[0].shape == (16,)
        assert result.bytes_sent[1] == 0
        assert "the run is whole, but the owner sent no report" in caplog.text
        with pytest.raises(LocalError, match=r"connect again"):
            await session.run(TEXT)


# ---------------------------------------------------------------------- the pieces
@pytest.mark.parametrize("me", ["owner", "dealer"])
def test_requests_name_version_and_role(me: str) -> None:
    assert check_request(request(me, "something"), me) == "something"
    with pytest.raises(PeerMismatch, match=r"about the version: here 1, there 2 .both sides need the same version"):
        check_request({"version": 2, "to": me}, me)
    with pytest.raises(PeerMismatch, match=r"something unknown was asked for"):
        check_request({"version": 1, "to": "janitor"}, me)


def test_long_values_are_cut_in_a_mismatch() -> None:
    with pytest.raises(PeerMismatch, match=r"here aaaaaaaaaaaa\.\.\., there None$"):
        compare({"tape": "a" * 64}, {}, ["tape"])


def test_a_home_without_pairing_says_what_to_do(stage: Stage) -> None:
    with pytest.raises(InputError, match=r"no pairing in .*: run `roundelay pair` first"):
        find_pairing(stage.client())
