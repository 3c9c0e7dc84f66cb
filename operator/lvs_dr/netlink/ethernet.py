"""Ethernet frames: addresses, the header, and why a received frame is not used. Pure.

A `mac` is 6 bytes everywhere in this package; `mac_text` writes it for people.
"""

import struct
from enum import StrEnum
from typing import Final

from lvs_dr.netlink.errors import UnencodableValue

ETH_P_ARP: Final = 0x0806
ETH_P_IPV6: Final = 0x86DD
HEADER_SIZE: Final = 14
SHORTEST_FRAME: Final = 60
"""Bytes of the shortest frame without its checksum (IEEE 802.3); shorter ones are padded."""
BROADCAST: Final = b"\xff" * 6
NO_MAC: Final = bytes(6)
MAC_SIZE: Final = 6

_HEADER = struct.Struct(">6s6sH")
_GROUP_BIT = 0x01


class FrameRefusal(StrEnum):
    """Why a received frame was not used; counted by whoever receives."""

    OTHER_PROTOCOL = "OtherProtocol"
    """Not for this parser: nothing is wrong with it."""
    TRUNCATED = "Truncated"
    BAD_HEADER = "BadHeader"
    BAD_ADDRESS = "BadAddress"
    BAD_OPTION = "BadOption"
    BAD_CHECKSUM = "BadChecksum"
    HOP_LIMIT = "HopLimit"
    """A neighbour discovery message that may have crossed a router (RFC 4861, section 7.1)."""


def ethernet(destination: bytes, source: bytes, protocol: int, payload: bytes) -> bytes:
    """Build a frame, padded to the shortest length. Raises UnencodableValue for a MAC of the wrong size."""
    for mac in (destination, source):
        if len(mac) != MAC_SIZE:
            raise UnencodableValue(f"a MAC address of {len(mac)} bytes")
    return (_HEADER.pack(destination, source, protocol) + payload).ljust(SHORTEST_FRAME, b"\0")


def header(frame: bytes) -> tuple[bytes, bytes, int] | FrameRefusal:
    """Read destination, source and protocol of a frame."""
    if len(frame) < HEADER_SIZE:
        return FrameRefusal.TRUNCATED
    destination, source, protocol = _HEADER.unpack_from(frame)
    return destination, source, protocol


def is_group(mac: bytes) -> bool:
    """Tell a multicast or broadcast address from that of one station."""
    return bool(mac[0] & _GROUP_BIT)


def mac_text(mac: bytes) -> str:
    """Write a MAC address the usual way: 02:00:00:00:00:01."""
    return mac.hex(":")
