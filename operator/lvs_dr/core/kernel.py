"""What a node's kernel holds, as values: keys, their configuration, and the operations that change them.

Keys say which entry, configurations say how it is set; state is `Mapping[Key, Config]`, so that a diff needs
no more than equality. `agent.kernel` translates to and from netlink and /proc/sys.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import NamedTuple

from msgspec import Struct


class Forwarding(IntEnum):
    """IPVS forwarding method (include/uapi/linux/ip_vs.h, IP_VS_CONN_F_*)."""

    MASQUERADE = 0
    LOCAL = 1
    TUNNEL = 2
    DIRECT_ROUTING = 3


class ServiceKey(NamedTuple):
    """An IPVS service: VIP, port and IP protocol number; or a firewall mark (then address "" and port 0)."""

    address: str
    port: int
    protocol: int
    mark: int = 0
    family: int = 2  # AF_INET; AF_INET6 is 10


class ServiceConfig(NamedTuple):
    """How an IPVS service is set."""

    scheduler: str
    flags: int = 0
    timeout_seconds: int = 0  # persistence; 0 = none
    prefix_length: int = 32  # persistence granularity
    engine: str = ""


class DestinationKey(NamedTuple):
    """A destination inside one service."""

    service: ServiceKey
    address: str
    port: int


class DestinationConfig(NamedTuple):
    """How a destination is set."""

    weight: int
    forwarding: int = Forwarding.DIRECT_ROUTING
    upper: int = 0
    lower: int = 0
    tunnel_type: int = 0
    tunnel_port: int = 0
    tunnel_flags: int = 0


class AddressKey(NamedTuple):
    """A host address (/32 or /128) on an interface."""

    interface: str
    address: str


class AddressConfig(NamedTuple):
    """How the address is set: scope (host = 254, global = 0), and whether IPv6 may prefer it as a source."""

    scope: int
    deprecated: bool = False  # IPv6: preferred_lft 0


class RouteKey(NamedTuple):
    """A blackhole route to one host in the main table: the guard of a backend."""

    address: str


class SysctlKey(NamedTuple):
    """A sysctl below net, for example ("ipv4", "conf", "all", "arp_ignore")."""

    path: tuple[str, ...]


class KernelState(Struct, frozen=True):
    """All that is read in one pass, foreign entries included. Absent sysctls are left out."""

    services: Mapping[ServiceKey, ServiceConfig] = {}
    destinations: Mapping[DestinationKey, DestinationConfig] = {}
    addresses: Mapping[AddressKey, AddressConfig] = {}
    routes: frozenset[RouteKey] = frozenset()
    sysctls: Mapping[SysctlKey, str] = {}
    connections: Mapping[DestinationKey, int] = {}  # live ones: active; for UDP, which knows no end, inactive too


class Verb(StrEnum):
    """What an operation does; PUT of an address, route or sysctl replaces."""

    ADD = "add"
    SET = "set"
    DELETE = "delete"


class ServiceOp(NamedTuple):
    """Change an IPVS service."""

    verb: Verb
    key: ServiceKey
    config: ServiceConfig | None = None


class DestinationOp(NamedTuple):
    """Change a destination."""

    verb: Verb
    key: DestinationKey
    config: DestinationConfig | None = None


class AddressOp(NamedTuple):
    """Change an address on lo (the director's interface belongs to the speaker)."""

    verb: Verb
    key: AddressKey
    config: AddressConfig | None = None


class RouteOp(NamedTuple):
    """Change a blackhole route."""

    verb: Verb
    key: RouteKey


class SysctlOp(NamedTuple):
    """Write a sysctl."""

    verb: Verb
    key: SysctlKey
    value: str


Op = ServiceOp | DestinationOp | AddressOp | RouteOp | SysctlOp


class Failure(NamedTuple):
    """An operation that the kernel refused."""

    op: Op
    errno: int
    reason: str  # core.reasons.Reason
    message: str
