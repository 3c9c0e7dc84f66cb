"""Connection sync of a DirectorGroup: directors tell each other of their connections, so that these outlive them."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field

from lvs_dr.api.models.rules import NOT_AN_ADDRESS, NOT_CANONICAL, ApiModel, parse_address, rule, validated
from lvs_dr.core.director_group import SyncMode

NOT_MULTICAST = "must be a multicast address, such as 224.0.0.81 or ff02::81"
BAD_SYNC_INTERFACE = "must be the name of a network interface of at most 15 characters, such as eth1, and not lo"


def canonical_group(text: str) -> str:
    """Return a multicast address in canonical form; raises ValueError with the text of the rule."""
    address = parse_address(text)
    if not address.is_multicast:
        raise ValueError(NOT_MULTICAST)
    return str(ipaddress.ip_address(address))


MulticastGroup = Annotated[
    str,
    Field(
        min_length=1,
        max_length=45,
        json_schema_extra=validated(
            rule("isIP(self)", NOT_AN_ADDRESS),
            rule("!isIP(self) || ip.isCanonical(self)", NOT_CANONICAL),
            rule(
                "!isIP(self) || !(ip(self).isGlobalUnicast() || ip(self).isLoopback() || ip(self).isUnspecified() ||"
                " ip(self).isLinkLocalUnicast() || self == '255.255.255.255')",
                NOT_MULTICAST,
            ),
        ),
    ),
    AfterValidator(canonical_group),
]


class ConnectionSync(ApiModel):
    """How the directors tell each other of their connections (IPVS sync daemons). See docs/connection-sync.md.

    The messages are UDP multicast, neither encrypted nor authenticated: whoever can send into the segment can make up
    connections. Choose an interface of the directors' own where that matters.
    """

    mode: Annotated[
        SyncMode,
        Field(
            description="Standard: the others are told of a connection when it is established, a second later, and"
            " then every 10 s while it is used, about four connections to a message. Strict: one connection to a"
            " message, so that none waits for others, and told four times: for lossy networks and few, precious"
            " connections; ten times the packets. Off: no sync. Default: Standard."
        ),
    ] = SyncMode.STANDARD
    interface: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=15,
            json_schema_extra=validated(
                rule("self.matches('^[^/:[:space:]]+$') && !(self in ['lo', '.', '..'])", BAD_SYNC_INTERFACE)
            ),
            description="Interface that the messages take, the same on every director, for example eth1. Default: the"
            " one that faces clients and real servers.",
        ),
    ] = None
    sync_id: Annotated[
        int | None,
        Field(
            alias="syncID",
            ge=1,
            le=255,
            description="Number that tells the messages of this group from those of other directors on the segment;"
            " unique there. 1 to 255. Default: vrrp.firstVirtualRouterID.",
        ),
    ] = None
    multicast_group: Annotated[
        MulticastGroup | None,
        Field(description="Multicast group that the messages are sent to, IPv4 or IPv6. Default: 224.0.0.81."),
    ] = None
    port: Annotated[
        int | None, Field(ge=1, le=65535, description="UDP port of the messages, 1 to 65535. Default: 8848.")
    ] = None
    hop_limit: Annotated[
        int | None,
        Field(ge=1, le=255, description="TTL or hop limit of the messages; 1 keeps them on the segment. Default: 1."),
    ] = None
    maximum_length: Annotated[
        int | None,
        Field(
            ge=1,
            le=8952,
            description="Longest message in bytes, without IP and UDP headers. A message waits until it is full, 2 s"
            " at most: short ones tell of young connections sooner and are more packets. 1: one connection each; more"
            " than 1472 needs an MTU that fits. Default: by mode.",
        ),
    ] = None
