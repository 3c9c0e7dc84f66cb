"""Addresses of interfaces as rtnetlink messages: adding with a lifetime, deleting, and reading them. Pure.

Sources: linux/if_addr.h, net/ipv4/devinet.c (inet_rtm_newaddr), net/ipv6/addrconf.c (inet6_rtm_newaddr).
The kernel counts lifetimes in whole seconds from the moment of the message; an existing address gets the new one.
"""

import socket
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from lvs_dr.netlink.errors import MalformedMessage, UnencodableValue
from lvs_dr.netlink.message import HEADER, HEADER_SIZE, Buffer, attribute, walk

RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22

NLM_F_REPLACE: Final = 0x100
NLM_F_CREATE: Final = 0x400

FOREVER: Final = 0xFFFF_FFFF
"""A lifetime without end (INFINITY_LIFE_TIME)."""
IFA_F_NODAD: Final = 0x02
IFA_F_DEPRECATED: Final = 0x20
IFA_F_TENTATIVE: Final = 0x40
IFA_F_PERMANENT: Final = 0x80
IFA_F_NOPREFIXROUTE: Final = 0x200

_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
_MESSAGE = struct.Struct("=BBBBI")
_CACHEINFO = struct.Struct("=IIII")
_U32 = struct.Struct("=I")
_HOST_BITS: Final[dict[int, int]] = {socket.AF_INET: 32, socket.AF_INET6: 128}


class InterfaceAddress(NamedTuple):
    """One address of the interface with index `link`; lifetimes in seconds, `FOREVER` for those without end."""

    link: int
    address: str
    prefix: int
    scope: int
    flags: int
    valid: int
    preferred: int

    @property
    def is_host(self) -> bool:
        """It stands for itself alone (/32, /128), as VIPs do."""
        return self.prefix == (128 if ":" in self.address else 32)


def add(index: int, address: str, lifetime: int) -> bytes:
    """Encode: have `address` as a host address on an interface for `lifetime` seconds, 0 for ever.

    Sent for an address that is there, it sets the lifetime anew and does nothing else. An IPv6 address is
    deprecated at once, so that the kernel never chooses it as a source; no duplicate address detection, which
    would keep it unusable for a second; and no prefix route, which would outlive it in the main table.
    Raises UnencodableValue.
    """
    if not 0 <= lifetime < FOREVER:
        raise UnencodableValue(f"a lifetime of {lifetime} s")
    family, packed = _pack(address)
    valid = lifetime or FOREVER
    preferred = 0 if family == socket.AF_INET6 else valid
    flags = IFA_F_NOPREFIXROUTE | (IFA_F_NODAD if family == socket.AF_INET6 else 0)
    return _message(
        RTM_NEWADDR,
        NLM_F_CREATE | NLM_F_REPLACE,
        family,
        index,
        attribute(_IFA_LOCAL, packed),
        attribute(_IFA_ADDRESS, packed),
        attribute(_IFA_FLAGS, _U32.pack(flags)),
        attribute(_IFA_CACHEINFO, _CACHEINFO.pack(preferred, valid, 0, 0)),
    )


def delete(index: int, address: str) -> bytes:
    """Encode: remove a host address from an interface. Raises UnencodableValue."""
    family, packed = _pack(address)
    return _message(RTM_DELADDR, 0, family, index, attribute(_IFA_LOCAL, packed), attribute(_IFA_ADDRESS, packed))


def dump(family: int = socket.AF_UNSPEC) -> bytes:
    """Encode: tell all addresses of all interfaces; older kernels cannot be asked for those of one."""
    return HEADER.pack(HEADER_SIZE + _MESSAGE.size, RTM_GETADDR, 0, 0, 0) + _MESSAGE.pack(family, 0, 0, 0, 0)


def decode(message: Buffer) -> InterfaceAddress | None:
    """Read an RTM_NEWADDR or RTM_DELADDR; None for a family that is neither. Raises MalformedMessage."""
    start = HEADER_SIZE + _MESSAGE.size
    if len(message) < start:
        raise MalformedMessage(f"an address message of {len(message)} bytes")
    family, prefix, flags, scope, index = _MESSAGE.unpack_from(message, HEADER_SIZE)
    if family not in _HOST_BITS:
        return None
    text = ""
    preferred = valid = FOREVER
    for kind, first, last in walk(message, start, len(message)):
        if kind == _IFA_LOCAL or (kind == _IFA_ADDRESS and not text):
            text = _unpack(family, message[first:last])
        elif kind == _IFA_CACHEINFO and last - first >= _CACHEINFO.size:
            preferred, valid, _, _ = _CACHEINFO.unpack_from(message, first)
        elif kind == _IFA_FLAGS and last - first == _U32.size:
            (flags,) = _U32.unpack_from(message, first)
    if not text:
        raise MalformedMessage("an address message without an address")
    return InterfaceAddress(index, text, prefix, scope, flags, valid, preferred)


def on_interface(messages: Iterable[Buffer], index: int) -> list[InterfaceAddress]:
    """Return the addresses of one interface from the answers to `dump`. Raises MalformedMessage."""
    found = (decode(each) for each in messages)
    return [each for each in found if each is not None and each.link == index]


def _message(kind: int, flags: int, family: int, index: int, *attributes: bytes) -> bytes:
    if not 0 < index <= 0x7FFF_FFFF:  # noqa: PLR2004 - an int in the kernel
        raise UnencodableValue(f"an interface with index {index}")
    body = _MESSAGE.pack(family, _HOST_BITS[family], 0, 0, index) + b"".join(attributes)
    return HEADER.pack(HEADER_SIZE + len(body), kind, flags, 0, 0) + body


def _pack(address: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return family, socket.inet_pton(family, address)
    except (OSError, ValueError) as error:
        raise UnencodableValue(f"not an address: {address!r}") from error


def _unpack(family: int, packed: Buffer) -> str:
    try:
        return socket.inet_ntop(family, bytes(packed))
    except ValueError as error:
        raise MalformedMessage(f"an address of {len(packed)} bytes") from error
