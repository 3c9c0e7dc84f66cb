"""Rules that the API server checks (CEL) and that parsing checks again, with one message for both.

Parsing repeats them because an API server may hold objects from before a rule existed. Every text says what to
write instead. Cost limits of CEL are why all strings and lists are bounded.
"""

import ipaddress
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function

VALIDATIONS = "x-kubernetes-validations"

NOT_AN_ADDRESS = (
    "must be an IPv4 or IPv6 address, such as 192.0.2.10 or 2001:db8::10:"
    " no port, prefix length, zone or IPv4-mapped form"
)
NOT_CANONICAL = (
    "must be written in the canonical form of IPv6: lower case, no leading zeros, the longest run of zeros as ::,"
    " such as 2001:db8::10"
)
NOT_UNICAST = (
    "must be an address that other machines can reach: not unspecified, loopback, link-local, multicast or broadcast"
)
NOT_A_NETWORK = "must be a network in CIDR notation, such as 192.0.2.0/24, 192.0.2.7/32 or 2001:db8::/64"
HOST_BITS = "has bits set beyond its prefix length: write the network itself, such as 192.0.2.0/24 not 192.0.2.7/24"


class ApiModel(BaseModel):
    """Base of all models: camelCase in JSON, immutable; fields of a newer version are ignored when parsing."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


def rule(expression: str, message: str, *, field_path: str = "", message_expression: str = "") -> dict[str, str]:
    """Return one CEL rule; `field_path` is where the user is pointed to, relative to the object that has the rule."""
    made = {"rule": expression, "message": message}
    if message_expression:
        made["messageExpression"] = message_expression
    if field_path:
        made["fieldPath"] = field_path
    return made


def validated(*rules: dict[str, str], **keywords: str | int) -> dict[str, Any]:
    """Return `json_schema_extra` with these CEL rules; more schema keywords may follow, `_` standing for `-`."""
    return {VALIDATIONS: list(rules)} | {key.replace("_", "-"): value for key, value in keywords.items()}


ADDRESS_RULES = (
    rule("isIP(self)", NOT_AN_ADDRESS),
    rule("!isIP(self) || ip.isCanonical(self)", NOT_CANONICAL),
    rule("!isIP(self) || ip(self).isGlobalUnicast()", NOT_UNICAST),
)

NETWORK_RULES = (
    rule("isCIDR(self)", NOT_A_NETWORK),
    rule("!isCIDR(self) || cidr(self) == cidr(self).masked()", HOST_BITS),
)


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parse as the API server does; raises ValueError with the text of the rule."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(NOT_AN_ADDRESS) from None
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.scope_id):
        raise ValueError(NOT_AN_ADDRESS)
    return address


def canonical_address(text: str) -> str:
    """Return an address that may be a VIP or a RIP in canonical form; raises ValueError with the text of the rule."""
    address = parse_address(text)
    if (
        address.is_unspecified
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address == ipaddress.IPv4Address("255.255.255.255")
    ):
        raise ValueError(NOT_UNICAST)
    return str(address)


def canonical_network(text: str) -> str:
    """Return a CIDR in canonical form; raises ValueError with the text of the rule."""
    address, slash, length = text.partition("/")
    # ipaddress reads netmasks and a missing prefix length too, the API server does not.
    if not slash or not (length.isascii() and length.isdecimal()):
        raise ValueError(NOT_A_NETWORK)
    try:
        interface = ipaddress.ip_interface(f"{parse_address(address)}/{length}")
    except ValueError:
        raise ValueError(NOT_A_NETWORK) from None
    if interface.ip != interface.network.network_address:
        raise ValueError(HOST_BITS)
    return str(interface.network)


class Matching:
    """In a field's type: the text matches a whole regular expression, for the API server (RE2) and for parsing.

    The expression has no quote and no backslash, and nothing nested that repeats: parsing would take for ever over it.
    `also`: more rules for the API server.
    """

    def __init__(self, expression: str, message: str, *also: dict[str, str]) -> None:
        self._pattern = re.compile(expression)
        self._message = message
        self._rules = [rule(f"self.matches('^({expression})$')", message), *also]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        return no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), VALIDATIONS: self._rules}

    def _checked(self, text: str) -> str:
        if self._pattern.fullmatch(text) is None:
            raise ValueError(self._message)
        return text
