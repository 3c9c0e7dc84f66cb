"""The kinds of health checks but HTTP: what is sent to a real server, and what counts as an answer."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from lvs_dr.api.models.check_fields import (
    ONE_ANSWER,
    ONE_PAYLOAD,
    OWN_PORTS,
    PAYLOAD_NEEDED,
    PORT,
    Argument,
    DnsName,
    Hex,
    ScriptName,
    ServiceName,
)
from lvs_dr.api.models.check_tls import Tls
from lvs_dr.api.models.rules import ApiModel, rule, validated
from lvs_dr.core.checks import MAXIMUM_ARGUMENTS, DnsProtocol, DnsType


class _Payload(ApiModel):
    """Something to send and something to hear."""

    send: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=1024,
            description="Text to send, as UTF-8; double quotes of YAML know \\r\\n. Default: none.",
        ),
    ] = None
    send_hex: Annotated[Hex | None, Field(description="Bytes to send, in hexadecimal. Default: none.")] = None
    expect: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=1024,
            description="Text that the first 4 KiB of the answer must contain. Default: none.",
        ),
    ] = None
    expect_hex: Annotated[
        Hex | None,
        Field(description="Bytes that the first 4 KiB of the answer must contain, in hexadecimal. Default: none."),
    ] = None

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if self.send is not None and self.send_hex is not None:
            raise ValueError(ONE_PAYLOAD)
        if self.expect is not None and self.expect_hex is not None:
            raise ValueError(ONE_ANSWER)
        return self


_PAYLOAD_RULES = (
    rule("!has(self.send) || !has(self.sendHex)", ONE_PAYLOAD, field_path=".sendHex"),
    rule("!has(self.expect) || !has(self.expectHex)", ONE_ANSWER, field_path=".expectHex"),
)


class TcpCheck(_Payload):
    """A TCP connection to the real server; if so set, with something said and something heard."""

    model_config = ConfigDict(json_schema_extra=validated(*_PAYLOAD_RULES))

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


class DnsCheck(ApiModel):
    """A question to a name server, which must answer NOERROR with a record of the type asked for."""

    name: Annotated[DnsName, Field(description="Name to ask for.")]
    type: Annotated[
        DnsType, Field(description="Record type: A, AAAA, CNAME, MX, NS, PTR, SOA, SRV or TXT. Default: A.")
    ] = DnsType.A
    expect: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=255,
            description="What one of the records must be: the address of A and AAAA, the text of TXT, else the name in"
            " it (mail exchange, target, primary server). Default: any record will do.",
        ),
    ] = None
    protocol: Annotated[DnsProtocol, Field(description="UDP or TCP. Default: UDP.")] = DnsProtocol.UDP
    port: Annotated[
        int | None,
        Field(ge=1, le=65535, description=PORT + " Required with anyPort and firewallMark." + OWN_PORTS),
    ] = None


class UdpCheck(_Payload):
    """A datagram, and an answer to it: silence is a failure, because a dead machine is silent too."""

    model_config = ConfigDict(
        json_schema_extra=validated(*_PAYLOAD_RULES, rule("has(self.send) || has(self.sendHex)", PAYLOAD_NEEDED))
    )

    port: Annotated[
        int | None,
        Field(
            ge=1,
            le=65535,
            description=PORT + " Required with anyPort and firewallMark, and for a service with TCP or SCTP ports."
            " Default: each port of the service on its own (its targetPort where it has one).",
        ),
    ] = None

    @model_validator(mode="after")
    def _sends_something(self) -> Self:
        if self.send is None and self.send_hex is None:
            raise ValueError(PAYLOAD_NEEDED)
        return self


class PingCheck(ApiModel):
    """An ICMP or ICMPv6 echo: tells that the machine is there, and nothing of its service."""


class GrpcCheck(ApiModel):
    """The standard gRPC health protocol (grpc.health.v1.Health/Check), which must answer SERVING."""

    port: Annotated[
        int | None,
        Field(ge=1, le=65535, description=PORT + " Required with anyPort and firewallMark." + OWN_PORTS),
    ] = None
    service: Annotated[
        ServiceName | None, Field(description="Service to ask for. Default: none, the server as a whole.")
    ] = None
    tls: Annotated[
        Tls | None,
        Field(description="Set: over TLS, {} with a verified certificate. Default: none, without encryption."),
    ] = None


class ExecCheck(ApiModel):
    """A script that the cluster's administrator has mounted into the agent: exit code 0 is well.

    No shell is involved. It gets the arguments and the variables LVS_ADDRESS and LVS_PORT, and nothing else.
    """

    name: Annotated[ScriptName, Field(description="File name of the script in the agent's --check-scripts directory.")]
    arguments: Annotated[
        tuple[Argument, ...],
        Field(max_length=MAXIMUM_ARGUMENTS, description="Arguments, at most 16, passed as they are. Default: none."),
    ] = ()
    port: Annotated[
        int | None,
        Field(ge=1, le=65535, description="LVS_PORT, one for all ports of the service." + OWN_PORTS),
    ] = None
