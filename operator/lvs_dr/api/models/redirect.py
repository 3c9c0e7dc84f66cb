"""How requests are redirected to real servers: forwardingMethod Redirect."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lvs_dr.api.models.fields import ObjectName
from lvs_dr.api.models.rules import ApiModel, Matching, rule, validated
from lvs_dr.core.redirect import NEVER_REDIRECTED, Algorithm

BAD_HOST = (
    "must be Hostname, Address, or a template with {hostname}, {address} or {name}, such as {name}.up.example.org:"
    " without one of them all real servers would have the same name"
)
BAD_METHOD = (
    "must be an HTTP method in capital letters, such as PUT, and not CONNECT or TRACE, which are never redirected"
)
BAD_CACHE_CONTROL = "must be one line of plain ASCII, such as no-store"
BAD_KEY_ID = "must be letters, digits, '_' and '-', at most 32: the key in the Secret that signs"

_PLAIN = "[A-Za-z0-9_.-]"
_PLACES = "[{](hostname|address|name)[}]"
_HOST = f"Hostname|Address|({_PLAIN}|{_PLACES})*{_PLACES}({_PLAIN}|{_PLACES})*"
_METHOD = re.compile("[A-Z-]{1,20}")


def _host(text: str) -> str:
    known = re.compile(_PLACES)
    if text not in ("Hostname", "Address") and not (
        known.search(text) and re.fullmatch(f"{_PLAIN}*", known.sub("", text))
    ):
        raise ValueError(BAD_HOST)
    return text


def _method(text: str) -> str:
    if _METHOD.fullmatch(text) is None or text in NEVER_REDIRECTED:
        raise ValueError(BAD_METHOD)
    return text


Host = Annotated[
    str,
    Field(min_length=1, max_length=253, json_schema_extra=validated(rule(f"self.matches('^({_HOST})$')", BAD_HOST))),
    AfterValidator(_host),
]
Method = Annotated[
    str,
    Field(
        min_length=1,
        max_length=20,
        json_schema_extra=validated(rule("self.matches('^[A-Z-]+$') && !(self in ['CONNECT', 'TRACE'])", BAD_METHOD)),
    ),
    AfterValidator(_method),
]


class RedirectTls(ApiModel):
    """The VIP speaks HTTPS."""

    secret_name: Annotated[
        ObjectName,
        Field(
            description="Secret of type kubernetes.io/tls (tls.crt, tls.key) in the operator's namespace, which the"
            " DirectorGroup names in spec.secrets. A changed Secret is taken over while it serves."
        ),
    ]


class RedirectToken(ApiModel):
    """The Location carries a signature by which a real server knows redirected uploads."""

    secret_name: Annotated[
        ObjectName,
        Field(
            description="Secret in the operator's namespace, which the DirectorGroup names in spec.secrets: each entry"
            " is a key (base64 of 32 random bytes, as text) under its key id."
        ),
    ]
    key_id: Annotated[
        str,
        Field(min_length=1, max_length=32, description="Entry of the Secret that signs."),
        Matching("[A-Za-z0-9_-]+", BAD_KEY_ID),
    ]
    lifetime_seconds: Annotated[
        int | None,
        Field(ge=1, le=86400, description="Seconds for which a signature holds. Default: 60."),
    ] = None


# No defaults in the schema: server-side apply of {} over an object that has one filled in makes null of it.
class Redirect(ApiModel):
    """How requests on the VIP are answered with the address of one real server."""

    status_code: Annotated[
        Literal[301, 302, 307, 308] | None,
        Field(
            description="Status code of redirects. 307 and 308 keep method and body; after 301 and 302 clients may turn"
            " POST into GET; 301 and 308 may be remembered. Default: 307.",
            json_schema_extra={"minimum": 301, "maximum": 308},
        ),
    ] = None
    scheme: Annotated[
        Literal["http", "https"] | None,
        Field(description="Scheme of the real servers: http or https. Default: http."),
    ] = None
    port: Annotated[
        int | None,
        Field(ge=1, le=65535, description="Port of the real servers; checks ask it, too. Default: the service's."),
    ] = None
    algorithm: Annotated[
        Algorithm | None,
        Field(
            description="How the real server is chosen: an IPVS scheduler with its meaning there, uploads in flight in"
            " place of connections and the path in place of the destination address; leastInboundBytes, who would"
            " be done first; powerOfTwoChoices, the less loaded of two drawn by weight. Default: wlc."
        ),
    ] = None
    methods: Annotated[
        tuple[Method, ...],
        Field(
            min_length=1,
            max_length=32,
            description="Methods that are redirected, for example [PUT, POST]; others get 405. Default: all but CONNECT"
            " and TRACE.",
            json_schema_extra={"x-kubernetes-list-type": "set"},
        ),
    ] = ()
    host: Annotated[
        Host | None,
        Field(
            description="How a real server is named to clients. Hostname: its spec.hostname. Address: the address that"
            " directors know it by. Else a template with {hostname}, {address}, {name}, for example"
            " {name}.up.example.org. Default: its hostname, or its address if it has none."
        ),
    ] = None
    tls: Annotated[RedirectTls | None, Field(description="The VIP speaks HTTPS. Default: plain HTTP.")] = None
    token: Annotated[
        RedirectToken | None,
        Field(description="Signs redirects, so that real servers can refuse other uploads. Default: none."),
    ] = None
    cache_control: Annotated[
        str | None,
        Field(
            max_length=200,
            description="Cache-Control of redirects. Anything but no-store lets clients go to one real server without"
            " asking again. Default: no-store.",
        ),
        Matching("[ -~]*", BAD_CACHE_CONTROL),
    ] = None
    keep_query: Annotated[bool | None, Field(description="Whether the query goes along. Default: true.")] = None
    maximum_in_flight_per_server: Annotated[
        int | None,
        Field(
            ge=0,
            le=1000000,
            description="Uploads that a real server gets at a time; when all have as many, the answer is 503 with"
            " Retry-After. 0: no limit. Default: 0.",
        ),
    ] = None
    retry_after_seconds: Annotated[
        int | None, Field(ge=1, le=86400, description="Seconds in that answer. Default: 5.")
    ] = None
    discard_bytes: Annotated[
        int | None,
        Field(
            ge=0,
            le=1 << 40,
            description="Bytes of a body sent without waiting that are read and thrown away, so that the client sees"
            " the answer. Default: 1048576.",
        ),
    ] = None
    discard_seconds: Annotated[
        int | None, Field(ge=1, le=3600, description="Seconds for which that is done at most. Default: 5.")
    ] = None
    header_bytes: Annotated[
        int | None, Field(ge=1024, le=1048576, description="Longest header of a request in bytes. Default: 16384.")
    ] = None
    header_seconds: Annotated[
        int | None, Field(ge=1, le=3600, description="Seconds that a header may take. Default: 10.")
    ] = None
    idle_seconds: Annotated[
        int | None, Field(ge=1, le=3600, description="Seconds that a connection may be idle. Default: 60.")
    ] = None
    load_window_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=3600,
            description="Seconds that an upload is taken to last while its real server reports nothing. Default: 60.",
        ),
    ] = None
    load_stale_seconds: Annotated[
        int | None,
        Field(ge=1, le=3600, description="Seconds after which a report is not believed any more. Default: 5."),
    ] = None
