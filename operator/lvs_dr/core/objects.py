"""What users write, parsed: the input of the compiler.

`api` translates the pydantic models of VirtualService, RealServer and DirectorGroup into these frozen
structs; past this point nothing knows about Kubernetes' JSON. Addresses are canonical text (as
`ipaddress.ip_address` prints them), tuples are sorted where their order carries no meaning.
"""

from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct


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


class RealServerState(StrEnum):
    """Whether a real server takes new connections."""

    IN_SERVICE = "InService"
    MAINTENANCE = "Maintenance"


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
    """A port that clients connect to; real servers listen on the same one (direct routing cannot rewrite)."""

    port: int
    protocol: Protocol = Protocol.TCP
    name: str = ""


class HealthCheck(Struct, frozen=True):
    """How destinations are checked. A TCP connect to RIP:port is the one kind so far."""

    interval_seconds: int = 2
    timeout_seconds: int = 1
    rise: int = 2
    fall: int = 3


class VirtualService(Struct, frozen=True):
    """A VIP with ports, balanced over the selected real servers."""

    meta: Metadata
    director_group: str
    address: str
    ports: tuple[Port, ...]
    scheduler: str
    selector: Selector
    health_check: HealthCheck | None
    on_failure: OnFailure


class RealServer(Struct, frozen=True):
    """One machine that serves: a node of the cluster (`node_name`) and/or bare addresses."""

    meta: Metadata
    node_name: str  # "" = not a node of the cluster
    addresses: tuple[str, ...]  # at most one per family; empty = taken from the node
    weight: int
    state: RealServerState


class InterfaceChoice(Struct, frozen=True):
    """Which interface of a director faces the clients; both empty = the one that holds the Node's InternalIP."""

    name: str = ""
    subnet: str = ""  # CIDR


class DirectorGroup(Struct, frozen=True):
    """The directors that act as one, and who may claim which VIP from them."""

    meta: Metadata
    node_selector: Selector
    interface: InterfaceChoice
    allowed_addresses: tuple[str, ...]  # CIDRs; empty = the on-link subnets of the directors' interfaces
    allowed_namespaces: Selector | None  # None = all


class Invalid(Struct, frozen=True):
    """A user object that the API server holds but that does not parse: refused with this message."""

    meta: Metadata
    message: str


class Node(Struct, frozen=True):
    """A Kubernetes Node, as far as it matters here. `meta.paused` is its pause annotation."""

    meta: Metadata
    internal_addresses: tuple[str, ...]  # status.addresses of type InternalIP, canonical, in order


class Namespace(Struct, frozen=True):
    """A namespace's labels: needed only where a group has `allowed_namespaces`."""

    name: str
    labels: tuple[tuple[str, str], ...]
