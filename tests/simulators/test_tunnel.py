"""Real TCP between two namespaces: nothing is lost, nothing is early, and nothing of it is left behind."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from itertools import pairwise

import pytest

from engine.errors import InputError
from simulators.profiles import Network
from simulators.tunnel import Host, obstacle, tunnel, wire_bytes

needs_root = pytest.mark.skipif(obstacle() is not None, reason=f"no tunnel here: {obstacle()}")
SHAPE = Network("test", 400e6, 0.02)
SIZE = 3 << 20

ANSWER = """
import hashlib, socket, sys
server = socket.create_server((sys.argv[1], 0))
print(server.getsockname()[1], flush=True)
peer, _ = server.accept()
peer.sendall(peer.recv(1))
digest, left = hashlib.sha256(), int(sys.argv[2])
while left:
    data = peer.recv(left)
    digest.update(data)
    left -= len(data)
peer.sendall(digest.digest())
"""
ASK = """
import hashlib, os, socket, sys, time
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
start = time.monotonic()
peer.sendall(b"x"); peer.recv(1)
print(time.monotonic() - start)
data = os.urandom(int(sys.argv[3]))
start = time.monotonic()
peer.sendall(data)
assert peer.recv(32) == hashlib.sha256(data).digest()
print(time.monotonic() - start)
"""


def namespaces() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout


def talk(near: Host, far: Host) -> list[float]:
    """Seconds of a round trip, and of SIZE bytes and their digest back."""
    command = far.inside([sys.executable, "-c", ANSWER, far.address, str(SIZE)])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as answering:
        assert answering.stdout is not None
        asking = [sys.executable, "-c", ASK, far.address, answering.stdout.readline().strip(), str(SIZE)]
        done = subprocess.run(near.inside(asking), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.split()]


@needs_root
def test_what_crosses_is_whole_and_takes_at_least_its_time() -> None:
    with tunnel(SHAPE) as (near, far):
        assert near.namespace in namespaces()
        trip, bulk = talk(near, far)
    assert trip >= SHAPE.rtt
    assert bulk >= SHAPE.rtt + SIZE * 8 / SHAPE.bandwidth
    assert near.namespace not in namespaces() and far.namespace not in namespaces()


@needs_root
def test_hosts_reach_nothing_but_each_other() -> None:
    with tunnel(SHAPE) as (near, _), socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        assert subprocess.run(near.inside([sys.executable, "-c", connect]), capture_output=True).returncode == 1


@needs_root
def test_a_failure_inside_leaves_nothing_behind() -> None:
    with pytest.raises(RuntimeError), tunnel(SHAPE) as (near, _):
        raise RuntimeError
    assert near.namespace not in namespaces()


def test_without_root_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(InputError, match="root"), tunnel(SHAPE):
        raise AssertionError("there was a tunnel")


def test_a_large_packet_counts_the_headers_of_its_segments() -> None:
    def packet(kind: int, header: int, segment: int, size: int) -> bytes:
        return struct.pack("<BBHHHH", 0, kind, header, segment, 0, 0) + bytes(size)

    assert wire_bytes(packet(0, 0, 0, 1500)) == 1500
    assert wire_bytes(packet(1, 40, 1460, 40 + 1460)) == 1500
    sizes = [wire_bytes(packet(1, 40, 1460, 40 + n * 1460)) for n in range(1, 5)]
    assert {b - a for a, b in pairwise(sizes)} == {1500}
