"""What the node's kernel must hold: from the objects, the health of destinations and what the node holds now."""

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from lvs_dr.core.arp_settings import ARP_RULES, SysctlRule, silent
from lvs_dr.core.destinations import NO_DESTINATIONS, Destinations, DestinationSet
from lvs_dr.core.health import CheckKey, HealthView, check_key
from lvs_dr.core.ipvs_table import AF_INET, AF_INET6, family, served
from lvs_dr.core.kernel import (
    AddressConfig,
    AddressKey,
    DestinationConfig,
    KernelState,
    RouteKey,
    ServiceConfig,
    ServiceKey,
    SysctlKey,
)
from lvs_dr.core.ledger import Ledger, ServiceNote
from lvs_dr.core.loop_guard import Guard, guard
from lvs_dr.core.merged_tables import MergedTables, Refusal, reserved_text
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.node_status import InterfaceReport
from lvs_dr.core.probes import NO_PROBES, Probes, probe_rules
from lvs_dr.core.reasons import Reason
from lvs_dr.core.redirected import Redirected
from lvs_dr.core.settings import Link, Settings, settings
from lvs_dr.core.sync import with_sync
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.table_entries import EntriesMemory
from lvs_dr.core.tunnels import Ends, ends
from lvs_dr.core.weight_factors import NO_FACTORS, FactorView

LOOPBACK: Final = "lo"
SCOPE_HOST: Final = 254
SCOPE_GLOBAL: Final = 0


class Desired(Struct, frozen=True):
    """What the kernel must hold of ours.

    `uncertain` destinations have no check result yet, or are about to enter their table: where they are they stay,
    where not they are not added. Those of them that wait for their first check are `awaited`.
    `failed` ones are taken out at once, without the wait for live connections; not so in services in
    `panic`, where failed ones serve like others. In services of `sorry` the sorry server serves. `probes` are the
    services that checks go through; all but the paused state has them among `services`. VIPs in
    `left_alone` keep the IPVS entries they have. `redirects` are for the redirector, which goes on as it is with the
    tables in `kept_redirects`. `notes` tell the VIP of each service, and how long its destinations may drain. With
    `writable` false nothing at all is changed.
    """

    writable: bool = True
    services: Mapping[ServiceKey, ServiceConfig] = {}
    destinations: Destinations[DestinationConfig] = Destinations()
    notes: Mapping[ServiceKey, ServiceNote] = {}
    uncertain: DestinationSet = NO_DESTINATIONS
    awaited: DestinationSet = NO_DESTINATIONS
    failed: DestinationSet = NO_DESTINATIONS
    panic: frozenset[ServiceKey] = frozenset()
    sorry: frozenset[ServiceKey] = frozenset()
    probes: Probes = NO_PROBES
    addresses: Mapping[AddressKey, AddressConfig] = {}
    routes: frozenset[RouteKey] = frozenset()
    sysctls: Mapping[SysctlKey, SysctlRule] = {}
    shared: Settings = Settings()
    tunnels: Ends = Ends()
    guard: Guard = Guard()
    redirects: tuple[Redirected, ...] = ()
    kept_redirects: frozenset[str] = frozenset()
    left_alone: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    refusals: tuple[Refusal, ...] = ()


