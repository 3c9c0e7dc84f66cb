"""Connections of checks: a socket or TLS over one, without asyncio's transports, which cost more than the check."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from errno import EHOSTUNREACH, EINPROGRESS, ENETUNREACH
from functools import lru_cache
from typing import Final, Protocol, TypeVar

from lvs_dr.agent.health.attempt import NO_IDENTITY, Attempt, CannotCheckError, Identity, explained
from lvs_dr.agent.health.certificates import CERTIFICATE, client_context, is_refusal
from lvs_dr.agent.health.source_ports import SourcePorts
from lvs_dr.core.checks import TlsSettings

_FLAGS: Final = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_RESET: Final = struct.pack("=ii", 1, 0)  # linger for 0 s
_TRIES: Final = 16  # source ports that are tried
_UNROUTED: Final = (ENETUNREACH, EHOSTUNREACH)  # at once, not as an answer
_RECORD: Final = 16384  # bytes, one record of TLS

Result = TypeVar("Result")


class CheckFailedError(Exception):
    """The real server did not answer as it must. The text is for people."""


class Peer(Protocol):
    """Whom a check talks to."""

    async def send(self, data: bytes) -> None:
        """Send all. Raises OSError, CheckFailedError."""
        ...

    async def receive(self, most: int) -> bytes:
        """Return some bytes, none at the end. Raises OSError, CheckFailedError."""
        ...


def open_socket(attempt: Attempt, kind: int) -> socket.socket:
    """Return a socket of the kind, bound to the source address and with the mark. Raises CannotCheckError."""
    for _ in range(_TRIES):
        made = _bound(attempt, kind)
        if attempt.ports is None or kind != socket.SOCK_STREAM or _take_port(made, attempt, attempt.ports):
            return made
        made.close()
    raise CannotCheckError("no source port is free: too many checks ask this port of this VIP")


def _take_port(made: socket.socket, attempt: Attempt, ports: SourcePorts) -> bool:
    target = (attempt.address, attempt.port)
    return ports.take(target, made.getsockname()[1], attempt.mark, attempt.timeout)


def _bound(attempt: Attempt, kind: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in attempt.address else socket.AF_INET
    try:
        made = socket.socket(family, kind | _FLAGS)
    except OSError as error:
        raise CannotCheckError(explained(error)) from error
    try:
        if attempt.mark:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, attempt.mark)
            # Closed with a reset: IPVS forgets the connection within seconds instead of minutes.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if attempt.hops and family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, attempt.hops)
        elif attempt.hops:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, attempt.hops)
        if attempt.source:
            made.bind((attempt.source, 0))
    except OSError as error:
        made.close()
        raise CannotCheckError(explained(error)) from error
    return made


async def connect(connection: socket.socket, attempt: Attempt) -> None:
    """Connect. Raises OSError, CannotCheckError."""
    code = connection.connect_ex((attempt.address, attempt.port))
    if code in (0, EINPROGRESS):
        attempt.sent()
    if attempt.mark and code in _UNROUTED:  # IPVS would take the packet to the real server, if there were one
        raise CannotCheckError(f"this director has no route to {attempt.address}, by which to ask its real servers")
    if code == EINPROGRESS:
        await _writable(connection)
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    if attempt.ports is not None and connection.type == socket.SOCK_STREAM:
        attempt.ports.reset((attempt.address, attempt.port), connection.getsockname()[1], attempt.mark, attempt.timeout)


class Plain:
    """A connected socket, or one for datagrams."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    async def send(self, data: bytes) -> None:
        """Send all. Raises OSError."""
        left = memoryview(data)
        while left:
            try:
                left = left[self._connection.send(left) :]
            except BlockingIOError:
                await _writable(self._connection)

    async def receive(self, most: int) -> bytes:
        """Return some bytes, none at the end. Raises OSError."""
        while True:
            try:
                return self._connection.recv(most)
            except BlockingIOError:
                await readable(self._connection)


class Tls:
    """TLS over a connected socket."""

    def __init__(self, below: Plain, context: ssl.SSLContext, name: str, identity: Identity = NO_IDENTITY) -> None:
        self._below = below
        self._identity = identity
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._layer = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    async def shake_hands(self) -> None:
        """Agree on keys, and verify the certificate. Raises OSError, CheckFailedError."""
        await self._run(self._layer.do_handshake)

    async def send(self, data: bytes) -> None:
        """Send all. Raises OSError, CheckFailedError."""
        await self._run(lambda: self._layer.write(data))

    async def receive(self, most: int) -> bytes:
        """Return some bytes, none at the end. Raises OSError, CheckFailedError."""
        try:
            return await self._run(lambda: self._layer.read(most))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def _run(self, step: Callable[[], Result]) -> Result:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                heard = await self._below.receive(_RECORD)
                if heard:
                    self._incoming.write(heard)
                else:
                    self._incoming.write_eof()
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                raise
            except ssl.SSLCertVerificationError as error:
                raise CheckFailedError(f"the certificate is not accepted: {error.verify_message}") from error
            except ssl.SSLError as error:
                text = (error.reason or "unknown error").lower().replace("_", " ")
                if self._identity.certificate and is_refusal(error):
                    whose = f"{CERTIFICATE} of Secret {self._identity.secret}"
                    raise CannotCheckError(f"the real server does not accept {whose}: {text}") from error
                raise CheckFailedError(f"TLS fails: {text}") from error
            await self._flush()
            return result

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._below.send(self._outgoing.read())


@contextlib.asynccontextmanager
async def connected(
    attempt: Attempt, tls: TlsSettings | None = None, *, host: str = "", alpn: str = ""
) -> AsyncIterator[Peer]:
    """Connect, by TLS where that is set; `host`: what is asked for.

    Raises OSError, CannotCheckError, CheckFailedError.
    """
    context = tls_context(tls.verify, tls.ca_bundle, alpn, attempt.identity) if tls is not None else None
    with open_socket(attempt, socket.SOCK_STREAM) as connection:
        await connect(connection, attempt)
        plain = Plain(connection)
        if tls is None or context is None:
            attempt.reached = "it accepts the connection, but no answer"
            yield plain
            return
        attempt.reached = "it accepts the connection, but no TLS handshake"
        peer = Tls(plain, context, tls.server_name or host or attempt.address, attempt.identity)
        try:
            await peer.shake_hands()
        except ssl.SSLError as error:  # the end came in the middle
            raise CheckFailedError("it closes the connection in the TLS handshake") from error
        attempt.reached = "the TLS handshake is done, but no answer"
        yield peer


@lru_cache(maxsize=128)
def tls_context(
    verify: bool,  # noqa: FBT001 - a key of the cache
    ca_bundle: str,
    alpn: str = "",
    identity: Identity = NO_IDENTITY,
) -> ssl.SSLContext:
    """Return how to talk TLS; the same object for the same settings. Raises CannotCheckError."""
    context = client_context(ca_bundle, identity)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols([alpn])
    return context


async def readable(connection: socket.socket) -> None:
    """Wait until something can be read."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    descriptor = connection.fileno()
    loop.add_reader(descriptor, _done, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def _writable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    descriptor = connection.fileno()
    loop.add_writer(descriptor, _done, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _done(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
