"""Compiles what users wrote, and what agents report, to DirectorTables and LVSNode specs."""

from msgspec.structs import replace

from lvs_dr.core import resolve
from lvs_dr.core.announcing import announced, given, releasing
from lvs_dr.core.backend import backend
from lvs_dr.core.claims import claims, judge, own_table
from lvs_dr.core.decisions import Action, Member, TableDecision, Verdict
from lvs_dr.core.directors import directors, group_of, unheard, usable_group
from lvs_dr.core.indexing import eligible, selected
from lvs_dr.core.node import (
    FEATURE_CONNECTION_SYNC,
    FEATURE_IPVS_SETTINGS,
    FEATURE_TUNNELS,
    FEATURE_VRRP,
    DirectorRole,
    DirectorSettings,
    IpvsSysctl,
    LVSNodeSpec,
    table_key,
    table_name,
)
from lvs_dr.core.objects import (
    ForwardingMethod,
    InterfaceChoice,
    Invalid,
    IpvsSettings,
    Key,
    Node,
    VirtualService,
)
from lvs_dr.core.reasons import Reason
from lvs_dr.core.roll import Roll, members
from lvs_dr.core.sync_modes import group_sync
from lvs_dr.core.table import (
    FEATURE_ANY_PORT,
    FEATURE_FIREWALL_MARK,
    FEATURE_FORWARDING,
    FEATURE_HEALTH_CHECKS,
    FEATURE_SERVICE_OPTIONS,
    DirectorTableSpec,
    TablePersistence,
    TablePort,
)
from lvs_dr.core.virtual_routers import router_of, vrrp
from lvs_dr.core.weights import as_scheduled
from lvs_dr.core.world import NodeRecord, TableRecord, World

GONE = Verdict(False, Reason.INVALID, "the VirtualService does not exist")


def compile_table(world: World, key: Key) -> TableDecision:
    """Decide what the DirectorTable of a VirtualService must be.

    A table is for one VIP and one group all its life: when either changes it is deleted and, once gone, created
    anew, so that a report about it always tells which VIP a director still has (order between nodes).
    """
    service, record = world.virtual_services.get(key), world.tables.get(key)
    if not isinstance(service, VirtualService):
        return _unusable(key, service, record)
    accepted = judge(world, service)
    own = own_table(world, service)
    if own is None and record is not None:
        return TableDecision(key, Action.DELETE, accepted)  # a deleted namesake's
    if not accepted.ok:
        return _refused(world, service, accepted, own)
    if own is not None and not claims(own.spec, service):
        return TableDecision(key, Action.DELETE, accepted)
    roll = _roll(world, service, service.address, service.director_group, own)
    if own is None and roll.unreported:
        # It may carry the VIP already: a new table must say so from the start (`DirectorTableSpec.pending`).
        return TableDecision(key, Action.KEEP, accepted, members=roll.members)
    spec = replace(_table(service, roll), virtual_router_id=router_of(world, service.director_group, service.address))
    return _decided(key, accepted, spec, roll.members, own)


def _table(service: VirtualService, roll: Roll) -> DirectorTableSpec:
    given = service.persistence
    return DirectorTableSpec(
        director_group=service.director_group,
        service_generation=service.meta.generation,
        address=service.address,
        ports=tuple(
            TablePort(port=each.port, protocol=each.protocol, target_port=each.target_port) for each in service.ports
        ),
        scheduler=service.scheduler,
        on_failure=service.on_failure,
        destinations=roll.destinations,
        pending=roll.pending,
        health_check=service.health_check,
        firewall_mark=service.firewall_mark,
        scheduler_flags=service.scheduler_flags,
        persistence=None
        if given is None
        else TablePersistence(
            timeout_seconds=given.timeout_seconds, prefix_length=given.prefix_length, engine=given.engine
        ),
        one_packet=service.one_packet,
        quiesce_seconds=service.quiesce_seconds,
        paused=service.meta.paused,
    )


