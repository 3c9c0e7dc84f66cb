"""What a backend's agent knows of why clients of a VIP may get no answer, though the real server itself is well.

No probe of a director sees these: they are read on the node, and told beside the director's verdict.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

from lvs_dr.core.addresses import version
from lvs_dr.core.objects import Protocol
from lvs_dr.core.reasons import Reason

MAXIMUM_SUSPICIONS: Final = 64
STRICT: Final = "1"
_NUMBERS: Final = {Protocol.TCP: 6, Protocol.UDP: 17}
_IPV4: Final = 4


class BackendService(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A port of a VIP that the node serves as a real server."""

    address: Annotated[str, Meta(min_length=2, max_length=45, description="VIP that the node carries.")]
    port: Annotated[int, Meta(ge=1, le=65535, description="Port on the VIP.")]
    protocol: Annotated[Protocol, Meta(description="Transport protocol.")] = Protocol.TCP


class Suspicion(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Why clients of a VIP may get no answer from this node."""

    reason: Annotated[str, Meta(max_length=63, description="Reason, see docs/reasons.md.")]
    message: Annotated[str, Meta(max_length=512, description="What is wrong and what to do.")]
    address: Annotated[str, Meta(max_length=45, description="VIP it is about.")]
    port: Annotated[int, Meta(ge=0, le=65535, description="Port it is about; 0: all.")] = 0


class Listener(NamedTuple):
    """A port that something on the node listens on; address "" is any, of both families where it is IPv6's."""

    protocol: int
    address: str
    port: int


class OwnView(NamedTuple):
    """What the node's agent reads for this."""

    listeners: frozenset[Listener] = frozenset()
    reverse: Mapping[str, str] = {}  # rp_filter by interface, "all" among them
    gateways: tuple[str, ...] = ()  # of the default route


class OwnInterface(NamedTuple):
    """An interface of the node and its own addresses, with prefix length."""

    name: str
    addresses: Sequence[str]


def suspicions(
    services: Iterable[BackendService],
    seen: OwnView,
    interfaces: Sequence[OwnInterface],
    *,
    on_lo: Iterable[str],
    silent: bool,
) -> tuple[Suspicion, ...]:
    """Return what is suspicious, by VIP. `on_lo`: host addresses there; `silent`: the ARP settings are as they must be.

    A service on any address, or on the VIP, is right.
    """
    carried = frozenset(on_lo)
    found: list[Suspicion] = []
    reply: dict[str, str] = {}
    for one in sorted(services, key=lambda each: (each.address, each.protocol, each.port)):
        vip = one.address
        if vip not in reply:
            reply[vip] = _reply_path(vip, seen, interfaces)
            if vip not in carried:
                found.append(Suspicion(Reason.VIP_MISSING, f"{vip} is not on lo", vip))
            if not silent and version(vip) == _IPV4:
                text = f"arp_ignore or arp_announce is not as it must be: this node may answer ARP for {vip}"
                found.append(Suspicion(Reason.ARP_OVERRIDDEN, text, vip))
            if reply[vip]:
                found.append(Suspicion(Reason.REPLY_PATH_SUSPECT, reply[vip], vip))
        number = _NUMBERS.get(one.protocol)
        if number is not None and not _listens(seen.listeners, number, vip, one.port):
            text = (
                f"nothing listens on {one.protocol.value} port {one.port} of {vip}: have the service listen on the VIP "
                "or on all addresses"
            )
            found.append(Suspicion(Reason.NOT_LISTENING, text, vip, one.port))
    return tuple(found[:MAXIMUM_SUSPICIONS])


def about(found: Iterable[Suspicion], vip: str) -> str:
    """Return what is suspicious about a VIP, in words; "" when nothing is."""
    return "; ".join(dict.fromkeys(each.message for each in found if each.address == vip))


def _listens(listeners: frozenset[Listener], protocol: int, vip: str, port: int) -> bool:
    return Listener(protocol, "", port) in listeners or Listener(protocol, vip, port) in listeners


def _reply_path(vip: str, seen: OwnView, interfaces: Sequence[OwnInterface]) -> str:
    """Return why packets of clients from elsewhere are dropped: they come in where there is no way back to them."""
    if version(vip) != _IPV4:
        return ""
    inward = [one.name for one in interfaces if _on_link(vip, one)]
    outward = {one.name for one in interfaces for each in seen.gateways if _on_link(each, one)}
    if not inward or not outward or inward[0] in outward:
        return ""
    if max(seen.reverse.get("all", "0"), seen.reverse.get(inward[0], "0")) != STRICT:
        return ""
    return (
        f"packets for {vip} come in on {inward[0]}, the route back to clients from elsewhere leaves by "
        f"{min(outward)}, and rp_filter is strict: it drops them; set net.ipv4.conf.{inward[0]}.rp_filter=2"
    )


def _on_link(address: str, one: OwnInterface) -> bool:
    if one.name == "lo" or not address:
        return False
    wanted = ipaddress.ip_address(address)
    networks = (ipaddress.ip_interface(each).network for each in one.addresses)
    return any(wanted in each and each.prefixlen < each.max_prefixlen for each in networks)
