"""Where new connections go while too few real servers are healthy."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from lvs_dr.api.models.fields import HostAddress, ObjectName
from lvs_dr.api.models.forwarding import Tunnel
from lvs_dr.api.models.rules import ApiModel, rule, validated
from lvs_dr.core.objects import ForwardingMethod

ONE_SORRY_SERVER = "must set exactly one of realServer and address"


class SorryServer(ApiModel):
    """A server that takes the place of the real servers below the quorum; exactly one of realServer and address."""

    model_config = ConfigDict(
        json_schema_extra=validated(rule("has(self.realServer) != has(self.address)", ONE_SORRY_SERVER))
    )

    real_server: Annotated[
        ObjectName | None,
        Field(
            description="Name of a RealServer of the same namespace, in state InService. On a node of this cluster"
            " the VIP is put on its lo beforehand. It is none of the service's real servers, even if the selector"
            " selects it. Default: none."
        ),
    ] = None
    address: Annotated[
        HostAddress | None,
        Field(
            description="Address of a machine that its owner sets up as forwardingMethod asks (VIP on lo and silent"
            " ARP, the end of the tunnel, or the route back). Default: none."
        ),
    ] = None
    port: Annotated[
        int | None,
        Field(
            ge=1,
            le=65535,
            description="Its port, with forwardingMethod Masquerade or Redirect alone. Default: the same as the real"
            " servers'.",
        ),
    ] = None
    forwarding_method: Annotated[
        ForwardingMethod | None,
        Field(description="How directors pass packets on to it. Default: as forwardingMethod of the service."),
    ] = None
    tunnel: Annotated[
        Tunnel | None,
        Field(description="Encapsulation, with forwardingMethod Tunnel alone. Default: as tunnel of the service."),
    ] = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if (self.real_server is None) == (self.address is None):
            raise ValueError(ONE_SORRY_SERVER)
        return self
