"""Field types that several models share: addresses, networks, names."""

from typing import Annotated

from pydantic import AfterValidator, Field

from lvs_dr.api.models.rules import (
    ADDRESS_RULES,
    NETWORK_RULES,
    Matching,
    canonical_address,
    canonical_network,
    rule,
    validated,
)

BAD_NAME = "must be the name of an object: lower case letters, digits, '-' and '.', such as director-1"
SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

HostAddress = Annotated[
    str,
    Field(min_length=1, max_length=45, json_schema_extra=validated(*ADDRESS_RULES)),
    AfterValidator(canonical_address),
]
"""An IPv4 or IPv6 address that other machines can reach."""

Network = Annotated[
    str,
    Field(min_length=1, max_length=49, json_schema_extra=validated(*NETWORK_RULES)),
    AfterValidator(canonical_network),
]
"""A network in CIDR notation."""

ObjectName = Annotated[
    str,
    Field(
        max_length=253,
        json_schema_extra=validated(
            rule(
                f"self.matches('{SUBDOMAIN}')",
                BAD_NAME,
            )
        ),
    ),
]
"""Name of a Kubernetes object."""

BAD_HOSTNAME = (
    "must be a host name as it stands in a URL: letters, digits, '-' and '.', such as storage-1.example.org, without"
    " scheme, port or path"
)

Hostname = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Matching(
        "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*", BAD_HOSTNAME
    ),
]
"""A host name."""
