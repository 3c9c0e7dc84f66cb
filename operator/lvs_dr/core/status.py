"""Status of the users' objects: written by the controller alone, and part of the CRDs.

The conditions follow the Kubernetes API conventions. `last_transition_time` is filled from the previous
status where nothing changed, else from the time passed in: nothing here reads a clock.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct


class ConditionStatus(StrEnum):
    """Value of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Struct, frozen=True, rename="camel"):
    """One aspect of an object's state."""

    type: Annotated[str, Meta(min_length=1, max_length=63, description="Aspect, for example Ready.")]
    status: Annotated[ConditionStatus, Meta(description="True, False or Unknown.")]
    reason: Annotated[str, Meta(min_length=1, max_length=63, description="Reason in one word, see docs/reasons.md.")]
    message: Annotated[str, Meta(max_length=2048, description="What it means and what to do, for people.")]
    observed_generation: Annotated[int, Meta(ge=0, description="metadata.generation this was judged from.")]
    last_transition_time: Annotated[str, Meta(max_length=40, description="When status last changed (RFC 3339).")]


Conditions = Annotated[
    tuple[Condition, ...],
    Meta(
        max_length=16,
        description="Aspects of the state, one each.",
        extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class RealServerCount(Struct, frozen=True, rename="camel"):
    """How many of the selected real servers are healthy, as the Active director sees it."""

    healthy: Annotated[int, Meta(ge=0, description="Healthy and in service.")]
    total: Annotated[int, Meta(ge=0, description="Selected by the VirtualService.")]
    summary: Annotated[str, Meta(max_length=32, description="healthy/total, for the table that kubectl prints.")]


class VirtualServiceStatus(Struct, frozen=True, rename="camel"):
    """What is true of a VirtualService."""

    observed_generation: Annotated[int, Meta(ge=0, description="Generation the controller has acted on.")]
    serving_generation: Annotated[
        int,
        Meta(
            ge=0,
            description="Generation that the directors serve; older while a change is refused, or a changed VIP comes "
            "up. 0: none.",
        ),
    ]
    active_director: Annotated[str, Meta(max_length=253, description="Node that holds the VIP; empty: none.")]
    ports: Annotated[str, Meta(max_length=512, description="Ports, for the table that kubectl prints.")]
    real_servers: Annotated[RealServerCount, Meta(description="Healthy and total real servers.")]
    conditions: Conditions
    active_reason: Annotated[
        str, Meta(max_length=256, description="Why that node became Active, as it reports; empty: none is.")
    ] = ""


class VirtualRouterStatus(Struct, frozen=True, rename="camel"):
    """A VRRP virtual router of a group, for one address family: its VIPs are held by one director."""

    id: Annotated[int, Meta(ge=1, le=255, description="Virtual router id (VRID).")]
    family: Annotated[int, Meta(ge=4, le=6, description="4 or 6: IPv4 and IPv6 VIPs are elected apart.")]
    active: Annotated[str, Meta(max_length=253, description="Node that holds the VIPs; empty: none.")]
    since: Annotated[str, Meta(max_length=40, description="Since when (RFC 3339), by that node's clock.")]
    addresses: Annotated[int, Meta(ge=0, description="VIPs in it.")]
    message: Annotated[str, Meta(max_length=512, description="Why that node became Active; or why none is.")]


class ServiceWeight(Struct, frozen=True, rename="camel"):
    """The last change of a RealServer's weight in one VirtualService that nobody configured."""

    virtual_service: Annotated[str, Meta(max_length=253, description="VirtualService.")]
    weight: Annotated[int, Meta(ge=0, le=65535, description="Weight after the change, on the Active director.")]
    message: Annotated[str, Meta(max_length=256, description="Weight before and after, and the reason.")]
    since: Annotated[str, Meta(max_length=40, description="When it was changed (RFC 3339).")]


class RealServerStatus(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is true of a RealServer."""

    observed_generation: Annotated[int, Meta(ge=0, description="Generation the controller has acted on.")]
    address: Annotated[str, Meta(max_length=92, description="Address or addresses directors send to; empty: none.")]
    virtual_services: Annotated[int, Meta(ge=0, description="VirtualServices that select it.")]
    conditions: Conditions
    weights: Annotated[
        tuple[ServiceWeight, ...],
        Meta(max_length=16, description="Weights that slow start or load changed last, by VirtualService."),
    ] = ()


class DirectorGroupStatus(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is true of a DirectorGroup."""

    observed_generation: Annotated[int, Meta(ge=0, description="Generation the controller has acted on.")]
    directors: Annotated[
        tuple[Annotated[str, Meta(max_length=253)], ...], Meta(max_length=64, description="Nodes that direct, sorted.")
    ]
    active: Annotated[
        str, Meta(max_length=1024, description="Nodes that hold VIPs of the group, joined by commas; empty: none.")
    ]
    virtual_services: Annotated[int, Meta(ge=0, description="VirtualServices served.")]
    conditions: Conditions
    active_since: Annotated[
        str, Meta(max_length=40, description="When a director last became Active (RFC 3339); empty: none is.")
    ] = ""
    virtual_routers: Annotated[
        tuple[VirtualRouterStatus, ...],
        Meta(max_length=64, description="Virtual routers that have VIPs, by id and family."),
    ] = ()
