"""Dumps of addresses, routes and links: read in every pass, so without a library in between.

A thousand addresses take 120 ms through pyroute2 and a few milliseconds here; pyroute2 makes the changes, and is
what the tests compare these dumps with. Sources: linux/rtnetlink.h, linux/if_addr.h, linux/if_link.h.
"""

import errno
import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from lvs_dr.agent.kernel.errors import KernelError, describe
from lvs_dr.netlink.errors import DumpInterrupted, MalformedMessage, NetlinkError, NetlinkFailure
from lvs_dr.netlink.message import HEADER, HEADER_SIZE, attribute, walk
from lvs_dr.netlink.rtnetlink import RouteSocket

MAIN_TABLE: Final = 254
BLACKHOLE: Final = 6  # RTN_BLACKHOLE
TIMEOUT_SECONDS: Final = 5.0

_GETLINK, _GETADDR, _GETROUTE = 18, 22, 26
_LINK: Final = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_ADDRESS: Final = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # rtmsg: …, destination length, …, table, protocol, scope, type, flags
_NEXT_HOP: Final = struct.Struct("=HBBi")  # rtnexthop: length, flags, hops, index
_U32: Final = struct.Struct("=I")
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_EXT_MASK = 1, 3, 29
_SKIP_STATISTICS: Final = attribute(_IFLA_EXT_MASK, _U32.pack(8))
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_RTA_DST, _RTA_GATEWAY, _RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA = 1, 5, 9, 15, 18
# The table or the family is not there at all (IPv6 switched off): nothing in it.
_EMPTY: Final = frozenset({errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT})
_LENGTHS: Final[dict[int, int]] = {socket.AF_INET: 4, socket.AF_INET6: 16}


class AddressEntry(NamedTuple):
    """An address on an interface; `flags` are IFA_F_*."""

    family: int
    address: str
    prefix_length: int
    scope: int
    flags: int
    interface: int


class RouteEntry(NamedTuple):
    """A route of the main table; `destination` "" is a default route."""

    destination: str
    prefix_length: int
    kind: int
    gateways: tuple[str, ...]


class LinkEntry(NamedTuple):
    """An interface; `flags` are IFF_*."""

    interface: int
    name: str
    mac: str
    flags: int


class Dumps:
    """A socket that only reads. One thread at a time; all methods raise KernelError."""

    def __init__(self) -> None:
        self._socket: RouteSocket | None = None

    def addresses(self) -> list[AddressEntry]:
        """Read all addresses."""
        return [_parse_address(message) for message in self._dump(_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0))]

    def routes(self, family: int, kind: int = 0) -> list[RouteEntry]:
        """Read the main table's routes of one family and, unless 0, of one kind (the kernel filters)."""
        body = _ROUTE.pack(family, 0, 0, 0, MAIN_TABLE, 0, 0, kind, 0)
        parsed = (_parse_route(message, family) for message in self._dump(_GETROUTE, body))
        return [route for route in parsed if route is not None and kind in (0, route.kind)]

    def links(self) -> list[LinkEntry]:
        """Read all interfaces."""
        return [_parse_link(message) for message in self._dump(_GETLINK, _LINK.pack(0, 0, 0, 0, 0) + _SKIP_STATISTICS)]

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        try:
            self._socket = self._socket or RouteSocket(timeout=TIMEOUT_SECONDS, strict=True)
            return self._socket.dump(HEADER.pack(HEADER_SIZE + len(body), kind, 0, 0, 0) + body)
        except NetlinkError as error:
            if error.code in _EMPTY:
                return []
            raise KernelError(error.code, f"the kernel refused a dump: {describe(error.code)}") from error
        except DumpInterrupted as error:
            raise KernelError(errno.EINTR, str(error)) from error
        except NetlinkFailure as error:  # also after answers were lost: a new socket starts clean
            self.close()
            raise KernelError(errno.EIO, str(error)) from error


def _attributes(message: bytes, fixed: int) -> dict[int, bytes]:
    return {kind: message[first:last] for kind, first, last in walk(message, HEADER_SIZE + fixed, len(message))}


def _parse_address(message: bytes) -> AddressEntry:
    family, length, flags, scope, index = _ADDRESS.unpack_from(message, HEADER_SIZE)
    found = _attributes(message, _ADDRESS.size)
    if _IFA_FLAGS in found:
        (flags,) = _U32.unpack(found[_IFA_FLAGS])
    # On point-to-point links IFA_ADDRESS is the peer.
    raw = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")
    return AddressEntry(family, _text(family, raw), length, scope, flags, index)


def _parse_route(message: bytes, wanted: int) -> RouteEntry | None:
    """Read a route; None for one of another table or family, where the kernel did not filter."""
    family, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(message, HEADER_SIZE)
    found = _attributes(message, _ROUTE.size)
    if _RTA_TABLE in found:
        (table,) = _U32.unpack(found[_RTA_TABLE])
    if family != wanted or table != MAIN_TABLE:
        return None
    gateways = [*_gateways(family, found)]
    for hop in _hops(found.get(_RTA_MULTIPATH, b"")):
        gateways += _gateways(family, hop)
    return RouteEntry(_text(family, found.get(_RTA_DST, b"")), length, kind, tuple(gateways))


def _gateways(family: int, found: dict[int, bytes]) -> Iterator[str]:
    if _RTA_GATEWAY in found:
        yield _text(family, found[_RTA_GATEWAY])
    if _RTA_VIA in found:  # a gateway of the other family: rtvia
        (other,) = struct.unpack_from("=H", found[_RTA_VIA])
        yield _text(other, found[_RTA_VIA][2:])


def _hops(data: bytes) -> Iterator[dict[int, bytes]]:
    start = 0
    while len(data) - start >= _NEXT_HOP.size:
        length = _NEXT_HOP.unpack_from(data, start)[0]
        if not _NEXT_HOP.size <= length <= len(data) - start:
            raise MalformedMessage(f"a next hop claims {length} of {len(data) - start} bytes")
        inner = walk(data, start + _NEXT_HOP.size, start + length)
        yield {kind: data[first:last] for kind, first, last in inner}
        start += (length + 3) & ~3


def _parse_link(message: bytes) -> LinkEntry:
    _, _, index, flags, _ = _LINK.unpack_from(message, HEADER_SIZE)
    found = _attributes(message, _LINK.size)
    name = found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "surrogateescape")
    return LinkEntry(index, name, found.get(_IFLA_ADDRESS, b"").hex(":"), flags)


def _text(family: int, raw: bytes) -> str:
    """Return an address as text; "" for an absent one and for families that are neither IPv4 nor IPv6."""
    return socket.inet_ntop(family, raw) if raw and len(raw) == _LENGTHS.get(family) else ""
