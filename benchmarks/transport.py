"""python -m benchmarks.transport [rounds]: a 64-byte round trip and 64 MiB exchanged both ways, transport by transport.

`raw` is this machine's limit: asyncio.BufferedProtocol into one buffer, neither framed nor encrypted. Every transport
is measured in every round, one after another, so that a busy neighbour meets them all; medians over the rounds, and
the median of each round's ratio to `raw`. The two ends are two processes, except with `memory`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Protocol, cast

import click
from rich.console import Console
from rich.table import Table

from engine.errors import PeerError
from engine.transport.channel import ChannelOptions
from engine.transport.identity import create, load
from engine.transport.loop import run
from engine.transport.memory import memory_pair
from engine.transport.registry import open_transport

SMALL, LARGE = 64, 64 << 20
TRIPS = 1000
NAMES = ("raw", "memory", "tcp", "zeromq")
PAYLOAD = bytes(1 << 20) * (LARGE >> 20)
PING, BULK = b"p" * SMALL, b"b" * SMALL


class End(Protocol):
    """What is measured: a channel, or the raw one."""

    async def send(self, message: bytes) -> None: ...

    async def recv(self) -> object: ...


class Raw(asyncio.BufferedProtocol):
    """Bytes without a frame: both ends know what is due, SMALL bytes or LARGE ones."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(LARGE + 4 * SMALL))
        self._have, self.due = 0, SMALL
        self._wake: asyncio.Future[None] | None = None
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer[self._have :]

    def buffer_updated(self, nbytes: int) -> None:
        self._have += nbytes
        self._notify()

    def connection_lost(self, error: Exception | None) -> None:
        self._over = True
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def send(self, message: bytes) -> None:
        self._transport.write(message)

    async def recv(self) -> object:
        while self._have < self.due:
            if self._over:
                raise PeerError("the other end is gone")
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        message = bytes(self._buffer[:SMALL])
        self._have -= self.due
        self._buffer[: self._have] = self._buffer[self.due : self.due + self._have]
        return message

    async def aclose(self) -> None:
        self._transport.close()


# ---------------------------------------------------------------------- both ends
async def exchange(end: End) -> None:
    """LARGE bytes each way at once; a raw end is told what is due."""
    if isinstance(end, Raw):
        end.due = LARGE
    async with asyncio.TaskGroup() as group:
        group.create_task(end.send(PAYLOAD))
        group.create_task(end.recv())
    if isinstance(end, Raw):
        end.due = SMALL


async def answer(end: End) -> None:
    """The other end: returns small messages, and exchanges large ones when asked to."""
    with suppress(PeerError):
        while True:
            message = await end.recv()
            await end.send(PING)
            if bytes(message) == BULK:  # type: ignore[call-overload]
                await exchange(end)
                await end.send(PING)


async def round_trip(end: End) -> float:
    """Seconds of one."""
    start = time.perf_counter()
    for _ in range(TRIPS):
        await end.send(PING)
        await end.recv()
    return (time.perf_counter() - start) / TRIPS


async def both_ways(end: End) -> float:
    """Seconds until both sides have everything."""
    await end.send(BULK)
    await end.recv()
    start = time.perf_counter()
    await exchange(end)
    await end.recv()
    return time.perf_counter() - start


# ---------------------------------------------------------------------- connections
def keyed(folder: Path, role: str, peer: str) -> ChannelOptions:
    public = (folder / peer / "public.key").read_text().strip()
    return ChannelOptions(limit=LARGE, deadline=60.0, identity=load(folder / role), peers=(public,))


async def serve(name: str, folder: Path) -> None:
    """The far process: says where it listens, and answers one connection."""
    if name == "raw":
        ends: asyncio.Queue[Raw] = asyncio.Queue()
        server = await asyncio.get_running_loop().create_server(lambda: queued(ends), "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        return await answer(await ends.get())
    async with await open_transport(name).listen("tcp://127.0.0.1:*", keyed(folder, "far", "near")) as listener:
        print(listener.address, flush=True)
        async with await listener.accept(60.0) as channel:
            await answer(channel)


def queued(ends: asyncio.Queue[Raw]) -> Raw:
    end = Raw()
    ends.put_nowait(end)
    return end


@asynccontextmanager
async def near_end(name: str, folder: Path) -> AsyncIterator[End]:
    """This process's end of a connection to a far process."""
    if name == "memory":
        near, far = memory_pair(ChannelOptions(limit=LARGE, deadline=60.0))
        answering = asyncio.ensure_future(answer(far))
        async with near:
            yield near
        await answering
        return
    command = [sys.executable, "-m", "benchmarks.transport", "--serve", name, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if name == "raw":
            _, end = await asyncio.get_running_loop().create_connection(Raw, "127.0.0.1", int(address))
            yield end
            await end.aclose()
        else:
            async with await open_transport(name).connect(address, keyed(folder, "near", "far")) as channel:
                yield channel
        await asyncio.to_thread(process.wait, 10)
    finally:
        process.kill()


async def measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds, by measurement, by transport, by round."""
    kinds: dict[str, Callable[[End], Awaitable[float]]] = {"round trip": round_trip, "both ways": both_ways}
    taken: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in NAMES} for kind in kinds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for role in ("near", "far"):
            create(folder / role)
        async with AsyncExitStack() as stack:
            ends = {name: await stack.enter_async_context(near_end(name, folder)) for name in NAMES}
            for number in range(rounds + 1):
                for kind, timed in kinds.items():
                    for name, end in ends.items():
                        seconds = await timed(end)
                        if number:  # the first round warms up
                            taken[kind][name].append(seconds)
    return taken


@click.command()
@click.argument("rounds", type=click.IntRange(1), default=7)
def main(rounds: int) -> None:
    """Compare transports with a raw socket, in medians of ROUNDS rounds [default: 7]."""
    taken = run(measure(rounds))
    table = Table(title=f"transports, medians of {rounds} rounds, {os.cpu_count()} cores")
    for heading in ("transport", "64 B round trip", "least", "to raw", "64 MiB both ways", "least", "to raw"):
        table.add_column(heading, justify="left" if heading == "transport" else "right")
    for name in NAMES:
        cells = []
        for kind, unit, scale in (("round trip", "us", 1e6), ("both ways", "ms", 1e3)):
            mine, raw = taken[kind][name], taken[kind]["raw"]
            ratio = median(a / b for a, b in zip(mine, raw, strict=True))
            cells += [f"{median(mine) * scale:.0f} {unit}", f"{min(mine) * scale:.0f}", f"{ratio:.2f}"]
        table.add_row(name, *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        run(serve(sys.argv[2], Path(sys.argv[3])))
    else:
        main()
