"""The compiled form of `forwardingMethod: Redirect`: how the directors of a table answer HTTP requests on its VIP.

Defaults here are those of the API, and are left out of the compiled object; to change one is to change what objects
that are already stored mean. What each setting does to a client is in docs/uploads.md.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from lvs_dr.core.redirect import Algorithm

HOSTNAME: Final = "{hostname}"
ADDRESS: Final = "{address}"

SecretName = Annotated[str, Meta(max_length=253)]
RedirectedMethod = Annotated[str, Meta(pattern=r"^[A-Z-]{1,20}$", max_length=20)]


class TableToken(Struct, frozen=True, rename="camel", omit_defaults=True):
    """How redirects are signed."""

    secret: Annotated[
        SecretName, Meta(min_length=1, description="Secret in the operator's namespace that holds the keys.")
    ]
    key_id: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$", max_length=32, description="Key in the Secret that signs.")
    ]
    lifetime_seconds: Annotated[int, Meta(ge=1, le=86400, description="Seconds for which a signature holds.")] = 60


class TableRedirect(Struct, frozen=True, rename="camel", omit_defaults=True):
    """How requests are redirected to real servers."""

    status_code: Annotated[int, Meta(ge=301, le=308, description="301, 302, 307 or 308.")] = 307
    scheme: Annotated[str, Meta(max_length=5, description="Scheme of the real servers: http or https.")] = "http"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port of the real servers; 0: the service's.")] = 0
    algorithm: Annotated[Algorithm, Meta(description="How the real server of a redirect is chosen.")] = Algorithm.WLC
    methods: Annotated[
        tuple[RedirectedMethod, ...], Meta(max_length=32, description="Redirected methods, sorted; none: all.")
    ] = ()
    host: Annotated[
        str,
        Meta(
            max_length=253,
            description="How a real server is named: a template with {hostname}, {address}, {name}; empty: its "
            "hostname, or its address if it has none.",
        ),
    ] = ""
    tls_secret: Annotated[
        SecretName,
        Meta(description="Secret in the operator's namespace with certificate and key of the VIP; empty: plain HTTP."),
    ] = ""
    token: Annotated[TableToken | None, Meta(description="How redirects are signed; absent: they are not.")] = None
    cache_control: Annotated[
        str, Meta(pattern=r"^[\x20-\x7e]{0,200}$", max_length=200, description="Cache-Control; empty: no-store.")
    ] = ""
    keep_query: Annotated[bool, Meta(description="The query goes along.")] = True
    maximum_in_flight_per_server: Annotated[
        int, Meta(ge=0, le=1000000, description="Uploads that a real server gets at a time; 0: no limit.")
    ] = 0
    retry_after_seconds: Annotated[
        int, Meta(ge=1, le=86400, description="Retry-After of the answer when nobody can take an upload.")
    ] = 5
    discard_bytes: Annotated[
        int, Meta(ge=0, le=1 << 40, description="Bytes of a body that are read and thrown away after the answer.")
    ] = 1024 * 1024
    discard_seconds: Annotated[int, Meta(ge=1, le=3600, description="Seconds for which that is done.")] = 5
    header_bytes: Annotated[int, Meta(ge=1024, le=1048576, description="Longest header of a request.")] = 16 * 1024
    header_seconds: Annotated[int, Meta(ge=1, le=3600, description="Seconds that a header may take.")] = 10
    idle_seconds: Annotated[int, Meta(ge=1, le=3600, description="Seconds that a connection may be idle.")] = 60
    load_window_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="Seconds that an upload is taken to last without reports of its server.")
    ] = 60
    load_stale_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="Seconds after which a real server's report is not believed.")
    ] = 5

    @property
    def secrets(self) -> frozenset[str]:
        """The Secrets that directors need for it."""
        token = {self.token.secret} if self.token is not None else set()
        return frozenset(token | ({self.tls_secret} if self.tls_secret else set()))

    @property
    def needs_hostname(self) -> bool:
        """Whether a real server without a hostname cannot be named."""
        return HOSTNAME in self.host
