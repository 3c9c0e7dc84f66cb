"""The generic netlink controller: finding the number of a family by its name. Pure.

Source: linux/genetlink.h, net/netlink/genetlink.c. Asking for a family autoloads its module.
"""

import struct
from typing import Final

from lvs_dr.netlink.errors import MalformedMessage
from lvs_dr.netlink.message import ATTRIBUTES_START, Buffer, generic_message, text, walk

GENL_ID_CTRL: Final = 16
CTRL_CMD_GETFAMILY: Final = 3
CTRL_ATTR_FAMILY_ID: Final = 1
CTRL_ATTR_FAMILY_NAME: Final = 2
CONTROLLER_VERSION: Final = 2

_LONGEST_NAME = 15
_U16 = struct.Struct("=H")


def get_family(name: str) -> bytes:
    """Encode the question for a family's number. Raises UnencodableValue for an impossible name."""
    return generic_message(CTRL_CMD_GETFAMILY, CONTROLLER_VERSION, text(CTRL_ATTR_FAMILY_NAME, name, _LONGEST_NAME))


def parse_family(message: Buffer) -> tuple[str, int]:
    """Decode the controller's answer: name and number of a family. Raises MalformedMessage."""
    name: str | None = None
    number: int | None = None
    for kind, start, stop in walk(message, ATTRIBUTES_START, len(message)):
        if kind == CTRL_ATTR_FAMILY_ID:
            if stop - start != _U16.size:
                raise MalformedMessage("a family number that is not 16 bits wide")
            (number,) = _U16.unpack_from(message, start)
        elif kind == CTRL_ATTR_FAMILY_NAME:
            name = bytes(message[start:stop]).rstrip(b"\0").decode("ascii", "replace")
    if name is None or number is None:
        raise MalformedMessage("the answer of the controller names no family")
    return name, number
