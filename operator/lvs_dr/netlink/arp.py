"""ARP frames for IPv4 over Ethernet: announcing a VIP, probing for it, understanding answers. Pure.

Sources: RFC 826; RFC 5227 (probe: section 1.1 and 2.1.1, announcement: section 2.3).
"""

import socket
import struct
from typing import Final, NamedTuple

from lvs_dr.netlink.errors import UnencodableValue
from lvs_dr.netlink.ethernet import (
    BROADCAST,
    ETH_P_ARP,
    HEADER_SIZE,
    MAC_SIZE,
    NO_MAC,
    FrameRefusal,
    ethernet,
    header,
    is_group,
)

REQUEST: Final = 1
REPLY: Final = 2
NO_ADDRESS: Final = "0.0.0.0"  # noqa: S104 - the sender of a probe, not an address to bind to

_PACKET = struct.Struct(">HHBBH6s4s6s4s")
_ETHERNET = 1
_IPV4 = 0x0800
_ADDRESS_SIZE = 4


class ArpMessage(NamedTuple):
    """One ARP packet and the source of the frame that brought it."""

    operation: int
    sender_mac: bytes
    sender_address: str
    target_mac: bytes
    target_address: str
    source: bytes

    @property
    def is_probe(self) -> bool:
        """Someone asks whether the address is free (RFC 5227)."""
        return self.operation == REQUEST and self.sender_address == NO_ADDRESS

    @property
    def is_gratuitous(self) -> bool:
        """Someone announces an address as its own."""
        return self.sender_address == self.target_address

    def claims(self, address: str) -> bool:
        """Tell whether the sender holds `address`: any ARP packet with it as sender says so (RFC 5227, 2.1.1)."""
        return self.sender_address == address


def request(mac: bytes, address: str, target: str, target_mac: bytes = BROADCAST) -> bytes:
    """Ask who has `target`; with `target_mac` ask that one station only. Raises UnencodableValue."""
    return _frame(target_mac, REQUEST, mac, address, NO_MAC, target)


def reply(mac: bytes, address: str, target_mac: bytes, target: str) -> bytes:
    """Tell `target` at `target_mac` that `address` is at `mac`. Raises UnencodableValue."""
    return _frame(target_mac, REPLY, mac, address, target_mac, target)


def probe(mac: bytes, address: str) -> bytes:
    """Ask whether anyone has `address`, without claiming it (RFC 5227). Raises UnencodableValue."""
    return _frame(BROADCAST, REQUEST, mac, NO_ADDRESS, NO_MAC, address)


def gratuitous_request(mac: bytes, address: str) -> bytes:
    """Announce `address` in the form of a request (RFC 5227's announcement). Raises UnencodableValue."""
    return _frame(BROADCAST, REQUEST, mac, address, NO_MAC, address)


def gratuitous_reply(mac: bytes, address: str) -> bytes:
    """Announce `address` in the form of a reply, which some peers heed alone. Raises UnencodableValue."""
    return _frame(BROADCAST, REPLY, mac, address, mac, address)


def parse(frame: bytes) -> ArpMessage | FrameRefusal:  # noqa: PLR0911 - one check, one reason
    """Read a received frame; padding and trailing bytes are ignored."""
    outer = header(frame)
    if isinstance(outer, FrameRefusal):
        return outer
    _, source, protocol = outer
    if protocol != ETH_P_ARP:
        return FrameRefusal.OTHER_PROTOCOL
    if len(frame) < HEADER_SIZE + _PACKET.size:
        return FrameRefusal.TRUNCATED
    (hardware, kind, hardware_size, address_size, operation,
     sender_mac, sender, target_mac, target) = _PACKET.unpack_from(frame, HEADER_SIZE)  # fmt: skip
    if (hardware, kind, hardware_size, address_size) != (_ETHERNET, _IPV4, MAC_SIZE, _ADDRESS_SIZE):
        return FrameRefusal.OTHER_PROTOCOL
    if operation not in (REQUEST, REPLY):
        return FrameRefusal.BAD_HEADER
    if is_group(sender_mac) or is_group(source):
        return FrameRefusal.BAD_ADDRESS
    return ArpMessage(operation, sender_mac, socket.inet_ntoa(sender), target_mac, socket.inet_ntoa(target), source)


def _frame(  # noqa: PLR0917 - the fields of the packet, in its order
    destination: bytes, operation: int, mac: bytes, address: str, target_mac: bytes, target: str
) -> bytes:
    try:
        sender, wanted = (socket.inet_pton(socket.AF_INET, each) for each in (address, target))
    except (OSError, ValueError) as error:
        raise UnencodableValue(f"not an IPv4 address in {(address, target)}: {error}") from error
    packet = _PACKET.pack(_ETHERNET, _IPV4, MAC_SIZE, _ADDRESS_SIZE, operation, mac, sender, target_mac, wanted)
    return ethernet(destination, mac, ETH_P_ARP, packet)
