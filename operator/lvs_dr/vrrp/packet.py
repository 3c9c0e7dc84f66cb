"""VRRPv3 advertisements as bytes (RFC 9568, section 5), IPv4 and IPv6. Pure.

Two readings of the IPv4 checksum are in use: over the message alone (RFC 9568, 5.2.8) and with a pseudo-header
before it (RFC 5798 as keepalived reads it). Both are taken and told apart; which is sent is a choice. IPv6 always
has the pseudo-header.

The RFC wants a virtual router's link-local address first in an IPv6 advert. It serves the virtual MAC, which is not
used here: only VIPs are listed, and whatever a peer lists is taken.
"""

import socket
import struct
from enum import StrEnum
from typing import Final, NamedTuple

from lvs_dr.netlink.errors import UnencodableValue

PROTOCOL: Final = 112
"""IP protocol number."""
GROUP4: Final = "224.0.0.18"
GROUP6: Final = "ff02::12"
HOP_LIMIT: Final = 255
OWNER_PRIORITY: Final = 255
RELEASING: Final = 0
"""The priority that says: I stop being Active (RFC 9568, 5.2.4)."""
MOST_ADDRESSES: Final = 255
LONGEST_INTERVAL: Final = 4095
"""Centiseconds; the field has 12 bits."""
LONGEST_TRAILER: Final = 128
"""Bytes after the address list that are let through: authentication blocks stand there."""

_VERSION = 3
_ADVERTISEMENT = 1
_HEADER = struct.Struct(">BBBBHH")
_PSEUDO4 = struct.Struct(">4s4sxBH")
_PSEUDO6 = struct.Struct(">16s16sI3xB")
_CHECKSUM_AT = 6
_LARGEST_BYTE = 255


class ChecksumForm(StrEnum):
    """What a checksum covers."""

    PLAIN = "Plain"
    """The message alone: RFC 9568 for IPv4."""
    PSEUDO_HEADER = "PseudoHeader"
    """A pseudo-header and the message: IPv6 always, and keepalived for IPv4."""


class PacketRefusal(StrEnum):
    """Why a received packet is not used; counted by whoever receives."""

    HOP_LIMIT = "HopLimit"
    """It may have crossed a router."""
    LENGTH = "Length"
    VERSION = "Version"
    TYPE = "Type"
    CHECKSUM = "Checksum"
    VRID = "VRID"
    """Virtual router 0 is not allowed."""
    COUNT = "Count"
    """No address is listed."""
    INTERVAL = "Interval"
    """An interval of 0 would make every Backup Active at once."""


class RefusedPacket(Exception):
    """Received bytes that are not a valid advertisement; the only thing `decode` raises."""

    def __init__(self, reason: PacketRefusal, vrid: int | None = None) -> None:
        self.reason = reason
        self.vrid = vrid
        super().__init__(reason.value)


class Advertisement(NamedTuple):
    """One VRRP advertisement. `interval` in centiseconds; `addresses` all of one family, in text."""

    vrid: int
    priority: int
    interval: int
    addresses: tuple[str, ...]


class Received(NamedTuple):
    """A decoded advertisement, the form its checksum had, and what stood behind it."""

    advertisement: Advertisement
    form: ChecksumForm
    trailer: bytes


def encode(advert: Advertisement, source: str, destination: str, form: ChecksumForm) -> bytes:
    """Return the VRRP message without IP header; `form` matters for IPv4 only. Raises UnencodableValue."""
    if not (
        0 < advert.vrid <= _LARGEST_BYTE
        and 0 <= advert.priority <= _LARGEST_BYTE
        and 0 < advert.interval <= LONGEST_INTERVAL
        and 0 < len(advert.addresses) <= MOST_ADDRESSES
    ):
        raise UnencodableValue(f"not a possible advertisement: {advert}")
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    try:
        ends = socket.inet_pton(family, source), socket.inet_pton(family, destination)
        listed = b"".join([socket.inet_pton(family, each) for each in advert.addresses])
    except (OSError, ValueError) as error:
        raise UnencodableValue(f"{source} to {destination}: {error} in {advert.addresses}") from error
    first = _VERSION << 4 | _ADVERTISEMENT
    message = bytearray(
        _HEADER.pack(first, advert.vrid, advert.priority, len(advert.addresses), advert.interval, 0) + listed
    )
    if family == socket.AF_INET6 or form is ChecksumForm.PSEUDO_HEADER:
        value = _fold(_sum(message) + _pseudo_sum(*ends, len(message)))
    else:
        value = _fold(_sum(message))
    struct.pack_into(">H", message, _CHECKSUM_AT, value)
    return bytes(message)


