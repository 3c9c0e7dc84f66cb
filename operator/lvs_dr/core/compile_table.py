"""Compiles what users wrote, and what agents report, to the DirectorTables of a VirtualService."""

from msgspec.structs import replace

from lvs_dr.core import resolve
from lvs_dr.core.check_marks import with_marks
from lvs_dr.core.claims import ACCEPTED, judge
from lvs_dr.core.decisions import Action, Member, TableDecision, Verdict
from lvs_dr.core.handover import taken_over
from lvs_dr.core.indexing import selected
from lvs_dr.core.objects import Invalid, Key, VirtualService
from lvs_dr.core.own_tables import claims, free_name, may_coexist, own_table, own_tables, strays
from lvs_dr.core.quorum import table_quorum
from lvs_dr.core.reasons import Reason
from lvs_dr.core.roll import Roll, members
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.table_spec import as_before, in_one_way, required, table_spec
from lvs_dr.core.virtual_routers import router_of
from lvs_dr.core.weights import as_scheduled, divisor
from lvs_dr.core.world import TableRecord, World

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
