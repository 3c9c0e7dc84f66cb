"""From desired and actual state to ordered operations, and to the ledger that must be written before them."""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from msgspec import Struct
from msgspec.structs import replace

from lvs_dr.core.arp_settings import DECISIVE, SysctlRule
from lvs_dr.core.borrowed import borrow
from lvs_dr.core.desired import LOOPBACK, Desired
from lvs_dr.core.destinations import Destinations
from lvs_dr.core.diff import Changes, diff
from lvs_dr.core.ipvs_plan import ipvs_changes
from lvs_dr.core.ipvs_table import AF_INET, family
from lvs_dr.core.kernel import (
    AddressConfig,
    AddressKey,
    AddressOp,
    DaemonKey,
    DestinationConfig,
    DestinationKey,
    DestinationOp,
    KernelState,
    Op,
    RouteKey,
    RouteOp,
    ServiceConfig,
    ServiceKey,
    SysctlKey,
    SysctlOp,
    TimeoutOp,
    TunnelKey,
    Verb,
)
from lvs_dr.core.ledger import Ledger, SysctlRecord
from lvs_dr.core.loop_guard import plan_guard
from lvs_dr.core.node_order import ordered
from lvs_dr.core.probes import taken
from lvs_dr.core.settings import kept, plan_timeouts
from lvs_dr.core.sync import plan_daemons
from lvs_dr.core.tunnels import plan_tunnels

Foreign = ServiceKey | DestinationKey | AddressKey


class Plan(Struct, frozen=True):
    """What one pass does.

    `ledger` must be on disk before the first operation. `foreign` entries are someone else's: untouched, to be
    reported. `draining` destinations stay for their connections, or until others can take over; until then their
    table is not in the kernel as wanted. `repairs` are operations that bring back what was lost. `blocked` VIPs are
    not put on lo because the ARP settings cannot be made.
    """

    ops: tuple[Op, ...]
    ledger: Ledger
    foreign: tuple[Foreign, ...] = ()
    draining: frozenset[DestinationKey] = frozenset()
    repairs: AbstractSet[Op] = frozenset()
    blocked: tuple[str, ...] = ()
    foreign_tunnels: tuple[TunnelKey, ...] = ()  # wanted names that somebody else's devices have
    taken: frozenset[ServiceKey] = frozenset()  # services for checks whose marks somebody else uses
    foreign_daemons: tuple[DaemonKey, ...] = ()  # somebody else's sync daemons, which keep ours from running


def plan(
    desired: Desired,
    actual: KernelState,
    ledger: Ledger,
    *,
    now: float = 0.0,
) -> Plan:
    """Return what to do to get from `actual` to `desired`, touching only what is ours.

    `ledger` must be of this boot (`ledger_for`). `now`: seconds of a clock that runs on while the agent does not
    (CLOCK_MONOTONIC: the ledger ends with the boot as well).
    """
    if not desired.writable:
        return Plan((), ledger)
    foreign_marks = taken(desired.probes, actual, ledger)
    if foreign_marks:
        desired = _without_services(desired, foreign_marks)
    ipvs = ipvs_changes(desired, actual, ledger, now)
    services, destinations = ipvs.services, ipvs.destinations
    addresses, blocked = _addresses(desired, actual, ledger)
    routes = _routes(desired, actual, ledger)
    sysctls, restored, records = _sysctls(desired.sysctls, actual.sysctls, kept(ledger.sysctls, desired.shared.owner))
    timeouts, timeouts_restored, timeout_records = plan_timeouts(
        desired.shared.timeouts, actual.timeouts, ledger.timeouts, owner=desired.shared.owner
    )
    daemons = plan_daemons(desired.shared, actual, ledger.daemons)
    tunnels = plan_tunnels(desired.tunnels.devices, desired.tunnels.gue_ports, actual, ledger)
    guard = plan_guard(desired.guard, actual, ledger)
    listed: list[Op] = [*sysctls, *restored, *timeouts, *timeouts_restored]
    listed += [*daemons.ops, *tunnels.ops, *guard.ops]
    listed += [*_route_ops(routes), *_address_ops(addresses)]
    listed += ipvs.ops()
    lost: set[object] = {*services.lost, *addresses.lost, *routes.lost, *tunnels.lost, *guard.lost}
    repairs = _brought_back(listed, lost, destinations.lost) | _put_again(sysctls, timeouts, ledger)
    repairs |= daemons.repairs
    written = replace(
        ipvs.recorded(ledger),
        addresses=tuple(sorted(addresses.ours)),
        adopted_addresses=tuple(sorted(addresses.adopted.items())),
        routes=tuple(sorted(routes.ours)),
        adopted_routes=tuple(sorted(routes.adopted)),
        sysctls=records,
        timeouts=timeout_records,
        daemons=daemons.records,
        tunnels=tunnels.tunnels,
        gue_ports=tunnels.gue_ports,
        adopted_gue_ports=tunnels.adopted_gue_ports,
        guards=guard.guards,
        adopted_guards=guard.adopted,
    )
    return Plan(
        ops=ordered(listed, frozenset((*restored, *timeouts_restored)), ipvs.replaced),
        ledger=written,
        foreign=_foreign(services, destinations, addresses, desired),
        draining=ipvs.stays.keys,
        repairs=repairs,
        blocked=blocked,
        taken=foreign_marks,
        foreign_tunnels=tunnels.foreign,
        foreign_daemons=daemons.foreign,
    )


