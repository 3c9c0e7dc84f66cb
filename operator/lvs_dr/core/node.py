"""LVSNode.spec: what one node must be, by the controller alone; its status is in `core.node_status`."""

from itertools import chain
from typing import Annotated

from msgspec import Meta, Struct

from lvs_dr.core.addresses import order
from lvs_dr.core.objects import Key
from lvs_dr.core.suspicions import BackendService
from lvs_dr.core.sync_spec import ConnectionSync
from lvs_dr.core.table import Address, Feature, Name, TableTunnel

MAXIMUM_ADDRESSES = 4096
MAXIMUM_TABLES = 4096
MAXIMUM_SECRETS = 32
MAXIMUM_QUESTIONS = 256

TableName = Annotated[str, Meta(min_length=3, max_length=317, description="namespace/name of a DirectorTable.")]

FEATURE_IPVS_SETTINGS = "ipvs-settings"
FEATURE_TUNNELS = "tunnels"
FEATURE_VRRP = "vrrp"
FEATURE_CONNECTION_SYNC = "connection-sync"

Timeout = Annotated[int, Meta(ge=1, le=2678400)]


class IpvsSysctl(Struct, frozen=True, rename="camel"):
    """A sysctl below net.ipv4.vs."""

    name: Annotated[str, Meta(min_length=1, max_length=63, description="Name below net.ipv4.vs.")]
    value: Annotated[int, Meta(ge=0, le=2147483647, description="Value it must have.")]


