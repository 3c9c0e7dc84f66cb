"""What agent and redirector say to each other: one JSON object a line over a Unix socket, whole states, not changes.

The agent listens, the redirector connects. Listening sockets travel as SCM_RIGHTS beside the line that names them:

    redirector -> agent   Hello    with the listening sockets it still has from an earlier agent
    agent -> redirector   Sockets  with the listening sockets it has not got yet
    agent -> redirector   State    everything it is to do; the last one counts
    agent -> redirector   Loads    what real servers report; the last one for an address and port counts
    redirector -> agent   Report   what it does and has done; about once a second when something changed

Both sides ignore fields they do not know, and skip a line whose kind they do not know.
"""

from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from lvs_dr.core.redirect import Algorithm

PROTOCOL: Final = 1
LONGEST_LINE: Final = 16 * 1024 * 1024
SOCKETS_A_LINE: Final = 64  # the kernel takes 253 (SCM_MAX_FD)
MAXIMUM_LISTENERS: Final = 512
MAXIMUM_TARGETS: Final = 1024

Text = Annotated[str, Meta(max_length=253)]
Address = Annotated[str, Meta(min_length=2, max_length=45)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]
Method = Annotated[str, Meta(pattern=r"^[A-Z-]{1,20}$")]


class TargetState(StrEnum):
    """Whether a real server gets new requests; only InService does, if its weight is not 0."""

    IN_SERVICE = "InService"
    QUIESCED = "Quiesced"
    FAILED = "Failed"


class Target(Struct, frozen=True, rename="camel", omit_defaults=True):
    """One real server. `weight` is the effective one, as the kernel would get it."""

    name: Annotated[str, Meta(min_length=1, max_length=253)]
    address: Address
    hostname: Text = ""
    weight: Annotated[int, Meta(ge=0, le=65535)] = 100
    state: TargetState = TargetState.IN_SERVICE


