"""Pairings and homes on disk: whole or not there, checked before use, readable by their user alone."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from engine.dealing import DealerClient, DealerService, deal_files
from engine.errors import InputError, LocalError, PeerError
from engine.files import whole_file
from engine.home import Home
from engine.kernels import get_kernels
from engine.ledger import ModelKey
from engine.models.compiled import CompiledModel, load_compiled
from engine.pairing import Pairing, find_pairing, weight_list
from engine.scheduler.link import Link
from engine.transport import identity
from tests.session.disk import files, full_disk
from tests.session.stage import CLIENT, DEALER, OWNER, Stage, checkpoint, compiled, ids, served

TEXT = ids("the dog ran")


@pytest.fixture
async def pairing(stage: Stage) -> Pairing:
    return (await stage.pair())[0]


# ---------------------------------------------------------------------- damage
@pytest.mark.parametrize("name", ["pairing.json", "public.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"key": 1, "owner": [], "files": 3}', "[" * 100_000])
async def test_a_damaged_description(stage: Stage, pairing: Pairing, name: str, content: str) -> None:
    (pairing.folder / name).write_text(content)
    with pytest.raises(InputError, match=r"the pairing in .* is damaged: run `roundelay pair` again"):
        find_pairing(stage.client())
    again, _ = await stage.pair()
    assert find_pairing(stage.client()).parameters().hats.keys() == again.parameters().hats.keys()


async def test_a_public_part_that_was_edited(stage: Stage, pairing: Pairing) -> None:
    path = pairing.folder / "public.json"
    path.write_text(path.read_text().replace('"name": "small"', '"name": "large"'))
    with pytest.raises(InputError, match=r"is damaged"):
        find_pairing(stage.client())


async def test_one_flipped_bit_in_a_masked_weight(stage: Stage, pairing: Pairing) -> None:
    path = pairing.folder / "hats" / f"{weight_list(pairing.public)[3][0]}.npy"
    data = np.fromfile(path, np.uint8)
    data[-1] ^= 1
    data.tofile(path)
    with pytest.raises(InputError, match=r"is damaged"):
        find_pairing(stage.client()).parameters()


@pytest.mark.parametrize("how", ["truncate", "remove", "folder"])
async def test_a_masked_weight_that_is_not_whole(stage: Stage, pairing: Pairing, how: str) -> None:
    path = pairing.folder / "hats" / f"{weight_list(pairing.public)[0][0]}.npy"
    data = path.read_bytes()
    path.unlink()
    if how == "truncate":
        path.write_bytes(data[:-8])
    elif how == "folder":
        path.mkdir()
    with pytest.raises(InputError, match=r"is damaged"):
        find_pairing(stage.client()).parameters()


async def test_a_tokenizer_that_was_edited(stage: Stage, pairing: Pairing) -> None:
    (pairing.folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"is damaged"):
        _ = find_pairing(stage.client()).tokenizer_json


async def test_a_damaged_pairing_does_not_hide_a_sound_one(stage: Stage, pairing: Pairing, tmp_path: Path) -> None:
    stage.model = compiled(checkpoint(seed=2), tmp_path / "second")
    second, _ = await stage.pair()
    (pairing.folder / "pairing.json").unlink()
    assert find_pairing(stage.client()).public == second.public


# ---------------------------------------------------------------------- which one
async def test_several_models_are_told_apart_by_name_or_digest(
    stage: Stage, pairing: Pairing, tmp_path: Path, small: CompiledModel
) -> None:
    stage.model = compiled(checkpoint(seed=2), tmp_path / "second")
    await stage.pair()
    with pytest.raises(InputError, match=r"several models are paired, say which with --model: small \(.*, small \("):
        find_pairing(stage.client())
    assert find_pairing(stage.client(), small.public.digest[:10]).public == small.public
    with pytest.raises(InputError, match=r"no pairing for large in .*: run `roundelay pair` first"):
        find_pairing(stage.client(), "large")


async def test_a_pairing_that_was_being_written_is_none(stage: Stage, pairing: Pairing) -> None:
    pairing.folder.rename(pairing.folder.with_name(pairing.folder.name + ".part"))
    with pytest.raises(InputError, match=r"no pairing in"):
        find_pairing(stage.client())


# ---------------------------------------------------------------------- full disks
@pytest.mark.parametrize("size", [0, 300, 1000, 2000])
async def test_a_full_disk_while_pairing_leaves_what_was_there(stage: Stage, size: int) -> None:
    stage.key()
    before = files(stage.client().path) if stage.client().path.exists() else set()
    with full_disk(size), pytest.raises(LocalError, match=r"cannot write .*: File too large"):
        await stage.pair()
    assert files(stage.client().path) == before
    await stage.pair()
    paired = files(stage.client().path)
    with full_disk(size), pytest.raises(LocalError, match=r"cannot write"):
        await stage.pair()
    assert files(stage.client().path) == paired
    find_pairing(stage.client()).parameters()


@pytest.mark.parametrize("size", [0, 50, 1000, 30_000])
def test_a_full_disk_while_dealing_leaves_nothing(stage: Stage, size: int, tmp_path: Path) -> None:
    plan, key = stage.model.public.plan((5,)), ModelKey("key", "model", "client", bytes(16))
    assert size < plan.tape_bytes[0] < plan.tape_bytes[1]
    folders = (tmp_path / "a", tmp_path / "b")
    with full_disk(size), pytest.raises(LocalError, match=r"cannot write .*: File too large"):
        deal_files(plan, key, stage.kernels, folders)
    assert files(folders[0]) == files(folders[1]) == set()


def test_room_for_one_tape_of_a_pair_is_not_enough(stage: Stage, tmp_path: Path) -> None:
    plan, key = stage.model.public.plan((5,)), ModelKey("key", "model", "client", bytes(16))
    folders = (tmp_path / "a", tmp_path / "b")
    with full_disk(plan.tape_bytes[0] + 200), pytest.raises(LocalError, match=r"cannot write"):
        deal_files(plan, key, stage.kernels, folders)
    assert files(folders[0]) == files(folders[1]) == set()


@pytest.mark.parametrize("size", [0, 1000])
async def test_a_full_disk_while_receiving_a_tape_spends_nothing(stage: Stage, size: int) -> None:
    """The dealer's disk has room: it has dealt already."""
    plan, key = stage.model.public.plan((5,)), stage.key()
    service = DealerService(stage.dealer, OWNER, stage.clients, get_kernels())
    async with served(service.session, OWNER, DEALER, stage.options) as channel:
        tape = await DealerClient(Link(channel)).deal(stage.model.public, plan, key.id, (5,), stage.owner)
    async with served(service.session, CLIENT, DEALER, stage.options) as channel:
        before = files(stage.client().path) if stage.client().path.exists() else set()
        client = Home(stage.client().path)
        assert not client.ledger.spent(tape, 0)
        with full_disk(size), pytest.raises(LocalError, match=r"cannot write .*\.p0: File too large"):
            await DealerClient(Link(channel)).fetch(tape, plan, client)
    assert {f for f in files(client.path) if "tapes" in f} == {f for f in before if "tapes" in f} == set()
    assert not client.ledger.spent(tape, 0)


