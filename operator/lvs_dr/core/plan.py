"""From desired and actual state to ordered operations, and to the ledger that must be written before them."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from lvs_dr.core.arp_settings import DECISIVE, SysctlRule
from lvs_dr.core.desired import AF_INET, LOOPBACK, Desired, family
from lvs_dr.core.diff import Changes, diff
from lvs_dr.core.kernel import (
    AddressConfig,
    AddressKey,
    AddressOp,
    DestinationConfig,
    DestinationKey,
    DestinationOp,
    KernelState,
    Op,
    RouteKey,
    RouteOp,
    ServiceConfig,
    ServiceKey,
    ServiceOp,
    SysctlKey,
    SysctlOp,
    Verb,
)
from lvs_dr.core.ledger import DrainRecord, Ledger, SysctlRecord
from lvs_dr.core.node_order import ordered

DRAIN_LIMIT_SECONDS: Final = 60.0
"""How long a destination with live connections is quiesced before it is removed all the same."""

Foreign = ServiceKey | DestinationKey | AddressKey


class Plan(Struct, frozen=True):
    """What one pass does.

    `ledger` must be on disk before the first operation. `foreign` entries are someone else's: untouched, to be
    reported. `draining` destinations are quiesced until their connections end; until then their table is not
    in the kernel as wanted. `repairs` are operations that bring back what was lost. `blocked` VIPs are not put
    on lo because the ARP settings cannot be made.
    """

    ops: tuple[Op, ...]
    ledger: Ledger
    foreign: tuple[Foreign, ...] = ()
    draining: frozenset[DestinationKey] = frozenset()
    repairs: frozenset[Op] = frozenset()
    blocked: tuple[str, ...] = ()


def plan(
    desired: Desired,
    actual: KernelState,
    ledger: Ledger,
    *,
    now: float = 0.0,
    drain_limit: float = DRAIN_LIMIT_SECONDS,
) -> Plan:
    """Return what to do to get from `actual` to `desired`, touching only what is ours.

    `ledger` must be of this boot (`ledger_for`). `now` and `drain_limit` are seconds; `now` is of a clock that
    runs on while the agent does not (CLOCK_MONOTONIC: the ledger ends with the boot as well).
    """
    if not desired.writable:
        return Plan((), ledger)
    drains = _drains(desired, actual, ledger, now, drain_limit)
    services = _services(desired, actual, ledger, drains)
    destinations = _destinations(desired, actual, ledger, drains, frozenset(services.delete))
    addresses, blocked = _addresses(desired, actual, ledger)
    routes = _routes(desired, actual, ledger)
    sysctls, restored, records = _sysctls(desired.sysctls, actual.sysctls, ledger)
    listed: list[Op] = [*sysctls, *restored]
    listed += [RouteOp(Verb.ADD, key) for key in routes.add]
    listed += [RouteOp(Verb.DELETE, key) for key in routes.delete]
    listed += [AddressOp(Verb.ADD, key, config) for key, config in addresses.add.items()]
    listed += [AddressOp(Verb.SET, key, config) for key, config in addresses.edit.items()]
    listed += [AddressOp(Verb.DELETE, key) for key in addresses.delete]
    listed += [ServiceOp(Verb.ADD, key, config) for key, config in services.add.items()]
    listed += [ServiceOp(Verb.SET, key, config) for key, config in services.edit.items()]
    listed += [ServiceOp(Verb.DELETE, key) for key in services.delete]
    listed += [DestinationOp(Verb.ADD, key, config) for key, config in destinations.add.items()]
    listed += [DestinationOp(Verb.SET, key, config) for key, config in destinations.edit.items()]
    listed += [DestinationOp(Verb.DELETE, key) for key in destinations.delete]
    lost: set[object] = {*services.lost, *destinations.lost, *addresses.lost, *routes.lost}
    known = frozenset(record.key for record in ledger.sysctls)
    repairs = {op for op in listed if op.verb is Verb.ADD and op.key in lost}
    repairs |= {op for op in sysctls if op.key in known}
    written = replace(
        ledger,
        services=tuple(sorted(services.ours)),
        adopted_services=tuple(sorted(services.adopted.items())),
        destinations=tuple(sorted(destinations.ours)),
        adopted_destinations=tuple(sorted(destinations.adopted.items())),
        addresses=tuple(sorted(addresses.ours)),
        adopted_addresses=tuple(sorted(addresses.adopted.items())),
        routes=tuple(sorted(routes.ours)),
        adopted_routes=tuple(sorted(routes.adopted)),
        sysctls=records,
        draining=tuple(DrainRecord(key, since) for key, since in sorted(drains.items())),
    )
    return Plan(
        ops=ordered(listed, frozenset(restored)),
        ledger=written,
        foreign=_foreign(services, destinations, addresses, desired),
        draining=frozenset(drains),
        repairs=frozenset(repairs),
        blocked=blocked,
    )


def _drains(
    desired: Desired, actual: KernelState, ledger: Ledger, now: float, limit: float
) -> Mapping[DestinationKey, float]:
    """Return the destinations that must stay, quiesced, for their live connections, and since when.

    Only where packets still arrive: on a node that does not hold the VIP nothing lives that could be cut off.
    """
    since = {record.key: record.since for record in ledger.draining}
    result: dict[DestinationKey, float] = {}
    for key in ledger.destinations:
        if key not in actual.destinations or key in desired.destinations or key in desired.failed:
            continue
        address = key.service.address
        if address not in desired.held or address in desired.left_alone or not actual.connections.get(key, 0):
            continue
        began = since.get(key, now)
        if now - began < limit:
            result[key] = began
    return result


def _services(
    desired: Desired, actual: KernelState, ledger: Ledger, drains: Mapping[DestinationKey, float]
) -> Changes[ServiceKey, ServiceConfig]:
    adopted = dict(ledger.adopted_services)
    wanted = dict(desired.services)
    for key in drains:
        if key.service not in adopted and key.service in actual.services:
            wanted.setdefault(key.service, actual.services[key.service])
    return diff(
        wanted,
        actual.services,
        frozenset(ledger.services),
        adopted,
        lambda key: key.address in desired.left_alone,
    )


def _destinations(
    desired: Desired,
    actual: KernelState,
    ledger: Ledger,
    drains: Mapping[DestinationKey, float],
    leaving: frozenset[ServiceKey],
) -> Changes[DestinationKey, DestinationConfig]:
    ours = frozenset(ledger.destinations)
    wanted: dict[DestinationKey, DestinationConfig] = {}
    for key, config in desired.destinations.items():
        found = actual.destinations.get(key)
        if key not in desired.uncertain:
            wanted[key] = config
        elif found is not None:
            wanted[key] = config._replace(weight=min(config.weight, found.weight))
    for key in desired.failed:
        # What someone else put there is never removed: it takes no new connections until it is well again.
        found = actual.destinations.get(key)
        if found is not None and key not in ours:
            wanted[key] = found._replace(weight=0)
    for key in drains:
        wanted[key] = actual.destinations[key]._replace(weight=0)
    changes = diff(
        wanted,
        actual.destinations,
        ours,
        dict(ledger.adopted_destinations),
        lambda key: key.service.address in desired.left_alone and key.service not in desired.services,
    )
    if not leaving:
        return changes
    return replace(changes, edit={key: config for key, config in changes.edit.items() if key.service not in leaving})


def _addresses(
    desired: Desired, actual: KernelState, ledger: Ledger
) -> tuple[Changes[AddressKey, AddressConfig], tuple[str, ...]]:
    here = {key: config for key, config in actual.addresses.items() if key.interface == LOOPBACK}
    wanted: dict[AddressKey, AddressConfig] = {}
    blocked: list[str] = []
    can_be_silent = all(key in actual.sysctls for key in DECISIVE)
    for key, config in desired.addresses.items():
        found = here.get(key)
        if found is not None:
            # The scope cannot be edited in place, and any scope will do; IPv6's source preference can.
            wanted[key] = AddressConfig(found.scope, config.deprecated)
        elif family(key.address) == AF_INET and not can_be_silent:
            blocked.append(key.address)
        else:
            wanted[key] = config
    changes = diff(wanted, here, frozenset(ledger.addresses), dict(ledger.adopted_addresses))
    return changes, tuple(blocked)


def _routes(desired: Desired, actual: KernelState, ledger: Ledger) -> Changes[RouteKey, None]:
    return diff(
        dict.fromkeys(sorted(desired.routes)),
        dict.fromkeys(sorted(actual.routes)),
        frozenset(ledger.routes),
        dict.fromkeys(ledger.adopted_routes),
    )


def _sysctls(
    wanted: Mapping[SysctlKey, SysctlRule], actual: Mapping[SysctlKey, str], ledger: Ledger
) -> tuple[list[SysctlOp], list[SysctlOp], tuple[SysctlRecord, ...]]:
    """Return what to set, what to put back, and what the ledger must say of them."""
    records = {record.key: record for record in ledger.sysctls}
    to_set: list[SysctlOp] = []
    for key, rule in wanted.items():
        found = actual.get(key)
        if found is None:
            continue
        records.setdefault(key, SysctlRecord(key, found, rule.value))
        if not rule.accepts(found):
            to_set.append(SysctlOp(Verb.SET, key, rule.value))
    restore: list[SysctlOp] = []
    for key, record in list(records.items()):
        if key in wanted:
            continue
        if actual.get(key) == record.ours != record.found:
            restore.append(SysctlOp(Verb.SET, key, record.found))
        else:
            del records[key]
    return to_set, restore, tuple(records[key] for key in sorted(records))


def _foreign(
    services: Changes[ServiceKey, ServiceConfig],
    destinations: Changes[DestinationKey, DestinationConfig],
    addresses: Changes[AddressKey, AddressConfig],
    desired: Desired,
) -> tuple[Foreign, ...]:
    """Return entries that are not ours; destinations only where they are in the way, in a service of ours."""
    inside = (key for key in destinations.foreign if key.service in desired.services)
    return (*sorted(services.foreign), *sorted(inside), *sorted(addresses.foreign))