class DirectorSettings(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Settings of the whole network namespace's IPVS; what is absent is left as it is on the node."""

    tcp_seconds: Annotated[Timeout | None, Meta(description="Idle seconds after which TCP is forgotten.")] = None
    tcp_fin_seconds: Annotated[Timeout | None, Meta(description="The same after a FIN.")] = None
    udp_seconds: Annotated[Timeout | None, Meta(description="The same for UDP.")] = None
    sysctls: Annotated[
        tuple[IpvsSysctl, ...], Meta(max_length=32, description="Sysctls below net.ipv4.vs, sorted by name.")
    ] = ()


class BackendTunnel(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A tunnel that ends on this node: the agent keeps a device of its own for it."""

    address: Annotated[Address, Meta(description="The node's address that directors send to (RIP).")]
    tunnel: Annotated[TableTunnel, Meta(description="Encapsulation.")]


class VirtualRouter(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A VRRP virtual router of the group: its VIPs move together. IPv4 and IPv6 ones are elected apart."""

    id: Annotated[int, Meta(ge=1, le=255, description="Virtual router id (VRID).")]
    priority: Annotated[
        int, Meta(ge=1, le=254, description="Priority of this node; one below 200 gives way to any other director.")
    ]
    addresses: Annotated[
        tuple[Address, ...], Meta(max_length=MAXIMUM_ADDRESSES, description="VIPs of the virtual router, sorted.")
    ] = ()


class PeerDirector(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Another director of the group."""

    node: Annotated[Name, Meta(description="Its node.")]
    addresses: Annotated[
        tuple[Address, ...],
        Meta(max_length=16, description="Its own addresses on the interface, sorted; none: not reported yet."),
    ] = ()


class Vrrp(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What the node takes part in with VRRP. Without peers it is alone and holds its VIPs for good."""

    routers: Annotated[tuple[VirtualRouter, ...], Meta(max_length=32, description="Virtual routers, by id.")] = ()
    peers: Annotated[tuple[PeerDirector, ...], Meta(max_length=64, description="The other directors, by name.")] = ()
    advertisement_interval_milliseconds: Annotated[
        int, Meta(ge=10, le=40950, description="Time between two adverts of the Active.")
    ] = 100
    preempt: Annotated[bool, Meta(description="A better director takes the VIPs back.")] = False
    preempt_delay_seconds: Annotated[int, Meta(ge=0, le=86400, description="How long it waits before it does.")] = 0
    unicast: Annotated[bool, Meta(description="Adverts go to the peers' addresses instead of the multicast group.")] = (
        False
    )
    stop_hold_seconds: Annotated[
        int, Meta(ge=0, le=86400, description="How long VIPs stay after a stop when no other director takes over.")
    ] = 300


class DirectorRole(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The node is a director of a group.

    Every director of the group programs the tables and is told all VIPs; by VRRP they agree on who holds which.
    A table that is listed in `tables` but cannot be read is kept as it was last seen; a table's services
    are removed only when the object is gone AND it is no longer listed here.
    """

    group: Annotated[Name, Meta(description="DirectorGroup; the agent serves the DirectorTables of this group.")]
    interface_name: Annotated[str, Meta(max_length=15, description="Interface that faces the clients, by name.")] = ""
    interface_subnet: Annotated[
        str,
        Meta(max_length=49, description="Interface that faces the clients, by a subnet (CIDR) it has an address in."),
    ] = ""
    internal_addresses: Annotated[
        tuple[Address, ...],
        Meta(max_length=8, description="The Node's InternalIPs: their interface is used when none is named."),
    ] = ()
    tables: Annotated[
        tuple[TableName, ...], Meta(max_length=MAXIMUM_TABLES, description="DirectorTables the group serves, sorted.")
    ] = ()
    vrrp: Annotated[Vrrp, Meta(description="VRRP: which directors hold which VIPs.")] = Vrrp()
    settings: Annotated[
        DirectorSettings | None, Meta(description="Settings of IPVS on this node; absent: left as they are.")
    ] = None
    sync: Annotated[
        ConnectionSync | None, Meta(description="How connections are told to the other directors; absent: not at all.")
    ] = None
    secrets: Annotated[
        tuple[Name, ...],
        Meta(max_length=MAXIMUM_SECRETS, description="Secrets of the operator's namespace that it reads, sorted."),
    ] = ()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """VIPs of all virtual routers, in order of value: those that the node holds while it is Active for them."""
        routers = self.vrrp.routers
        if len(routers) == 1:
            return routers[0].addresses
        return tuple(sorted({*chain.from_iterable(each.addresses for each in routers)}, key=order))


class ReleasingRouter(Struct, frozen=True, rename="camel", omit_defaults=True):
    """VIPs that were taken from a node, and the virtual router they were in there."""

    addresses: Annotated[
        tuple[Address, ...],
        Meta(max_length=MAXIMUM_ADDRESSES, description="VIPs that the node may still announce, sorted."),
    ]
    group: Annotated[str, Meta(max_length=253, description="Its DirectorGroup; empty: not known.")] = ""
    id: Annotated[int, Meta(ge=0, le=255, description="Virtual router id (VRID); 0: not known.")] = 0


class Releasing(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What was taken from the node and has not been reported gone: the controller's memory, agents need not read it."""

    routers: Annotated[
        tuple[ReleasingRouter, ...],
        Meta(max_length=64, description="VIPs that the node may still announce, by virtual router."),
    ] = ()
    group: Annotated[
        str, Meta(max_length=253, description="DirectorGroup whose tables the node may still have in its kernel.")
    ] = ""
    unknown: Annotated[
        bool,
        Meta(
            description="This object was made anew while the node took part in VRRP: until it follows this one, it may "
            "announce VIPs that nobody has noted."
        ),
    ] = False

    @property
    def addresses(self) -> frozenset[Address]:
        """VIPs that the node may still announce."""
        return frozenset(chain.from_iterable(each.addresses for each in self.routers))


class SocketQuestion(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A VIP that the node, as a real server, is being taken out of: no director sends new connections any more."""

    table: TableName
    generation: Annotated[int, Meta(ge=0, description="metadata.generation of the DirectorTable that says so.")]
    address: Annotated[Address, Meta(description="The VIP.")]
    ports: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=65535)], ...], Meta(max_length=32, description="TCP ports, sorted.")
    ]


class LVSNodeSpec(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What the node must be. An empty spec means: clean up. `decided: false` means: report, change nothing."""

    decided: Annotated[
        bool,
        Meta(description="False until the controller knows the node's state: the agent reports and changes nothing."),
    ] = False
    director: Annotated[DirectorRole | None, Meta(description="Set when the node is a director.")] = None
    backend_addresses: Annotated[
        tuple[Address, ...],
        Meta(max_length=MAXIMUM_ADDRESSES, description="VIPs the node carries on lo as a real server, sorted."),
    ] = ()
    backend_tunnels: Annotated[
        tuple[BackendTunnel, ...],
        Meta(max_length=256, description="Tunnels that end on this node as a real server, sorted."),
    ] = ()
    backend_services: Annotated[
        tuple[BackendService, ...],
        Meta(
            max_length=MAXIMUM_ADDRESSES,
            description="Ports of these VIPs that real servers on the node serve: the agent tells what may keep "
            "clients from an answer. Sorted.",
        ),
    ] = ()
    draining: Annotated[
        tuple[SocketQuestion, ...],
        Meta(max_length=MAXIMUM_QUESTIONS, description="VIPs whose connections the agent is to count, by table."),
    ] = ()
    paused: Annotated[bool, Meta(description="The agent checks and reports but writes nothing to the kernel.")] = False
    requires: Annotated[
        tuple[Feature, ...],
        Meta(
            max_length=32,
            description="Features an agent must know, or else keep its last good state and say Unsupported.",
        ),
    ] = ()
    releasing: Annotated[
        Releasing | None,
        Meta(description="What was taken from the node and is not reported gone; nobody else gets it before."),
    ] = None


def table_name(key: Key) -> str:
    """Return how reports and LVSNode.spec name a table."""
    return f"{key.namespace}/{key.name}"


def table_key(name: str) -> Key:
    """Return the key of a table named `namespace/name`."""
    namespace, _, table = name.partition("/")
    return Key(namespace, table)
