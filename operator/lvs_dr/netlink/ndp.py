"""IPv6 neighbour discovery frames: announcing a VIP, probing for it, understanding answers. Pure.

Sources: RFC 4861 (formats 4.3, 4.4; checks 7.1; unsolicited advertisements 7.2.6), RFC 4862 (duplicate
address detection, 5.4), RFC 4291 (solicited-node multicast, 2.7.1), RFC 2464 (multicast MACs, 7),
RFC 4443 (checksum, 2.3).
"""

import socket
import struct
from typing import Final, NamedTuple

from lvs_dr.netlink.errors import UnencodableValue
from lvs_dr.netlink.ethernet import ETH_P_IPV6, HEADER_SIZE, MAC_SIZE, FrameRefusal, ethernet, header, is_group

SOLICITATION: Final = 135
ADVERTISEMENT: Final = 136
NO_ADDRESS: Final = "::"
ALL_NODES: Final = "ff02::1"

_IPV6 = struct.Struct(">IHBB16s16s")
_MESSAGE = struct.Struct(">BBHI16s")
_PSEUDO_HEADER = struct.Struct(">16s16sI3xB")
_CHECKSUM = slice(2, 4)
_ICMPV6 = 58
_HOP_LIMIT = 255
_VERSION_6 = 6
_ROUTER, _SOLICITED, _OVERRIDE = 0x8000_0000, 0x4000_0000, 0x2000_0000
_OPTION_UNIT = 8
_SOURCE_MAC, _TARGET_MAC = 1, 2
_SOLICITED_NODE = socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13]
_UNSPECIFIED = bytes(16)
_MULTICAST = 0xFF


class NeighbourMessage(NamedTuple):
    """One neighbour solicitation or advertisement.

    `kind` is SOLICITATION or ADVERTISEMENT; `mac` is the link-layer address in its option (None without one);
    `frame_source` the source MAC of the frame. The flags are False in solicitations.
    """

    kind: int
    source: str
    destination: str
    target: str
    mac: bytes | None
    router: bool
    solicited: bool
    override: bool
    frame_source: bytes

    @property
    def is_probe(self) -> bool:
        """Someone asks whether the address is free (duplicate address detection)."""
        return self.kind == SOLICITATION and self.source == NO_ADDRESS

    def claims(self, address: str) -> bool:
        """Tell whether the sender holds `address` or uses it as its own."""
        return self.target == address if self.kind == ADVERTISEMENT else self.source == address


def unsolicited_advertisement(mac: bytes, address: str, *, router: bool = False, override: bool = True) -> bytes:
    """Announce to all nodes that `address` is at `mac`. Raises UnencodableValue.

    With `override` they replace what they have cached. `router` must say whether the sender forwards: hosts
    drop a default route through a neighbour that says it does not.
    """
    flags = (_ROUTER if router else 0) | (_OVERRIDE if override else 0)
    return _frame(mac, address, ALL_NODES, _message(ADVERTISEMENT, flags, address, _TARGET_MAC, mac))


def probe(mac: bytes, address: str) -> bytes:
    """Ask whether anyone has `address`, without claiming it (RFC 4862, 5.4.2). Raises UnencodableValue."""
    message = _message(SOLICITATION, 0, address)
    return _frame(mac, NO_ADDRESS, solicited_node(address), message)


def solicitation(mac: bytes, source: str, target: str, target_mac: bytes | None = None) -> bytes:
    """Ask who has `target`; with `target_mac` ask that one station only. Raises UnencodableValue."""
    message = _message(SOLICITATION, 0, target, _SOURCE_MAC, mac)
    if target_mac is None:
        return _frame(mac, source, solicited_node(target), message)
    return _frame(mac, source, target, message, target_mac)


def solicited_node(address: str) -> str:
    """Return the multicast group that whoever holds `address` listens to. Raises UnencodableValue."""
    return socket.inet_ntop(socket.AF_INET6, _SOLICITED_NODE + _packed(address)[13:])


def multicast_mac(group: str) -> bytes:
    """Return the MAC address that frames to an IPv6 multicast group carry. Raises UnencodableValue."""
    return b"\x33\x33" + _packed(group)[12:]


def checksum(source: bytes, destination: bytes, message: bytes) -> int:
    """Return the ICMPv6 checksum over pseudo-header and message; 0 when the message has a right one in it."""
    data = _PSEUDO_HEADER.pack(source, destination, len(message), _ICMPV6) + message
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:  # noqa: PLR2004 - folding the carries of 16-bit words
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