def required(table: DirectorTableSpec) -> tuple[str, ...]:
    """Return the features that an agent must know to serve the table as it is meant, sorted.

    A plain table requires nothing, so that agents of any version serve it.
    """
    entries = (*table.destinations, *table.pending)
    check = table.health_check
    checked = check.port if check is not None else 0
    plain_addresses = not any(each.check_address for each in entries)
    options = (
        table.scheduler_flags,
        table.persistence,
        table.one_packet,
        checked,
        any(each.target_port for each in table.ports),
        any(each.upper or each.lower for each in entries),
    )
    needed = (
        (FEATURE_FORWARDING, any(each.forwarding is not ForwardingMethod.DIRECT_ROUTING for each in entries)),
        (FEATURE_FIREWALL_MARK, table.firewall_mark),
        (FEATURE_ANY_PORT, any(each.port == 0 for each in table.ports)),
        (FEATURE_SERVICE_OPTIONS, any(options)),
        (FEATURE_HEALTH_CHECKS, check is not None and not (check.is_plain and plain_addresses)),
    )
    return tuple(sorted(name for name, used in needed if used))


def _unusable(key: Key, service: Invalid | None, record: TableRecord | None) -> TableDecision:
    """Take the table of a VirtualService that is gone; leave that of one which cannot be read any more as it is."""
    if service is None:
        return TableDecision(key, Action.DELETE if record is not None else Action.KEEP, GONE)
    verdict = Verdict(False, Reason.INVALID, service.message)
    return TableDecision(key, Action.KEEP, verdict, record.spec if record is not None else None)


def _refused(world: World, service: VirtualService, verdict: Verdict, own: TableRecord | None) -> TableDecision:
    """Keep the last good table, which still follows its real servers.

    The table holds no selector, so the current one is followed; VIP, ports, scheduler and checks stay the old ones.
    Target ports are for masquerading alone, so while they stay, that does.
    """
    key = service.meta.key
    if own is None:
        return TableDecision(key, Action.KEEP, verdict)
    if any(each.target_port for each in own.spec.ports):
        overrides = tuple(replace(each, forwarding=None, tunnel=None) for each in service.overrides)
        service = replace(service, forwarding=ForwardingMethod.MASQUERADE, overrides=overrides)
    roll = _roll(world, service, own.spec.address, own.spec.director_group, own)
    spec = replace(
        own.spec,
        destinations=roll.destinations,
        pending=roll.pending,
        virtual_router_id=router_of(world, own.spec.director_group, own.spec.address),
        paused=service.meta.paused,
    )
    return _decided(key, verdict, spec, roll.members, own)


def _decided(
    key: Key, verdict: Verdict, spec: DirectorTableSpec, found: tuple[Member, ...], own: TableRecord | None
) -> TableDecision:
    together = as_scheduled(spec.scheduler, (*spec.destinations, *spec.pending))
    count = len(spec.destinations)
    spec = replace(spec, destinations=together[:count], pending=together[count:], requires=required(spec))
    unchanged = own is not None and own.spec == spec
    return TableDecision(key, Action.KEEP if unchanged else Action.WRITE, verdict, spec, found)


def _roll(world: World, service: VirtualService, address: str, group: str, own: TableRecord | None) -> Roll:
    ctx = resolve.context(world, service, address, group, own)
    return members(ctx, selected(world, service))


def compile_node(world: World, name: str) -> LVSNodeSpec | None:
    """Decide what a node must be; None when there is nothing to write.

    That is: no such Node, no Linux one, or one whose predecessor's LVSNode is still about to be deleted.

    Nothing is decided before the agent has reported: an LVSNode that was deleted by mistake and created anew must not
    read as `clean up`.
    """
    node, record = world.nodes.get(name), world.lvs_node(name)
    if node is None or not eligible(node):
        return None
    paused = node.meta.paused
    stored = world.lvs_nodes.get(name)
    if record is None and stored is not None and stored.owner_uid:
        return None
    if record is None or (not record.spec.decided and record.status is None):
        return LVSNodeSpec(paused=paused)
    if not record.spec.decided and unheard(world, group_of(world, name)):
        return LVSNodeSpec(paused=paused)  # it may be the one that holds the group's VIPs, or another may
    role = _role(world, node, record)
    addresses, tunnels = backend(world, record)
    features = (
        (FEATURE_CONNECTION_SYNC, role is not None and role.sync is not None),
        (FEATURE_IPVS_SETTINGS, role is not None and role.settings is not None),
        (FEATURE_TUNNELS, bool(tunnels)),
        (FEATURE_VRRP, role is not None and bool(role.vrrp.routers)),
    )
    return LVSNodeSpec(
        decided=True,
        director=role,
        backend_addresses=addresses,
        backend_tunnels=tunnels,
        paused=paused,
        requires=tuple(name for name, used in features if used),
        releasing=releasing(world, record, role),
    )


