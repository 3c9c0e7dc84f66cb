"""Requests to IPVS. Pure; every function returns one message for `GenericNetlinkSocket`.

Source: ip_vs_genl_set_cmd and its parsers in net/netfilter/ipvs/ip_vs_ctl.c. Setting replaces: the kernel
resets whatever a request leaves out, so each request carries the whole object. All functions raise
UnencodableValue for an address or number that the wire format cannot carry. Keys and configurations are taken as
plain tuples, so that a caller with types of its own need not convert thousands of them.
"""

import socket
import struct
from functools import lru_cache
from typing import Final

from lvs_dr.netlink.errors import UnencodableValue
from lvs_dr.netlink.ipvs import (
    FAMILY_VERSION,
    LONGEST_NAME,
    Command,
    DestinationConfigFields,
    DestinationKeyFields,
    ServiceConfigFields,
    ServiceKeyFields,
)
from lvs_dr.netlink.ipvs_attributes import (
    ADDRESS_BITS,
    ADDRESS_SIZE,
    CommandAttribute,
    DestinationAttribute,
    ServiceAttribute,
    ServiceBit,
)
from lvs_dr.netlink.message import ATTRIBUTES_START, GENERIC_HEADER, HEADER, attribute, generic_message, nested, text

_U16: Final = struct.Struct("=H")
_U32: Final = struct.Struct("=I")
_BE16: Final = struct.Struct(">H")
_BE32: Final = struct.Struct(">I")
_FLAGS: Final = struct.Struct("=II")
_ALL_BITS: Final = 0xFFFF_FFFF
_NESTED_DESTINATION: Final = CommandAttribute.DESTINATION | 0x8000
_CACHED_PREFIXES: Final = 16384
_CACHED_CONFIGURATIONS: Final = 256
_CACHED_BODIES: Final = 16384
_SERVICE: Final = struct.Struct("=I12xBB2xHH")
"""Length of the message, command, version, length and type of the one attribute."""
_NESTED_SERVICE: Final = CommandAttribute.SERVICE | 0x8000


def _head(kind: int, size: int) -> int:
    """Return an attribute header as the one native integer that a Struct can pack beside its value."""
    return int(_U32.unpack(struct.pack("=HH", 4 + size, kind))[0])


# One Struct packs key and configuration of a destination: header, value, header, value, ... Ports are swapped to
# network order before: one Struct has one byte order.
_KEY_FORMAT: Final = "=IH2xI16sIH2x"
_DESTINATION: Final = struct.Struct(_KEY_FORMAT + "IIIIIIII")
_TUNNEL: Final = struct.Struct("=IB3xIH2xIH2x")
_KEY: Final = struct.Struct(_KEY_FORMAT)
_UNENCODABLE: Final = (struct.error, OSError, TypeError, ValueError, OverflowError)
# Plain numbers: the hash of an enum's member, needed for each lookup of a prefix, is a call into Python.
NEW_DESTINATION: Final = int(Command.NEW_DESTINATION)
SET_DESTINATION: Final = int(Command.SET_DESTINATION)
DELETE_DESTINATION: Final = int(Command.DELETE_DESTINATION)
_htons = socket.htons
_inet_pton = socket.inet_pton
_FAMILY = _head(DestinationAttribute.ADDRESS_FAMILY, 2)
_ADDRESS = _head(DestinationAttribute.ADDRESS, ADDRESS_SIZE)
_PORT = _head(DestinationAttribute.PORT, 2)
_FORWARDING = _head(DestinationAttribute.FORWARDING, 4)
_WEIGHT = _head(DestinationAttribute.WEIGHT, 4)
_UPPER = _head(DestinationAttribute.UPPER, 4)
_LOWER = _head(DestinationAttribute.LOWER, 4)
_TUNNEL_TYPE = _head(DestinationAttribute.TUNNEL_TYPE, 1)
_TUNNEL_PORT = _head(DestinationAttribute.TUNNEL_PORT, 2)
_TUNNEL_FLAGS = _head(DestinationAttribute.TUNNEL_FLAGS, 2)


def new_service(key: ServiceKeyFields, config: ServiceConfigFields) -> bytes:
    """Add a service. The kernel loads the scheduler's module if it must; EEXIST when the key is taken."""
    return _service(Command.NEW_SERVICE, key, config)


def set_service(key: ServiceKeyFields, config: ServiceConfigFields) -> bytes:
    """Replace the configuration of a service; its destinations and connections stay."""
    return _service(Command.SET_SERVICE, key, config)


def delete_service(key: ServiceKeyFields) -> bytes:
    """Remove a service together with its destinations."""
    return generic_message(Command.DELETE_SERVICE, FAMILY_VERSION, service_key(key))


def get_services() -> bytes:
    """Ask for all services (a dump)."""
    return generic_message(Command.GET_SERVICE, FAMILY_VERSION)


def get_service(key: ServiceKeyFields) -> bytes:
    """Ask for one service (not a dump)."""
    return generic_message(Command.GET_SERVICE, FAMILY_VERSION, service_key(key))


@lru_cache(maxsize=_CACHED_PREFIXES)
def get_destinations(key: ServiceKeyFields) -> bytes:
    """Ask for the destinations of a service (a dump). A service that is gone has none: no error."""
    return generic_message(Command.GET_DESTINATION, FAMILY_VERSION, service_key(key))


def get_info() -> bytes:
    """Ask for version and size of the kernel's IPVS (not a dump)."""
    return generic_message(Command.GET_INFO, FAMILY_VERSION)


def new_destination(service: ServiceKeyFields, key: DestinationKeyFields, config: DestinationConfigFields) -> bytes:
    """Add a destination; EEXIST when the service has it already."""
    return _destination(NEW_DESTINATION, service, key, config)


