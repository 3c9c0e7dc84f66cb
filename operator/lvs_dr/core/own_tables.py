"""Which DirectorTables are a VirtualService's: one for its VIP, and while that changes one for the VIP before.

A table is for one VIP and one group all its life. When the service changes either, a second table is made beside the
first, under another name, and the first goes when the second serves completely (`core.handover`). Then the names
alternate. Whose a table is says its owner, never its name.
"""

from bisect import bisect_left
from typing import Final

from lvs_dr.core.directors import directors
from lvs_dr.core.indexing import mark_of
from lvs_dr.core.node import table_name
from lvs_dr.core.objects import Invalid, Key, VirtualService
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.world import NodeRecord, TableRecord, World

MAXIMUM_NAME: Final = 253
_SUFFIXES: Final = tuple(str(number) for number in range(2, 6))


def claims(spec: DirectorTableSpec, service: VirtualService) -> bool:
    """Tell whether the table is for the service's VIP and group (which never change during a table's life)."""
    return spec.address == service.address and spec.director_group == service.director_group


def own_tables(world: World, service: VirtualService | Invalid) -> tuple[TableRecord, ...]:
    """Return the service's DirectorTables; those that a deleted namesake has left behind are not among them.

    First comes the one for its VIP and group, then the latest: a later one was compiled from a later generation.
    """
    keys = world.index.tables_by_owner.get(service.meta.key, ())
    found = [record for key in keys if (record := world.tables[key]).owner_uid == service.meta.uid]
    if len(found) > 1:
        found.sort(key=lambda record: record.key)
        found.sort(key=lambda record: (_claimed(record, service), record.spec.service_generation), reverse=True)
    return tuple(found)


def _claimed(record: TableRecord, service: VirtualService | Invalid) -> bool:
    return isinstance(service, VirtualService) and claims(record.spec, service)


def own_table(world: World, service: VirtualService | Invalid) -> TableRecord | None:
    """Return the first of the service's DirectorTables: the one for its VIP, or else the last good one."""
    return next(iter(own_tables(world, service)), None)


def strays(world: World, key: Key) -> tuple[TableRecord, ...]:
    """Return the tables whose owner of this name is gone, or is another one of the same name (its uid differs)."""
    owner = world.virtual_services.get(key)
    uid = owner.meta.uid if owner is not None else None
    found = (world.tables[each] for each in sorted(world.index.tables_by_owner.get(key, ())))
    return tuple(record for record in found if record.owner_uid != uid)


def may_coexist(spec: DirectorTableSpec, service: VirtualService) -> bool:
    """Tell whether directors can serve the table beside the one that the service is to have.

    An address is one group's, and packets with a firewall mark are one IPVS service, whatever their VIP.
    """
    same_mark = bool(service.firewall_mark) and mark_of(spec) == mark_of(service)
    return spec.address != service.address and not same_mark


def names(service: Key) -> tuple[Key, ...]:
    """Return the names that tables of the VirtualService may have, its own first."""
    others = (Key(service.namespace, f"{service.name}.{suffix}") for suffix in _SUFFIXES)
    return (service, *(each for each in others if len(each.name) <= MAXIMUM_NAME))


def possible_owners(table: Key) -> tuple[Key, ...]:
    """Return the VirtualServices that a table may have belonged to of which only the name is left."""
    stem, _, suffix = table.name.rpartition(".")
    return (table, Key(table.namespace, stem)) if stem and suffix in _SUFFIXES else (table,)


def free_name(world: World, service: VirtualService) -> Key | None:
    """Return a name for another table of the service; None while all are taken.

    One that directors know comes first: its table was deleted by mistake, and they go on serving it.
    """
    free = [key for key in names(service.meta.key) if key not in world.tables]
    if len(free) > 1:
        records = [world.lvs_node(name) for name in directors(world, service.director_group)]
        known = (key for key in free if any(_knows(record, table_name(key)) for record in records if record))
        return next(known, free[0])
    return next(iter(free), None)


def _knows(record: NodeRecord, name: str) -> bool:
    role, status = record.spec.director, record.status
    if not record.spec.decided and status is not None:
        return any(report.table == name for report in status.tables)
    told = role.tables if role is not None else ()
    at = bisect_left(told, name)
    return at < len(told) and told[at] == name


def orphans(world: World) -> tuple[Key, ...]:
    """Return the tables whose VirtualService is gone, or is another one of the same name (its uid differs)."""
    found = []
    for key, record in world.tables.items():
        owner = world.virtual_services.get(record.owner)
        if owner is None or owner.meta.uid != record.owner_uid:
            found.append(key)
    return tuple(sorted(found))
