"""The kinds of health checks: what is sent to a real server, and what counts as an answer."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from lvs_dr.api.models.check_fields import (
    BAD_CERTIFICATE,
    BAD_STATUS,
    DUPLICATE_HEADER,
    HEAD_HAS_NO_BODY,
    ONE_ANSWER,
    ONE_PAYLOAD,
    OWN_HEADER,
    OWN_HEADERS,
    PAYLOAD_NEEDED,
    Argument,
    DnsName,
    HeaderName,
    HeaderValue,
    Hex,
    Host,
    Path,
    ScriptName,
    ServerName,
    ServiceName,
    Status,
)
from lvs_dr.api.models.fields import ObjectName
from lvs_dr.api.models.rules import ApiModel, rule, validated
from lvs_dr.core.checks import (
    MAXIMUM_ARGUMENTS,
    MAXIMUM_HEADERS,
    MAXIMUM_STATUSES,
    DnsProtocol,
    DnsType,
    HttpMethod,
)

_PORT = "Port to ask, one for all ports of the service."
_OWN_PORTS = " Default: each port of the service on its own (its targetPort where it has one)."


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


class Header(ApiModel):
    """One header of a request."""

    name: Annotated[
        HeaderName,
        Field(
            description="Name of the header. Host, Connection, Content-Length and Transfer-Encoding are the check's"
            " own.",
        ),
    ]
    value: Annotated[HeaderValue, Field(description="Value of the header.")]

    @model_validator(mode="after")
    def _not_our_own(self) -> Self:
        if self.name.lower() in OWN_HEADERS:
            raise ValueError(OWN_HEADER)
        return self


class Tls(ApiModel):
    """How the check knows the real server."""

    server_name: Annotated[
        ServerName | None,
        Field(
            description="Name for SNI, and which the certificate must have. Default: host where that is set, else the"
            " real server's address."
        ),
    ] = None
    verify: Annotated[
        bool,
        Field(
            description="True: the certificate must be valid, issued by a trusted authority and for that name. False:"
            " any will do, so anybody on the way can answer for the real server. Default: True."
        ),
    ] = True
    ca_bundle: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=16384,
            description="Certificates of the authorities to trust, in PEM form, for certificates of your own. Default:"
            " those of the agent's image.",
            json_schema_extra=validated(rule("self.contains('-----BEGIN CERTIFICATE-----')", BAD_CERTIFICATE)),
        ),
    ] = None

    secret_name: Annotated[
        ObjectName | None,
        Field(
            description="Name of a Secret in the operator's namespace that spec.secrets of the DirectorGroup names. Its"
            " tls.crt and tls.key are the certificate that the check presents (a client certificate); its ca.crt"
            " are authorities to trust, beside those of caBundle. It has the one, the other or both; a change counts"
            " within a minute. Default: none."
        ),
    ] = None

    @model_validator(mode="after")
    def _holds_certificates(self) -> Self:
        if self.ca_bundle is not None and "-----BEGIN CERTIFICATE-----" not in self.ca_bundle:
            raise ValueError(BAD_CERTIFICATE)
        return self


class HttpCheck(ApiModel):
    """An HTTP/1.1 request. Redirects are not followed: the real server that is asked must answer itself."""

    model_config = ConfigDict(
        json_schema_extra=validated(
            rule("!has(self.bodyContains) || self.method != 'HEAD'", HEAD_HAS_NO_BODY, field_path=".bodyContains")
        )
    )

    port: Annotated[
        int | None,
        Field(ge=1, le=65535, description=_PORT + " Required with anyPort and firewallMark." + _OWN_PORTS),
    ] = None
    method: Annotated[HttpMethod, Field(description="GET, HEAD or OPTIONS. Default: GET.")] = HttpMethod.GET
    path: Annotated[Path, Field(description="Path, with a query where you want one. Default: /.")] = "/"
    host: Annotated[
        Host | None,
        Field(description="Host header: the name of the site. Default: the real server's address and the port."),
    ] = None
    headers: Annotated[
        tuple[Header, ...],
        Field(
            max_length=MAXIMUM_HEADERS,
            description="More headers of the request, at most 16. Anybody who may read the VirtualService reads them:"
            " no secrets. Default: none.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    expected_statuses: Annotated[
        tuple[Status, ...],
        Field(
            max_length=MAXIMUM_STATUSES,
            description="Statuses that are well: numbers or ranges such as 200-299, at most 16. Default: [200-299].",
            json_schema_extra=validated(
                rule("self.all(s, s.size() < 7 || s.substring(0, 3) <= s.substring(4, 7))", BAD_STATUS),
                x_kubernetes_list_type="set",
            ),
        ),
    ] = ()
    body_contains: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=256,
            description="Text that the first 64 KiB of the body must contain, as UTF-8. Default: any body will do.",
        ),
    ] = None

    @model_validator(mode="after")
    def _lists_make_sense(self) -> Self:
        if len({each.name for each in self.headers}) < len(self.headers):
            raise ValueError(DUPLICATE_HEADER)
        if any(low > high for low, dash, high in (each.partition("-") for each in self.expected_statuses) if dash):
            raise ValueError(BAD_STATUS)
        if self.body_contains is not None and self.method is HttpMethod.HEAD:
            raise ValueError(HEAD_HAS_NO_BODY)
        return self


class HttpsCheck(HttpCheck):
    """An HTTP/1.1 request over TLS. The certificate is verified unless tls.verify says otherwise."""

    tls: Annotated[Tls | None, Field(description="How the check knows the real server. Default: {verify: true}.")] = (
        None
    )


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
        Field(ge=1, le=65535, description=_PORT + " Required with anyPort and firewallMark." + _OWN_PORTS),
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
            description=_PORT + " Required with anyPort and firewallMark, and for a service with TCP or SCTP ports."
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
        Field(ge=1, le=65535, description=_PORT + " Required with anyPort and firewallMark." + _OWN_PORTS),
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
        Field(ge=1, le=65535, description="LVS_PORT, one for all ports of the service." + _OWN_PORTS),
    ] = None
