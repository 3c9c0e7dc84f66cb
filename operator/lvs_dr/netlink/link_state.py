"""Interfaces as rtnetlink tells of them: name, index, MAC, and whether frames can pass. Pure.

Sources: linux/if_link.h, linux/if.h; RFC 2863 for the operational state.
"""

import struct
from typing import Final, NamedTuple

from lvs_dr.netlink.errors import MalformedMessage
from lvs_dr.netlink.message import HEADER, HEADER_SIZE, Buffer, walk

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18

_MESSAGE = struct.Struct("=BxHiII")
_IFLA_ADDRESS, _IFLA_IFNAME = 1, 3
_IFF_UP, _IFF_RUNNING = 0x1, 0x40


class Link(NamedTuple):
    """One interface; `number` is its index, `up` when it is administratively up and has a carrier."""

    number: int
    name: str
    mac: bytes
    up: bool


def dump() -> bytes:
    """Encode: tell all interfaces."""
    return HEADER.pack(HEADER_SIZE + _MESSAGE.size, RTM_GETLINK, 0, 0, 0) + _MESSAGE.pack(0, 0, 0, 0, 0)


def is_plain(message: Buffer) -> bool:
    """Whether a message is about the interface itself: a bridge tells of its ports with the same types."""
    return len(message) > HEADER_SIZE and message[HEADER_SIZE] == 0


def decode(message: Buffer) -> Link:
    """Read an RTM_NEWLINK or RTM_DELLINK. Raises MalformedMessage."""
    start = HEADER_SIZE + _MESSAGE.size
    if len(message) < start:
        raise MalformedMessage(f"a link message of {len(message)} bytes")
    _, _, index, flags, _ = _MESSAGE.unpack_from(message, HEADER_SIZE)
    name, mac = "", b""
    for kind, first, last in walk(message, start, len(message)):
        if kind == _IFLA_IFNAME:
            name = bytes(message[first:last]).rstrip(b"\0").decode("ascii", "replace")
        elif kind == _IFLA_ADDRESS:
            mac = bytes(message[first:last])
    return Link(index, name, mac, bool(flags & _IFF_UP and flags & _IFF_RUNNING))
