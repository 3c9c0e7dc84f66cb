"""IPVS's timeouts on the wire: SET_CONFIG and GET_CONFIG (ip_vs_ctl.c, ip_vs_genl_set_config). Pure.

They belong to the network namespace. In SET_CONFIG an absent timeout, and one of 0, is left as it is.
"""

import struct
from typing import Final, NamedTuple

from lvs_dr.netlink.errors import MalformedMessage, UnencodableValue
from lvs_dr.netlink.ipvs import FAMILY_VERSION
from lvs_dr.netlink.message import ATTRIBUTES_START, Buffer, attribute, generic_message, walk

SET_CONFIG: Final = 12
GET_CONFIG: Final = 13
"""Commands IPVS_CMD_SET_CONFIG and IPVS_CMD_GET_CONFIG; the answer to GET carries SET."""

_TCP, _TCP_FIN, _UDP = 4, 5, 6  # IPVS_CMD_ATTR_TIMEOUT_*
_U32 = struct.Struct("=I")
_LARGEST = 0x7FFFFFFF


class Timeouts(NamedTuple):
    """Seconds after which an idle connection is forgotten; in a request 0 leaves that one as it is."""

    tcp: int = 0
    tcp_fin: int = 0
    udp: int = 0


def get_config() -> bytes:
    """Encode the question for the timeouts."""
    return generic_message(GET_CONFIG, FAMILY_VERSION)


def set_config(timeouts: Timeouts) -> bytes:
    """Encode a change of those timeouts that are not 0. Raises UnencodableValue for one out of range."""
    attributes = []
    for kind, seconds in zip((_TCP, _TCP_FIN, _UDP), timeouts, strict=True):
        if not 0 <= seconds <= _LARGEST:
            raise UnencodableValue(f"a timeout of {seconds} s")
        if seconds:
            attributes.append(attribute(kind, _U32.pack(seconds)))
    return generic_message(SET_CONFIG, FAMILY_VERSION, *attributes)


def parse_config(message: Buffer) -> Timeouts:
    """Decode the answer to `get_config`; a protocol that the kernel lacks has 0. Raises MalformedMessage."""
    found = {_TCP: 0, _TCP_FIN: 0, _UDP: 0}
    for kind, start, stop in walk(message, ATTRIBUTES_START, len(message)):
        if kind in found:
            if stop - start != _U32.size:
                raise MalformedMessage("a timeout that is not 32 bits wide")
            (found[kind],) = _U32.unpack_from(message, start)
    return Timeouts(found[_TCP], found[_TCP_FIN], found[_UDP])
