"""UDP ports where the kernel takes GUE packets apart: generic netlink family `fou`. Pure.

Sources: linux/fou.h, net/ipv4/fou.c (draft-ietf-intarea-gue). What is inside goes on to the protocol that its GUE
header names, as if it had come in the outer IP packet itself: for IPIP to the tunnel device of the local address.
"""

import socket
import struct
from typing import Final, NamedTuple

from lvs_dr.netlink.errors import MalformedMessage, UnencodableValue
from lvs_dr.netlink.message import ATTRIBUTES_START, Buffer, attribute, generic_message, walk

FAMILY_NAME: Final = "fou"
FAMILY_VERSION: Final = 1

_ADD, _DELETE, _GET = 1, 2, 3  # FOU_CMD_*
_PORT, _FAMILY, _TYPE, _LOCAL_4, _LOCAL_6 = 1, 2, 4, 6, 7  # FOU_ATTR_*
_GUE = 2  # FOU_ENCAP_GUE
_PORT_FORM = struct.Struct("!H")
_LARGEST_PORT = 0xFFFF


class GuePort(NamedTuple):
    """A UDP port of one local address (inet_ntop form)."""

    local: str
    port: int


def add_port(port: GuePort) -> bytes:
    """Encode the opening of a port. Raises UnencodableValue."""
    return generic_message(_ADD, FAMILY_VERSION, *_named(port), attribute(_TYPE, bytes([_GUE])))


def delete_port(port: GuePort) -> bytes:
    """Encode the closing of a port. Raises UnencodableValue."""
    return generic_message(_DELETE, FAMILY_VERSION, *_named(port))


def get_ports() -> bytes:
    """Encode the question for all ports (a dump)."""
    return generic_message(_GET, FAMILY_VERSION)


def parse_port(message: Buffer) -> GuePort | None:
    """Decode one message of the dump; None for a port that is not for GUE or has no local address."""
    port = kind = 0
    local = ""
    for attribute_kind, start, stop in walk(message, ATTRIBUTES_START, len(message)):
        value = bytes(message[start:stop])
        if attribute_kind == _PORT:
            if len(value) != _PORT_FORM.size:
                raise MalformedMessage("a port that is not 16 bits wide")
            (port,) = _PORT_FORM.unpack(value)
        elif attribute_kind == _TYPE and value:
            kind = value[0]
        elif attribute_kind in (_LOCAL_4, _LOCAL_6):
            local = _text(value)
    return GuePort(local, port) if kind == _GUE and local and port else None


def _named(port: GuePort) -> tuple[bytes, ...]:
    if not 0 < port.port <= _LARGEST_PORT:
        raise UnencodableValue(f"UDP port {port.port}")
    family = socket.AF_INET6 if ":" in port.local else socket.AF_INET
    try:
        packed = socket.inet_pton(family, port.local)
    except OSError as error:
        raise UnencodableValue(f"{port.local!r} is no address") from error
    local = attribute(_LOCAL_6 if family == socket.AF_INET6 else _LOCAL_4, packed)
    return attribute(_PORT, _PORT_FORM.pack(port.port)), attribute(_FAMILY, bytes([family])), local


def _text(packed: bytes) -> str:
    """Return an address as text; "" for none (all zeros)."""
    family = {4: socket.AF_INET, 16: socket.AF_INET6}.get(len(packed))
    if family is None:
        raise MalformedMessage(f"an address of {len(packed)} bytes")
    return socket.inet_ntop(family, packed) if any(packed) else ""
