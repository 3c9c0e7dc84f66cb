"""Texts in health checks that go over a wire or into a command: what they may consist of, and what to say if not."""

from typing import Annotated

from pydantic import Field

from lvs_dr.api.models.rules import Matching, rule

BAD_PATH = "must be a path that begins with /, of printable ASCII characters without spaces, such as /healthz?full=1"
BAD_HOST = "must be a host name or an IPv4 address, with or without a port, such as www.example.com"
BAD_HEADER_NAME = "must be the name of a header: letters, digits, '-' and '_', such as X-Probe"
OWN_HEADER = "Host, Connection, Content-Length and Transfer-Encoding are the check's own: set host, or leave it out"
BAD_HEADER_VALUE = "must be printable ASCII characters on one line"
DUPLICATE_HEADER = "headers must name each header once"
BAD_STATUS = "must be a status from 100 to 599 or a range of them, lower first, such as 200 or 200-299"
HEAD_HAS_NO_BODY = "an answer to HEAD has no body: use method GET, or leave bodyContains out"
BAD_SERVER_NAME = "must be a DNS name, such as www.example.com"
BAD_CERTIFICATE = "must hold certificates in PEM form: -----BEGIN CERTIFICATE----- and so on"
BAD_HEX = "must be bytes in hexadecimal, two digits each, such as 0d0a"
ONE_PAYLOAD = "set one of send and sendHex, not both"
PAYLOAD_NEEDED = "needs something to send, because few services answer an empty datagram: set one of send and sendHex"
ONE_ANSWER = "set one of expect and expectHex, not both"
BAD_DNS_NAME = "must be a DNS name of letters, digits, '-' and '_', such as www.example.com, or . for the root"
BAD_SERVICE = "must be the full name of a gRPC service, such as package.Service"
BAD_SCRIPT = "must be the name of a file: letters, digits, '-', '_' and '.', no directory, such as check-ldap"
BAD_ARGUMENT = "must be printable ASCII characters on one line"

OWN_HEADERS = ("host", "connection", "content-length", "transfer-encoding")
_NOT_OURS = rule(f"!(self.lowerAscii() in {list(OWN_HEADERS)})", OWN_HEADER)

Path = Annotated[str, Matching("/[!-~]*", BAD_PATH), Field(min_length=1, max_length=1024)]
Host = Annotated[str, Matching("[A-Za-z0-9._-]+(:[0-9]+)?", BAD_HOST), Field(min_length=1, max_length=253)]
HeaderName = Annotated[str, Matching("[A-Za-z0-9_-]+", BAD_HEADER_NAME, _NOT_OURS), Field(min_length=1, max_length=64)]
HeaderValue = Annotated[str, Matching("[ -~]*", BAD_HEADER_VALUE), Field(min_length=0, max_length=1024)]
Status = Annotated[str, Matching("[1-5][0-9][0-9](-[1-5][0-9][0-9])?", BAD_STATUS), Field(min_length=3, max_length=7)]
ServerName = Annotated[
    str, Matching("[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", BAD_SERVER_NAME), Field(min_length=1, max_length=253)
]
Hex = Annotated[str, Matching("([0-9A-Fa-f][0-9A-Fa-f])+", BAD_HEX), Field(min_length=2, max_length=2048)]
DnsName = Annotated[
    str,
    Matching("[.]|[A-Za-z0-9_-]{1,63}([.][A-Za-z0-9_-]{1,63})*[.]?", BAD_DNS_NAME),
    Field(min_length=1, max_length=253),
]
ServiceName = Annotated[str, Matching("[A-Za-z0-9_.-]+", BAD_SERVICE), Field(min_length=1, max_length=256)]
ScriptName = Annotated[str, Matching("[A-Za-z0-9][A-Za-z0-9._-]*", BAD_SCRIPT), Field(min_length=1, max_length=63)]
Argument = Annotated[str, Matching("[ -~]*", BAD_ARGUMENT), Field(min_length=0, max_length=256)]

# Of the descriptions of ports.
PORT = "Port to ask, one for all ports of the service."
OWN_PORTS = " Default: each port of the service on its own (its targetPort where it has one)."
