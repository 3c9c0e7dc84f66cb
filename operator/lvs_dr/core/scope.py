"""Which parts of the kernel a node has to do with: the others are not read, so that no module is loaded for them."""

from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from lvs_dr.core.kernel import ServiceKey
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.loop_guard import guard_interfaces
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.objects import TunnelType
from lvs_dr.core.probes import interface_of
from lvs_dr.core.settings import is_shared
from lvs_dr.core.tunnels import device


class Scope(NamedTuple):
    """What to read beside lo. Asking for IPVS, or for the UDP ports of GUE, loads the kernel's module for it."""

    ipvs: bool = False
    settings: bool = False  # of IPVS: its timeouts, sysctls and sync daemons; not without `ipvs`
    tunnels: bool = False  # tunnel devices
    gue: bool = False  # UDP ports of GUE
    guards: frozenset[str] = frozenset()  # interfaces with a loop guard
    probes: frozenset[str] = frozenset()  # interfaces of checks through VIPs, whose sysctls these need
    unread: AbstractSet[ServiceKey] = frozenset()  # IPVS services whose destinations are left out (`core.unread`)


IPVS: Final = Scope(ipvs=True, settings=True)
LO_ALONE: Final = Scope()


def scope(spec: LVSNodeSpec, ledger: Ledger, interface: str = "") -> Scope:
    """Return what the node is to be and what is left of what it was. `interface`: the director's."""
    gue = any(end.tunnel.type is TunnelType.GUE for end in spec.backend_tunnels)
    gue = gue or bool(ledger.gue_ports or ledger.adopted_gue_ports)
    wished = bool(spec.director and (spec.director.settings or spec.director.sync))
    set_here = bool(ledger.timeouts or ledger.daemons) or any(is_shared(record.key) for record in ledger.sysctls)
    probing = {interface} if spec.director and interface else set()
    probing |= {interface_of(record.key) for record in ledger.sysctls} - {""}
    return Scope(
        ipvs=bool(spec.director or ledger.services or ledger.adopted_services or ledger.destinations or set_here),
        settings=wished or set_here,
        tunnels=gue or bool(spec.backend_tunnels or ledger.tunnels),
        gue=gue,
        guards=guard_interfaces(spec, interface, (device(end)[0].name for end in spec.backend_tunnels), ledger),
        probes=frozenset(probing),
    )
