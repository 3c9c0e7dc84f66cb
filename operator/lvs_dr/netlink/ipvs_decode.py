"""Answers of IPVS: services, destinations, counters, info. Pure.

Source: ip_vs_genl_fill_service and ip_vs_genl_fill_dest in net/netfilter/ipvs/ip_vs_ctl.c. Every function takes
whole messages and raises MalformedMessage, and nothing else, for bytes that do not make sense.

Destinations come in thousands, always with the same attributes in the same order. So their attribute headers
are compared in one step with that order, and all values are taken out by one Struct; any other order, as an
older or newer kernel may use, goes the general way and gives the same result.
"""

import socket
import struct
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from lvs_dr.netlink.errors import MalformedMessage
from lvs_dr.netlink.ipvs import (
    DestinationConfig,
    DestinationKey,
    Info,
    ServiceConfig,
    ServiceKey,
)
from lvs_dr.netlink.ipvs_attributes import (
    ADDRESS_BITS,
    ADDRESS_SIZE,
    CommandAttribute,
    DestinationAttribute,
    InfoAttribute,
    ServiceAttribute,
    ServiceBit,
)
from lvs_dr.netlink.message import ATTRIBUTES_START, walk

_BE16: Final = struct.Struct(">H")
_NATIVE: Final = sys.byteorder
_CACHED_ADDRESSES: Final = 8192
_FORWARDING_MASK: Final = 0x7
_NETMASK_SIZE: Final = 4
_PACKETS_IN: Final = 2  # IPVS_STATS_ATTR_INPKTS
_KERNEL_BITS: Final = ServiceBit.PERSISTENT | ServiceBit.HASHED

# Attributes of a destination in the order of the kernel, their size, and how the Struct takes them (None: not).
_ORDER: Final[tuple[tuple[DestinationAttribute, int, str], ...]] = (
    (DestinationAttribute.ADDRESS, 16, "16s"),
    (DestinationAttribute.PORT, 2, "H2x"),
    (DestinationAttribute.FORWARDING, 4, "I"),
    (DestinationAttribute.WEIGHT, 4, "I"),
    (DestinationAttribute.TUNNEL_TYPE, 1, "B3x"),
    (DestinationAttribute.TUNNEL_PORT, 2, "H2x"),
    (DestinationAttribute.TUNNEL_FLAGS, 2, "H2x"),
    (DestinationAttribute.UPPER, 4, "I"),
    (DestinationAttribute.LOWER, 4, "I"),
    (DestinationAttribute.ACTIVE, 4, "I"),
    (DestinationAttribute.INACTIVE, 4, "I"),
    (DestinationAttribute.PERSISTENT, 4, "I"),
    (DestinationAttribute.ADDRESS_FAMILY, 2, "H2x"),
)
_FAST: Final = struct.Struct(f"={ATTRIBUTES_START + 4}x" + "".join(f"4x{take}" for _, _, take in _ORDER))
_FAST_STOP: Final = _FAST.size
COUNTERS_START: Final = _FAST_STOP - 4 * 8
"""Where the first of three counters and the address family begin in a destination of the kernel's order, in bytes."""
_NEST: Final = slice(ATTRIBUTES_START, ATTRIBUTES_START + 2)
_unpack = _FAST.unpack_from
_integer = int.from_bytes
_ntohs = socket.ntohs
_new = tuple.__new__

# address, port (wire order), forwarding, weight, tunnel type, port (wire order) and flags, upper, lower,
# active, inactive, persistent, family
_Values = tuple[bytes, int, int, int, int, int, int, int, int, int, int, int, int]


def _fast_headers() -> tuple[int, int]:
    """Return mask and expected value of all attribute headers, as integers over the bytes of a message."""
    mask = bytearray(b"\0\0\xff\xff")  # of the outer attribute the length varies with the statistics after us
    expected = bytearray(struct.pack("=HH", 0, CommandAttribute.DESTINATION))
    for kind, size, _ in _ORDER:
        padded = (size + 3) & ~3
        mask += b"\xff" * 4 + bytes(padded)
        expected += struct.pack("=HH", 4 + size, kind) + bytes(padded)
    return int.from_bytes(mask, "little"), int.from_bytes(expected, "little")