def decode(message: bytes, source: bytes, destination: bytes, hop_limit: int) -> Received:
    """Read a received VRRP message (RFC 9568, 7.1). Raises RefusedPacket.

    `source` and `destination` are packed addresses of the IP header (4 or 16 bytes), `hop_limit` its TTL. The
    checks stand in the order of the RFC, so that a foreign version is told as such and not as a bad length.
    """
    if hop_limit != HOP_LIMIT:
        raise RefusedPacket(PacketRefusal.HOP_LIMIT)
    if not message:
        raise RefusedPacket(PacketRefusal.LENGTH)
    if message[0] >> 4 != _VERSION:
        raise RefusedPacket(PacketRefusal.VERSION)
    if message[0] & 0x0F != _ADVERTISEMENT:
        raise RefusedPacket(PacketRefusal.TYPE)
    if len(message) < _HEADER.size:
        raise RefusedPacket(PacketRefusal.LENGTH)
    _, vrid, priority, count, interval, _ = _HEADER.unpack_from(message)
    size = len(source)
    end = _HEADER.size + count * size
    if not end <= len(message) <= end + LONGEST_TRAILER:
        raise RefusedPacket(PacketRefusal.LENGTH, vrid)
    form = _matching(message, end, source, destination)
    if form is None:
        raise RefusedPacket(PacketRefusal.CHECKSUM, vrid)
    interval &= LONGEST_INTERVAL  # the upper four bits are reserved and ignored
    for wrong, reason in (
        (vrid == 0, PacketRefusal.VRID),
        (count == 0, PacketRefusal.COUNT),
        (interval == 0, PacketRefusal.INTERVAL),
    ):
        if wrong:
            raise RefusedPacket(reason, vrid)
    family = socket.AF_INET if size == 4 else socket.AF_INET6  # noqa: PLR2004 - bytes of an IPv4 address
    listed = tuple([socket.inet_ntop(family, message[at : at + size]) for at in range(_HEADER.size, end, size)])
    return Received(Advertisement(vrid, priority, interval, listed), form, message[end:])


def _matching(message: bytes, end: int, source: bytes, destination: bytes) -> ChecksumForm | None:
    """Find which checksum is right. A trailer may or may not be covered: it is not part of the RFC's message."""
    for stop in {end, len(message)}:
        covered = message[:stop]
        plain = _sum(covered)
        if len(source) == 4 and _fold(plain) == 0:  # noqa: PLR2004 - IPv4
            return ChecksumForm.PLAIN
        if _fold(plain + _pseudo_sum(source, destination, stop)) == 0:
            return ChecksumForm.PSEUDO_HEADER
    return None


def _pseudo_sum(source: bytes, destination: bytes, length: int) -> int:
    if len(source) == 4:  # noqa: PLR2004 - IPv4
        return _sum(_PSEUDO4.pack(source, destination, PROTOCOL, length))
    return _sum(_PSEUDO6.pack(source, destination, length, PROTOCOL))


def _sum(data: bytes | bytearray) -> int:
    if len(data) % 2:
        data = bytes(data) + b"\0"
    return sum(struct.unpack(f">{len(data) // 2}H", data))


def _fold(total: int) -> int:
    """Return the complement of the one's complement sum: 0 when a right checksum was in it."""
    while total > 0xFFFF:  # noqa: PLR2004 - carries of 16-bit words
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF
