"""Channels over ZeroMQ, tcp:// and ipc://, sealed like those over TCP; both sides pin the other's public key.

A listener is one ROUTER socket that all its channels share; a connecting side is one DEALER socket. ZeroMQ itself
encrypts nothing: its messages carry sealed records, under keys that no third party knows.
"""

from __future__ import annotations

import asyncio
import re
import struct
from contextlib import suppress
from dataclasses import replace
from functools import partial

import zmq

from engine.errors import InputError, PeerError, PeerMismatch, PeerRefused
from engine.transport.channel import Buffer, ChannelOptions, patience
from engine.transport.door import Door, handshake_seconds
from engine.transport.handshake import Handshake, client_handshake
from engine.transport.identity import Identity, check_public_key
from engine.transport.records import BATCH_BYTES
from engine.transport.sealedchannel import SealedChannel, shake
from engine.transport.zmqchannel import BYE, HELLO, READY, ZeromqChannel
from engine.transport.zmqgate import NAME, REFUSALS, Gate
from engine.transport.zmqloop import LoopSocket

__all__ = ["ZeromqListener", "ZeromqTransport"]

ADDRESS = re.compile(r"ipc://.+|tcp://[^\s/]+:(\*|(?P<port>\d{1,5}))")
EVENT = struct.Struct("=Hi")
REFUSED = (
    zmq.Event.HANDSHAKE_FAILED_AUTH,
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL,
    zmq.Event.HANDSHAKE_FAILED_PROTOCOL,
)
RECEIVE_QUEUE = 64
"""Messages that libzmq keeps of a peer while the event loop is busy; of at most a record's size."""
WATCHED = zmq.Event.DISCONNECTED | sum(REFUSED)


class _Hub:
    """A ZeroMQ socket with its context and monitor, and the channels that it carries, by route."""

    def __init__(self, kind: int, options: ChannelOptions) -> None:
        self.options = replace(options, limit=BATCH_BYTES, ceiling=BATCH_BYTES)
        self.channels: dict[bytes, ZeromqChannel] = {}
        self.listening = False
        self.context = zmq.Context()
        self.socket = self.context.socket(kind)
        _set_up(self.socket, options)
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
        channel = self.channels.get(route)
        if channel is None and len(frames) == 2 and frames[0].bytes == HELLO:
            channel = self.stranger(route, frames[1])
        if channel is not None:
            channel.deliver(frames)

    def _observe(self, frames: list[zmq.Frame]) -> None:
        event, value = EVENT.unpack(frames[0].bytes)
        if event == zmq.Event.DISCONNECTED:
            self.disconnected(value)
        elif event in REFUSED:
            self.refused(value)

    def stranger(self, route: bytes, hello: zmq.Frame) -> ZeromqChannel | None:
        """A peer that the gate let in says hello for the first time."""
        return None

    def disconnected(self, descriptor: int) -> None:
        """The connection with this file descriptor has ended."""

    def refused(self, status: int) -> None:
        """Somebody was not let in; the gate's status, if it was the gate."""

    async def leave(self, route: bytes) -> None:
        """A channel is closed; the socket closes with its last user."""
        self.channels.pop(route, None)
        await self.close_if_unused()

    async def close_if_unused(self) -> None:
        """Frees the socket, unless somebody still uses it; what its channels sent is delivered."""
        if self.channels or self.listening or self.socket.closed:
            return
        self.socket.disable_monitor()
        self.monitor.close()
        self.data.close()
        await asyncio.to_thread(self.context.term)


class _Client(_Hub):
    """The hub of a connecting side, with one channel, and its handshake, whose hello opens the gate."""

    def __init__(self, options: ChannelOptions, handshake: Handshake, server: str, address: str) -> None:
        super().__init__(zmq.DEALER, options)
        self.socket.setsockopt(zmq.PLAIN_USERNAME, NAME)
        self.socket.setsockopt(zmq.PLAIN_PASSWORD, handshake.outgoing())
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

    def refused(self, status: int) -> None:
        why = REFUSALS.get(status, "it does not speak this protocol")
        self._give_up(PeerRefused(why))

    def _give_up(self, error: PeerError) -> None:
        self.channel.lose(error)
        with suppress(zmq.ZMQError):  # the second time there is nothing to disconnect
            self.socket.disconnect(self._address)  # or libzmq would go on reconnecting


