"""How directors find out whether a real server works."""

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, model_validator

from lvs_dr.api.models.checks import DnsCheck, ExecCheck, GrpcCheck, PingCheck, TcpCheck, UdpCheck
from lvs_dr.api.models.fields import Network
from lvs_dr.api.models.http_checks import HttpCheck, HttpsCheck
from lvs_dr.api.models.rules import ApiModel, rule, validated
from lvs_dr.core.objects import CheckPath

KINDS: Final = ("tcp", "http", "https", "dns", "udp", "ping", "grpc", "exec")
ONE_CHECK = (
    f"must set exactly one of {', '.join(KINDS)} (with the braces, such as tcp: {{}}: a bare tcp: is null and is"
    " dropped), or leave healthCheck out"
)
TIMEOUT_TOO_LONG = (
    "timeoutSeconds must not be greater than intervalSeconds, because a check ends before the next one begins:"
    " raise intervalSeconds or lower timeoutSeconds"
)
PATH_NEEDS_SOCKET = (
    "path VirtualAddress is for tcp, http, https, dns, udp and grpc: an ICMP echo is not balanced, and a script makes"
    " connections of its own; use one of these kinds, or path RealAddress"
)
FAST_TOO_SLOW = "fastIntervalSeconds must not be greater than intervalSeconds: lower it, or leave it out"

_SET = "[" + ", ".join(f"has(self.{kind})" for kind in KINDS) + "].filter(x, x).size()"


def wrong_number(count: int) -> str:
    """Return what to say when `count` kinds of check are set."""
    return f"{ONE_CHECK}; {count} are set"


class HealthCheck(ApiModel):
    """How directors find out whether a real server works. Every port is checked and taken out on its own.

    A real server is healthy when all its ports are. Exactly one kind of check is set.
    """

    model_config = ConfigDict(
        json_schema_extra=validated(
            rule(f"{_SET} == 1", ONE_CHECK, message_expression=f"'{ONE_CHECK}; %d are set'.format([{_SET}])"),
            rule(
                "self.timeoutSeconds <= self.intervalSeconds",
                TIMEOUT_TOO_LONG,
                field_path=".timeoutSeconds",
            ),
            rule(
                "!has(self.fastIntervalSeconds) || self.fastIntervalSeconds <= self.intervalSeconds",
                FAST_TOO_SLOW,
                field_path=".fastIntervalSeconds",
            ),
            rule(
                "!has(self.path) || self.path != 'VirtualAddress' || !(has(self.ping) || has(self.exec))",
                PATH_NEEDS_SOCKET,
                field_path=".path",
            ),
        )
    )

    tcp: Annotated[
        TcpCheck | None,
        Field(
            description="Connect by TCP to the service's port; the check succeeds"
            " when the connection is accepted and, where that is set, the expected answer comes. Without settings"
            " write tcp: {}."
        ),
    ] = None
    http: Annotated[
        HttpCheck | None,
        Field(description="Ask by HTTP; the check succeeds when the answer has an expected status and body."),
    ] = None
    https: Annotated[
        HttpsCheck | None,
        Field(description="Ask by HTTP over TLS; the check succeeds when the answer has an expected status and body."),
    ] = None
    dns: Annotated[
        DnsCheck | None,
        Field(description="Ask a name server; the check succeeds when the answer has an expected record."),
    ] = None
    udp: Annotated[
        UdpCheck | None,
        Field(description="Send a datagram; the check succeeds when an answer comes that has what is expected."),
    ] = None
    ping: Annotated[
        PingCheck | None,
        Field(description="Send an ICMP echo request; the check succeeds when it is answered. Write ping: {}."),
    ] = None
    grpc: Annotated[
        GrpcCheck | None,
        Field(description="Ask by the gRPC health protocol; the check succeeds when the answer is SERVING."),
    ] = None
    script: Annotated[
        ExecCheck | None,
        Field(
            alias="exec",
            description="Run a script that is mounted into the agents; the check succeeds when its exit code is 0.",
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
    jitter_percent: Annotated[
        int | None,
        Field(
            ge=1,
            le=50,
            description="Percent of intervalSeconds by which each start moves at random, earlier or later, so that"
            " directors do not ask in step. Default: 0.",
        ),
    ] = None
    fast_interval_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=3600,
            description="Interval in seconds while the verdict is in doubt: after the first failure of a healthy real"
            " server, and after the first success of a failed one. At most intervalSeconds. Default: intervalSeconds.",
        ),
    ] = None
    source_network: Annotated[
        Network | None,
        Field(
            description="Network (CIDR) that checks come from: each director uses its own address in it, for example"
            " where real servers let only one network ask. Default: as the director's routes have it."
        ),
    ] = None

    path: Annotated[
        CheckPath | None,
        Field(
            description="Which address is asked. VirtualAddress: the VIP, at this one real server, by a firewall mark"
            " (checkMarks of the DirectorGroup): what clients get is what is checked. RealAddress: the real server's"
            " own address; a real server that works there and not on the VIP is not found out. A RealServer with"
            " checkAddress is checked there. Default: VirtualAddress with forwardingMethod DirectRouting, except for"
            " ping and exec; else RealAddress."
        ),
    ] = None

    @model_validator(mode="after")
    def _one_check_that_fits(self) -> Self:
        kinds = (self.tcp, self.http, self.https, self.dns, self.udp, self.ping, self.grpc, self.script)
        count = sum(each is not None for each in kinds)
        if count != 1:
            raise ValueError(wrong_number(count))
        if self.timeout_seconds > self.interval_seconds:
            raise ValueError(TIMEOUT_TOO_LONG)
        if (self.fast_interval_seconds or 0) > self.interval_seconds:
            raise ValueError(FAST_TOO_SLOW)
        if self.path is CheckPath.VIRTUAL_ADDRESS and (self.ping is not None or self.script is not None):
            raise ValueError(PATH_NEEDS_SOCKET)
        return self