def parse(frame: bytes) -> NeighbourMessage | FrameRefusal:
    """Read a received frame and make every check of RFC 4861, section 7.1."""
    outer = header(frame)
    if isinstance(outer, FrameRefusal):
        return outer
    _, frame_source, protocol = outer
    if protocol != ETH_P_IPV6:
        return FrameRefusal.OTHER_PROTOCOL
    inner = _packet(frame)
    if isinstance(inner, FrameRefusal):
        return inner
    return _neighbour(*inner, frame_source)


def _packet(frame: bytes) -> tuple[bytes, bytes, bytes] | FrameRefusal:  # noqa: PLR0911 - one check, one reason
    """Read source, destination and ICMPv6 message of a frame that carries neighbour discovery."""
    if len(frame) < HEADER_SIZE + _IPV6.size:
        return FrameRefusal.TRUNCATED
    first, length, next_header, hop_limit, source, destination = _IPV6.unpack_from(frame, HEADER_SIZE)
    if first >> 28 != _VERSION_6:
        return FrameRefusal.BAD_HEADER
    message = frame[HEADER_SIZE + _IPV6.size :][:length]
    if next_header != _ICMPV6 or (message and message[0] not in (SOLICITATION, ADVERTISEMENT)):
        return FrameRefusal.OTHER_PROTOCOL
    if len(message) < length or length < _MESSAGE.size:
        return FrameRefusal.TRUNCATED
    if hop_limit != _HOP_LIMIT:
        return FrameRefusal.HOP_LIMIT
    if checksum(source, destination, message):
        return FrameRefusal.BAD_CHECKSUM
    return source, destination, message


def _neighbour(
    source: bytes, destination: bytes, message: bytes, frame_source: bytes
) -> NeighbourMessage | FrameRefusal:
    kind, code, _, flags, target = _MESSAGE.unpack_from(message)
    if code:
        return FrameRefusal.BAD_HEADER
    mac = _option(message[_MESSAGE.size :], _SOURCE_MAC if kind == SOLICITATION else _TARGET_MAC)
    if isinstance(mac, FrameRefusal):
        return mac
    if kind == SOLICITATION:
        flags = 0
    probes = source == _UNSPECIFIED
    addresses_fit = target[0] != _MULTICAST and source[0] != _MULTICAST and not is_group(frame_source)
    if kind == SOLICITATION and probes:
        addresses_fit = addresses_fit and mac is None and destination.startswith(_SOLICITED_NODE)
    elif kind == ADVERTISEMENT:
        solicited_group = destination[0] == _MULTICAST and flags & _SOLICITED
        addresses_fit = addresses_fit and not probes and not solicited_group
    if not addresses_fit:
        return FrameRefusal.BAD_ADDRESS
    return NeighbourMessage(
        kind=kind,
        source=socket.inet_ntop(socket.AF_INET6, source),
        destination=socket.inet_ntop(socket.AF_INET6, destination),
        target=socket.inet_ntop(socket.AF_INET6, target),
        mac=mac,
        router=bool(flags & _ROUTER),
        solicited=bool(flags & _SOLICITED),
        override=bool(flags & _OVERRIDE),
        frame_source=frame_source,
    )


def _option(options: bytes, wanted: int) -> bytes | FrameRefusal | None:
    """Find a link-layer address option; every option must have a length above 0 that fits."""
    found: bytes | None = None
    while options:
        if len(options) < _OPTION_UNIT:
            return FrameRefusal.BAD_OPTION
        kind, size = options[0], options[1] * _OPTION_UNIT
        if not 0 < size <= len(options):
            return FrameRefusal.BAD_OPTION
        if kind == wanted:
            found = options[2 : 2 + MAC_SIZE]
        options = options[size:]
    return found


def _message(kind: int, flags: int, target: str, option: int | None = None, mac: bytes = b"") -> bytes:
    message = _MESSAGE.pack(kind, 0, 0, flags, _packed(target))
    return message if option is None else message + bytes((option, 1)) + mac


def _frame(mac: bytes, source: str, destination: str, message: bytes, to: bytes | None = None) -> bytes:
    """Put an ICMPv6 message into a frame, to the station `to` or to the multicast group `destination`."""
    start, end = _packed(source), _packed(destination)
    whole = bytearray(message)
    whole[_CHECKSUM] = checksum(start, end, message).to_bytes(2, "big")
    packet = _IPV6.pack(_VERSION_6 << 28, len(whole), _ICMPV6, _HOP_LIMIT, start, end) + whole
    return ethernet(multicast_mac(destination) if to is None else to, mac, ETH_P_IPV6, packet)


def _packed(address: str) -> bytes:
    try:
        return socket.inet_pton(socket.AF_INET6, address)
    except (OSError, ValueError) as error:
        raise UnencodableValue(f"not an IPv6 address: {address!r}") from error
