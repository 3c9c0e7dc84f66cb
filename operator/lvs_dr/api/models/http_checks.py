"""Health checks by HTTP and HTTPS: the request, and what counts as an answer."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from lvs_dr.api.models.check_fields import (
    BAD_STATUS,
    DUPLICATE_HEADER,
    HEAD_HAS_NO_BODY,
    OWN_HEADER,
    OWN_HEADERS,
    OWN_PORTS,
    PORT,
    HeaderName,
    HeaderValue,
    Host,
    Path,
    Status,
)
from lvs_dr.api.models.check_tls import Tls
from lvs_dr.api.models.rules import ApiModel, rule, validated
from lvs_dr.core.checks import MAXIMUM_HEADERS, MAXIMUM_STATUSES, HttpMethod


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


class HttpCheck(ApiModel):
    """An HTTP/1.1 request. Redirects are not followed: the real server that is asked must answer itself."""

    model_config = ConfigDict(
        json_schema_extra=validated(
            rule("!has(self.bodyContains) || self.method != 'HEAD'", HEAD_HAS_NO_BODY, field_path=".bodyContains")
        )
    )

    port: Annotated[
        int | None,
        Field(ge=1, le=65535, description=PORT + " Required with anyPort and firewallMark." + OWN_PORTS),
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
