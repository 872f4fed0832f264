"""What a link does, measured over one warm TCP connection: python -m benchmarks.probe serve, or connect HOST PORT.

`serve` prints the port that it listens on. `connect` prints JSON: rtt in seconds, the least of many exchanges of 64
bytes; rate in bits per second of payload, from a transfer that is long against the round trip.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time

from simulators.profiles import Network
from simulators.tunnel import Host

__all__ = ["measured"]

PING, PINGS = 64, 40
WARM, LONG = 16 << 20, 48 << 20
SECONDS = 120


def measured(name: str, near: Host, far: Host) -> Network:
    """The link between two hosts as one connection finds it."""
    command = [sys.executable, "-m", "benchmarks.probe"]
    server = subprocess.Popen(far.inside([*command, "serve", far.address]), stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        client = near.inside([*command, "connect", far.address, port])
        found = json.loads(subprocess.run(client, capture_output=True, text=True, check=True, timeout=SECONDS).stdout)
    finally:
        server.kill()
        server.wait()
    return Network(name, found["rate"], found["rtt"], source="measured")


def _serve(address: str) -> None:
    with socket.create_server((address, 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(PINGS):
            connection.sendall(_exactly(connection, PING))
        for size in (WARM, LONG):
            _exactly(connection, size)
            connection.sendall(bytes(PING))


def _connect(address: str, port: int) -> dict[str, float]:
    with socket.create_connection((address, port), timeout=SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        rtt = min(_timed(connection, bytes(PING)) for _ in range(PINGS))
        _timed(connection, bytes(WARM))
        long = _timed(connection, bytes(LONG))
    return {"rtt": rtt, "rate": LONG * 8 / (long - rtt)}


def _timed(connection: socket.socket, data: bytes) -> float:
    start = time.perf_counter()
    connection.sendall(data)
    _exactly(connection, PING)
    return time.perf_counter() - start


def _exactly(connection: socket.socket, size: int) -> bytes:
    """The next `size` bytes; of a long transfer only the last piece."""
    data = bytearray()
    while size:
        data = bytearray(connection.recv(min(size, 1 << 20)))
        if not data:
            raise ConnectionError("the other side of the probe went away")
        size -= len(data)
    return bytes(data[:PING])


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(sys.argv[2])
    else:
        print(json.dumps(_connect(sys.argv[2], int(sys.argv[3]))))
