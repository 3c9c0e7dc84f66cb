"""DirectorTable: one compiled VirtualService, exactly what a director must serve.

The controller writes it, agents on directors read it; an agent that meets a `requires` entry it does not
know keeps its last good state for this table. Fields are bounded because the CRD is generated from here.
"""

from typing import Annotated

from msgspec import Meta, Struct

from lvs_dr.core.objects import OnFailure, Protocol

MAXIMUM_DESTINATIONS = 1024
MAXIMUM_PORTS = 32

Name = Annotated[str, Meta(min_length=1, max_length=253)]
Address = Annotated[str, Meta(min_length=2, max_length=45)]
Feature = Annotated[str, Meta(min_length=1, max_length=63)]


class TablePort(Struct, frozen=True, rename="camel"):
    """A port of the virtual service."""

    port: Annotated[int, Meta(ge=1, le=65535, description="Port number, the same on the VIP and on every real server.")]
    protocol: Annotated[Protocol, Meta(description="Transport protocol: TCP, UDP or SCTP.")]


class TcpCheck(Struct, frozen=True, rename="camel"):
    """A TCP connect to the destination's address and port."""


class TableHealthCheck(Struct, frozen=True, rename="camel"):
    """How the directors check each port of each destination."""

    tcp: Annotated[
        TcpCheck, Meta(description="Connect by TCP to the real server's own address and the service's port.")
    ]
    interval_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="Seconds from the start of one check to the next.")
    ]
    timeout_seconds: Annotated[int, Meta(ge=1, le=3600, description="Seconds after which a check counts as failed.")]
    rise: Annotated[int, Meta(ge=1, le=100, description="Successes in a row that bring a failed destination back.")]
    fall: Annotated[int, Meta(ge=1, le=100, description="Failures in a row that take a destination out.")]


class TableDestination(Struct, frozen=True, rename="camel"):
    """One real server of the virtual service."""

    real_server: Annotated[Name, Meta(description="Name of the RealServer, in the table's namespace.")]
    address: Annotated[Address, Meta(description="Address the director sends to (RIP).")]
    weight: Annotated[int, Meta(ge=0, le=65535, description="Weight before health; 0 takes no new connections.")]
    node: Annotated[
        str, Meta(max_length=253, description="Node it runs on; empty for a machine outside the cluster.")
    ] = ""


class DirectorTableSpec(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What every director of the group must serve for one VirtualService."""

    director_group: Annotated[Name, Meta(description="DirectorGroup whose directors serve this table.")]
    service_generation: Annotated[
        int, Meta(ge=1, description="Generation of the VirtualService that this table was compiled from.")
    ]
    address: Annotated[Address, Meta(description="Virtual IP address (VIP).")]
    ports: Annotated[tuple[TablePort, ...], Meta(min_length=1, max_length=MAXIMUM_PORTS, description="Ports served.")]
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
    paused: Annotated[bool, Meta(description="Agents check but write nothing to the kernel for this table.")] = False
    requires: Annotated[
        tuple[Feature, ...],
        Meta(
            max_length=32,
            description="Features an agent must know, or else keep its last good state and say Unsupported.",
        ),
    ] = ()
