"""`serve`: the model owner's service."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click

from engine.cli.common import (
    Output,
    behind,
    home_option,
    json_option,
    network_option,
    open_home,
    text_errors,
    transport_option,
    workers_option,
)
from engine.cli.reporting import Reports, live_option, report_options, shown
from engine.dealing import dealing
from engine.errors import InputError, RoundelayError
from engine.kernels import get_kernels
from engine.models.compiled import load_compiled
from engine.owner import OwnerService
from engine.report.recording import Rates, RecordedRun
from engine.report.results import served, served_run
from engine.run import Finished
from engine.scheduler.plan import Plan
from engine.transport.channel import ChannelOptions
from engine.transport.identity import check_public_key
from engine.transport.loop import run
from engine.transport.registry import open_transport
from simulators.profiles import Network

__all__ = ["serve"]

log = logging.getLogger(__name__)
LATEST = 32
"""Runs in the page and the trace of a service."""


@click.command()
@click.argument("model", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--listen", required=True, metavar="ADDRESS", help="Such as tcp://0.0.0.0:7000 or ipc:///run/roundelay.sock."
)
@click.option("--client", "clients", multiple=True, required=True, help="Public key of a client that is let in.")
@click.option("--dealer", metavar="ADDRESS", help="The dealer's service. [default: tapes from files in --home]")
@click.option("--dealer-key", help="Public key of the dealer.")
@click.option("--deadline", default=60.0, show_default=True, help="Seconds that one wait may last.")
@click.option(
    "--overlap/--no-overlap", default=True, help="Barrier after every round with --no-overlap, to measure the gain."
)
@click.option("--once", is_flag=True, help="Serve one session, then end.")
@transport_option
@workers_option
@network_option("here, both ways; give it to one of the two sides.")
@live_option
@report_options
@home_option
@json_option
@text_errors
def serve(
    model: Path, listen: str, clients: tuple[str, ...], dealer: str | None, dealer_key: str | None, deadline: float,
    overlap: bool, once: bool, transport: str, workers: int, network: Network | None, live: bool, report: Path | None,
    trace: Path | None, home: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Serve the compiled MODEL to its clients: pairing and runs. The texts never reach this side."""
    if (dealer is None) != (dealer_key is None):
        raise InputError("--dealer and --dealer-key go together")
    compiled, place = load_compiled(model), open_home(home)
    peers = tuple(check_public_key(k) for k in clients)
    key = "" if dealer_key is None else check_public_key(dealer_key)
    open_dealer = None if dealer is None else dealing(dealer, key, place, transport, deadline)
    kernels = get_kernels(workers=workers)
    service = OwnerService(compiled, place, kernels, open_dealer, overlap, once, behind(network))
    options = ChannelOptions(identity=place.identity, peers=peers, deadline=deadline)
    if reports := Reports(report, trace):
        facts = {"model": compiled.public.name, "transport": transport, "network": str(network or "as it is")}
        service.finished = _Latest(reports, facts, None if network is None else network.rates).add
    with ExitStack() as stack:
        if live:
            _, service.watch = stack.enter_context(shown(live, "serving", "", "waiting for a client"))
        run(_serve(service, listen, transport, options, Output(as_json)))


@dataclass(slots=True)
class _Latest:
    """The latest runs that were served; page and trace are written anew after each."""

    reports: Reports
    facts: dict[str, str]
    rates: Rates | None
    runs: deque[RecordedRun] = field(default_factory=lambda: deque(maxlen=LATEST))
    count: int = 0
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def add(self, plan: Plan, lengths: Sequence[int], done: Finished) -> None:
        """What cannot be written is logged: a client's run does not depend on it."""
        with self._turn:
            self.count += 1
            self.runs.append(served_run(self.count, plan, lengths, done, self.rates))
            try:
                recording = served(f"serve {self.facts['model']}", list(self.runs), self.facts)
                self.reports.write(recording, quiet=True)
            except RoundelayError as error:
                log.warning("no report of run %d: %s", self.count, error)


async def _serve(service: OwnerService, address: str, transport: str, options: ChannelOptions, out: Output) -> None:
    public, key = service.model.public, service.home.identity.public
    async with await open_transport(transport).listen(address, options) as listener:
        ready = {"listening": listener.address, "public_key": key, "model": public.digest}
        out.line(ready, f"serving {public.name} ({public.digest[:12]}) at {listener.address}")
        await service.serve(listener)
