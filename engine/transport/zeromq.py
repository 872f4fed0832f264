"""Channels over ZeroMQ, tcp:// and ipc://, encrypted with CURVE; both sides pin the other's public key.

A listener is one ROUTER socket that all its channels share; a connecting side is one DEALER socket.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections import deque
from contextlib import suppress
from functools import partial

import zmq
from zmq.auth.asyncio import AsyncioAuthenticator
from zmq.utils import z85

from engine.errors import InputError, LocalError, PeerError, PeerRefused, PeerTimeout
from engine.transport.channel import Buffer, Channel, ChannelOptions, Listener, patience
from engine.transport.identity import Identity, check_public_key
from engine.transport.mailbox import Signal
from engine.transport.zmqchannel import BYE, HELLO, READY, ZeromqChannel
from engine.transport.zmqloop import LoopSocket

__all__ = ["ZeromqListener", "ZeromqTransport"]

ADDRESS = re.compile(r"ipc://.+|tcp://[^\s/]+:(\*|(?P<port>\d{1,5}))")
EVENT = struct.Struct("=Hi")
FRAME_OVERHEAD = 1024
"""More than what encryption adds to a frame."""
LISTENER_CLOSED = "the listener was closed by this side"
REFUSALS = {
    zmq.Event.HANDSHAKE_FAILED_AUTH: "it does not list this side's public key",
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL: "it broke off the handshake, as it does when its public key is another one",
    zmq.Event.HANDSHAKE_FAILED_PROTOCOL: "it does not speak this protocol",
}
WATCHED = zmq.Event.DISCONNECTED | sum(REFUSALS)


class _Hub:
    """A ZeroMQ socket with its context and monitor, and the channels that it carries, by route."""

    def __init__(self, kind: int, options: ChannelOptions, identity: Identity) -> None:
        self.options = options
        self.channels: dict[bytes, ZeromqChannel] = {}
        self.listening = False
        self.linger = options.linger
        self.context = zmq.Context()
        self.socket = self.context.socket(kind)
        _set_up(self.socket, options, identity)
        self.data = LoopSocket(self.socket, self._deliver)
        self.monitor = LoopSocket(self.socket.get_monitor_socket(WATCHED), self._observe)

    def open(self, route: bytes, peer: str) -> ZeromqChannel:
        """A new channel to the peer at that route."""
        channel = ZeromqChannel(peer, self.options, partial(self.post, route), partial(self.leave, route))
        self.channels[route] = channel
        return channel

    def post(self, route: bytes, frames: list[Buffer]) -> None:
        """Queues a message."""
        self.data.send([route, *frames] if route else frames)

    def _deliver(self, frames: list[zmq.Frame]) -> None:
        route = frames.pop(0).bytes if self.socket.type == zmq.ROUTER else b""
        tag = frames[0].bytes
        body = frames[1] if len(frames) == 2 else None
        channel = self.channels.get(route)
        if channel is None and tag == HELLO and body is not None:
            channel = self.stranger(route, body)
        if channel is not None:
            channel.deliver(tag, body)

    def _observe(self, frames: list[zmq.Frame]) -> None:
        event, value = EVENT.unpack(frames[0].bytes)
        if event == zmq.Event.DISCONNECTED:
            self.disconnected(value)
        elif event in REFUSALS:
            self.refused(zmq.Event(event))

    def stranger(self, route: bytes, hello: zmq.Frame) -> ZeromqChannel | None:
        """A peer that passed authentication says hello for the first time."""
        return None

    def disconnected(self, descriptor: int) -> None:
        """The connection with this file descriptor has ended."""

    def refused(self, event: zmq.Event) -> None:
        """A handshake has failed."""

    async def leave(self, route: bytes) -> None:
        """A channel is closed; the socket closes with its last user."""
        self.channels.pop(route, None)
        await self.close_if_unused()

    async def close_if_unused(self) -> None:
        """Delivers what was sent within the linger time and frees the socket, unless somebody still uses it."""
        if self.channels or self.listening or self.socket.closed:
            return
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.data.close(int(self.linger * 1000))
        await asyncio.to_thread(self.context.term)


class _Client(_Hub):
    """The hub of a connecting side, with one channel."""

    def __init__(self, options: ChannelOptions, identity: Identity, server: str, address: str) -> None:
        super().__init__(zmq.DEALER, options, identity)
        self.socket.setsockopt(zmq.CURVE_SERVERKEY, bytes.fromhex(server))
        self.channel = self.open(b"", server)
        self._address = address

    def connect(self) -> None:
        """Starts connecting. Raises InputError for a malformed address."""
        try:
            self.socket.connect(self._address)
        except zmq.ZMQError as error:
            raise InputError(f"cannot connect to {self._address!r}: {error.strerror}") from None
        self.channel.greet(HELLO)

    def disconnected(self, descriptor: int) -> None:
        self.data.drain()  # what arrived before the end still counts
        self._give_up(PeerError(f"{self.channel.peer} vanished: the connection broke"))

    def refused(self, event: zmq.Event) -> None:
        self._give_up(PeerRefused(f"{self._address} refused the connection: {REFUSALS[event]}"))

    def _give_up(self, error: PeerError) -> None:
        self.channel.lose(error)
        self.socket.linger = 0  # there is nobody to deliver to
        with suppress(zmq.ZMQError):  # the second time there is nothing to disconnect
            self.socket.disconnect(self._address)  # or libzmq would go on reconnecting


class _Server(_Hub):
    """The hub of a listener: lets in listed peers, each with a channel of its own."""

    def __init__(self, options: ChannelOptions, identity: Identity) -> None:
        super().__init__(zmq.ROUTER, options, identity)
        self.listening = True
        self.arrived: deque[ZeromqChannel] = deque()
        self.changed = Signal()
        self.refusals = 0
        self._by_descriptor: dict[int, ZeromqChannel] = {}
        self.socket.setsockopt(zmq.CURVE_SERVER, 1)
        self._guard = AsyncioAuthenticator(self.context)
        self._guard.configure_curve_callback("*", _Allowed(options.peers))
        self._guard.start()

    def stranger(self, route: bytes, hello: zmq.Frame) -> ZeromqChannel | None:
        if not self.listening:
            self.post(route, [BYE])
            return None
        self.monitor.drain()  # the descriptor may be a reused one whose former end has not been observed yet
        channel = self.open(route, z85.decode(str(hello.get("User-Id"))).hex())
        self._by_descriptor[int(hello.get(zmq.SRCFD))] = channel
        channel.greet(READY)
        self.arrived.append(channel)
        self.changed.notify()
        return channel

    def disconnected(self, descriptor: int) -> None:
        channel = self._by_descriptor.pop(descriptor, None)
        self.data.drain()  # what arrived before the end still counts
        if channel is not None:
            channel.lose(PeerError(f"{channel.peer} vanished: the connection broke"))

    def refused(self, event: zmq.Event) -> None:
        self.refusals += 1

    async def close_if_unused(self) -> None:
        if not self.channels and not self.listening and not self.socket.closed:
            self._guard.stop()
        await super().close_if_unused()


class _Allowed:
    """The ZAP decision: is this public key listed?"""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = frozenset(z85.encode(bytes.fromhex(check_public_key(key))) for key in keys)

    def callback(self, domain: str, key: bytes) -> bool:
        return key in self._keys


class ZeromqListener(Listener):
    """Accepts listed peers, one after another and at the same time."""

    def __init__(self, server: _Server, address: str) -> None:
        self.address = address
        self._server = server

    async def accept(self, deadline: float | None = None) -> Channel:
        if deadline is None:
            return await self._next()
        refusals = self._server.refusals
        try:
            async with patience(deadline, f"a listed peer at {self.address}"):
                return await self._next()
        except PeerTimeout as error:
            if refused := self._server.refusals - refusals:
                raise PeerRefused(f"{error}, while {refused} connections failed the handshake: wrong keys") from None
            raise

    async def _next(self) -> Channel:
        server = self._server
        await server.changed.until(lambda: bool(server.arrived) or not server.listening)
        if not server.listening:
            raise LocalError(LISTENER_CLOSED)
        return server.arrived.popleft()

    async def aclose(self) -> None:
        server = self._server
        if server.listening:
            server.listening = False
            server.changed.notify()
            while server.arrived:
                await server.arrived.popleft().aclose()
            await server.close_if_unused()


class ZeromqTransport:
    """`zeromq`: addresses are tcp://host:port and ipc:///path. Options must hold this side's identity and its peers."""

    async def listen(self, address: str, options: ChannelOptions) -> ZeromqListener:
        server = _Server(options, _own_identity(options))
        try:
            server.socket.bind(_checked(address))
        except (zmq.ZMQError, InputError) as error:
            server.listening = False
            await server.close_if_unused()
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot listen at {address!r}: {error.strerror}") from None
        return ZeromqListener(server, server.socket.getsockopt_string(zmq.LAST_ENDPOINT))

    async def connect(self, address: str, options: ChannelOptions) -> ZeromqChannel:
        if len(options.peers) != 1:
            raise InputError("a connecting side pins exactly one public key, the listener's")
        server = check_public_key(options.peers[0])
        client = _Client(options, _own_identity(options), server, _checked(address))
        try:
            client.connect()
            async with patience(options.deadline, f"an answer from {address}"):
                await client.channel.greeted()
        except BaseException:
            client.linger = 0  # there is nobody to deliver to
            await client.channel.vanish()
            raise
        return client.channel


