"""How a director passes packets on: tunnels, limits, and what one service changes about one of its real servers."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from lvs_dr.api.models.fields import ObjectName
from lvs_dr.api.models.rules import ApiModel, rule, validated
from lvs_dr.core.objects import ForwardingMethod, TunnelChecksum, TunnelType

TUNNEL_PORT = "type GUE needs port (UDP, usually 6080), and IPIP and GRE have none: set port for GUE, else leave it out"
TUNNEL_CHECKSUM = (
    "IPIP has no checksum, and RemoteChecksum is for GUE alone: use Checksum with GRE, or either of them with GUE"
)
LOWER_ABOVE_UPPER = (
    "lower must not be greater than upper: a real server that is full at upper connections gets new ones again below"
    " lower"
)

MAXIMUM_OVERRIDES = 256


class Tunnel(ApiModel):
    """How packets to a real server are encapsulated. On a node of this cluster the agent sets up its end."""

    model_config = ConfigDict(
        json_schema_extra=validated(
            rule("(self.type == 'GUE') == has(self.port)", TUNNEL_PORT),
            rule(
                "!has(self.checksum) || self.checksum == 'None' || self.type == 'GUE'"
                " || (self.type == 'GRE' && self.checksum == 'Checksum')",
                TUNNEL_CHECKSUM,
                field_path=".checksum",
            ),
        )
    )

    type: Annotated[
        TunnelType,
        Field(
            description="Encapsulation. IPIP: 20 bytes on each packet (40 over IPv6). GRE: 24 bytes (44), for networks"
            " that pass GRE but not IPIP. GUE: 32 bytes (52), in UDP, which switches spread over links by its ports."
        ),
    ]
    port: Annotated[
        int | None,
        Field(ge=1, le=65535, description="UDP port of a GUE tunnel on the real server. Default: none."),
    ] = None
    checksum: Annotated[
        TunnelChecksum | None,
        Field(
            description="Checksum of the outer header. None: none. Checksum: GRE's or UDP's own. RemoteChecksum: GUE's"
            " remote checksum offload, for cards that compute only an outer one. Default: None."
        ),
    ] = None

    @model_validator(mode="after")
    def _fits_the_type(self) -> Self:
        if (self.type is TunnelType.GUE) != (self.port is not None):
            raise ValueError(TUNNEL_PORT)
        checksum = self.checksum or TunnelChecksum.NONE
        if not (
            checksum is TunnelChecksum.NONE
            or self.type is TunnelType.GUE
            or (self.type is TunnelType.GRE and checksum is TunnelChecksum.CHECKSUM)
        ):
            raise ValueError(TUNNEL_CHECKSUM)
        return self


class ConnectionLimits(ApiModel):
    """When a real server counts as full. Active and inactive connections count; those it has live on."""

    model_config = ConfigDict(
        json_schema_extra=validated(
            rule("!has(self.lower) || self.lower <= self.upper", LOWER_ABOVE_UPPER, field_path=".lower")
        )
    )

    upper: Annotated[
        int,
        Field(
            ge=0,
            le=4294967295,
            description="Connections from which on it gets no new ones, per port of the service and director. 0: no"
            " limit.",
        ),
    ]
    lower: Annotated[
        int | None,
        Field(
            ge=0,
            le=4294967295,
            description="Connections below which a full one gets new ones again; at most upper. Default: three quarters"
            " of upper.",
        ),
    ] = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if (self.lower or 0) > self.upper:
            raise ValueError(LOWER_ABOVE_UPPER)
        return self


class RealServerOverride(ApiModel):
    """What this service changes about one of its real servers."""

    name: Annotated[ObjectName, Field(description="Name of the RealServer, one that the selector selects.")]
    weight: Annotated[
        int | None,
        Field(ge=0, le=65535, description="Weight instead of the RealServer's. Default: as there."),
    ] = None
    forwarding_method: Annotated[
        ForwardingMethod | None,
        Field(
            description="Method instead of the service's: DirectRouting, Tunnel or Masquerade; Redirect is a whole"
            " service's. Default: as the service."
        ),
    ] = None
    tunnel: Annotated[
        Tunnel | None,
        Field(description="Encapsulation instead of the service's, with method Tunnel. Default: as the service."),
    ] = None
    connection_limits: Annotated[
        ConnectionLimits | None,
        Field(description="Limits instead of the RealServer's; upper: 0 means none. Default: as there."),
    ] = None
