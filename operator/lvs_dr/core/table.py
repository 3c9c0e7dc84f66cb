"""DirectorTable: one compiled VirtualService, exactly what a director must serve.

The controller writes it, agents on directors read it; an agent that meets a `requires` entry it does not
know keeps its last good state for this table. Fields are bounded because the CRD is generated from here.
"""

from typing import Annotated

from msgspec import Meta, Struct

from lvs_dr.core.checks import TableHealthCheck, TcpCheck
from lvs_dr.core.load_spec import TableLoadFeedback, TableSlowStart
from lvs_dr.core.objects import ForwardingMethod, OnFailure, Protocol, TunnelChecksum, TunnelType
from lvs_dr.core.redirect_spec import TableRedirect

__all__ = ["TableHealthCheck", "TcpCheck"]  # parts of the table that stand in a module of their own

MAXIMUM_DESTINATIONS = 1024
MAXIMUM_PORTS = 32

Name = Annotated[str, Meta(min_length=1, max_length=253)]
Address = Annotated[str, Meta(min_length=2, max_length=45)]
Feature = Annotated[str, Meta(min_length=1, max_length=63)]

# What `requires` of a table may name.
FEATURE_FORWARDING = "forwarding-methods"  # destinations name a forwarding method other than DirectRouting
FEATURE_FIREWALL_MARK = "firewall-mark"
FEATURE_ANY_PORT = "any-port"
FEATURE_SERVICE_OPTIONS = "service-options"  # flags, persistence, one-packet, limits, target ports, check ports
FEATURE_SORRY_SERVER = "sorry-server"
FEATURE_PANIC = "panic-threshold"
FEATURE_CHECK_SECRETS = "check-secrets"  # a health check names a Secret
FEATURE_REDIRECT = "redirect"
FEATURE_CHANGING_WEIGHTS = "changing-weights"  # slow start, load feedback
FEATURE_VIRTUAL_CHECKS = "virtual-address-checks"  # destinations are checked through the VIP, by firewall marks
FEATURE_HEALTH_CHECKS = "health-checks"  # other checks than a TCP connect, and other settings of it than its port


