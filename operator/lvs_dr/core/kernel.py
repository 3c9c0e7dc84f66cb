"""What a node's kernel holds, as values: keys, their configuration, and the operations that change them.

Keys say which entry, configurations say how it is set; state is `Mapping[Key, Config]`, so that a diff needs
no more than equality. `agent.kernel` translates to and from netlink and /proc/sys.
"""

from collections.abc import Mapping
from enum import IntEnum, IntFlag, StrEnum
from typing import NamedTuple

from msgspec import Struct

from lvs_dr.core.destinations import DestinationKey as DestinationKey  # noqa: PLC0414 - found with the other keys
from lvs_dr.core.destinations import Destinations
from lvs_dr.core.destinations import ServiceKey as ServiceKey  # noqa: PLC0414


class Forwarding(IntEnum):
    """IPVS forwarding method (include/uapi/linux/ip_vs.h, IP_VS_CONN_F_*)."""

    MASQUERADE = 0
    LOCAL = 1
    TUNNEL = 2
    DIRECT_ROUTING = 3


class ServiceFlag(IntFlag):
    """Flags of a service that a user may choose (include/uapi/linux/ip_vs.h, IP_VS_SVC_F_*)."""

    NONE = 0
    ONE_PACKET = 0x4
    SCHEDULER_1 = 0x8  # sh-fallback or mh-fallback, by scheduler
    SCHEDULER_2 = 0x10  # sh-port or mh-port
    SCHEDULER_3 = 0x20


class TunnelNumber(IntEnum):
    """Encapsulation of a destination (IP_VS_CONN_F_TUNNEL_TYPE_*)."""

    IPIP = 0
    GUE = 1
    GRE = 2


class TunnelFlag(IntFlag):
    """Checksum of the outer header (IP_VS_TUNNEL_ENCAP_FLAG_*)."""

    NO_CHECKSUM = 0
    CHECKSUM = 0x1
    REMOTE_CHECKSUM = 0x2


class ServiceConfig(NamedTuple):
    """How an IPVS service is set."""

    scheduler: str
    flags: int = 0
    timeout_seconds: int = 0  # persistence; 0 = none
    prefix_length: int = 32  # persistence granularity
    engine: str = ""


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


class TimeoutKey(NamedTuple):
    """A timeout of IPVS in this network namespace: "tcp", "tcp-fin" or "udp" (`ipvsadm --set`)."""

    name: str


class TunnelKey(NamedTuple):
    """A tunnel device, by name."""

    name: str


class TunnelConfig(NamedTuple):
    """What a tunnel device takes in: anything that was sent to `local`, whoever sent it."""

    kind: str  # ipip, gre, ip6tnl (mode any) or ip6gre
    local: str
    checksum: bool = False  # GRE: takes packets with a checksum, and only those
    receives: bool = True  # it is up and takes packets whose answers leave by another interface


class GuePortKey(NamedTuple):
    """A UDP port of one local address where the kernel takes GUE packets apart (module fou)."""

    local: str
    port: int


class DaemonKey(NamedTuple):
    """A sync daemon of IPVS: "master" tells of this node's connections, "backup" learns others'."""

    state: str


class DaemonConfig(NamedTuple):
    """How a sync daemon is set."""

    interface: str
    sync_id: int
    maximum_length: int  # of a message, bytes without IP and UDP headers
    group: str
    port: int
    ttl: int


class GuardPart(IntEnum):
    """A part of the loop guard (`core.loop_guard`), in the order in which they are made."""

    QDISC = 0
    TURN_BACK = 1
    SPENT = 2
    PEER = 3


class GuardKey(NamedTuple):
    """One part of the loop guard on an interface: the qdisc, or a filter for one VIP (and the MAC of a sender)."""

    interface: str
    part: GuardPart
    address: str = ""
    mac: str = ""  # of PEER; "" = whoever sent it


class GuardConfig(NamedTuple):
    """Whether a filter does what it must; somebody may have changed it."""

    intact: bool = True


class KernelState(Struct, frozen=True):
    """All that is read in one pass, foreign entries included. Absent sysctls are left out."""

    services: Mapping[ServiceKey, ServiceConfig] = {}
    destinations: Destinations[DestinationConfig] = Destinations()
    addresses: Mapping[AddressKey, AddressConfig] = {}
    routes: frozenset[RouteKey] = frozenset()
    sysctls: Mapping[SysctlKey, str] = {}
    timeouts: Mapping[TimeoutKey, int] = {}  # seconds; empty without IPVS
    daemons: Mapping[DaemonKey, DaemonConfig] = {}  # read together with the timeouts
    tunnels: Mapping[TunnelKey, TunnelConfig] = {}  # devices with a name like ours, as far as they were asked for
    gue_ports: frozenset[GuePortKey] = frozenset()  # likewise
    guards: Mapping[GuardKey, GuardConfig] = {}  # on the interfaces that were asked for
    connections: Destinations[int] = Destinations()  # live ones: active; for UDP, which knows no end, inactive too
    templates: Destinations[int] = Destinations()  # clients that persistence remembers, in persistent services
    mark_packets: Mapping[ServiceKey, int] = {}  # that came to firewall-mark services, as last added up (every 2 s)
    silent_marks: frozenset[ServiceKey] = frozenset()  # firewall-mark services that no packet has reached yet
    ipvs_slots: int = 0  # of the connection table (GET_INFO); 0 = not known


class MarkUse(NamedTuple):
    """A firewall-mark service as it is this moment: where it leads, and what has come to it."""

    places: frozenset[tuple[str, int]]
    packets: int  # as last added up
    connections: int  # that it has now; datagrams of a one-packet service are none


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


class TimeoutOp(NamedTuple):
    """Set a timeout of IPVS; the verb is always SET."""

    verb: Verb
    key: TimeoutKey
    seconds: int


class TunnelOp(NamedTuple):
    """Change a tunnel device."""

    verb: Verb
    key: TunnelKey
    config: TunnelConfig | None = None


class GuePortOp(NamedTuple):
    """Open or close a UDP port for GUE."""

    verb: Verb
    key: GuePortKey


class DaemonOp(NamedTuple):
    """Start a sync daemon (ADD), stop it (DELETE), or start it anew (SET)."""

    verb: Verb
    key: DaemonKey
    config: DaemonConfig | None = None


class GuardOp(NamedTuple):
    """Add, put right or remove a part of the loop guard."""

    verb: Verb
    key: GuardKey


Op = ServiceOp | DestinationOp | AddressOp | RouteOp | SysctlOp | TimeoutOp | TunnelOp | GuePortOp | DaemonOp | GuardOp


class Failure(NamedTuple):
    """An operation that the kernel refused."""

    op: Op
    errno: int
    reason: str  # core.reasons.Reason
    message: str
