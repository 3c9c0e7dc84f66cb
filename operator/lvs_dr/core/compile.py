"""Compiles what users wrote, and what agents report, to DirectorTables and LVSNode specs."""

from msgspec.structs import replace

from lvs_dr.core import resolve
from lvs_dr.core.addresses import order as by_value
from lvs_dr.core.claims import claims, judge, own_table
from lvs_dr.core.decisions import Action, Member, TableDecision, Verdict
from lvs_dr.core.directors import active_director, group_of, unheard, usable_group
from lvs_dr.core.indexing import eligible, selected, selecting
from lvs_dr.core.node import DirectorRole, LVSNodeSpec, table_key, table_name
from lvs_dr.core.objects import InterfaceChoice, Invalid, Key, Node, VirtualService
from lvs_dr.core.order import Release, may_announce, releasing
from lvs_dr.core.reasons import Reason
from lvs_dr.core.table import DirectorTableSpec, TableHealthCheck, TablePort, TcpCheck
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
    spec = DirectorTableSpec(
        director_group=service.director_group,
        service_generation=service.meta.generation,
        address=service.address,
        ports=tuple(TablePort(port=each.port, protocol=each.protocol) for each in service.ports),
        scheduler=service.scheduler,
        on_failure=service.on_failure,
        destinations=roll.destinations,
        pending=roll.pending,
        health_check=_health_check(service),
        paused=service.meta.paused,
    )
    return _decided(key, accepted, spec, roll.members, own)


def _unusable(key: Key, service: Invalid | None, record: TableRecord | None) -> TableDecision:
    """Take the table of a VirtualService that is gone; leave that of one which cannot be read any more as it is."""
    if service is None:
        return TableDecision(key, Action.DELETE if record is not None else Action.KEEP, GONE)
    verdict = Verdict(False, Reason.INVALID, service.message)
    return TableDecision(key, Action.KEEP, verdict, record.spec if record is not None else None)


def _refused(world: World, service: VirtualService, verdict: Verdict, own: TableRecord | None) -> TableDecision:
    """Keep the last good table, which still follows its real servers.

    The table holds no selector, so the current one is followed; VIP, ports, scheduler and checks stay the old ones.
    """
    key = service.meta.key
    if own is None:
        return TableDecision(key, Action.KEEP, verdict)
    roll = _roll(world, service, own.spec.address, own.spec.director_group, own)
    spec = replace(own.spec, destinations=roll.destinations, pending=roll.pending, paused=service.meta.paused)
    return _decided(key, verdict, spec, roll.members, own)


def _decided(
    key: Key, verdict: Verdict, spec: DirectorTableSpec, found: tuple[Member, ...], own: TableRecord | None
) -> TableDecision:
    unchanged = own is not None and own.spec == spec
    return TableDecision(key, Action.KEEP if unchanged else Action.WRITE, verdict, spec, found)


def _roll(world: World, service: VirtualService, address: str, group: str, own: TableRecord | None) -> resolve.Roll:
    ctx = resolve.context(world, service.meta.key.namespace, address, group, own)
    return resolve.members(ctx, selected(world, service))


def _health_check(service: VirtualService) -> TableHealthCheck | None:
    check = service.health_check
    if check is None:
        return None
    return TableHealthCheck(
        tcp=TcpCheck(),
        interval_seconds=check.interval_seconds,
        timeout_seconds=check.timeout_seconds,
        rise=check.rise,
        fall=check.fall,
    )


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
    return LVSNodeSpec(
        decided=True,
        director=role,
        backend_addresses=_backend_addresses(world, record),
        paused=paused,
        releasing=releasing(world, record, role),
    )