class TablePort(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A port of the virtual service."""

    port: Annotated[int, Meta(ge=0, le=65535, description="Port number on the VIP; 0: every port of the protocol.")]
    protocol: Annotated[Protocol, Meta(description="Transport protocol: TCP, UDP or SCTP.")]
    target_port: Annotated[
        int, Meta(ge=0, le=65535, description="Port of the real servers (Masquerade only); 0: the same as port.")
    ] = 0


class TableTunnel(Struct, frozen=True, rename="camel", omit_defaults=True):
    """How packets to a real server are encapsulated."""

    type: Annotated[TunnelType, Meta(description="Encapsulation: IPIP, GRE or GUE.")] = TunnelType.IPIP
    port: Annotated[int, Meta(ge=0, le=65535, description="UDP port of a GUE tunnel; 0 for the others.")] = 0
    checksum: Annotated[TunnelChecksum, Meta(description="Checksum of the outer header: GRE and GUE.")] = (
        TunnelChecksum.NONE
    )


class TablePersistence(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Connections of one client go to one destination for a time."""

    timeout_seconds: Annotated[int, Meta(ge=1, le=2678400, description="Seconds after a client's last connection.")]
    prefix_length: Annotated[
        int, Meta(ge=1, le=128, description="Clients with this many equal leading address bits count as one.")
    ]
    engine: Annotated[str, Meta(max_length=15, description="Persistence engine, for example sip; empty: none.")] = ""


class TableDestination(Struct, frozen=True, rename="camel", omit_defaults=True):
    """One real server of the virtual service."""

    real_server: Annotated[Name, Meta(description="Name of the RealServer, in the table's namespace.")]
    address: Annotated[Address, Meta(description="Address the director sends to (RIP).")]
    weight: Annotated[int, Meta(ge=0, le=65535, description="Weight before health; 0 takes no new connections.")]
    node: Annotated[
        str, Meta(max_length=253, description="Node it runs on; empty for a machine outside the cluster.")
    ] = ""
    forwarding: Annotated[ForwardingMethod, Meta(description="How packets are passed on to it.")] = (
        ForwardingMethod.DIRECT_ROUTING
    )
    tunnel: Annotated[TableTunnel | None, Meta(description="Encapsulation, set exactly when forwarding is Tunnel.")] = (
        None
    )
    upper: Annotated[
        int, Meta(ge=0, le=4294967295, description="Connections from which on it gets no new ones; 0: no limit.")
    ] = 0
    lower: Annotated[
        int, Meta(ge=0, le=4294967295, description="Connections below which it gets new ones again; 0: 3/4 of upper.")
    ] = 0
    check_address: Annotated[
        str, Meta(max_length=45, description="Address that is checked in its place; empty: its own.")
    ] = ""
    draining: Annotated[
        bool, Meta(description="It is being taken out: directors tell how many connections it still has.")
    ] = False
    forget_clients: Annotated[
        bool, Meta(description="Clients that persistence remembers are not waited for: they go elsewhere.")
    ] = False
    hostname: Annotated[
        str, Meta(max_length=253, description="Name by which clients reach it, for redirects; empty: none.")
    ] = ""

    check_mark: Annotated[
        int,
        Meta(
            ge=0,
            le=4294967295,
            description="Firewall mark by which checks reach it through the VIP; 0: its own address is checked.",
        ),
    ] = 0

    @property
    def checked_at(self) -> str:
        """The address that health checks ask."""
        return self.check_address or self.address


class TableQuorum(Struct, frozen=True, rename="camel", omit_defaults=True):
    """When the sorry server takes over, and when it gives way. Weights are those of the destinations."""

    minimum: Annotated[int, Meta(ge=1, le=1024, description="With fewer healthy destinations it takes over.")] = 1
    back: Annotated[
        int, Meta(ge=1, le=2048, description="With so many, or all that there are, it gives way; absent: 1.")
    ] = 1
    minimum_weight: Annotated[
        int, Meta(ge=0, le=67108864, description="With a smaller sum of healthy weights it takes over; 0: any will do.")
    ] = 0
    back_weight: Annotated[
        int, Meta(ge=0, le=134217728, description="With this sum, or all that there is, it gives way.")
    ] = 0


class DirectorTableSpec(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What every director of the group must serve for one VirtualService."""

    director_group: Annotated[Name, Meta(description="DirectorGroup whose directors serve this table.")]
    service_generation: Annotated[
        int, Meta(ge=1, description="Generation of the VirtualService that this table was compiled from.")
    ]
    address: Annotated[Address, Meta(description="Virtual IP address (VIP).")]
    ports: Annotated[
        tuple[TablePort, ...], Meta(max_length=MAXIMUM_PORTS, description="Ports served; none with a firewall mark.")
    ]
    scheduler: Annotated[str, Meta(min_length=1, max_length=16, description="IPVS scheduler, as ipvsadm names it.")]
    on_failure: Annotated[
        OnFailure, Meta(description="Remove a failed destination from IPVS, or quiesce it (weight 0).")
    ]
    destinations: Annotated[
        tuple[TableDestination, ...],
        Meta(max_length=MAXIMUM_DESTINATIONS, description="Real servers, sorted by name."),
    ]
    pending: Annotated[
        tuple[TableDestination, ...],
        Meta(
            max_length=MAXIMUM_DESTINATIONS,
            description="Real servers that are about to enter. A director does not add them, but one that has them "
            "already (this object was deleted by mistake and made anew) keeps them.",
        ),
    ] = ()
    health_check: Annotated[
        TableHealthCheck | None, Meta(description="How destinations are checked; absent: they count as healthy.")
    ] = None
    firewall_mark: Annotated[
        int, Meta(ge=0, le=4294967295, description="Packets with this mark are balanced, whatever their port; 0: none.")
    ] = 0
    scheduler_flags: Annotated[
        tuple[Annotated[str, Meta(max_length=15)], ...],
        Meta(max_length=4, description="Scheduler flags as ipvsadm names them, for example sh-port; sorted."),
    ] = ()
    persistence: Annotated[TablePersistence | None, Meta(description="Persistence; absent: none.")] = None
    one_packet: Annotated[bool, Meta(description="Each UDP packet is balanced on its own.")] = False
    quiesce_seconds: Annotated[
        int,
        Meta(ge=0, le=86400, description="Seconds a destination that leaves is quiesced for its connections at most."),
    ] = 60
    panic_threshold_percent: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="With a smaller share of healthy destinations than this, directors send to all of them; 0: "
            "never.",
        ),
    ] = 0
    slow_start: Annotated[
        TableSlowStart | None, Meta(description="Destinations that come back get their weight bit by bit.")
    ] = None
    load_feedback: Annotated[
        TableLoadFeedback | None, Meta(description="Weights follow the load; absent: they do not.")
    ] = None
    sorry_server: Annotated[
        TableDestination | None,
        Meta(description="Takes the place of the destinations below the quorum; absent: none is there, or ready."),
    ] = None
    sorry_port: Annotated[
        int, Meta(ge=0, le=65535, description="Its port (Masquerade only); 0: the same as the real servers'.")
    ] = 0
    quorum: Annotated[TableQuorum | None, Meta(description="When the sorry server serves.")] = None
    virtual_router_id: Annotated[
        int,
        Meta(
            ge=0,
            le=255,
            description="VRRP virtual router of the VIP; it stays while the DirectorGroup has it. 0: not decided.",
        ),
    ] = 0
    redirect: Annotated[
        TableRedirect | None,
        Meta(
            description="Requests are redirected as it says, by HTTP: nothing of this table is in IPVS. Absent: IPVS."
        ),
    ] = None
    paused: Annotated[bool, Meta(description="Agents check but write nothing to the kernel for this table.")] = False
    requires: Annotated[
        tuple[Feature, ...],
        Meta(
            max_length=32,
            description="Features an agent must know, or else keep its last good state and say Unsupported.",
        ),
    ] = ()

    @property
    def entries(self) -> tuple[TableDestination, ...]:
        """All that directors may send to: the destinations and the sorry server."""
        return self.destinations if self.sorry_server is None else (*self.destinations, self.sorry_server)