class _Server(_Hub):
    """The hub of a listener: who gets through the gate gets a channel of its own, and knocks at the `door`."""

    door: ZeromqListener

    def __init__(self, options: ChannelOptions, identity: Identity, listed: frozenset[str]) -> None:
        super().__init__(zmq.ROUTER, options)
        self.listening = True
        self._by_descriptor: dict[int, ZeromqChannel] = {}
        self.socket.setsockopt(zmq.PLAIN_SERVER, 1)
        self._gate = Gate(self.context, identity, listed)

    def stranger(self, route: bytes, hello: zmq.Frame) -> ZeromqChannel | None:
        handshake = self._gate.take(str(hello.get("User-Id")))
        if not self.listening or handshake is None:
            self.post(route, [BYE, b""])
            return None
        self.monitor.drain()  # the descriptor may be a reused one whose former end has not been observed yet
        channel = self.open(route, "a client")
        self._by_descriptor[int(hello.get(zmq.SRCFD))] = channel
        channel.greet(READY)
        self.door.knocked(channel, handshake)
        return channel

    def disconnected(self, descriptor: int) -> None:
        channel = self._by_descriptor.pop(descriptor, None)
        self.data.drain()  # what arrived before the end still counts
        if channel is not None:
            channel.lose(PeerError(f"{channel.peer} vanished: the connection broke"))

    def refused(self, status: int) -> None:
        self.door.refused()

    async def close_if_unused(self) -> None:
        if not self.channels and not self.listening and not self.socket.closed:
            self._gate.close()
        await super().close_if_unused()


async def _sealed(channel: ZeromqChannel, handshake: Handshake, options: ChannelOptions) -> SealedChannel:
    """Carries out what is left of the handshake."""
    await channel.greeted()
    session = await shake(channel, handshake)
    channel.widen()
    return SealedChannel(channel, session, options)


class ZeromqListener(Door):
    """A ROUTER socket, whose clients shake hands as they come."""

    def __init__(self, server: _Server, address: str, options: ChannelOptions) -> None:
        super().__init__(address, options)
        self._server = server
        self._options = options
        server.door = self

    def knocked(self, channel: ZeromqChannel, handshake: Handshake) -> None:
        """A client is through the gate and shakes hands."""
        self._knock(partial(self._shake, channel, handshake))

    async def _shake(self, channel: ZeromqChannel, handshake: Handshake) -> SealedChannel:
        try:
            return await _sealed(channel, handshake, self._options)
        except BaseException:
            await channel.vanish()
            raise

    def refused(self) -> None:
        """Somebody did not get through the gate."""
        self._refusals += 1

    async def _shut(self) -> None:
        self._server.listening = False
        await self._server.close_if_unused()


class ZeromqTransport:
    """`zeromq`: addresses are tcp://host:port and ipc:///path. Options must hold this side's identity and its peers."""

    async def listen(self, address: str, options: ChannelOptions) -> ZeromqListener:
        listed = frozenset(check_public_key(key) for key in options.peers)
        server = _Server(options, _own_identity(options), listed)
        try:
            server.socket.bind(_checked(address))
        except (zmq.ZMQError, InputError) as error:
            server.listening = False
            await server.close_if_unused()
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot listen at {address!r}: {error.strerror}") from None
        return ZeromqListener(server, server.socket.getsockopt_string(zmq.LAST_ENDPOINT), options)

    async def connect(self, address: str, options: ChannelOptions) -> SealedChannel:
        if len(options.peers) != 1:
            raise InputError("a connecting side pins exactly one public key, the listener's")
        server = check_public_key(options.peers[0])
        handshake = client_handshake(_own_identity(options), server)
        client = _Client(options, handshake, server, _checked(address))
        try:
            client.connect()
            async with patience(options.deadline, f"an answer from {address}"):
                return await _sealed(client.channel, handshake, options)
        except (PeerRefused, PeerMismatch) as error:
            raise type(error)(f"{address} refused the connection: {error}") from None
        finally:
            if handshake.session is None:
                await client.channel.vanish()


def _own_identity(options: ChannelOptions) -> Identity:
    if options.identity is None:
        raise InputError("the zeromq transport needs this side's identity")
    return options.identity


def _checked(address: str) -> str:
    match = ADDRESS.fullmatch(address)
    if match is None or int(match["port"] or 0) > 0xFFFF:  # libzmq would take a large port modulo 2^16
        raise InputError(f"a zeromq address is tcp://host:port or ipc:///path, unlike {address!r}")
    return address


def _set_up(socket: zmq.Socket[bytes], options: ChannelOptions) -> None:
    """Sizes and times, before any connection is made."""
    beat = max(1, int(options.heartbeat * 1000))
    for option, value in (
        (zmq.MAXMSGSIZE, BATCH_BYTES),
        (zmq.SNDHWM, 0),
        (zmq.RCVHWM, RECEIVE_QUEUE),
        (zmq.LINGER, 0),
        (zmq.HEARTBEAT_IVL, beat),
        (zmq.HEARTBEAT_TIMEOUT, 2 * beat),
        (zmq.HEARTBEAT_TTL, 3 * beat),
        (zmq.HANDSHAKE_IVL, max(1, int(handshake_seconds(options) * 1000))),
    ):
        socket.setsockopt(option, value)