def _without_services(desired: Desired, keys: AbstractSet[ServiceKey]) -> Desired:
    return replace(
        desired,
        services={key: one for key, one in desired.services.items() if key not in keys},
        destinations=Destinations({key: one for key, one in desired.destinations.groups.items() if key not in keys}),
        probes={key: one for key, one in desired.probes.items() if key not in keys},
    )


def _route_ops(routes: Changes[RouteKey, None]) -> Iterator[Op]:
    yield from (RouteOp(Verb.ADD, key) for key in routes.add)
    yield from (RouteOp(Verb.DELETE, key) for key in routes.delete)


def _address_ops(addresses: Changes[AddressKey, AddressConfig]) -> Iterator[Op]:
    yield from (AddressOp(Verb.ADD, key, config) for key, config in addresses.add.items())
    yield from (AddressOp(Verb.SET, key, config) for key, config in addresses.edit.items())
    yield from (AddressOp(Verb.DELETE, key) for key in addresses.delete)


def _brought_back(ops: Iterable[Op], lost: AbstractSet[object], destinations: AbstractSet[DestinationKey]) -> set[Op]:
    """Return the operations that put back what was lost."""
    if not lost and not destinations:
        return set()
    return {
        op
        for op in ops
        if op.verb is not Verb.DELETE and (op.key in destinations if isinstance(op, DestinationOp) else op.key in lost)
    }


def _put_again(sysctls: Iterable[SysctlOp], timeouts: Iterable[TimeoutOp], ledger: Ledger) -> set[Op]:
    """Return the operations that set what was set before, and what somebody changed meanwhile."""
    values = {record.key: record.ours for record in ledger.sysctls}
    seconds = {record.key: record.ours for record in ledger.timeouts}
    again: set[Op] = {op for op in sysctls if values.get(op.key) == op.value}
    return again | {op for op in timeouts if seconds.get(op.key) == op.seconds}


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
    wanted: Mapping[SysctlKey, SysctlRule], actual: Mapping[SysctlKey, str], recorded: tuple[SysctlRecord, ...]
) -> tuple[list[SysctlOp], list[SysctlOp], tuple[SysctlRecord, ...]]:
    """Return what to set, what to put back, and what the ledger must say of them."""
    values = {key: rule.value for key, rule in wanted.items()}
    found = borrow(values, actual, recorded, lambda key, value: wanted[key].accepts(value))
    to_set = [SysctlOp(Verb.SET, key, value) for key, value in found.to_set]
    restore = [SysctlOp(Verb.SET, key, value) for key, value in found.to_restore]
    return to_set, restore, found.records


def _foreign(
    services: Changes[ServiceKey, ServiceConfig],
    destinations: Changes[DestinationKey, DestinationConfig],
    addresses: Changes[AddressKey, AddressConfig],
    desired: Desired,
) -> tuple[Foreign, ...]:
    """Return entries that are not ours; destinations only where they are in the way, in a service of ours."""
    inside = (key for key in destinations.foreign if key.service in desired.services)
    return (*sorted(services.foreign), *sorted(inside), *sorted(addresses.foreign))
