"""Tunnel devices on the wire: RTM_NEWLINK with what the kinds ipip, gre, ip6tnl and ip6gre need. Pure.

Sources: linux/if_link.h, linux/if_tunnel.h, net/ipv4/ip_gre.c. GRE flags are big endian in both families, which
not every library gets right. Messages here are bodies: ifinfomsg and attributes, without nlmsghdr.
"""

import socket
import struct
from typing import Final, NamedTuple

from lvs_dr.netlink.errors import UnencodableValue
from lvs_dr.netlink.message import Buffer, attribute, nested, text, walk

NEW_LINK: Final = 16
DELETE_LINK: Final = 17
LONGEST_NAME: Final = 15

_HEADER = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_IFLA_NAME, _IFLA_INFO = 3, 18
_INFO_KIND, _INFO_DATA = 1, 2
_UP = 0x1  # IFF_UP
_IP_LOCAL, _IP_REMOTE, _IP_FLAGS, _IP_PROTOCOL = 2, 3, 8, 9  # IFLA_IPTUN_*
_GRE_IN, _GRE_OUT, _GRE_LOCAL, _GRE_REMOTE, _GRE_FLAGS = 2, 3, 6, 7, 13  # IFLA_GRE_*
_ALLOW_LOCAL_REMOTE = struct.pack("=I", 0x40)  # IP6_TNL_F_ALLOW_LOCAL_REMOTE (Linux 4.20)
_CHECKSUM = 0x8000  # GRE_CSUM
_FLAGS = struct.Struct("!H")
_FAMILIES: Final = {"ipip": socket.AF_INET, "gre": socket.AF_INET, "ip6tnl": socket.AF_INET6, "ip6gre": socket.AF_INET6}


class TunnelLink(NamedTuple):
    """A tunnel device; addresses in inet_ntop form, "" for any. `checksum`: GRE's, inwards."""

    kind: str
    local: str
    remote: str = ""
    checksum: bool = False


def is_tunnel(kind: str) -> bool:
    """Tell whether a device kind is one that this module knows."""
    return kind in _FAMILIES


def new_link(name: str, link: TunnelLink) -> bytes:
    """Encode the creation of a device that is up. Raises UnencodableValue.

    Over IPv6 the director may send from the VIP, which the real server has too: such packets are let in.
    """
    family = _FAMILIES.get(link.kind)
    if family is None:
        raise UnencodableValue(f"tunnel devices of kind {link.kind!r} are not known")
    try:
        local = socket.inet_pton(family, link.local)
    except OSError as error:
        raise UnencodableValue(f"{link.local!r} is no address for {link.kind}") from error
    if link.kind in ("gre", "ip6gre"):
        flags = _FLAGS.pack(_CHECKSUM if link.checksum else 0)
        data = [attribute(_GRE_IN, flags), attribute(_GRE_OUT, flags), attribute(_GRE_LOCAL, local)]
        if link.kind == "ip6gre":
            data.append(attribute(_GRE_FLAGS, _ALLOW_LOCAL_REMOTE))
    else:
        data = [attribute(_IP_LOCAL, local)]
        if link.kind == "ip6tnl":
            data.append(attribute(_IP_PROTOCOL, b"\0"))  # any: IPv4 and IPv6 inside
            data.append(attribute(_IP_FLAGS, _ALLOW_LOCAL_REMOTE))
    info = nested(_IFLA_INFO, attribute(_INFO_KIND, link.kind.encode() + b"\0"), nested(_INFO_DATA, *data))
    return _HEADER.pack(0, 0, 0, _UP, _UP) + text(_IFLA_NAME, name, LONGEST_NAME) + info


def set_up(name: str) -> bytes:
    """Encode the change of a device to up. Raises UnencodableValue."""
    return _HEADER.pack(0, 0, 0, _UP, _UP) + text(_IFLA_NAME, name, LONGEST_NAME)


def named_link(name: str) -> bytes:
    """Encode which device to delete. Raises UnencodableValue."""
    return _HEADER.pack(0, 0, 0, 0, 0) + text(_IFLA_NAME, name, LONGEST_NAME)


def parse_info(info: Buffer) -> TunnelLink | None:
    """Decode the attribute IFLA_LINKINFO of a device; None when it is no tunnel. Raises MalformedMessage."""
    found = {kind: bytes(info[start:stop]) for kind, start, stop in walk(info, 0, len(info))}
    kind = found.get(_INFO_KIND, b"").rstrip(b"\0").decode("ascii", "replace")
    if not is_tunnel(kind):
        return None
    raw = found.get(_INFO_DATA, b"")
    data = {number: raw[start:stop] for number, start, stop in walk(raw, 0, len(raw))}
    gre = kind in ("gre", "ip6gre")
    flags = data.get(_GRE_IN, b"") if gre else b""
    return TunnelLink(
        kind=kind,
        local=_text(data.get(_GRE_LOCAL if gre else _IP_LOCAL, b"")),
        remote=_text(data.get(_GRE_REMOTE if gre else _IP_REMOTE, b"")),
        checksum=len(flags) == _FLAGS.size and bool(_FLAGS.unpack(flags)[0] & _CHECKSUM),
    )


def _text(packed: bytes) -> str:
    family = {4: socket.AF_INET, 16: socket.AF_INET6}.get(len(packed))
    return socket.inet_ntop(family, packed) if family is not None and any(packed) else ""
