"""What IPVS keeps: services and destinations, each as a key and a configuration, and why it refuses.

Sources: linux/ip_vs.h, net/netfilter/ipvs/ip_vs_ctl.c. Requests are built in `ipvs_encode`, answers read in
`ipvs_decode`. Keys and configurations are normalised, so that what was written compares equal to what is
read back: counters, the kernel's own flag bits and the byte order of masks do not show.
"""

import errno
import socket
from enum import IntEnum, IntFlag, StrEnum
from typing import Final, NamedTuple

FAMILY_NAME: Final = "IPVS"
FAMILY_VERSION: Final = 1
LONGEST_NAME: Final = 15
"""Longest name of a scheduler or persistence engine, in bytes (IP_VS_SCHEDNAME_MAXLEN, IP_VS_PENAME_MAXLEN)."""


class Command(IntEnum):
    """Generic netlink commands (IPVS_CMD_*)."""

    NEW_SERVICE = 1
    SET_SERVICE = 2
    DELETE_SERVICE = 3
    GET_SERVICE = 4
    NEW_DESTINATION = 5
    SET_DESTINATION = 6
    DELETE_DESTINATION = 7
    GET_DESTINATION = 8
    SET_INFO = 14
    """Only ever seen as the command of the answer to GET_INFO."""
    GET_INFO = 15


class ServiceFlag(IntFlag):
    """Flags of a service that a user may choose (IP_VS_SVC_F_*).

    PERSISTENT and HASHED are not among them: persistence is a timeout above 0, HASHED is the kernel's own.
    """

    NONE = 0
    ONE_PACKET = 0x4
    SCHEDULER_1 = 0x8
    """sh-fallback or mh-fallback, by scheduler."""
    SCHEDULER_2 = 0x10
    """sh-port or mh-port, by scheduler."""
    SCHEDULER_3 = 0x20


class Forwarding(IntEnum):
    """How a packet reaches its real server (IP_VS_CONN_F_FWD_MASK)."""

    MASQUERADE = 0
    LOCAL = 1
    TUNNEL = 2
    DIRECT_ROUTING = 3
    BYPASS = 4


class TunnelType(IntEnum):
    """Encapsulation used with Forwarding.TUNNEL (IP_VS_CONN_F_TUNNEL_TYPE_*)."""

    IPIP = 0
    GUE = 1
    GRE = 2


ServiceKeyFields = tuple[str, int, int, int, int]
"""A ServiceKey, or a tuple of a caller's own type with the same fields."""
ServiceConfigFields = tuple[str, int, int, int, str]
DestinationKeyFields = tuple[str, int, int]
DestinationConfigFields = tuple[int, int, int, int, int, int, int]


class ServiceKey(NamedTuple):
    """What identifies a virtual service.

    Either address, port and protocol (`mark` 0), or a firewall mark (address '', port and protocol 0).
    `address` is in the form of inet_ntop, `protocol` an IPPROTO_ number, `family` AF_INET or AF_INET6.
    """

    address: str
    port: int
    protocol: int
    mark: int
    family: int

    def __str__(self) -> str:
        if self.mark:
            return f"fwmark {self.mark}{' -6' if self.family == socket.AF_INET6 else ''}"
        protocol = PROTOCOL_NAMES.get(self.protocol, str(self.protocol))
        return f"{protocol} {_endpoint(self.address, self.port, self.family)}"


class ServiceConfig(NamedTuple):
    """What may change about a virtual service.

    `timeout_seconds` above 0 makes it persistent; `prefix_length` groups clients for persistence (32 or 128:
    each alone); `engine` is a persistence engine ('sip') or ''; `flags` are of ServiceFlag.
    """

    scheduler: str
    flags: int
    timeout_seconds: int
    prefix_length: int
    engine: str


class DestinationKey(NamedTuple):
    """What identifies a destination inside its service. Its family may differ under tunnelling only."""

    address: str
    port: int
    family: int

    def __str__(self) -> str:
        return _endpoint(self.address, self.port, self.family)


class DestinationConfig(NamedTuple):
    """What may change about a destination.

    `weight` 0 quiesces; `forwarding` is of Forwarding; `upper` and `lower` are connection limits (0: none);
    the tunnel fields matter to Forwarding.TUNNEL only (`tunnel_type` of TunnelType).
    """

    weight: int
    forwarding: int
    upper: int
    lower: int
    tunnel_type: int
    tunnel_port: int
    tunnel_flags: int


class Info(NamedTuple):
    """The kernel's IPVS: version (major, minor, patch) and slots of its connection table."""

    version: tuple[int, int, int]
    connection_table_size: int


class Refusal(StrEnum):
    """Why the kernel refused one change, as far as a caller acts on it."""

    EXISTS = "Exists"
    SERVICE_MISSING = "ServiceMissing"
    DESTINATION_MISSING = "DestinationMissing"
    SCHEDULER_MISSING = "SchedulerMissing"
    """The scheduler, or the persistence engine when one is asked for, is not in this kernel."""
    INVALID = "Invalid"
    NOT_PERMITTED = "NotPermitted"
    FAMILY_UNSUPPORTED = "FamilyUnsupported"
    OUT_OF_MEMORY = "OutOfMemory"
    OTHER = "Other"


PROTOCOL_NAMES: Final = {socket.IPPROTO_TCP: "TCP", socket.IPPROTO_UDP: "UDP", socket.IPPROTO_SCTP: "SCTP"}

_REFUSALS: Final = {
    errno.EEXIST: Refusal.EXISTS,
    errno.ESRCH: Refusal.SERVICE_MISSING,
    errno.EINVAL: Refusal.INVALID,
    errno.ERANGE: Refusal.INVALID,
    errno.EPERM: Refusal.NOT_PERMITTED,
    errno.EACCES: Refusal.NOT_PERMITTED,
    errno.EAFNOSUPPORT: Refusal.FAMILY_UNSUPPORTED,
    errno.ENOMEM: Refusal.OUT_OF_MEMORY,
}


def refusal(command: int, code: int) -> Refusal:
    """Say what an errno means as the answer to `command`; the same ENOENT means two things."""
    if code == errno.ENOENT:
        if command in (Command.NEW_SERVICE, Command.SET_SERVICE):
            return Refusal.SCHEDULER_MISSING
        return Refusal.DESTINATION_MISSING
    return _REFUSALS.get(code, Refusal.OTHER)


def _endpoint(address: str, port: int, family: int) -> str:
    return f"[{address}]:{port}" if family == socket.AF_INET6 else f"{address}:{port}"