def desired(
    spec: LVSNodeSpec,
    tables: Mapping[str, DirectorTableSpec],
    health: HealthView,
    ledger: Ledger,
    *,
    held: frozenset[str],
    reserved: Mapping[str, str],
    unreadable: frozenset[str] = frozenset(),
    owner: str = "",
    link: Link | None = None,
    interface: str = "",
    macs: Mapping[str, Collection[str]] = MappingProxyType({}),
    memory: EntriesMemory | None = None,
    factors: FactorView = NO_FACTORS,
    strict: bool = False,
) -> Desired:
    """Return what the kernel must hold.

    `tables`: the last good ones, by namespace/name. `held`: VIPs the speaker holds now. `reserved`:
    addresses that can be no VIP here, with what they are (`reserved_addresses`). `unreadable`: VIPs of tables
    that need features this agent does not have and of which it has no older version. `owner`: who else sets IPVS's
    settings on this node (`other_owner`). `link`: the interface of connection sync, if it is there. `interface`: the
    director's. `macs`: of peer directors, by node, as far as known. `memory`: what the call before made of the tables.
    `factors`: of tables whose weights change by themselves. `strict`: rp_filter is 1 for all interfaces.
    """
    if not spec.decided or spec.paused:
        watching = MergedTables(memory or EntriesMemory(), tables, health, factors)
        for name, table in sorted(tables.items()):
            watching.probe(name, table)
        return Desired(writable=False, held=held, probes=watching.probes)
    ours = _known_addresses(ledger)
    refused = [address for address in spec.backend_addresses if address in reserved and address not in ours]
    backend = [address for address in spec.backend_addresses if address not in refused]
    refusals = [Refusal(Reason.RESERVED_ADDRESS, reserved_text(one, reserved[one]), one) for one in refused]
    builder = MergedTables(memory or EntriesMemory(), tables, health, factors)
    # A node that is a real server of a VIP balances it only while it holds it: two such nodes would send a
    # packet back and forth until its TTL ends.
    guarded = frozenset(spec.backend_addresses) - held
    taken = {address: what for address, what in reserved.items() if address not in ours}
    for name, table in sorted(tables.items()):
        refusals.extend(builder.follow(name, table, taken, guarded))
    builder.add_probes()
    shared = settings(spec.director.settings if spec.director else None, owner)
    shared = with_sync(shared, spec.director.sync if spec.director else None, link, builder.mixed)
    tunnels = ends(spec.backend_tunnels)
    refusals += [Refusal(reason, text, "") for reason, text in (*shared.problems, *tunnels.problems)]
    return Desired(
        services=builder.services,
        destinations=Destinations(builder.destinations),
        notes=builder.notes,
        uncertain=DestinationSet(builder.uncertain),
        awaited=DestinationSet(builder.awaited),
        failed=DestinationSet(builder.failed),
        panic=frozenset(builder.panic),
        sorry=frozenset(builder.sorry),
        probes=builder.probes,
        addresses={AddressKey(LOOPBACK, address): loopback_config(address) for address in backend},
        routes=frozenset(RouteKey(address) for address in backend),
        sysctls={
            **_arp_rules(backend),
            **shared.sysctls,
            **probe_rules(builder.probes, interface if spec.director else "", on_lo=bool(backend), strict=strict),
        },
        shared=shared,
        tunnels=tunnels,
        guard=guard(spec, {table.address for table in tables.values()}, interface, macs, tunnels, ledger.guards),
        redirects=tuple(builder.redirects),
        kept_redirects=frozenset(builder.kept_redirects),
        left_alone=unreadable | builder.left_alone,
        held=held,
        refusals=tuple(refusals),
    )


def loopback_config(address: str) -> AddressConfig:
    """Return how a VIP is set on lo: IPv4 scope host; IPv6 deprecated, so that it is never chosen as a source."""
    return AddressConfig(SCOPE_GLOBAL, deprecated=True) if ":" in address else AddressConfig(SCOPE_HOST)


def loopback_addresses(wanted: Desired, actual: KernelState) -> tuple[str, ...]:
    """Return the VIPs that are safely on lo: with guard route and, for IPv4, silent ARP; sorted."""
    quiet = silent(actual.sysctls)
    return tuple(
        sorted(
            key.address
            for key in wanted.addresses
            if key in actual.addresses
            and RouteKey(key.address) in actual.routes
            and (quiet or family(key.address) == AF_INET6)
        )
    )


def in_service(tables: Iterable[DirectorTableSpec], actual: KernelState) -> frozenset[CheckKey]:
    """Return the checks whose destination the kernel serves with a weight above 0: they start as up."""
    found: set[CheckKey] = set()
    for table in tables:
        if table.health_check is None:
            continue
        services = served(table)
        for entry in (*table.destinations, *table.pending):
            for one in services:
                config = actual.destinations.group(one.service).get((entry.address, one.target_port))
                if config is not None and config.weight > 0 and one.check_port is not None:
                    found.add(check_key(table, entry, one.check_port, table.health_check))
    return frozenset(found)


def reserved_addresses(interfaces: Iterable[InterfaceReport], next_hops: Iterable[str]) -> dict[str, str]:
    """Return the addresses that can be no VIP on this node, with what they are, for people.

    `interfaces` are the node's own addresses, VIPs of ours left out.
    """
    result = dict.fromkeys(next_hops, "a next hop of this node's routes")
    for interface in interfaces:
        for text in interface.addresses:
            own = ipaddress.ip_interface(text)
            network = own.network
            if network.version == 4 and network.prefixlen <= 30:  # noqa: PLR2004 - RFC 3021: /31 has neither
                result[str(network.network_address)] = f"the network address of {network}"
                result[str(network.broadcast_address)] = f"the broadcast address of {network}"
            result[str(own.ip)] = f"this node's own address on {interface.name}"
    return result


def _arp_rules(backend: Iterable[str]) -> dict[SysctlKey, SysctlRule]:
    if any(family(address) == AF_INET for address in backend):
        return {rule.key: rule for rule in ARP_RULES}
    return {}


def _known_addresses(ledger: Ledger) -> frozenset[str]:
    """Return the VIPs that this node serves already: what vanishes or changes later revokes nothing."""
    keys = (*ledger.addresses, *(key for key, _ in ledger.adopted_addresses))
    services = (*ledger.services, *(key for key, _ in ledger.adopted_services))
    noted = {note.address for _, note in ledger.notes}
    return frozenset({key.address for key in keys} | {key.address for key in services} | noted)
