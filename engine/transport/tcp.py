"""Channels over TCP, encrypted with AES-256-GCM; both sides pin the other's public key in the handshake."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import suppress
from functools import partial

from engine.errors import InputError, PeerError, PeerMismatch, PeerRefused
from engine.transport.channel import ChannelOptions, patience
from engine.transport.door import Door
from engine.transport.handshake import Handshake, Session, client_handshake, listener_handshake
from engine.transport.identity import Identity, check_public_key
from engine.transport.tcpchannel import TcpChannel

__all__ = ["TcpListener", "TcpTransport"]

ADDRESS = re.compile(r"tcp://(?P<host>\[[^\s/\]]+\]|[^\s/:]+):(?P<port>\*|\d{1,5})")
RETRY_SECONDS = 0.05


class TcpListener(Door):
    """A listening socket, whose connections shake hands as they come."""

    def __init__(self, sock: socket.socket, identity: Identity, options: ChannelOptions) -> None:
        host, port = sock.getsockname()[:2]
        super().__init__(f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}", options)
        self._socket = sock
        self._identity = identity
        self._listed = frozenset(check_public_key(key) for key in options.peers)
        self._options = options
        self._serving = asyncio.ensure_future(self._serve())

    async def _shut(self) -> None:
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)
        self._socket.close()

    async def _serve(self) -> None:
        """Takes connections as they come; nobody waits for another's handshake."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._socket)
            except OSError:  # out of descriptors, or the stranger has hung up already
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._knock(partial(self._shake, sock))

    async def _shake(self, sock: socket.socket) -> TcpChannel:
        try:
            session = await shake(sock, listener_handshake(self._identity, self._listed))
        except BaseException:
            sock.close()
            raise
        return TcpChannel(sock, session, self._options)


class TcpTransport:
    """`tcp`: addresses are tcp://host:port; a listener may leave the port to the system (`*`), or take every interface
    (`tcp://*:port`). Options must hold this side's identity and its peers."""

    async def listen(self, address: str, options: ChannelOptions) -> TcpListener:
        host, port = _host_and_port(address)
        identity = _own_identity(options)
        try:
            sock = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except (OSError, UnicodeError) as error:
            raise InputError(f"cannot listen at {address!r}: {_reason(error)}") from None
        sock.setblocking(False)
        return TcpListener(sock, identity, options)

    async def connect(self, address: str, options: ChannelOptions) -> TcpChannel:
        host, port = _host_and_port(address)
        if len(options.peers) != 1:
            raise InputError("a connecting side pins exactly one public key, the listener's")
        pinned, identity = check_public_key(options.peers[0]), _own_identity(options)
        async with patience(options.deadline, f"an answer from {address}"):
            while True:
                with suppress(OSError):
                    return await _reach(host, port, client_handshake(identity, pinned), address, options)
                await asyncio.sleep(RETRY_SECONDS)


async def _reach(host: str, port: int, handshake: Handshake, address: str, options: ChannelOptions) -> TcpChannel:
    """One attempt. Raises OSError if nobody is there, or hangs up without a verdict."""
    sock = await _dial(host, port, address)
    try:
        return TcpChannel(sock, await shake(sock, handshake), options)
    except (PeerRefused, PeerMismatch) as error:
        sock.close()
        raise type(error)(f"{address} refused the connection: {error}") from None
    except BaseException:
        sock.close()
        raise


async def _dial(host: str, port: int, address: str) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise InputError(f"cannot connect to {address!r}: {_reason(error)}") from None
    family, kind, protocol, _, target = found[0]
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    try:
        await loop.sock_connect(sock, target)
    except BaseException:
        sock.close()
        raise
    return sock


async def shake(sock: socket.socket, handshake: Handshake) -> Session:
    """Carries out a handshake over a connected socket, of which it reads not a byte too much.

    Raises PeerRefused, PeerMismatch, and OSError if the other side hangs up.
    """
    loop = asyncio.get_running_loop()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        await loop.sock_sendall(sock, handshake.outgoing())
        if handshake.session is not None:
            return handshake.session
        data = await loop.sock_recv(sock, handshake.needed)
        if not data:
            raise ConnectionResetError("the other side hung up during the handshake")
        try:
            handshake.feed(data)
        except PeerError:
            await loop.sock_sendall(sock, handshake.outgoing())
            raise


def _own_identity(options: ChannelOptions) -> Identity:
    if options.identity is None:
        raise InputError("the tcp transport needs this side's identity")
    return options.identity


def _host_and_port(address: str) -> tuple[str, int]:
    match = ADDRESS.fullmatch(address)
    port = 0 if match is None or match["port"] == "*" else int(match["port"])
    if match is None or port > 0xFFFF:
        hint = "; the zeromq transport takes ipc:// addresses" if address.startswith("ipc:") else ""
        raise InputError(f"a tcp address is tcp://host:port, unlike {address!r}{hint}")
    host = match["host"].strip("[]")
    return ("0.0.0.0" if host == "*" else host), port


def _reason(error: OSError | UnicodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "the host name is malformed"
