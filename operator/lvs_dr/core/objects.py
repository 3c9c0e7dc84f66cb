"""What users write, parsed: the input of the compiler.

`api` translates the pydantic models of VirtualService and RealServer into these frozen structs, and that of
DirectorGroup into those of `core.director_group`; past this point nothing knows about Kubernetes' JSON. Addresses are
canonical text (as `ipaddress.ip_address` prints them), tuples are sorted where their order carries no meaning.
"""

from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from lvs_dr.core.checks import TableHealthCheck
from lvs_dr.core.load_spec import TableLoadFeedback, TableSlowStart
from lvs_dr.core.redirect_spec import TableRedirect


class Key(NamedTuple):
    """Name of a namespaced object."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Protocol(StrEnum):
    """Transport protocol of a port of a virtual service."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class OnFailure(StrEnum):
    """What happens to a destination whose health check failed."""

    REMOVE = "Remove"
    QUIESCE = "Quiesce"


class ForwardingMethod(StrEnum):
    """How a director passes a packet on to a real server."""

    DIRECT_ROUTING = "DirectRouting"
    TUNNEL = "Tunnel"
    MASQUERADE = "Masquerade"
    REDIRECT = "Redirect"  # no packets: HTTP requests are answered with the address of a real server


class CheckPath(StrEnum):
    """Which address of a real server health checks ask."""

    REAL_ADDRESS = "RealAddress"
    VIRTUAL_ADDRESS = "VirtualAddress"


class TunnelType(StrEnum):
    """Encapsulation of `ForwardingMethod.TUNNEL`."""

    IPIP = "IPIP"
    GRE = "GRE"
    GUE = "GUE"


class TunnelChecksum(StrEnum):
    """Checksum of the outer header of a GRE or GUE tunnel."""

    NONE = "None"
    CHECKSUM = "Checksum"
    REMOTE = "RemoteChecksum"  # GUE only


class RealServerState(StrEnum):
    """Whether a real server takes new connections."""

    IN_SERVICE = "InService"
    DRAIN = "Drain"
    MAINTENANCE = "Maintenance"


class DrainPersistence(StrEnum):
    """Whether clients that persistence remembers keep coming back to a real server that drains."""

    HONOUR = "Honour"
    IGNORE = "Ignore"


class Operator(StrEnum):
    """Operator of a label selector's expression."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Requirement(Struct, frozen=True):
    """One expression of a label selector."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()


class Selector(Struct, frozen=True):
    """A label selector: all labels and all expressions must match; an empty one matches everything."""

    match_labels: tuple[tuple[str, str], ...] = ()
    match_expressions: tuple[Requirement, ...] = ()


class Metadata(Struct, frozen=True):
    """The part of an object's metadata that decisions use."""

    key: Key  # namespace "" for cluster-scoped objects
    uid: str
    generation: int
    created: str  # RFC 3339 in UTC as the API server writes it: sorts as text
    labels: tuple[tuple[str, str], ...] = ()
    paused: bool = False  # annotation lvs-operator.io/paused is present and not "false"


class Port(Struct, frozen=True, order=True):
    """A port that clients connect to; real servers listen on the same one (only masquerading can rewrite it)."""

    port: int  # 0 = every port that no other service has (anyPort)
    protocol: Protocol = Protocol.TCP
    name: str = ""
    target_port: int = 0  # real server's port, Masquerade only; 0 = the same


class Tunnel(Struct, frozen=True):
    """How packets are encapsulated on their way to a real server."""

    type: TunnelType = TunnelType.IPIP
    port: int = 0  # UDP port, GUE only
    checksum: TunnelChecksum = TunnelChecksum.NONE


class Persistence(Struct, frozen=True):
    """Connections of one client (or of one network of clients) go to one real server for a time."""

    timeout_seconds: int
    prefix_length: int  # 32 or 128: each client alone
    engine: str = ""  # "" or "sip"


class ConnectionLimits(Struct, frozen=True):
    """From `upper` connections on a destination gets no new ones until it has fewer than `lower`; 0 = no limit."""

    upper: int = 0
    lower: int = 0


class Override(Struct, frozen=True):
    """What one VirtualService changes about one of its RealServers; None: as it is otherwise."""

    real_server: str
    weight: int | None = None
    forwarding: ForwardingMethod | None = None
    tunnel: Tunnel | None = None
    limits: ConnectionLimits | None = None


