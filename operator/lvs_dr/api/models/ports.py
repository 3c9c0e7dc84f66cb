"""The ports of a VirtualService."""

from typing import Annotated

from pydantic import Field

from lvs_dr.api.models.rules import ApiModel, rule, validated
from lvs_dr.core.objects import Protocol

DUPLICATE_PORT = "each port may be listed once per protocol (a port without protocol is TCP)"
DUPLICATE_NAME = "port names must differ from each other"
BAD_PORT_NAME = "must be lower case letters, digits and '-', with a letter or digit at both ends, such as https"

_SAME_PROTOCOL = (
    "(has(a.protocol) ? (has(b.protocol) ? a.protocol == b.protocol : a.protocol == 'TCP')"
    " : (!has(b.protocol) || b.protocol == 'TCP'))"
)


class ServicePort(ApiModel):
    """A port that clients connect to; real servers listen on the same one, direct routing cannot change it."""

    port: Annotated[
        int,
        Field(
            ge=1,
            le=65535,
            description="Port number, 1 to 65535: the same on the VIP and, without targetPort, on every real server.",
        ),
    ]
    # No default in the schema: one inside a list item makes every client-side apply report a change.
    protocol: Annotated[Protocol | None, Field(description="Transport protocol: TCP, UDP or SCTP. Default: TCP.")] = (
        None
    )
    target_port: Annotated[
        int | None,
        Field(
            ge=1,
            le=65535,
            description="Port of the real servers where it differs, with forwardingMethod Masquerade alone. Default:"
            " the same as port.",
        ),
    ] = None
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


ServicePorts = Annotated[
    tuple[ServicePort, ...],
    Field(
        min_length=1,
        max_length=32,
        description="Ports of the VIP, 1 to 32, each number once per protocol. Exactly one of ports, anyPort and"
        " firewallMark is set.",
        json_schema_extra=validated(
            rule(f"self.all(a, self.exists_one(b, a.port == b.port && {_SAME_PROTOCOL}))", DUPLICATE_PORT),
            rule("self.all(a, !has(a.name) || self.exists_one(b, has(b.name) && a.name == b.name))", DUPLICATE_NAME),
        ),
    ),
]
