"""Numbers of IPVS attributes on the wire (linux/ip_vs.h); shared by the encoder and the decoder."""

import socket
from enum import IntEnum
from typing import Final

ADDRESS_SIZE: Final = 16
"""Addresses travel as the kernel's union nf_inet_addr: 16 bytes for both families."""
ADDRESS_BITS: Final[dict[int, int]] = {socket.AF_INET: 32, socket.AF_INET6: 128}
"""Length of an address in bits by address family."""


class CommandAttribute(IntEnum):
    """Attributes of a message (IPVS_CMD_ATTR_*)."""

    SERVICE = 1
    DESTINATION = 2


class ServiceAttribute(IntEnum):
    """Attributes of a service (IPVS_SVC_ATTR_*)."""

    FAMILY = 1
    PROTOCOL = 2
    ADDRESS = 3
    PORT = 4
    MARK = 5
    SCHEDULER = 6
    FLAGS = 7
    TIMEOUT = 8
    NETMASK = 9
    STATISTICS = 10
    ENGINE = 11
    STATISTICS_64 = 12


class DestinationAttribute(IntEnum):
    """Attributes of a destination (IPVS_DEST_ATTR_*)."""

    ADDRESS = 1
    PORT = 2
    FORWARDING = 3
    WEIGHT = 4
    UPPER = 5
    LOWER = 6
    ACTIVE = 7
    INACTIVE = 8
    PERSISTENT = 9
    STATISTICS = 10
    ADDRESS_FAMILY = 11
    STATISTICS_64 = 12
    TUNNEL_TYPE = 13
    TUNNEL_PORT = 14
    TUNNEL_FLAGS = 15


class InfoAttribute(IntEnum):
    """Attributes of the answer to GET_INFO (IPVS_INFO_ATTR_*)."""

    VERSION = 1
    CONNECTION_TABLE_SIZE = 2


class ServiceBit(IntEnum):
    """Flag bits that a ServiceConfig does not show (IP_VS_SVC_F_*)."""

    PERSISTENT = 0x1
    HASHED = 0x2
