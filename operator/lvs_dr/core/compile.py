"""Compiles what users wrote, and what agents report, to DirectorTables and LVSNode specs."""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from lvs_dr.core import resolve
from lvs_dr.core.announcing import announced, given, releasing
from lvs_dr.core.backend import backend
from lvs_dr.core.check_marks import with_marks
from lvs_dr.core.claims import ACCEPTED, judge
from lvs_dr.core.decisions import Action, Member, TableDecision, Verdict
from lvs_dr.core.director_group import InterfaceChoice, IpvsSettings
from lvs_dr.core.directors import directors, group_of, unheard, usable_group
from lvs_dr.core.drain import questions
from lvs_dr.core.handover import taken_over
from lvs_dr.core.indexing import eligible, selected
from lvs_dr.core.lost_tables import lost_tables, wanted_addresses
from lvs_dr.core.node import (
    FEATURE_CONNECTION_SYNC,
    FEATURE_IPVS_SETTINGS,
    FEATURE_TUNNELS,
    FEATURE_VRRP,
    DirectorRole,
    DirectorSettings,
    IpvsSysctl,
    LVSNodeSpec,
    table_name,
)
from lvs_dr.core.objects import Invalid, Key, Node, VirtualService
from lvs_dr.core.own_tables import (
    claims,
    free_name,
    may_coexist,
    own_table,
    own_tables,
    strays,
)
from lvs_dr.core.quorum import table_quorum
from lvs_dr.core.reasons import Reason
from lvs_dr.core.roll import Roll, members
from lvs_dr.core.sync_modes import group_sync
from lvs_dr.core.table import (
    DirectorTableSpec,
)
from lvs_dr.core.table_spec import as_before, in_one_way, required, table_spec
from lvs_dr.core.virtual_routers import router_of, vrrp
from lvs_dr.core.weights import as_scheduled, divisor
from lvs_dr.core.world import NodeRecord, TableRecord, World

GONE = Verdict(False, Reason.INVALID, "the VirtualService does not exist")


def compile_table(world: World, key: Key) -> TableDecision:
    """Decide what the DirectorTable of a VirtualService must be.

    A table is for one VIP and one group all its life, so that a report about it always tells which VIP a director
    still has (order between nodes). When the VIP changes there are two: see `core.own_tables`.
    """
    service, left = world.virtual_services.get(key), strays(world, key)
    if not isinstance(service, VirtualService):
        return _unusable(world, key, service, left)
    accepted = judge(world, service)
    own = own_tables(world, service)
    if left and not own:
        return _gone(key, accepted, left)
    others = tuple(TableDecision(key, Action.DELETE, accepted, name=record.key) for record in left)
    if own and (not accepted.ok or claims(own[0].spec, service)):
        first = own[0]
        main = _served(world, service, first) if accepted.ok else _refused(world, service, accepted, first)
        return _with_former(world, service, replace(main, others=others), first, own[1:])
    if not accepted.ok:
        return TableDecision(key, Action.KEEP, accepted)
    name = free_name(world, service)
    own = _last_served(world, service, own)
    first_away = tuple(each for each in own if name is None or not may_coexist(each.spec, service))
    if first_away:
        main = _gone(key, accepted, (*first_away, *left))
        formers = tuple(each for each in own if each not in first_away)
        return _with_former(world, service, main, None, formers)
    main = TableDecision(key, Action.KEEP, accepted) if name is None else _new(world, service, name)
    return _with_former(world, service, replace(main, others=others), None, own)


def _gone(key: Key, accepted: Verdict, tables: tuple[TableRecord, ...]) -> TableDecision:
    """Take tables away; what comes after them is decided when they are gone."""
    first, *more = (TableDecision(key, Action.DELETE, accepted, name=record.key) for record in tables)
    return replace(first, others=tuple(more))


def _served(world: World, service: VirtualService, own: TableRecord) -> TableDecision:
    roll = _roll(world, service, service.address, service.director_group, own)
    return _decided(service, ACCEPTED, _spec(world, service, roll), roll, own)


def _new(world: World, service: VirtualService, name: Key) -> TableDecision:
    key = service.meta.key
    roll = _roll(world, service, service.address, service.director_group, None)
    if roll.unreported:
        # It may carry the VIP already: a new table must say so from the start (`DirectorTableSpec.pending`).
        return TableDecision(key, Action.KEEP, ACCEPTED, members=roll.members, name=name)
    return replace(_decided(service, ACCEPTED, _spec(world, service, roll), roll, None), name=name)


def _spec(world: World, service: VirtualService, roll: Roll) -> DirectorTableSpec:
    router = router_of(world, service.director_group, service.address)
    return replace(table_spec(service, roll), virtual_router_id=router)


def _last_served(world: World, service: VirtualService, own: tuple[TableRecord, ...]) -> tuple[TableRecord, ...]:
    """Return the service's tables of other VIPs, first the one that served last.

    Where the change before this one has not come to its end, that is the VIP from which it came.
    """
    if len(own) > 1 and not taken_over(world, own[1], own[0], _members(world, service, own[0])).ok:
        return own[1], own[0], *own[2:]
    return own


def _members(world: World, service: VirtualService, own: TableRecord) -> tuple[Member, ...]:
    return _roll(world, service, own.spec.address, own.spec.director_group, own).members