_MASK, _EXPECTED = _fast_headers()


def parse_services(messages: Iterable[bytes]) -> dict[ServiceKey, ServiceConfig]:
    """Read the answer to `get_services`."""
    return dict(map(parse_service, messages))


def parse_service(message: bytes) -> tuple[ServiceKey, ServiceConfig]:
    """Read one service, from a dump or from a request of our own."""
    start, stop = _only(message, CommandAttribute.SERVICE)
    found = {kind: message[first:last] for kind, first, last in walk(message, start, stop)}
    family = _number(found, ServiceAttribute.FAMILY, 2)
    mark = _number(found, ServiceAttribute.MARK, 4, 0)
    if mark:
        key = ServiceKey("", 0, 0, mark, family)
    else:
        key = ServiceKey(
            address=_address(_wanted(found, ServiceAttribute.ADDRESS), family),
            port=_be16(_wanted(found, ServiceAttribute.PORT)),
            protocol=_number(found, ServiceAttribute.PROTOCOL, 2),
            mark=0,
            family=family,
        )
    raw_flags = _wanted(found, ServiceAttribute.FLAGS)
    if len(raw_flags) != 2 * 4:
        raise MalformedMessage(f"service flags of {len(raw_flags)} bytes")
    flags = int.from_bytes(raw_flags[:4], _NATIVE)
    timeout = _number(found, ServiceAttribute.TIMEOUT, 4)
    config = ServiceConfig(
        scheduler=_text(_wanted(found, ServiceAttribute.SCHEDULER)),
        # The bit is kept where the timeout cannot stand for it, so that such a service can be put back.
        flags=flags & ~(ServiceBit.HASHED if flags & ServiceBit.PERSISTENT and not timeout else _KERNEL_BITS),
        timeout_seconds=timeout if flags & ServiceBit.PERSISTENT else 0,
        prefix_length=_prefix_length(_wanted(found, ServiceAttribute.NETMASK), family),
        engine=_text(found.get(ServiceAttribute.ENGINE, b"")),
    )
    return key, config


def parse_destination(message: bytes) -> tuple[str, int, int, DestinationConfig, int, int]:
    """Read one destination: address, port, address family, configuration, active and inactive connections."""
    (address, port, forwarding, weight, kind, tunnel, flags, upper, lower, active, inactive, _, family) = _values(
        message
    )
    config = (weight, forwarding & _FORWARDING_MASK, upper, lower, kind, tunnel and _ntohs(tunnel), flags)
    return _address(address, family), _ntohs(port), family, _new(DestinationConfig, config), active, inactive


def parse_destinations(messages: Iterable[bytes]) -> dict[DestinationKey, DestinationConfig]:
    """Read the answer to `get_destinations`, without counters."""
    result: dict[DestinationKey, DestinationConfig] = {}
    for message in messages:
        address, port, family, config, _, _ = parse_destination(message)
        result[_new(DestinationKey, (address, port, family))] = config
    return result


def statistics_size(message: bytes) -> int:
    """Return how many bytes at the end of a service's message are counters; 0 where they do not come last."""
    start, stop = _only(message, CommandAttribute.SERVICE)
    begin = 0
    for kind, first, _ in walk(message, start, stop):
        if kind == ServiceAttribute.STATISTICS:
            begin = first - 4
        elif kind != ServiceAttribute.STATISTICS_64:
            begin = 0
    return len(message) - begin if begin else 0


def packets_in(message: bytes) -> int:
    """Return how many packets a service has received; 64 bits wide where the kernel tells that."""
    start, stop = _only(message, CommandAttribute.SERVICE)
    found = {kind: (first, last) for kind, first, last in walk(message, start, stop)}
    for kind, size in ((ServiceAttribute.STATISTICS_64, 8), (ServiceAttribute.STATISTICS, 4)):
        if kind in found:
            inner = {number: message[first:last] for number, first, last in walk(message, *found[kind])}
            return _number(inner, _PACKETS_IN, size, 0)
    return 0


