"""What holds when few real servers are healthy."""

from typing import Annotated

from pydantic import Field

from lvs_dr.api.models.rules import ApiModel


class Quorum(ApiModel):
    """How many real servers must be healthy for the service to be Ready."""

    minimum_healthy: Annotated[
        int,
        Field(
            ge=1,
            le=1024,
            description="With fewer healthy real servers Ready is False, reason QuorumLost. Those that are healthy go"
            " on serving. Default: 1.",
        ),
    ] = 1
    hysteresis: Annotated[
        int,
        Field(
            ge=0,
            le=1024,
            description="After the quorum was lost, so many more than minimumHealthy must be healthy (but not more than"
            " are selected) before Ready is True again. Default: 0.",
        ),
    ] = 0
