"""How directors find out whether a real server works."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from lvs_dr.api.models.rules import ApiModel, rule, validated

NO_CHECK = (
    "needs exactly one check: write tcp: {} (with the braces: a bare tcp: is null and is dropped),"
    " or leave healthCheck out"
)
TIMEOUT_TOO_LONG = (
    "timeoutSeconds must not be greater than intervalSeconds, because a check ends before the next one begins:"
    " raise intervalSeconds or lower timeoutSeconds"
)


class TcpCheck(ApiModel):
    """A TCP connection to the real server's own address."""

    port: Annotated[
        int | None,
        Field(
            ge=1,
            le=65535,
            description="Port to connect to, one for all ports of the service. Required with anyPort and firewallMark,"
            " and for a service with UDP or SCTP ports. Default: each port of the service on its own (its targetPort"
            " where it has one).",
        ),
    ] = None


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
            " when the connection is accepted. Without settings write tcp: {}."
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
