"""A shaped link for real TCP on one machine: two network namespaces, joined by a process between two TUN devices that
delivers every packet when the link model says that it has arrived. Linux, root, `ip` of iproute2.

    with tunnel(network("lan-1g")) as (near, far):
        subprocess.run(near.inside(["ping", far.address]))
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import shutil
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from engine.errors import InputError, LocalError
from engine.transport.linkmodel import LinkModel
from simulators.profiles import Network, network

__all__ = ["Host", "obstacle", "tunnel"]

DEVICE = "/dev/net/tun"
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0  # linux/if_tun.h
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
CHECKSUM, TSO4, TSO6 = 1, 2, 4
PR_SET_TIMERSLACK = 29
VNET_HEADER = struct.Struct("<BBHHHH")
"""flags, kind of segmentation, header bytes, segment bytes, and where the checksum is (linux/virtio_net.h)."""
IP_TCP_BYTES = 40
"""Header of a segment: IPv4 and TCP without options."""
PACKET = 1 << 17
QUEUE_SECONDS, QUEUE_BYTES = 0.2, 4 << 20
"""What waits for the wire at most, the larger of the two; what comes beyond is dropped, as a router does."""
BUFFERS = "4096 131072 67108864"
"""Of sockets: so that one connection fills a long link."""
READY_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Host:
    """One end: a namespace and its address in it."""

    namespace: str
    address: str

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command, to be run at this end."""
        return ["ip", "netns", "exec", self.namespace, *command]


def obstacle() -> str | None:
    """Why there can be no tunnel here, None if there can."""
    if os.geteuid() != 0:
        return "network namespaces take root"
    if not os.path.exists(DEVICE):
        return f"there is no {DEVICE}"
    return None if shutil.which("ip") else "`ip` of iproute2 is not installed"


@contextmanager
def tunnel(shape: Network) -> Iterator[tuple[Host, Host]]:
    """Two hosts with the network between them, gone afterwards. Raises InputError where there can be none."""
    if (why := obstacle()) is not None:
        raise InputError(f"cannot emulate {shape.name} for real TCP: {why}")
    hosts = tuple(Host(f"roundelay-{os.getpid()}-{i}", f"10.77.0.{i + 1}") for i in (0, 1))
    made: list[Host] = []
    try:
        for host in hosts:
            _ip("netns", "add", host.namespace)
            made.append(host)
        with _shaper(shape, hosts):
            yield hosts[0], hosts[1]
    finally:
        for host in made:
            subprocess.run(["ip", "netns", "del", host.namespace], capture_output=True)


@contextmanager
def _shaper(shape: Network, hosts: Sequence[Host]) -> Iterator[None]:
    """The process between the hosts. It ends when its stdin does, so that it never outlives this one."""
    described = f"rtt={shape.rtt!r}s,bandwidth={shape.bandwidth!r}bit,jitter={shape.jitter!r}s"
    command = [sys.executable, "-m", "simulators.tunnel", described, *(h.namespace for h in hosts)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin and process.stdout and process.stderr
    try:
        ready, _, _ = select.select([process.stdout], [], [], READY_SECONDS)
        if not ready or not process.stdout.readline():
            process.kill()
            said = process.stderr.read().decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise LocalError(f"the emulated link {shape.name} did not come up: {said[0]}")
        yield
    finally:
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        process.stderr.close()


def _ip(*args: str) -> None:
    done = subprocess.run(["ip", *args], capture_output=True, text=True)
    if done.returncode:
        raise LocalError(f"`ip {' '.join(args)}` failed: {' '.join(done.stderr.split())}")


# ---------------------------------------------------------------------- the process between the hosts
class _Way:
    """One direction: packets of `source` queue for the wire and come out at `sink`."""

    def __init__(self, source: int, sink: int, model: LinkModel) -> None:
        self.source, self._sink, self._model = source, sink, model
        self._patience = max(QUEUE_SECONDS, model.link.transmission(QUEUE_BYTES))
        self._queue: deque[tuple[float, bytes]] = deque()

    def take(self, now: float) -> None:
        """Everything that the host has sent."""
        while True:
            try:
                packet = os.read(self.source, PACKET)
            except BlockingIOError:
                return
            if self._model.free - now <= self._patience:
                self._queue.append((self._model.arrival(now, wire_bytes(packet)), packet))

    def deliver(self, now: float) -> float | None:
        """What has arrived; when to come again."""
        while self._queue and self._queue[0][0] <= now:
            try:
                os.write(self._sink, self._queue[0][1])
            except BlockingIOError:
                return now + 1e-4
            except OSError:  # the host's device is down: the packet is lost
                pass
            self._queue.popleft()
        return self._queue[0][0] if self._queue else None


def wire_bytes(packet: bytes) -> int:
    """IP bytes on the wire of a packet as the host hands it over: large ones still have to be cut into segments, each
    with a header of its own."""
    _, kind, header, segment, _, _ = VNET_HEADER.unpack_from(packet)
    size = len(packet) - VNET_HEADER.size
    return size + (-(-(size - header) // segment) - 1) * IP_TCP_BYTES if kind and segment else size


def _device(host: Host, number: int) -> int:
    """A TUN device in the host's namespace; packets come with a header that lets them be large."""
    name = f"rl{os.getpid()}x{number}"[:15]
    device = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(device, TUNSETOFFLOAD, CHECKSUM | TSO4 | TSO6)
    _ip("link", "set", name, "netns", host.namespace)
    _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", name)
    _ip("-n", host.namespace, "link", "set", "lo", "up")
    _ip("-n", host.namespace, "link", "set", name, "txqueuelen", "2000", "up")
    settings = "".join(f"echo {BUFFERS} > /proc/sys/net/ipv4/tcp_{way}mem;" for way in "rw")
    subprocess.run(host.inside(["sh", "-c", settings]), capture_output=True)
    return device


def _shape(shape: Network, namespaces: Sequence[str]) -> None:
    """Until stdin ends."""
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    devices = [_device(Host(name, f"10.77.0.{i + 1}"), i) for i, name in enumerate(namespaces)]
    ways = [_Way(devices[i], devices[1 - i], LinkModel(link)) for i, link in enumerate(shape.links())]
    print("ready", flush=True)
    ready: list[int] = []
    while sys.stdin.fileno() not in ready:
        now = time.monotonic()
        times = [t for way in ways if (t := way.deliver(now)) is not None]
        wait = max(0.0, min(times) - time.monotonic()) if times else None
        ready = select.select([sys.stdin.fileno(), *devices], [], [], wait)[0]
        now = time.monotonic()
        for way in ways:
            if way.source in ready:
                way.take(now)


if __name__ == "__main__":
    _shape(network(sys.argv[1]), sys.argv[2:])
