"""What a changed DirectorTable affects, and what a director reports of one."""

from collections.abc import Mapping

from lvs_dr.core.dirty_set import DirtySet, node_of
from lvs_dr.core.forwarding import carries, same_way
from lvs_dr.core.indexing import selected, selecting
from lvs_dr.core.node import table_key
from lvs_dr.core.node_status import TableReport
from lvs_dr.core.objects import Key, VirtualService
from lvs_dr.core.order import leaving
from lvs_dr.core.own_tables import possible_owners
from lvs_dr.core.table import TableDestination
from lvs_dr.core.world import TableRecord


def director_table(found: DirtySet, before: TableRecord | None, after: TableRecord | None) -> None:
    """Add what follows from a DirectorTable's change."""
    present = after if after is not None else before
    if present is None:
        return
    found.services.add(present.owner)
    found.check_marks(before, after)
    old, new = _destinations(before), _destinations(after)
    names = [name for name in old.keys() | new.keys() if _differs(old, new, name)]
    moved = [each for name in names for each in (old.get(name), new.get(name)) if each is not None]
    found.real_servers.update(Key(present.key.namespace, each.real_server) for each in moved)
    found.nodes |= {each.node for each in moved if each.node}
    found.nodes |= {each.node for each in _pending(before) ^ _pending(after) if each.node}
    found.nodes |= {each.node for each in (*old.values(), *new.values()) if each.draining and each.node}
    if _forgetful(before) != _forgetful(after):
        found.directors(present.spec.director_group)
    if before is not None and after is not None and before.uid == after.uid:
        if _packets(before) != _packets(after):
            found.nodes |= {each.node for each in after.spec.entries if each.node}
            found.rivals(after.key, before.spec, after.spec)  # a port, or a mark, may be free now
            found.marks(before.spec, after.spec)
        if _router(before) != _router(after):
            found.directors(after.spec.director_group)
            found.addresses([after.spec.address])  # the VIP's other services follow
        return
    _came_or_went(found, before, after, present)


def _came_or_went(found: DirtySet, before: TableRecord | None, after: TableRecord | None, present: TableRecord) -> None:
    """Add what follows from a DirectorTable that is new, or gone, or another one of the same name."""
    world = found.world
    for each in (before, after):
        if each is not None:
            found.services.add(each.owner)
            found.rivals(each.key, each.spec)
            found.marks(each.spec)
            found.directors(each.spec.director_group)
            found.nodes |= world.index.backends_by_address.get(each.spec.address, set())
            found.real_servers |= world.index.real_servers_by_address.get(each.spec.address, set())
            for key in world.index.real_servers_by_address.get(each.spec.address, ()):
                found.services.update(selecting(world, world.real_servers[key]))
    found.services.update(key for key in possible_owners(present.key) if key in world.virtual_services)  # its name
    service = world.virtual_services.get(present.owner)
    if isinstance(service, VirtualService):
        found.directors(service.director_group)  # they may be keeping a lost table for it
        found.nodes |= {node for key in selected(world, service) if (node := node_of(world.real_servers[key]))}


def _forgetful(table: TableRecord | None) -> bool:
    return table is not None and any(each.forget_clients for each in table.spec.destinations)


def _router(table: TableRecord) -> int:
    return table.spec.virtual_router_id


def _packets(table: TableRecord) -> object:
    return table.spec.ports, table.spec.firewall_mark, table.spec.redirect is None


def _pending(table: TableRecord | None) -> set[TableDestination]:
    return set(table.spec.pending) if table is not None else set()


def _destinations(table: TableRecord | None) -> Mapping[str, TableDestination]:
    return {each.real_server: each for each in table.spec.entries} if table is not None else {}


def _differs(old: Mapping[str, TableDestination], new: Mapping[str, TableDestination], name: str) -> bool:
    a, b = old.get(name), new.get(name)
    return a is None or b is None or not same_way(a, b)


def table_reports(found: DirtySet, before: tuple[TableReport, ...], after: tuple[TableReport, ...]) -> None:
    """Add what follows from what a director reports of its tables."""
    old = {report.table: report for report in before}
    new = {report.table: report for report in after}
    world, gone = found.world, False
    for name in old.keys() | new.keys():
        a, b = old.get(name), new.get(name)
        if a == b:
            continue
        key = table_key(name)
        table = world.tables.get(key)
        found.services.update((table.owner,) if table is not None else possible_owners(key))
        gone = gone or table is None or a is None or b is None or a.uid != b.uid
        if table is None:
            continue
        if a is None or b is None or (a.generation, a.uid, a.cut) != (b.generation, b.uid, b.cut):
            found.real_servers.update(Key(key.namespace, each.real_server) for each in table.spec.entries)
            # Backends that carry the VIP, or open a tunnel, which the table does not need may wait for this report.
            nodes = {each.node for each in table.spec.entries if carries(each.forwarding)}
            backends = world.index.backends_by_address.get(table.spec.address, set())
            found.nodes |= backends - nodes
            found.nodes |= backends & world.index.tunnel_nodes.get("", set())
            found.nodes |= _drained(table)
        else:
            changed = {each.real_server for each in set(a.exceptions) ^ set(b.exceptions)} - {""}
            if moved := set(a.draining) ^ set(b.draining):
                changed |= {each.real_server for each in moved}
                found.nodes |= _drained(table)
            changed |= {each.real_server for each in set(a.weights) ^ set(b.weights)}
            found.real_servers.update(Key(key.namespace, each) for each in changed)
    if gone:  # which VIP a table was for that is no more, nobody knows
        found.nodes |= leaving(world)


def _drained(table: TableRecord) -> set[str]:
    """Return the nodes of its draining real servers: what they are to count may depend on this report."""
    return {each.node for each in table.spec.destinations if each.draining and each.node}
