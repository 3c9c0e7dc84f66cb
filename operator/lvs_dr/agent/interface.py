"""Which interface of a director faces the clients, and which addresses are the node's own."""

import ipaddress
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.node import DirectorRole
from lvs_dr.core.node_status import InterfaceReport
from lvs_dr.core.settings import Link

MAXIMUM_INTERFACES = 64
MAXIMUM_ADDRESSES = 64


def director_interface(role: DirectorRole, interfaces: Sequence[Interface], before: str = "") -> str:
    """Return the interface's name, "" if there is none.

    One that was chosen `before` stays while it exists and no other fits better: an address that is away for a
    moment (DHCP, a link flap) must not release the VIPs.
    """
    chosen = _chosen(role, interfaces)
    if not chosen and before in {interface.name for interface in interfaces} and not role.interface_name:
        return before
    return chosen


def _chosen(role: DirectorRole, interfaces: Sequence[Interface]) -> str:
    if role.interface_name:
        return next((one.name for one in interfaces if one.name == role.interface_name), "")
    if role.interface_subnet:
        subnet = ipaddress.ip_network(role.interface_subnet, strict=False)
        return next(
            (
                one.name
                for one in interfaces
                for text in one.addresses
                if one.name != "lo" and _in_subnet(ipaddress.ip_interface(text), subnet)
            ),
            "",
        )
    for wanted in role.internal_addresses:
        address = ipaddress.ip_address(wanted)
        for one in interfaces:
            if one.name != "lo" and any(ipaddress.ip_interface(text).ip == address for text in one.addresses):
                return one.name
    return ""


def _in_subnet(
    own: ipaddress.IPv4Interface | ipaddress.IPv6Interface, subnet: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    """Tell whether an address lies in the subnet and is no host address, as VIPs are."""
    return own.ip in subnet and own.network.prefixlen < own.max_prefixlen


def missing_interface(role: DirectorRole) -> str:
    """Return in words which interface was looked for."""
    if role.interface_name:
        return f"there is no interface {role.interface_name}"
    if role.interface_subnet:
        return f"no interface has an address in {role.interface_subnet}"
    if role.internal_addresses:
        return f"no interface has the Node's InternalIP {' or '.join(role.internal_addresses)}"
    return "the Node has no InternalIP, and the DirectorGroup names no interface"


def sync_link(
    role: DirectorRole | None, director: str, interfaces: Iterable[Interface], virtual: AbstractSet[str]
) -> Link | None:
    """Return the interface of connection sync, if it is wanted and there; `director`: the one that faces clients.

    The kernel's master sends from the interface's first address of the multicast group's family.
    """
    if role is None or role.sync is None:
        return None
    name = role.sync.interface or director
    found = next((one for one in interfaces if one.name == name), None)
    if found is None:
        return None
    if ":" in role.sync.group:  # its source is the link-local address, which lives as long as the interface
        return Link(name, found.index)
    own = (text for text in found.addresses if ":" not in text and _is_own(text, virtual))
    return Link(name, found.index, next(own, "").partition("/")[0])


def own_addresses(interfaces: Iterable[Interface], virtual: AbstractSet[str]) -> tuple[InterfaceReport, ...]:
    """Return the node's own global addresses: host addresses among `virtual` (VIPs) and loopback ones left out."""
    reports = []
    for one in sorted(interfaces, key=lambda interface: interface.name):
        texts = tuple(sorted(text for text in one.addresses if _is_own(text, virtual)))
        if texts:
            reports.append(InterfaceReport(one.name, texts[:MAXIMUM_ADDRESSES]))
    return tuple(reports[:MAXIMUM_INTERFACES])


def _is_own(text: str, virtual: AbstractSet[str]) -> bool:
    own = ipaddress.ip_interface(text)
    host = own.network.prefixlen == own.max_prefixlen
    return not own.ip.is_loopback and not (host and str(own.ip) in virtual)


def ledger_addresses(ledger: Ledger) -> frozenset[str]:
    """Return the VIPs that are on lo by our hand, or were taken over there."""
    keys = (*ledger.addresses, *(key for key, _ in ledger.adopted_addresses))
    return frozenset(key.address for key in keys)