def templates(message: bytes) -> int:
    """Return how many clients persistence remembers for a destination. Raises MalformedMessage."""
    start, stop = _only(message, CommandAttribute.DESTINATION)
    found = {kind: message[first:last] for kind, first, last in walk(message, start, stop)}
    return _number(found, DestinationAttribute.PERSISTENT, 4, 0)


def parse_info(message: bytes) -> Info:
    """Read the answer to `get_info`."""
    found = {kind: message[first:last] for kind, first, last in walk(message, ATTRIBUTES_START, len(message))}
    version = _number(found, InfoAttribute.VERSION, 4)
    return Info(
        version=(version >> 16 & 0xFF, version >> 8 & 0xFF, version & 0xFF),
        connection_table_size=_number(found, InfoAttribute.CONNECTION_TABLE_SIZE, 4),
    )


def in_kernel_order(message: bytes) -> bool:
    """Tell whether a destination has exactly the attributes, in exactly the order, that are read in one step."""
    size = len(message)
    return (
        size >= _FAST_STOP
        and _integer(message[ATTRIBUTES_START:_FAST_STOP], "little") & _MASK == _EXPECTED
        and _FAST_STOP <= ATTRIBUTES_START + _integer(message[_NEST], _NATIVE) <= size
    )


def _values(message: bytes) -> _Values:
    if in_kernel_order(message):
        values: _Values = _unpack(message)
        return values
    return _general_values(message)


def _general_values(message: bytes) -> _Values:
    start, stop = _only(message, CommandAttribute.DESTINATION)
    found = {kind: message[first:last] for kind, first, last in walk(message, start, stop)}
    numbers = [_number(found, kind, size, 0) for kind, size, _ in _ORDER[1:]]
    address = _wanted(found, DestinationAttribute.ADDRESS)
    _wanted(found, DestinationAttribute.PORT)
    if not numbers[-1]:  # before kernel 3.18 a destination had no family of its own
        numbers[-1] = socket.AF_INET if len(address) < ADDRESS_SIZE else socket.AF_UNSPEC
    return (address.ljust(ADDRESS_SIZE, b"\0"), *numbers)  # type: ignore[return-value]


def _only(message: bytes, wanted: int) -> tuple[int, int]:
    """Find the one attribute of a message that holds what is asked for."""
    for kind, start, stop in walk(message, ATTRIBUTES_START, len(message)):
        if kind == wanted:
            return start, stop
    raise MalformedMessage(f"a message without attribute {wanted}")


def _wanted(found: dict[int, bytes], kind: int) -> bytes:
    try:
        return found[kind]
    except KeyError:
        raise MalformedMessage(f"an object without attribute {kind}") from None


def _number(found: dict[int, bytes], kind: int, size: int, default: int | None = None) -> int:
    value = found.get(kind) if default is not None else _wanted(found, kind)
    if value is None:
        return default or 0
    if len(value) != size:
        raise MalformedMessage(f"attribute {kind} has {len(value)} bytes, not {size}")
    return int.from_bytes(value, _NATIVE)


def _be16(value: bytes) -> int:
    if len(value) != _BE16.size:
        raise MalformedMessage(f"a port of {len(value)} bytes")
    return int.from_bytes(value, "big")


def _text(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode("ascii", "replace")


@lru_cache(maxsize=_CACHED_ADDRESSES)
def _address(value: bytes, family: int) -> str:
    size = ADDRESS_BITS.get(family, 0) // 8
    if not size or len(value) not in {size, ADDRESS_SIZE}:
        raise MalformedMessage(f"an address of {len(value)} bytes in family {family}")
    return socket.inet_ntop(family, value[:size])


def _prefix_length(value: bytes, family: int) -> int:
    """Read the persistence mask; of an IPv4 mask with holes only the leading ones count."""
    if len(value) != _NETMASK_SIZE:
        raise MalformedMessage(f"a netmask of {len(value)} bytes")
    if family == socket.AF_INET6:
        length = int.from_bytes(value, _NATIVE)
        if length > ADDRESS_BITS[family]:
            raise MalformedMessage(f"an IPv6 prefix of {length} bits")
        return length
    holes = int.from_bytes(value, "big") ^ 0xFFFF_FFFF
    return 32 - holes.bit_length()