def _role(world: World, node: Node, record: NodeRecord) -> DirectorRole | None:
    name = node.meta.key.name
    group = group_of(world, name)
    if not group:
        return None
    before = record.spec.director
    known = usable_group(world, group)
    if known is not None:
        interface = known.interface
    elif before is not None:  # its group is gone or unreadable: the last good one
        interface = InterfaceChoice(before.interface_name, before.interface_subnet)
    else:
        interface = InterfaceChoice()
    tables = sorted(world.index.tables_by_group.get(group, ()))
    lost = _lost_tables(world, record, group)
    addresses: list[str] = []
    if active_director(world, group).node == name:
        told = frozenset(before.addresses if before is not None and before.group == group else ())
        if not record.spec.decided and record.status is not None:
            told = frozenset(record.status.held_addresses)
        wanted = {world.tables[key].spec.address for key in tables} | (_addresses(world, lost) & told)
        addresses = [each for each in wanted if each in told or may_announce(world, name, each).ok]
    return DirectorRole(
        group=group,
        interface_name=interface.name,
        interface_subnet=interface.subnet,
        # kubelet may have picked up a VIP as an address of its node
        internal_addresses=tuple(each for each in node.internal_addresses if each not in world.tables_by_address),
        tables=tuple(sorted(table_name(key) for key in (*tables, *lost))),
        addresses=tuple(sorted(addresses, key=by_value)),
    )


def _lost_tables(world: World, record: NodeRecord, group: str) -> list[Key]:
    """Return the tables the director was told of, or has in its kernel, that are gone while their VirtualServices live.

    They were deleted by mistake, are about to be made anew, and are served meanwhile.
    """
    role, status = record.spec.director, record.status
    known = set(role.tables if role is not None and role.group == group else ())
    if not record.spec.decided and status is not None:
        known.update(report.table for report in status.tables)
    gone = (key for key in map(table_key, known) if key not in world.tables)
    return [key for key in gone if (service := world.virtual_services.get(key)) and _is_for(service, group)]


def _is_for(service: VirtualService | Invalid, group: str) -> bool:
    return isinstance(service, Invalid) or service.director_group == group


def _addresses(world: World, keys: list[Key]) -> set[str]:
    services = (world.virtual_services[key] for key in keys)
    return {service.address for service in services if isinstance(service, VirtualService)}


def _backend_addresses(world: World, record: NodeRecord) -> tuple[str, ...]:
    wanted = _wanted(world, record)
    before = set(record.spec.backend_addresses)
    if not record.spec.decided and record.status is not None:
        before |= set(record.status.loopback_addresses)
    if leaving := before - wanted:
        release = Release(world)
        wanted |= {address for address in leaving if not release.may_drop(record.name, address).ok}
    return tuple(sorted(wanted, key=by_value))


def _wanted(world: World, record: NodeRecord) -> set[str]:
    """Return the VIPs of the tables in which the node is, or is to be."""
    found = {world.tables[key].spec.address for key in world.index.tables_by_node.get(record.name, ())}
    contexts: dict[Key, resolve.Context] = {}
    told = frozenset(record.spec.backend_addresses)
    for key in sorted(world.index.real_servers_by_node.get(record.name, ())):
        for service_key in selecting(world, world.real_servers[key]):
            service = world.virtual_services[service_key]
            table = own_table(world, service) if isinstance(service, VirtualService) else None
            if table is None or table.spec.address in found:
                continue
            ctx = contexts.get(service_key)
            if ctx is None:
                spec = table.spec
                ctx = resolve.context(world, service_key.namespace, spec.address, spec.director_group, table)
                contexts[service_key] = ctx
            judged = resolve.judge(ctx, key)
            silent = judged.member.verdict.reason is Reason.NO_AGENT and ctx.address in told
            if resolve.wants(judged) or silent:
                found.add(ctx.address)
    return found


def orphans(world: World) -> tuple[Key, ...]:
    """Return the tables whose VirtualService is gone, or is another one of the same name (its uid differs)."""
    found = []
    for key, record in world.tables.items():
        owner = world.virtual_services.get(key)
        if owner is None or owner.meta.uid != record.owner_uid:
            found.append(key)
    return tuple(sorted(found))
