"""TLS of health checks: how a check knows the real server, and the real server the check."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from lvs_dr.api.models.check_fields import BAD_CERTIFICATE, ServerName
from lvs_dr.api.models.fields import ObjectName
from lvs_dr.api.models.rules import ApiModel, rule, validated


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