def _own_identity(options: ChannelOptions) -> Identity:
    if options.identity is None:
        raise InputError("the zeromq transport needs this side's identity")
    return options.identity


def _checked(address: str) -> str:
    match = ADDRESS.fullmatch(address)
    if match is None or int(match["port"] or 0) > 0xFFFF:  # libzmq would take a large port modulo 2^16
        raise InputError(f"a zeromq address is tcp://host:port or ipc:///path, unlike {address!r}")
    return address


def _set_up(socket: zmq.Socket[bytes], options: ChannelOptions, identity: Identity) -> None:
    """Keys, sizes and times, before any connection is made."""
    beat = max(1, int(options.heartbeat * 1000))
    for option, value in (
        (zmq.CURVE_PUBLICKEY, bytes.fromhex(identity.public)),
        (zmq.CURVE_SECRETKEY, identity.secret),
        (zmq.MAXMSGSIZE, options.ceiling + FRAME_OVERHEAD),
        (zmq.SNDHWM, 0),
        (zmq.RCVHWM, 0),
        (zmq.LINGER, int(options.linger * 1000)),
        (zmq.HEARTBEAT_IVL, beat),
        (zmq.HEARTBEAT_TIMEOUT, 2 * beat),
        (zmq.HEARTBEAT_TTL, 3 * beat),
        (zmq.HANDSHAKE_IVL, int(options.deadline * 1000)),
    ):
        socket.setsockopt(option, value)