def _role(world: World, node: Node, record: NodeRecord) -> DirectorRole | None:
    name = node.meta.key.name
    group = group_of(world, name)
    if not group:
        return None
    before = record.spec.director
    known = usable_group(world, group)
    settings = before.settings if before is not None else None
    sync = before.sync if before is not None else None
    if known is not None:
        interface, settings = known.interface, _settings(known.ipvs)
        sync = group_sync(known, len(directors(world, group)))
    elif before is not None:  # its group is gone or unreadable: the last good one
        interface = InterfaceChoice(before.interface_name, before.interface_subnet)
    else:
        interface = InterfaceChoice()
    tables = sorted(world.index.tables_by_group.get(group, ()))
    lost = _lost_tables(world, record, group)
    wanted = {world.tables[key].spec.address for key in tables} | (_addresses(world, lost) & announced(record, group))
    return DirectorRole(
        group=group,
        interface_name=interface.name,
        interface_subnet=interface.subnet,
        # kubelet may have picked up a VIP as an address of its node
        internal_addresses=tuple(each for each in node.internal_addresses if each not in world.tables_by_address),
        tables=tuple(sorted(table_name(key) for key in (*tables, *lost))),
        vrrp=vrrp(world, node, group, before, given(world, record, group, wanted)),
        settings=settings,
        sync=sync if tables or lost else None,
    )


def _settings(given: IpvsSettings) -> DirectorSettings | None:
    if given == IpvsSettings():
        return None
    return DirectorSettings(
        tcp_seconds=given.tcp_seconds,
        tcp_fin_seconds=given.tcp_fin_seconds,
        udp_seconds=given.udp_seconds,
        sysctls=tuple(IpvsSysctl(name=name, value=value) for name, value in given.sysctls),
    )


def _lost_tables(world: World, record: NodeRecord, group: str) -> list[Key]:
    """Return the tables the director was told of, or has in its kernel, that are gone while their VirtualServices live.

    They were deleted by mistake, are about to be made anew, and are served meanwhile; unless another service has taken
    their VIP, port or mark in the meantime.
    """
    role, status = record.spec.director, record.status
    known = set(role.tables if role is not None and role.group == group else ())
    if not record.spec.decided and status is not None:
        known.update(report.table for report in status.tables)
    gone = (key for key in map(table_key, known) if key not in world.tables)
    return [key for key in gone if (service := world.virtual_services.get(key)) and _is_for(world, service, group)]


_TAKEN = frozenset({Reason.ADDRESS_CLAIMED, Reason.PORT_CLAIMED, Reason.MARK_CLAIMED})


def _is_for(world: World, service: VirtualService | Invalid, group: str) -> bool:
    if isinstance(service, Invalid):
        return True
    return service.director_group == group and judge(world, service).reason not in _TAKEN


def _addresses(world: World, keys: list[Key]) -> set[str]:
    services = (world.virtual_services[key] for key in keys)
    return {service.address for service in services if isinstance(service, VirtualService)}


def orphans(world: World) -> tuple[Key, ...]:
    """Return the tables whose VirtualService is gone, or is another one of the same name (its uid differs)."""
    found = []
    for key, record in world.tables.items():
        owner = world.virtual_services.get(key)
        if owner is None or owner.meta.uid != record.owner_uid:
            found.append(key)
    return tuple(sorted(found))