def _with_former(
    world: World,
    service: VirtualService,
    main: TableDecision,
    present: TableRecord | None,
    formers: tuple[TableRecord, ...],
) -> TableDecision:
    """Add what becomes of the tables of VIPs before: the first of them stays until the present one has taken over.

    Meanwhile it follows its real servers, as one does whose change is refused.
    """
    if not formers:
        return main
    former, *more = formers
    verdict = taken_over(world, former, present, main.members)
    decision = _refused(world, service, main.accepted, former)
    late = present is not None and present.uid in world.overdue
    if (verdict.ok or late) and not service.meta.paused:
        decision = replace(decision, action=Action.DELETE)
    gone = (TableDecision(main.key, Action.DELETE, main.accepted, name=record.key) for record in more)
    return replace(main, others=(replace(decision, handover=verdict), *gone, *main.others))


def _unusable(world: World, key: Key, service: Invalid | None, left: tuple[TableRecord, ...]) -> TableDecision:
    """Take the tables of a VirtualService that is gone; leave those of one that cannot be read as they are."""
    if service is None:
        return _gone(key, GONE, left) if left else TableDecision(key, Action.KEEP, GONE)
    verdict, record = Verdict(False, Reason.INVALID, service.message), own_table(world, service)
    if record is None:
        return TableDecision(key, Action.KEEP, verdict)
    return TableDecision(key, Action.KEEP, verdict, record.spec, name=record.key)


def _refused(world: World, service: VirtualService, verdict: Verdict, own: TableRecord) -> TableDecision:
    """Keep the last good table, which still follows its real servers.

    The table holds no selector, so the current one is followed; VIP, ports, scheduler and checks stay the old ones,
    and where methods exclude each other the method does.
    """
    service = as_before(service, own.spec)
    roll = _roll(world, service, own.spec.address, own.spec.director_group, own)
    spec = replace(
        own.spec,
        destinations=roll.destinations,
        pending=roll.pending,
        sorry_server=roll.sorry_server,
        virtual_router_id=router_of(world, own.spec.director_group, own.spec.address),
        paused=service.meta.paused,
    )
    return _decided(service, verdict, spec, roll, own)


def _decided(
    service: VirtualService, verdict: Verdict, spec: DirectorTableSpec, roll: Roll, own: TableRecord | None
) -> TableDecision:
    spec = in_one_way(spec, own.spec if own is not None else None)
    entries = (*spec.destinations, *spec.pending)
    together = as_scheduled(spec.scheduler, entries)
    count = len(spec.destinations)
    needed = table_quorum(service.quorum, divisor(spec.scheduler, entries)) if spec.sorry_server is not None else None
    spec = replace(spec, destinations=together[:count], pending=together[count:], quorum=needed)
    spec = replace(spec, requires=required(spec))
    unchanged, name = own is not None and own.spec == spec, own.key if own is not None else None
    action = Action.KEEP if unchanged else Action.WRITE
    return TableDecision(service.meta.key, action, verdict, spec, roll.members, name, sorry=roll.sorry)


def _roll(world: World, service: VirtualService, address: str, group: str, own: TableRecord | None) -> Roll:
    ctx = resolve.context(world, service, address, group, own)
    found = members(ctx, selected(world, service))
    marked = with_marks(world, service, address, group, own, (*found.destinations, *found.pending))
    count = len(found.destinations)
    return found._replace(destinations=marked[:count], pending=marked[count:])


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
    addresses, tunnels, served = backend(world, record)
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
        backend_services=served,
        draining=questions(world, name),
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
    lost = lost_tables(world, record, group)
    wanted = {world.tables[key].spec.address for key in tables}
    wanted |= wanted_addresses(world, lost, group) & announced(record, group)
    return DirectorRole(
        group=group,
        interface_name=interface.name,
        interface_subnet=interface.subnet,
        # kubelet may have picked up a VIP as an address of its node
        internal_addresses=tuple(each for each in node.internal_addresses if each not in world.tables_by_address),
        tables=tuple(sorted(table_name(key) for key in (*tables, *lost))),
        vrrp=vrrp(world, node, group, before, given(world, record, group, wanted)),
        settings=_forgetting(settings) if _forgets(world, tables) else settings,
        sync=sync if tables or lost else None,
        secrets=known.secrets if known is not None else before.secrets if before is not None else (),
    )


_FORGET: Final = IpvsSysctl(name="expire_quiescent_template", value=1)


def _forgets(world: World, tables: Iterable[Key]) -> bool:
    """Tell whether a real server drains whose clients persistence is not to bring back."""
    return any(each.forget_clients for key in tables for each in world.tables[key].spec.destinations)


def _forgetting(settings: DirectorSettings | None) -> DirectorSettings:
    """Return settings by which IPVS forgets clients of quiesced real servers; what the group says itself stands."""
    settings = settings or DirectorSettings()
    if any(each.name == _FORGET.name for each in settings.sysctls):
        return settings
    return replace(settings, sysctls=tuple(sorted((*settings.sysctls, _FORGET), key=lambda each: each.name)))


def _settings(given: IpvsSettings) -> DirectorSettings | None:
    if given == IpvsSettings():
        return None
    return DirectorSettings(
        tcp_seconds=given.tcp_seconds,
        tcp_fin_seconds=given.tcp_fin_seconds,
        udp_seconds=given.udp_seconds,
        sysctls=tuple(IpvsSysctl(name=name, value=value) for name, value in given.sysctls),
    )