def set_destination(service: ServiceKeyFields, key: DestinationKeyFields, config: DestinationConfigFields) -> bytes:
    """Replace the configuration of a destination; its connections stay."""
    return _destination(SET_DESTINATION, service, key, config)


def delete_destination(service: ServiceKeyFields, key: DestinationKeyFields) -> bytes:
    """Remove a destination; the kernel keeps it aside while connections refer to it."""
    return destination_head(DELETE_DESTINATION, service, _KEY.size) + destination_name(*key)


def service_key(key: ServiceKeyFields) -> bytes:
    """Encode the attribute that names a service in every request about it."""
    return nested(CommandAttribute.SERVICE, _service_key(key))


@lru_cache(maxsize=_CACHED_PREFIXES)
def _service_key(key: ServiceKeyFields) -> bytes:
    address, port, protocol, mark, family = key
    try:
        named = attribute(ServiceAttribute.FAMILY, _U16.pack(family))
        if mark:
            return named + attribute(ServiceAttribute.MARK, _U32.pack(mark))
        return b"".join(
            (
                named,
                attribute(ServiceAttribute.PROTOCOL, _U16.pack(protocol)),
                attribute(ServiceAttribute.ADDRESS, _inet_pton(family, address).ljust(ADDRESS_SIZE, b"\0")),
                attribute(ServiceAttribute.PORT, _BE16.pack(port)),
            )
        )
    except _UNENCODABLE as error:
        raise UnencodableValue(f"service {key!r}: {error}") from error


def _service(command: Command, key: ServiceKeyFields, config: ServiceConfigFields) -> bytes:
    attributes = _service_key(key) + _service_config(key[4], config)
    length = 4 + len(attributes)
    return _SERVICE.pack(ATTRIBUTES_START + length, command, FAMILY_VERSION, length, _NESTED_SERVICE) + attributes


@lru_cache(maxsize=_CACHED_CONFIGURATIONS)
def _service_config(family: int, config: ServiceConfigFields) -> bytes:
    scheduler, flags, timeout_seconds, prefix_length, engine = config
    flags &= ~ServiceBit.HASHED
    if timeout_seconds:
        flags |= ServiceBit.PERSISTENT
    try:
        return b"".join(
            (
                text(ServiceAttribute.SCHEDULER, scheduler, LONGEST_NAME),
                attribute(ServiceAttribute.FLAGS, _FLAGS.pack(flags, _ALL_BITS)),
                attribute(ServiceAttribute.TIMEOUT, _U32.pack(timeout_seconds)),
                attribute(ServiceAttribute.NETMASK, _netmask(family, prefix_length)),
                text(ServiceAttribute.ENGINE, engine, LONGEST_NAME) if engine else b"",
            )
        )
    except struct.error as error:
        raise UnencodableValue(f"service {config!r}: {error}") from error


def _netmask(family: int, prefix_length: int) -> bytes:
    """Encode the persistence mask: a mask in network order for IPv4, the bare length for IPv6."""
    bits = ADDRESS_BITS.get(family, 0)
    if not 0 <= prefix_length <= bits:
        raise UnencodableValue(f"prefix length {prefix_length} in address family {family}")
    if family == socket.AF_INET6:
        return _U32.pack(prefix_length)
    return _BE32.pack(_ALL_BITS << (bits - prefix_length) & _ALL_BITS)


@lru_cache(maxsize=_CACHED_PREFIXES)
def destination_head(command: int, service: ServiceKeyFields, size: int) -> bytes:
    """Return everything before the first byte that differs between destinations of one service.

    `command`: one of NEW_, SET_ and DELETE_DESTINATION. `size`: of what follows, in bytes.
    """
    named = service_key(service)
    length = ATTRIBUTES_START + len(named) + 4 + size
    return b"".join(
        (
            HEADER.pack(length, 0, 0, 0, 0),
            GENERIC_HEADER.pack(command, FAMILY_VERSION, 0),
            named,
            struct.pack("=HH", 4 + size, _NESTED_DESTINATION),
        )
    )


def _destination(
    command: int, service: ServiceKeyFields, key: DestinationKeyFields, config: DestinationConfigFields
) -> bytes:
    body = destination_body(*key, config)
    return destination_head(command, service, len(body)) + body


@lru_cache(maxsize=_CACHED_BODIES)
def destination_name(address: str, port: int, family: int) -> bytes:
    """Encode what names a destination in its service; `destination_head` comes before it."""
    try:
        return _KEY.pack(_FAMILY, family, _ADDRESS, _inet_pton(family, address), _PORT, _htons(port))
    except _UNENCODABLE as error:
        raise UnencodableValue(f"destination {address!r} port {port!r}: {error}") from error


@lru_cache(maxsize=_CACHED_BODIES)
def destination_body(address: str, port: int, family: int, config: DestinationConfigFields) -> bytes:
    """Encode a destination, which is the same in all services it is in; `destination_head` comes before it."""
    weight, forwarding, upper, lower, tunnel_type, tunnel_port, tunnel_flags = config
    try:
        packed = _DESTINATION.pack(
            _FAMILY, family, _ADDRESS, _inet_pton(family, address), _PORT, _htons(port),
            _FORWARDING, forwarding, _WEIGHT, weight, _UPPER, upper, _LOWER, lower,
        )  # fmt: skip
        if tunnel_type or tunnel_port or tunnel_flags:
            packed += _TUNNEL.pack(
                _TUNNEL_TYPE, tunnel_type, _TUNNEL_PORT, _htons(tunnel_port), _TUNNEL_FLAGS, tunnel_flags
            )
    except _UNENCODABLE as error:
        raise UnencodableValue(f"destination {address!r} port {port!r} {config!r}: {error}") from error
    return packed