async def test_a_full_disk_in_a_run_is_told_and_spends_nothing(stage: Stage) -> None:
    async with stage.session() as session:
        ledger = session.home.ledger
        with full_disk(2000), pytest.raises((LocalError, PeerError), match=r"cannot write|failed on its side"):
            await session.run(TEXT)
    assert ledger._rows("SELECT * FROM spent") == []
    assert stage.owner.ledger._rows("SELECT * FROM spent") == []
    async with stage.session() as session:
        await session.run(TEXT)


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_full_disk_while_compiling_leaves_the_model_that_was_there(tmp_path: Path, size: int) -> None:
    folder = tmp_path / "model"
    with full_disk(size), pytest.raises(LocalError, match=r"cannot write .*: File too large"):
        compiled(checkpoint(), folder)
    assert files(folder) == set()
    first = compiled(checkpoint(), folder)
    with full_disk(size), pytest.raises(LocalError, match=r"cannot write"):
        compiled(checkpoint(), folder)
    assert load_compiled(folder).public == first.public


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(KeyError), whole_file(tmp_path / "x") as f:
        f.write(b"half")
        raise KeyError
    assert files(tmp_path) == set()
    with whole_file(tmp_path / "x") as f:
        f.write(b"whole")
        assert files(tmp_path) == {"x.part"}
    assert (tmp_path / "x").read_bytes() == b"whole"
    with (
        pytest.raises(LocalError, match=r"cannot write .*missing/x: No such file"),
        whole_file(tmp_path / "missing" / "x"),
    ):
        pass


# ---------------------------------------------------------------------- modes
async def test_every_file_and_folder_is_for_its_user_alone(stage: Stage) -> None:
    stage.client().new_identity()
    async with stage.session() as session:
        await session.run(TEXT)
    stage.deal((5,))
    stage.owner.put_key(stage.key())
    roles = [stage.client().path, stage.owner.path, stage.dealer.path]
    for path in [p for role in roles for p in (role, *role.rglob("*"))]:
        mode = stat.S_IMODE(path.stat().st_mode)
        public = path.name == identity.PUBLIC_FILE
        assert mode == (0o700 if path.is_dir() else 0o644 if public else 0o600), path


# ---------------------------------------------------------------------- homes
def test_a_home_without_identity_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no identity in .*: run `roundelay keygen` first"):
        _ = Home(tmp_path).identity


def test_an_identity_is_never_overwritten(tmp_path: Path) -> None:
    made = Home(tmp_path / "home").new_identity()
    with pytest.raises(InputError, match=rf"an identity is in .* already, with public key {made.public}: it stays"):
        Home(tmp_path / "home").new_identity()
    assert Home(tmp_path / "home").identity == made


def test_model_keys_in_files_are_taken_in_when_they_are_needed(tmp_path: Path) -> None:
    dealer, owner = Home(tmp_path / "dealer"), Home(tmp_path / "owner")
    first, second = (dealer.ledger.model_key(m * 64, "client") for m in "ab")
    brought = Home(tmp_path / "brought")
    for key in (first, second):
        brought.put_key(key)
    shutil.copytree(brought.path / "keys", owner.path / "keys")
    assert owner.find_key("b" * 64, "client") == second
    assert owner.ledger.find_key("b" * 64, "client") == second
    assert owner.ledger.find_key("a" * 64, "client") is None
    assert owner.find_key("c" * 64, "client") is None


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"key": "k", "model": "m", "client": "c", "seed": "xyz"}'])
def test_a_damaged_key_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "k.json").write_text(content)
    with pytest.raises(InputError, match=r"k.json is not a model key: bring the dealer's file over again"):
        Home(tmp_path).find_key("m", "c")


def test_a_key_file_that_clashes_with_the_ledger_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.ledger.adopt(ModelKey("k1", "m1", "c", bytes(16)))
    home.put_key(ModelKey("k2", "m2", "c", bytes(16)))
    with pytest.raises(InputError, match=r"model key k2 clashes"):
        home.find_key("m2", "c")


def test_key_files_hold_what_they_say(tmp_path: Path) -> None:
    key = ModelKey("k1", "m1", "c", bytes(range(16)))
    Home(tmp_path).put_key(key)
    assert json.loads((tmp_path / "keys" / "k1.json").read_text())["seed"] == bytes(range(16)).hex()
