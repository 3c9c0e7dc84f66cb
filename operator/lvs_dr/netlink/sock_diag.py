"""TCP sockets of this network namespace as the kernel lists them (`ss`): who is connected to which local port.

Reads only, and needs no capability. Sources: linux/sock_diag.h, linux/inet_diag.h, linux/tcp.h (tcp_info),
net/ipv4/inet_diag.c.
"""

import errno
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from types import TracebackType
from typing import Final, NamedTuple, Self

from lvs_dr.netlink.errors import MalformedMessage, SocketUnusable
from lvs_dr.netlink.message import (
    HEADER,
    HEADER_SIZE,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    Buffer,
    Header,
    decode_error,
    split,
    walk,
)
from lvs_dr.netlink.transport import Patience, Transport, open_transport, receive

DEFAULT_TIMEOUT: Final = 5.0

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_RECEIVE_BYTES: Final = 64 * 1024
_SEQUENCES: Final = 1 << 31

# inet_diag_req_v2: family, protocol, extensions, states; inet_diag_sockid: ports, addresses, interface, cookie.
_REQUEST: Final = struct.Struct("=BBBxI")
_PORTS: Final = struct.Struct(">HH")
_ANY: Final = struct.pack("=32xIII", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_COOKIE: Final = struct.Struct("=Q")
# inet_diag_msg, from its start: state, source port, source address, cookie; its length.
_STATE_AT, _PORT_AT, _ADDRESS_AT, _COOKIE_AT, _MESSAGE_SIZE = 1, 4, 8, 44, 72
_INET_DIAG_INFO: Final = 2
_RECEIVED_AT: Final = 128  # tcpi_bytes_received in tcp_info
_MAPPED: Final = bytes(10) + b"\xff\xff"


class TcpState(IntEnum):
    """States of a TCP socket (net/tcp_states.h)."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11


OPEN: Final = frozenset(
    {TcpState.ESTABLISHED, TcpState.FIN_WAIT1, TcpState.CLOSE_WAIT, TcpState.LAST_ACK, TcpState.CLOSING}
)
"""States in which a peer may still wait for data: a server that has closed may not have sent all of it yet."""


class TcpSocket(NamedTuple):
    """One socket. `address` is packed: 4 bytes, also where an IPv6 socket serves an IPv4 peer, or 16."""

    address: bytes
    port: int
    state: int
    cookie: int  # tells it from any other socket since the boot
    received: int  # bytes so far; -1: not asked for, or a listener

    @property
    def text(self) -> str:
        """Its own address as text."""
        return address_text(self.address)


def address_text(packed: bytes) -> str:
    """Return a packed address as text. Raises ValueError for another length than 4 or 16."""
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)  # noqa: PLR2004


def request(family: int, states: Iterable[int], port: int = 0, *, received: bool = False) -> bytes:
    """Encode the question for the sockets of an address family in some states; `port`: the local one, 0 any."""
    mask = sum(1 << state for state in frozenset(states))
    extensions = 1 << (_INET_DIAG_INFO - 1) if received else 0
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, extensions, mask) + _PORTS.pack(port, 0) + _ANY
    return HEADER.pack(HEADER_SIZE + len(body), _SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + body


def decode(message: Buffer) -> TcpSocket:
    """Decode one answer. Raises MalformedMessage."""
    start = HEADER_SIZE
    if len(message) < start + _MESSAGE_SIZE:
        raise MalformedMessage(f"a socket of {len(message)} bytes")
    family, state = message[start], message[start + _STATE_AT]
    (port, _) = _PORTS.unpack_from(message, start + _PORT_AT)
    (cookie,) = _COOKIE.unpack_from(message, start + _COOKIE_AT)
    first = start + _ADDRESS_AT
    if family == socket.AF_INET:
        address = bytes(message[first : first + 4])
    else:
        address = bytes(message[first : first + 16])
        if address.startswith(_MAPPED):
            address = address[12:]
    received = -1
    for kind, begin, end in walk(message, start + _MESSAGE_SIZE, len(message)):
        if kind == _INET_DIAG_INFO and end - begin >= _RECEIVED_AT + _COOKIE.size and state != TcpState.LISTEN:
            (received,) = _COOKIE.unpack_from(message, begin + _RECEIVED_AT)
    return TcpSocket(address, port, state, cookie, received)


class SocketTable:
    """Lists TCP sockets. Not for two threads at once. Opening raises SocketUnusable."""

    def __init__(
        self,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        transport: Transport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout = timeout
        self._clock = clock
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._transport = transport or open_transport(timeout, _NETLINK_SOCK_DIAG)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._transport.close()

    def sockets(self, states: Iterable[int], *, port: int = 0, received: bool = False) -> Iterator[TcpSocket]:
        """Yield the sockets in some states, of both families, as they are read: thousands need no memory.

        `port`: the local one, 0 any. `received`: with the bytes that came in. The table changes meanwhile, so a
        connection that comes or goes may be seen or not; none is seen twice.
        Raises NetlinkError (the kernel has no inet_diag), NetlinkTimeout, NetlinkOverflow, MalformedMessage,
        SocketUnusable.
        """
        wanted = frozenset(states)
        for family in (socket.AF_INET, socket.AF_INET6):
            yield from self._dump(request(family, wanted, port, received=received))

    def _dump(self, message: bytes) -> Iterator[TcpSocket]:
        self._sequence = self._sequence % _SEQUENCES + 1
        sequence, asked = self._sequence, bytearray(message)
        length, kind, flags, _, _ = HEADER.unpack_from(asked)
        HEADER.pack_into(asked, 0, length, kind, flags, sequence, 0)
        try:
            self._transport.send(asked)
        except OSError as error:
            raise SocketUnusable(f"sock_diag: sending failed: {error}") from error
        patience = Patience(self._clock, self._timeout)
        while True:
            data = receive(self._transport, self._buffer, patience, "sock_diag")
            ours = False
            for header in split(data, len(data)):
                if header.sequence != sequence:
                    continue  # the rest of a dump that was given up
                ours = True
                if header.kind in (NLMSG_DONE, NLMSG_ERROR):
                    _end(data, header)
                    return
                yield decode(memoryview(data)[header.start : header.stop])
            if not ours:
                patience.spend("sock_diag")


def _end(data: bytes, header: Header) -> None:
    """Raise what the end of a dump says is wrong."""
    refused = decode_error(data, header)
    if refused is not None and refused.code != errno.EINTR:
        raise refused
