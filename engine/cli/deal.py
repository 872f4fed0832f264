"""`deal`: tapes to files, or as a service."""

from __future__ import annotations

import time
from pathlib import Path

import click

from engine.cli.common import (
    Output,
    home_option,
    json_option,
    open_home,
    progress,
    size,
    text_errors,
    transport_option,
    workers_option,
)
from engine.dealing import DealerService, deal_files
from engine.errors import InputError
from engine.home import Home
from engine.kernels import get_kernels
from engine.kernels.interface import Kernels
from engine.models.compiled import read_public
from engine.transport.channel import ChannelOptions
from engine.transport.identity import check_public_key
from engine.transport.loop import run
from engine.transport.registry import open_transport

__all__ = ["deal"]


@click.command()
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("--tokens", "lengths", multiple=True, type=int, help="Length of a sequence; several make one batch.")
@click.option("--count", default=1, show_default=True, type=click.IntRange(1), help="Pairs of tapes to deal.")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for owner/ and client/.")
@click.option("--serve", metavar="ADDRESS", help="Serve at this address instead, such as tcp://0.0.0.0:7001.")
@click.option("--owner", help="Public key of the model owner (with --serve).")
@click.option("--client", "clients", multiple=True, help="Public key of a client; may be repeated with --serve.")
@transport_option
@workers_option
@home_option
@json_option
@text_errors
def deal(
    model: Path | None, lengths: tuple[int, ...], count: int, output: Path | None, serve: str | None,
    owner: str | None, clients: tuple[str, ...], transport: str, workers: int, home: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Deal tapes: one-time correlated randomness for both parties. The dealer never sees data or weights.

    \b
    To files:   roundelay deal model/public.json --tokens 128 --count 10 --client KEY -o tapes/
                then bring them home by safe hands: cp -r tapes/owner/. HOME/ for the owner, which gets a
                model key too, and cp -r tapes/client/. HOME/ for the client
    As service: roundelay deal --serve tcp://0.0.0.0:7001 --owner KEY --client KEY

    The dealer must collude with neither party. Tapes are secret: whoever holds a party's tape sees what it sees.
    """
    place, out, kernels = open_home(home), Output(as_json), get_kernels(workers=workers)
    keys = tuple(check_public_key(k) for k in clients)
    if serve is not None:
        if owner is None or not keys:
            raise InputError("a dealer's service needs --owner KEY and at least one --client KEY")
        if model is not None or output is not None or lengths:
            raise InputError("MODEL, --tokens and -o deal to files; with --serve the owner says what to deal")
        service = DealerService(place, check_public_key(owner), keys, kernels)
        run(_serve(service, serve, transport, out))
    elif model is None or output is None or not lengths or len(keys) != 1:
        raise InputError("to deal to files give MODEL, --tokens, one --client and -o; to serve give --serve ADDRESS")
    else:
        _to_files(place, model, lengths, count, output, keys[0], kernels, out)


async def _serve(service: DealerService, address: str, transport: str, out: Output) -> None:
    home = service.home
    options = ChannelOptions(identity=home.identity, peers=(service.owner, *service.clients), deadline=60.0)
    async with await open_transport(transport).listen(address, options) as listener:
        out.line({"listening": listener.address, "public_key": home.identity.public}, f"dealing at {listener.address}")
        await service.serve(listener)


def _to_files(
    home: Home,
    model: Path,
    lengths: tuple[int, ...],
    count: int,
    output: Path,
    client: str,
    kernels: Kernels,
    out: Output,
) -> None:
    public = read_public(model)
    plan, key = public.plan(lengths), home.ledger.model_key(public.digest, client)
    owner_home, client_home = Home(output / "owner"), Home(output / "client")
    owner_home.put_key(key)
    start = time.perf_counter()
    tapes = []
    with progress("dealing", "segments") as bar:
        for _ in range(count):
            tape_id, _paths = deal_files(plan, key, kernels, (client_home.tapes, owner_home.tapes), bar)
            tapes.append(tape_id.hex())
    seconds = (time.perf_counter() - start) / count
    data = {
        "tapes": tapes, "tape_bytes": list(plan.tape_bytes), "seconds": {"deal": seconds}, "rounds": plan.rounds,
        "folders": [str(output / "client"), str(output / "owner")], "key": key.id,
    }  # fmt: skip
    a, b = plan.tape_bytes
    out.result(
        data,
        f"{count} {'pair' if count == 1 else 'pairs'} of tapes in {output}: {size(a)} for the client, {size(b)} for "
        f"the owner, {seconds:.2f} s each",
    )
