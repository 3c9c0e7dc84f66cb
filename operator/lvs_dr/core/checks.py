"""The compiled health check: what the directors ask a real server, how often, and what counts as an answer.

Defaults here are those of the API, and are left out of the compiled object; to change one is to change what objects
that are already stored mean.
"""

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct, field

MAXIMUM_HEADERS: Final = 16
MAXIMUM_STATUSES: Final = 16
MAXIMUM_ARGUMENTS: Final = 16
MAXIMUM_PAYLOAD: Final = 8192  # hexadecimal digits

CheckPort = Annotated[int, Meta(ge=0, le=65535, description="Port to ask; 0: the service's own on the real server.")]
Payload = Annotated[str, Meta(max_length=MAXIMUM_PAYLOAD, description="Bytes to send, in hexadecimal; empty: none.")]
Expected = Annotated[
    str, Meta(max_length=MAXIMUM_PAYLOAD, description="Bytes the answer must contain, in hexadecimal; empty: any.")
]


class HttpMethod(StrEnum):
    """What an HTTP check asks for; methods without effect on the server only."""

    GET = "GET"
    HEAD = "HEAD"
    OPTIONS = "OPTIONS"


class DnsType(StrEnum):
    """Record types that a DNS check can ask for."""

    A = "A"
    AAAA = "AAAA"
    CNAME = "CNAME"
    MX = "MX"
    NS = "NS"
    PTR = "PTR"
    SOA = "SOA"
    SRV = "SRV"
    TXT = "TXT"


class DnsProtocol(StrEnum):
    """Transport of a DNS check."""

    UDP = "UDP"
    TCP = "TCP"


class TlsSettings(Struct, frozen=True, rename="camel", omit_defaults=True):
    """How a check over TLS knows the real server."""

    server_name: Annotated[
        str, Meta(max_length=253, description="Name for SNI and in the certificate; empty: the host or address asked.")
    ] = ""
    verify: Annotated[bool, Meta(description="The certificate must be valid, and for that name.")] = True
    ca_bundle: Annotated[
        str, Meta(max_length=16384, description="PEM certificates to trust; empty: those of the agent's image.")
    ] = ""
    secret: Annotated[
        str,
        Meta(
            max_length=253,
            description="Secret of the operator's namespace with the check's own certificate, authorities, or both; "
            "empty: none.",
        ),
    ] = ""


