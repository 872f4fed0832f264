"""`keygen` makes a role's identity; `pair` fetches the masked weights of a model, once."""

from __future__ import annotations

import time
from pathlib import Path

import click

from engine.cli.common import Output, home_option, json_option, open_home, progress, size, text_errors, transport_option
from engine.pairing import Pairing
from engine.session import pair as pair_with
from engine.transport import identity
from engine.transport.loop import run

__all__ = ["keygen", "pair"]


@click.command()
@home_option
@json_option
@text_errors
def keygen(home: Path | None, as_json: bool) -> None:
    """Make this role's key pair; prints the public key, which the other roles pin.

    An identity that exists is never overwritten.
    """
    place = open_home(home)
    made, folder = place.new_identity(), place.path / "identity"
    Output(as_json).result(
        {"public_key": made.public, "folder": str(folder)}, f"public key {made.public}\nkept in {folder}"
    )


@click.command()
@click.argument("address")
@click.option("--owner", required=True, help="Public key of the model owner, 64 hexadecimal digits.")
@click.option("--deadline", default=60.0, show_default=True, help="Seconds that one wait may last.")
@transport_option
@home_option
@json_option
@text_errors
def pair(address: str, owner: str, deadline: float, transport: str, home: Path | None, as_json: bool) -> None:
    """Pair with the model owner at ADDRESS: receive its masked weights and keep them for all later runs."""
    key = identity.check_public_key(owner)

    async def go() -> tuple[Pairing, int]:
        with progress("masked weights") as bar:
            place = open_home(home).path
            return await pair_with(address, key, home=place, transport=transport, deadline=deadline, progress=bar)

    start = time.perf_counter()
    pairing, count = run(go())
    seconds, public = time.perf_counter() - start, pairing.public
    data = {"model": public.name, "digest": public.digest, "setup_bytes": count, "seconds": {"pair": seconds}}
    text = f"paired with {public.name} ({public.digest[:12]}): {size(count)} of masked weights in {seconds:.1f} s"
    Output(as_json).result(data, text)