class Tls(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Certificate chain and key: PEM text, or files that are looked at for changes."""

    certificate: Annotated[str, Meta(max_length=262144)] = ""
    key: Annotated[str, Meta(max_length=65536)] = ""
    certificate_file: Annotated[str, Meta(max_length=4096)] = ""
    key_file: Annotated[str, Meta(max_length=4096)] = ""


class Token(Struct, frozen=True, rename="camel", omit_defaults=True):
    """How tokens in a Location are made: HMAC-SHA256 with `key` (base64); empty: the one told before under this id."""

    key_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    key: Annotated[str, Meta(max_length=1024)]
    lifetime_seconds: Annotated[int, Meta(ge=1, le=86400)] = 60


class Settings(Struct, frozen=True, rename="camel", omit_defaults=True):
    """How a listener redirects."""

    status_code: Literal[301, 302, 307, 308] = 307
    scheme: Literal["http", "https"] = "http"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port of the real servers; 0: the listener's.")] = 0
    algorithm: Algorithm = Algorithm.WLC
    methods: Annotated[tuple[Method, ...], Meta(max_length=32, description="Redirected methods; none: all.")] = ()
    host: Annotated[
        str,
        Meta(
            max_length=253,
            description="Template with {hostname}, {address}, {name}; empty: "
            "the hostname, or the address of a real server without one.",
        ),
    ] = ""
    cache_control: Annotated[str, Meta(pattern=r"^[\x20-\x7e]{0,200}$")] = ""
    keep_query: bool = True
    maximum_in_flight_per_server: Annotated[int, Meta(ge=0, le=1000000)] = 0
    retry_after_seconds: Annotated[int, Meta(ge=1, le=86400)] = 5
    discard_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 1024 * 1024
    discard_seconds: Seconds = 5.0
    header_bytes: Annotated[int, Meta(ge=1024, le=1048576)] = 16 * 1024
    header_seconds: Seconds = 10.0
    idle_seconds: Seconds = 60.0
    load_window_seconds: Seconds = 60.0
    load_stale_seconds: Seconds = 5.0
    token: Token | None = None


class SorryServer(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Where requests are sent when no real server can take them."""

    host: Annotated[str, Meta(min_length=1, max_length=253)]
    port: Port
    scheme: Literal["http", "https"] = "http"


class Listener(Struct, frozen=True, rename="camel", omit_defaults=True):
    """One VIP and port."""

    service: Annotated[str, Meta(min_length=1, max_length=512, description="namespace/name, for metrics and logs.")]
    address: Address
    port: Port
    settings: Settings = Settings()
    targets: Annotated[tuple[Target, ...], Meta(max_length=MAXIMUM_TARGETS)] = ()
    tls: Tls | None = None
    sorry_server: SorryServer | None = None

    @property
    def key(self) -> str:
        """Name the listening socket."""
        return socket_key(self.address, self.port)


class State(Struct, frozen=True, rename="camel", omit_defaults=True, tag_field="kind", tag="state"):
    """Everything the redirector is to do. `revision` comes back in its reports."""

    revision: Count
    listeners: Annotated[tuple[Listener, ...], Meta(max_length=MAXIMUM_LISTENERS)] = ()


class Sockets(Struct, frozen=True, rename="camel", tag_field="kind", tag="sockets"):
    """The listening sockets that come with this line, in order."""

    keys: Annotated[tuple[str, ...], Meta(max_length=SOCKETS_A_LINE)]


class Load(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a real server says about its port: `inbound_bytes` is a counter that only grows while it runs."""

    address: Address
    port: Port
    established: Count
    inbound_bytes: Count
    age_seconds: Annotated[float, Meta(ge=0)] = 0.0


class Loads(Struct, frozen=True, rename="camel", tag_field="kind", tag="loads"):
    """Reports of real servers."""

    loads: Annotated[tuple[Load, ...], Meta(max_length=65536)]


class Hello(Struct, frozen=True, rename="camel", omit_defaults=True, tag_field="kind", tag="hello"):
    """The first line of a redirector, and the sockets that it has; with more than fit a line, several."""

    protocol: Count
    version: Text = ""
    keys: Annotated[tuple[str, ...], Meta(max_length=SOCKETS_A_LINE)] = ()
    more: bool = False


class TargetCounts(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Redirects to one real server since the redirector began to serve it, and uploads it is thought to have now."""

    name: str
    redirects: Count
    in_flight: float


class ListenerReport(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What became of one listener. `problem`: why it does not work as it should; empty when it does."""

    key: str
    service: str
    connections: Count = 0
    targets: tuple[TargetCounts, ...] = ()
    refused: dict[str, int] = {}
    discarded_bytes: Count = 0
    problem: str = ""


class Report(Struct, frozen=True, rename="camel", omit_defaults=True, tag_field="kind", tag="report"):
    """What the redirector does. `revision`: the state it carries out, 0 before the first."""

    revision: Count
    listeners: tuple[ListenerReport, ...] = ()


class RefusedLine(ValueError):
    """A line that is no message, or too long."""


_encoder = msgspec.json.Encoder()
_to_redirector: msgspec.json.Decoder[State | Sockets | Loads] = msgspec.json.Decoder(State | Sockets | Loads)
_to_agent: msgspec.json.Decoder[Hello | Report] = msgspec.json.Decoder(Hello | Report)


def socket_key(address: str, port: int) -> str:
    """Name a listening socket: `192.0.2.1:80`, `[2001:db8::1]:80`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def line(message: State | Sockets | Loads | Hello | Report) -> bytes:
    """Encode a message. Raises RefusedLine if it is too long."""
    data = _encoder.encode(message) + b"\n"
    if len(data) > LONGEST_LINE:
        raise RefusedLine(f"a message of {len(data)} bytes is longer than {LONGEST_LINE}")
    return data


def for_redirector(data: bytes) -> State | Sockets | Loads:
    """Decode a line of the agent. Raises RefusedLine."""
    try:
        return _to_redirector.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RefusedLine(str(error)) from error


def for_agent(data: bytes) -> Hello | Report:
    """Decode a line of the redirector. Raises RefusedLine."""
    try:
        return _to_agent.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RefusedLine(str(error)) from error
