"""Raw sockets for IP protocol 112 on one interface, with the TTL (hop limit) of what is received; needs CAP_NET_RAW.

Non-blocking. Multicast is joined on the interface and own packets are not heard back; for unicast the same socket
is used. IPv6 packets come without their header, so hop limit and destination are asked for beside them (RFC 3542).
"""

import errno
import socket
import struct
from typing import Final, NamedTuple

from lvs_dr.netlink.errors import InterfaceUnavailable, SocketUnusable

PROTOCOL: Final = 112
LONGEST_PACKET: Final = 4096 + 256
"""255 IPv6 addresses and the headers, with room."""

_GROUP4, _GROUP6 = "224.0.0.18", "ff02::12"
_HOP_LIMIT = 255
_NETWORK_CONTROL = 0xC0  # the class of routing protocols (RFC 4594, 3.1): not dropped first
_SO_PRIORITY_CONTROL = 6
_IPV4_LEAST = 20
_IP_PKTINFO = 8
_PKTINFO4 = struct.Struct("@i4s4s")
_PKTINFO6 = struct.Struct("@16sI")
_INT = struct.Struct("@i")
_ANCILLARY = 256
_LINK_DOWN: Final = frozenset(
    (errno.ENETDOWN, errno.ENXIO, errno.ENODEV, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EHOSTUNREACH)
)


class Packet(NamedTuple):
    """A received VRRP message and what its IP header said; addresses packed."""

    message: bytes
    source: bytes
    destination: bytes
    hop_limit: int


class VrrpSocket:
    """Sends and receives VRRP on one interface. Raises InterfaceUnavailable, SocketUnusable.

    `source` is the address that sent packets carry; the kernel takes no other.
    """

    def __init__(self, interface: str, family: int, source: str, *, multicast: bool = True) -> None:
        self.interface = interface
        self.family = family
        self.source = source
        self._group = (_GROUP6 if family == socket.AF_INET6 else _GROUP4) if multicast else ""
        try:
            index = socket.if_nametoindex(interface)
        except OSError as error:
            raise InterfaceUnavailable(interface, error.errno or errno.ENODEV) from error
        self._scope = index
        self._ancillary: list[tuple[int, int, bytes]] = []
        try:
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            self._socket = socket.socket(family, kind, PROTOCOL)
        except OSError as error:
            raise SocketUnusable(f"cannot open a raw socket: {error}") from error
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _SO_PRIORITY_CONTROL)
            if family == socket.AF_INET6:
                self._set_up6(index)
            else:
                self._set_up4(index)
        except OSError as error:
            self._socket.close()
            raise self._failure(error) from error

    def close(self) -> None:
        """Close the socket; remove it from the event loop first."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def send(self, message: bytes, destination: str = "") -> bool:
        """Send to the group, or to one peer; False when the queue is full just now."""
        to = destination or self._group
        try:
            if self.family == socket.AF_INET6:
                self._socket.sendto(message, (to, 0, 0, self._scope if to.startswith("f") else 0))
            else:
                self._socket.sendmsg((message,), self._ancillary, 0, (to, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.EPERM):  # EPERM: a firewall; the peers will tell
                return False
            raise self._failure(error) from error
        return True

    def receive(self) -> Packet | None:
        """Return the next packet, or None when there is none."""
        try:
            data, ancillary, _, sender = self._socket.recvmsg(LONGEST_PACKET, _ANCILLARY)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._failure(error) from error
        if self.family == socket.AF_INET:
            return _packet4(data)
        hop_limit, destination = 0, b""
        for level, kind, value in ancillary:
            if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_HOPLIMIT:
                (hop_limit,) = _INT.unpack_from(value)
            elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                destination = _PKTINFO6.unpack_from(value)[0]
        source = socket.inet_pton(socket.AF_INET6, sender[0].partition("%")[0])
        return Packet(data, source, destination or bytes(16), hop_limit)

    def _set_up4(self, index: int) -> None:
        own = self._socket
        own.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _HOP_LIMIT)
        own.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _NETWORK_CONTROL)
        own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _HOP_LIMIT)
        own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        member = struct.pack("@4s4si", socket.inet_aton(_GROUP4), socket.inet_aton(self.source), index)
        own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, member)
        if self._group:
            own.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        # The source is given with each packet: a raw socket bound to it would hear nothing that goes to the group.
        chosen = _PKTINFO4.pack(index, socket.inet_aton(self.source), bytes(4))
        self._ancillary = [(socket.IPPROTO_IP, _IP_PKTINFO, chosen)]

    def _set_up6(self, index: int) -> None:
        own = self._socket
        level = socket.IPPROTO_IPV6
        own.setsockopt(level, socket.IPV6_UNICAST_HOPS, _HOP_LIMIT)
        own.setsockopt(level, socket.IPV6_MULTICAST_HOPS, _HOP_LIMIT)
        own.setsockopt(level, socket.IPV6_MULTICAST_LOOP, 0)
        own.setsockopt(level, socket.IPV6_MULTICAST_IF, index)
        own.setsockopt(level, socket.IPV6_TCLASS, _NETWORK_CONTROL)
        own.setsockopt(level, socket.IPV6_RECVHOPLIMIT, 1)
        own.setsockopt(level, socket.IPV6_RECVPKTINFO, 1)
        # A sticky source: whatever other addresses the interface gets, peers compare this one (RFC 3542, 6.1).
        own.setsockopt(level, socket.IPV6_PKTINFO, _PKTINFO6.pack(socket.inet_pton(self.family, self.source), index))
        if self._group:
            group = socket.inet_pton(self.family, _GROUP6)
            own.setsockopt(level, socket.IPV6_JOIN_GROUP, struct.pack("@16sI", group, index))

    def _failure(self, error: OSError) -> InterfaceUnavailable | SocketUnusable:
        code = error.errno or 0
        if code in _LINK_DOWN:
            return InterfaceUnavailable(self.interface, code)
        return SocketUnusable(f"VRRP socket on {self.interface}: {error}")


def _packet4(data: bytes) -> Packet | None:
    """Split an IPv4 packet; the kernel has checked its header."""
    if len(data) < _IPV4_LEAST:
        return None
    start = (data[0] & 0x0F) * 4
    return Packet(data[start:], data[12:16], data[16:20], data[8])
