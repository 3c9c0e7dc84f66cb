"""VirtualService: a VIP with ports, balanced over real servers."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from lvs_dr.api.models.fields import HostAddress, ObjectName
from lvs_dr.api.models.rules import ApiModel, rule, validated
from lvs_dr.api.models.selector import NonEmptyLabelSelector
from lvs_dr.core.objects import OnFailure, Protocol

KIND_DESCRIPTION = (
    "A VirtualService is an address (VIP) with ports that clients connect to. Directors balance the connections over"
    " the RealServers it selects, by LVS direct routing: requests cross the director, answers go straight from the"
    " real server to the client. Each real server must listen on the VIP (or on all addresses) at the same port; the"
    " VIP on its loopback and its ARP settings are set up for it when it is a node of this cluster."
    " Wait for it with: kubectl wait --for=condition=Ready virtualservice/NAME."
)

Scheduler = Literal[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"
]  # fmt: skip

DUPLICATE_PORT = "each port may be listed once per protocol (a port without protocol is TCP)"
DUPLICATE_NAME = "port names must differ from each other"
NO_CHECK = (
    "needs exactly one check: write tcp: {} (with the braces: a bare tcp: is null and is dropped),"
    " or leave healthCheck out"
)
TCP_ONLY = (
    "a TCP check works on TCP ports only: put UDP and SCTP ports into a VirtualService of their own without"
    " healthCheck (its real servers then count as healthy)"
)
TIMEOUT_TOO_LONG = (
    "timeoutSeconds must not be greater than intervalSeconds, because a check ends before the next one begins:"
    " raise intervalSeconds or lower timeoutSeconds"
)
BAD_PORT_NAME = "must be lower case letters, digits and '-', with a letter or digit at both ends, such as https"

_SAME_PROTOCOL = (
    "(has(a.protocol) ? (has(b.protocol) ? a.protocol == b.protocol : a.protocol == 'TCP')"
    " : (!has(b.protocol) || b.protocol == 'TCP'))"
)


class ServicePort(ApiModel):
    """A port that clients connect to; real servers listen on the same one, direct routing cannot change it."""

    port: Annotated[
        int,
        Field(ge=1, le=65535, description="Port number, 1 to 65535: the same on the VIP and on every real server."),
    ]
    # No default in the schema: one inside a list item makes every client-side apply report a change.
    protocol: Annotated[Protocol | None, Field(description="Transport protocol: TCP, UDP or SCTP. Default: TCP.")] = (
        None
    )
    name: Annotated[
        str | None,
        Field(
            max_length=63,
            description="Name of the port for people, different from the others', for example https. Default: none.",
            json_schema_extra=validated(rule("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", BAD_PORT_NAME)),
        ),
    ] = None

    @property
    def effective_protocol(self) -> Protocol:
        """The protocol, with the default filled in."""
        return self.protocol or Protocol.TCP


class TcpCheck(ApiModel):
    """A TCP connection to the real server's own address and the service's port; it has no settings: tcp: {}."""


class HealthCheck(ApiModel):
    """How directors find out whether a real server works. Every port is checked and taken out on its own.

    A real server is healthy when all its ports are. Exactly one kind of check is set.
    """

    model_config = ConfigDict(
        json_schema_extra=validated(
            rule("has(self.tcp)", NO_CHECK),
            rule(
                "self.timeoutSeconds <= self.intervalSeconds",
                TIMEOUT_TOO_LONG,
                field_path=".timeoutSeconds",
            ),
        )
    )

    tcp: Annotated[
        TcpCheck | None,
        Field(
            description="Connect by TCP to the real server's own address and the service's port; the check succeeds"
            " when the connection is accepted. It has no settings: write tcp: {}."
        ),
    ] = None
    interval_seconds: Annotated[
        int,
        Field(ge=1, le=3600, description="Seconds from the start of one check to the start of the next. Default: 2."),
    ] = 2
    timeout_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=3600,
            description="Seconds after which a check that has no answer counts as failed; at most intervalSeconds."
            " Default: 1.",
        ),
    ] = 1
    rise: Annotated[
        int,
        Field(ge=1, le=100, description="Checks in a row that must succeed to bring a real server back. Default: 2."),
    ] = 2
    fall: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="Checks in a row that must fail to take a real server out, so it gets no new connections after"
            " fall x intervalSeconds + timeoutSeconds. Default: 3.",
        ),
    ] = 3

    @model_validator(mode="after")
    def _one_check_that_fits(self) -> Self:
        if self.tcp is None:
            raise ValueError(NO_CHECK)
        if self.timeout_seconds > self.interval_seconds:
            raise ValueError(TIMEOUT_TOO_LONG)
        return self


class RealServerChoice(ApiModel):
    """Which real servers serve."""

    selector: Annotated[
        NonEmptyLabelSelector,
        Field(
            description="Selects RealServers of the same namespace by their labels, for example"
            " {matchLabels: {pool: web}}. Must name at least one label."
        ),
    ]


class VirtualServiceSpec(ApiModel):
    """What is served: the VIP, its ports, and how connections are spread over which real servers."""

    model_config = ConfigDict(
        json_schema_extra=validated(
            rule(
                "!has(self.healthCheck) || !has(self.healthCheck.tcp)"
                " || self.ports.all(p, !has(p.protocol) || p.protocol == 'TCP')",
                TCP_ONLY,
                field_path=".healthCheck.tcp",
            )
        )
    )

    director_group: Annotated[
        ObjectName,
        Field(
            description="Name of the DirectorGroup that serves the VIP. Default: default, which needs no DirectorGroup"
            " object: without one, its directors are the nodes that have the label lvs-operator.io/director."
        ),
    ] = "default"
    address: Annotated[
        HostAddress,
        Field(
            description="The virtual IP address (VIP), IPv4 or IPv6, that clients connect to: a free address in the"
            " subnet of the directors' interface, which no machine and no DHCP range has. For dual stack make two"
            " VirtualServices. After a change the old address is given up before the new one is announced."
        ),
    ]
    ports: Annotated[
        tuple[ServicePort, ...],
        Field(
            min_length=1,
            max_length=32,
            description="Ports of the VIP, 1 to 32, each number once per protocol.",
            json_schema_extra=validated(
                rule(f"self.all(a, self.exists_one(b, a.port == b.port && {_SAME_PROTOCOL}))", DUPLICATE_PORT),
                rule(
                    "self.all(a, !has(a.name) || self.exists_one(b, has(b.name) && a.name == b.name))", DUPLICATE_NAME
                ),
            ),
        ),
    ]
    scheduler: Annotated[
        Scheduler,
        Field(
            description="How a new connection finds its real server (IPVS scheduler). rr: in turn. wrr: in turn, by"
            " weight. lc: fewest connections. wlc: fewest connections for its weight. sed: shortest expected delay."
            " nq: an idle one, else as sed. fo: the highest weight, others when it fails. ovf: the highest weight"
            " until as many connections as its weight, then the next. sh: by the client's address. mh: by the"
            " client's address, disturbing few when real servers change (Maglev). dh, lblc, lblcr: by destination"
            " address, for caches. twos: the better of two drawn at random. The directors' kernel must have it."
            " Default: wlc."
        ),
    ] = "wlc"
    real_servers: Annotated[RealServerChoice, Field(description="The real servers that serve this VIP.")]
    health_check: Annotated[
        HealthCheck | None,
        Field(
            description="How each real server is checked, for example {tcp: {}}. Without it real servers are not"
            " checked and count as healthy. Default: none."
        ),
    ] = None
    on_failure: Annotated[
        OnFailure,
        Field(
            description="What happens to a real server that fails its check. Remove: it is taken out of IPVS and its"
            " connections break. Quiesce: it gets weight 0, so no new connections, and those it has"
            " live on. Default: Remove."
        ),
    ] = OnFailure.REMOVE

    @model_validator(mode="after")
    def _ports_differ_and_can_be_checked(self) -> Self:
        if len({(port.port, port.effective_protocol) for port in self.ports}) < len(self.ports):
            raise ValueError(DUPLICATE_PORT)
        names = [port.name for port in self.ports if port.name is not None]
        if len(set(names)) < len(names):
            raise ValueError(DUPLICATE_NAME)
        if self.health_check and any(port.effective_protocol is not Protocol.TCP for port in self.ports):
            raise ValueError(TCP_ONLY)
        return self