class Quorum(Struct, frozen=True):
    """Below `minimum` healthy real servers a service is not ready, until `minimum` + `hysteresis` are healthy again.

    The same for the sum of their configured weights.
    """

    minimum: int = 1
    hysteresis: int = 0
    minimum_weight: int = 0  # 0 = any will do
    weight_hysteresis: int = 0


class SorryServer(Struct, frozen=True):
    """Where new connections go below the quorum: a RealServer, or a bare address."""

    real_server: str = ""
    address: str = ""
    port: int = 0  # with Masquerade; 0 = as the real servers'
    forwarding: ForwardingMethod | None = None  # None = as the service's
    tunnel: Tunnel | None = None  # None = as the service's

    @property
    def name(self) -> str:
        """What it goes by among destinations."""
        return self.real_server or self.address


class VirtualService(Struct, frozen=True):
    """A VIP with ports (or a firewall mark), balanced over the selected real servers."""

    meta: Metadata
    director_group: str
    address: str
    ports: tuple[Port, ...]  # empty with a firewall mark
    scheduler: str
    selector: Selector
    health_check: TableHealthCheck | None  # compiled as it is
    on_failure: OnFailure
    firewall_mark: int = 0  # 0 = none: the ports say which packets
    scheduler_flags: tuple[str, ...] = ()  # sh-fallback, sh-port, mh-fallback, mh-port; sorted
    persistence: Persistence | None = None
    one_packet: bool = False
    forwarding: ForwardingMethod = ForwardingMethod.DIRECT_ROUTING
    tunnel: Tunnel | None = None  # for Tunnel; None = IPIP
    overrides: tuple[Override, ...] = ()  # sorted by name
    quiesce_seconds: int = 60  # how long a destination that leaves is quiesced for its live connections at most
    quorum: Quorum = Quorum()
    panic_threshold_percent: int = 0  # with fewer healthy, directors send to all; 0 = never
    redirect: TableRedirect | None = None  # exactly with Redirect; compiled as it is
    slow_start: TableSlowStart | None = None  # compiled as it is
    load_feedback: TableLoadFeedback | None = None  # compiled as it is
    sorry_server: SorryServer | None = None
    check_path: CheckPath | None = CheckPath.REAL_ADDRESS  # None = the VIP under direct routing, else the RIP

    @property
    def sorry_key(self) -> Key | None:
        """The RealServer that is its sorry server; None without one."""
        given = self.sorry_server
        return Key(self.meta.key.namespace, given.real_server) if given is not None and given.real_server else None


class RealServer(Struct, frozen=True):
    """One machine that serves: a node of the cluster (`node_name`) and/or bare addresses."""

    meta: Metadata
    node_name: str  # "" = not a node of the cluster
    addresses: tuple[str, ...]  # at most one per family; empty = taken from the node
    weight: int
    state: RealServerState
    limits: ConnectionLimits = ConnectionLimits()
    check_address: str = ""  # "" = it is checked at the address that directors send to
    hostname: str = ""  # by which clients reach it, for redirects
    drain_seconds: int = 3600  # of state Drain: how long its connections are waited for at most; 0 = without limit
    drain_persistence: DrainPersistence = DrainPersistence.HONOUR
    drains_first: bool = False  # before it is deleted: wants our finalizer
    deleting: bool = False  # somebody has deleted it, and a finalizer keeps it
    held: bool = False  # it has our finalizer


class Invalid(Struct, frozen=True):
    """A user object that the API server holds but that does not parse: refused with this message."""

    meta: Metadata
    message: str


class Node(Struct, frozen=True):
    """A Kubernetes Node, as far as it matters here. `meta.paused` is its pause annotation."""

    meta: Metadata
    internal_addresses: tuple[str, ...]  # status.addresses of type InternalIP, canonical, in order
    vrrp_priority: int = 0  # annotation lvs-operator.io/vrrp-priority; 0 = none, or no number from 1 to 254
    standby: bool = False  # cordoned, or annotated lvs-operator.io/standby: gives its VIPs to another director
    refused_priority: str = ""  # what that annotation says instead of a number from 1 to 254


class Namespace(Struct, frozen=True):
    """A namespace's labels: needed only where a group has `allowed_namespaces`."""

    name: str
    labels: tuple[tuple[str, str], ...]