class TcpCheck(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A TCP connect to the destination's address and port; if so set, with something said and something heard."""

    port: CheckPort = 0
    send: Payload = ""
    expect: Expected = ""


class HttpHeader(Struct, frozen=True):
    """One header of a request."""

    name: Annotated[str, Meta(max_length=64, description="Name of the header.")]
    value: Annotated[str, Meta(max_length=1024, description="Value of the header.")]


class HttpCheck(Struct, frozen=True, rename="camel", omit_defaults=True):
    """An HTTP request; over TLS where `tls` is set."""

    port: CheckPort = 0
    method: Annotated[HttpMethod, Meta(description="GET, HEAD or OPTIONS.")] = HttpMethod.GET
    path: Annotated[str, Meta(max_length=1024, description="Path and query.")] = "/"
    host: Annotated[str, Meta(max_length=253, description="Host header; empty: address and port.")] = ""
    headers: Annotated[
        tuple[HttpHeader, ...], Meta(max_length=MAXIMUM_HEADERS, description="More headers, in this order.")
    ] = ()
    expected_statuses: Annotated[
        tuple[Annotated[str, Meta(max_length=7)], ...],
        Meta(max_length=MAXIMUM_STATUSES, description="Statuses that are well, such as 200 or 200-299."),
    ] = ("200-299",)
    body_contains: Annotated[
        str, Meta(max_length=256, description="What the first 64 KiB of the body must contain; empty: anything.")
    ] = ""
    tls: Annotated[TlsSettings | None, Meta(description="Set: over TLS.")] = None


class DnsCheck(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A question to a name server."""

    name: Annotated[str, Meta(max_length=253, description="Name to ask for.")] = "."
    type: Annotated[DnsType, Meta(description="Record type to ask for.")] = DnsType.A
    expect: Annotated[
        str, Meta(max_length=255, description="What one of the records must be; empty: any record will do.")
    ] = ""
    protocol: Annotated[DnsProtocol, Meta(description="Transport: UDP or TCP.")] = DnsProtocol.UDP
    port: CheckPort = 0


class UdpCheck(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A datagram, and an answer to it."""

    port: CheckPort = 0
    send: Payload = ""
    expect: Expected = ""


class PingCheck(Struct, frozen=True, rename="camel", omit_defaults=True):
    """An ICMP echo."""


class GrpcCheck(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The standard gRPC health protocol (grpc.health.v1.Health/Check)."""

    port: CheckPort = 0
    service: Annotated[str, Meta(max_length=256, description="Service to ask for; empty: the whole server.")] = ""
    tls: Annotated[TlsSettings | None, Meta(description="Set: over TLS.")] = None


class ExecCheck(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A script in the agent's directory of check scripts."""

    name: Annotated[str, Meta(max_length=63, description="File name of the script.")] = ""
    arguments: Annotated[
        tuple[Annotated[str, Meta(max_length=256)], ...],
        Meta(max_length=MAXIMUM_ARGUMENTS, description="Arguments, passed as they are: no shell reads them."),
    ] = ()
    port: CheckPort = 0


Probe = TcpCheck | HttpCheck | DnsCheck | UdpCheck | PingCheck | GrpcCheck | ExecCheck


class TableHealthCheck(Struct, frozen=True, rename="camel", omit_defaults=True, cache_hash=True):
    """How the directors check each port of each destination: one kind, and when."""

    tcp: Annotated[TcpCheck | None, Meta(description="Connect by TCP.")] = None
    interval_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="Seconds from the start of one check to the next; absent: 2.")
    ] = 2
    timeout_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="Seconds after which a check counts as failed; absent: 1.")
    ] = 1
    rise: Annotated[
        int, Meta(ge=1, le=100, description="Successes in a row that bring a failed destination back; absent: 2.")
    ] = 2
    fall: Annotated[
        int, Meta(ge=1, le=100, description="Failures in a row that take a destination out; absent: 3.")
    ] = 3
    http: Annotated[HttpCheck | None, Meta(description="Ask by HTTP, or HTTPS where it has tls.")] = None
    dns: Annotated[DnsCheck | None, Meta(description="Ask a name server.")] = None
    udp: Annotated[UdpCheck | None, Meta(description="Send a datagram and wait for an answer.")] = None
    ping: Annotated[PingCheck | None, Meta(description="Send an ICMP echo request.")] = None
    grpc: Annotated[GrpcCheck | None, Meta(description="Ask by the gRPC health protocol.")] = None
    script: Annotated[ExecCheck | None, Meta(description="Run a script.")] = field(default=None, name="exec")
    jitter_percent: Annotated[
        int, Meta(ge=0, le=50, description="Percent of the interval by which each start moves at random.")
    ] = 0
    fast_interval_seconds: Annotated[
        int, Meta(ge=0, le=3600, description="Interval while the verdict is in doubt; 0: the same.")
    ] = 0
    source_network: Annotated[
        str, Meta(max_length=49, description="The director's address in this network is the source; empty: any.")
    ] = ""

    @property
    def probe(self) -> Probe | None:
        """The kind of check that is set; None: one that this version does not know."""
        kinds = (self.tcp, self.http, self.dns, self.udp, self.ping, self.grpc, self.script)
        return next((each for each in kinds if each is not None), None)

    @property
    def port(self) -> int:
        """The one port that is asked, 0: each of the service's own."""
        return 0 if isinstance(self.probe, PingCheck | None) else self.probe.port

    @property
    def secret(self) -> str:
        """Name of the Secret that the check needs; "" for none."""
        tls = self.probe.tls if isinstance(self.probe, HttpCheck | GrpcCheck) else None
        return tls.secret if tls is not None else ""

    @property
    def is_plain(self) -> bool:
        """Whether agents of every version know the check: a TCP connect and when."""
        plain = self.tcp == TcpCheck(port=self.port)
        return plain and not (self.jitter_percent or self.fast_interval_seconds or self.source_network)

    @property
    def can_ask_the_vip(self) -> bool:
        """Whether a check of this kind can be made through the VIP: by a TCP or UDP socket of the agent's own."""
        return self.ping is None and self.script is None

    def port_for(self, own: int) -> int | None:
        """Return the port to ask where the service's own on the real server is `own` (0: it has none).

        0: the check knows no ports. None: there is nothing that could be asked.
        """
        probe = self.probe
        if isinstance(probe, PingCheck):
            return 0
        found = self.port or own
        return found if found or isinstance(probe, ExecCheck) else None
