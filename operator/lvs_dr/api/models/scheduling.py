"""How a new connection finds its real server, and how long a client stays with it."""

from typing import Annotated, Literal

from pydantic import Field

from lvs_dr.api.models.rules import ApiModel

Scheduler = Literal[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"
]  # fmt: skip
SchedulerFlag = Literal["sh-fallback", "sh-port", "mh-fallback", "mh-port"]
PersistenceEngine = Literal["sip"]

DEFAULT_SCHEDULER: Scheduler = "wlc"

SchedulerField = Annotated[
    Scheduler,
    Field(
        description="How a new connection finds its real server (IPVS scheduler). rr: in turn. wrr: in turn, by"
        " weight. lc: fewest connections. wlc: fewest connections for its weight. sed: shortest expected delay."
        " nq: an idle one, else as sed. fo: the highest weight, others when it fails. ovf: the highest weight"
        " until as many connections as its weight, then the next. sh: by the client's address. mh: by the"
        " client's address, disturbing few when real servers change (Maglev). dh, lblc, lblcr: by destination"
        " address, for caches. twos: the better of two drawn at random. rr, lc and dh ignore weights other than 0."
        " The directors' kernel must have it. Default: wlc."
    ),
]

SchedulerFlags = Annotated[
    tuple[SchedulerFlag, ...],
    Field(
        max_length=2,
        description="Flags of the schedulers sh and mh. sh-fallback, mh-fallback: a client whose real server takes no"
        " new connections (weight 0, full) gets another one; without it that client is refused meanwhile. sh-port,"
        " mh-port: the client's port counts too, so the connections of one client spread. Default: none.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    ),
]


class Persistence(ApiModel):
    """Connections of one client, or one network of clients, go to the same real server for a time."""

    # No default in the schema: server-side apply of {} over an object that has one filled in makes null of it.
    timeout_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=2678400,
            description="Seconds that a client stays with its real server after its last connection ended, 1 to"
            " 2678400 (31 days). Default: 300.",
        ),
    ] = None
    prefix_length: Annotated[
        int | None,
        Field(
            ge=1,
            le=128,
            description="Clients whose addresses have this many leading bits in common count as one, for example 24"
            " for clients behind a farm of proxies: 1 to 32 for an IPv4 VIP, 1 to 128 for IPv6. Default: 32 or 128,"
            " each client alone.",
        ),
    ] = None
    engine: Annotated[
        PersistenceEngine | None,
        Field(
            description="What a client is told by. sip: the Call-ID of SIP over UDP, so that the packets of one call"
            " go to one real server (kernel module ip_vs_pe_sip). Default: its address."
        ),
    ] = None
