"""What a changed LVSNode affects: an agent's report, or the controller's own write."""

from bisect import bisect_left
from collections.abc import Iterable

from lvs_dr.core.addresses import version
from lvs_dr.core.directors import directors, follows, prospects
from lvs_dr.core.dirty_set import DirtySet
from lvs_dr.core.dirty_table import table_reports
from lvs_dr.core.forwarding import method_of
from lvs_dr.core.indexing import is_unsure, selecting
from lvs_dr.core.node import Releasing, table_key
from lvs_dr.core.node_status import LVSNodeStatus, Problem, VirtualRouterReport
from lvs_dr.core.objects import ForwardingMethod, Invalid, Key, VirtualService
from lvs_dr.core.order import leaving
from lvs_dr.core.own_tables import own_tables
from lvs_dr.core.sorry_server import sorry_method
from lvs_dr.core.virtual_routers import Place, places
from lvs_dr.core.world import NodeRecord, TableRecord, World


def lvs_node(found: DirtySet, before: NodeRecord | None, after: NodeRecord | None) -> None:
    """Add what follows from an LVSNode's change."""
    present = after if after is not None else before
    if present is None:
        return
    name = present.name
    if before is None or after is None or _another(before, after):
        found.nodes.add(name)
        found.backend(name)
        for group in groups_of(found.world, name):
            found.group(group)
        for each in (before, after):
            freed(found, each)
        heard(found)
        return
    if before.spec != after.spec:
        _spec(found, before, after)
    if before.status is not None and after.status is not None and before.status != after.status:
        _status(found, before.status, after.status, name)
    if follows(after) and not follows(before):
        _caught_up(found, after)
    if _answers(before) != _answers(after):
        _asked(found, name, after)
    if _unsure(before) != _unsure(after):
        heard(found)


def _answers(record: NodeRecord) -> object:
    """Return what the node's sockets say, as far as it counts."""
    return record.status.sockets if record.status is not None and follows(record) else ()


def _another(before: NodeRecord, after: NodeRecord) -> bool:
    """Tell whether the LVSNode is another one than before, or is heard of for the first time."""
    same = (before.uid, before.owner_uid) == (after.uid, after.owner_uid)
    return not same or (before.status is None) != (after.status is None)


def _unsure(record: NodeRecord) -> object:
    """Return what of an LVSNode that was lost decides about VIPs that nobody has noted."""
    if not is_unsure(record) or record.status is None:
        return None
    return {(each.id, each.family) for each in record.status.virtual_routers}


def groups_of(world: World, node: str) -> frozenset[str]:
    """Return the groups the node directs for, by its labels and by what it was told."""
    record = world.lvs_nodes.get(node)
    found = {group for group, nodes in world.index.nodes_by_group.items() if node in nodes}
    if record is not None and record.spec.director is not None:
        found.add(record.spec.director.group)
    return frozenset(found)


def freed(found: DirtySet, record: NodeRecord | None) -> None:
    """Add who may have waited for a VIP that the node held."""
    if record is None:
        return
    addresses = {*(record.spec.director.addresses if record.spec.director else ())}
    if record.spec.releasing is not None:
        addresses |= set(record.spec.releasing.addresses)
    if record.status is not None:
        addresses |= set(record.status.held_addresses)
    _announcers(found, addresses)


def heard(found: DirtySet) -> None:
    """Add all who wait for a node of which nothing is known: nobody is given a VIP, or relieved of one, before."""
    found.nodes |= leaving(found.world)
    for names in found.world.index.nodes_by_group.values():
        found.nodes |= names


def _announcers(found: DirtySet, addresses: Iterable[str]) -> None:
    world = found.world
    for address in addresses:
        for key in world.tables_by_address.get(address, ()):
            table = world.tables[key]
            found.services.add(table.owner)
            found.nodes.update(directors(world, table.spec.director_group))


def _spec(found: DirtySet, before: NodeRecord, after: NodeRecord) -> None:
    old, new = before.spec.director, after.spec.director
    known, noted = before.spec.releasing, after.spec.releasing
    moved = (places(old).items() ^ places(new).items()) | (_noted(known) ^ _noted(noted))
    _announcers(found, {address for address, _ in moved})
    left = known.group if known else "", noted.group if noted else ""
    if (old.group if old else "") != (new.group if new else "") or left[0] != left[1]:
        found.nodes |= leaving(found.world)
        for role in (old, new):
            if role is not None:
                found.group(role.group)
    if old is not None and new is not None and old.tables != new.tables:
        # Destinations wait until every director's LVSNode names their table.
        names = (table_key(each) for each in set(old.tables) ^ set(new.tables))
        found.services |= found.world.owners(key for key in names if key in found.world.tables)
    changed = set(before.spec.backend_addresses) ^ set(after.spec.backend_addresses)
    if changed:
        _backend(found, after.name, changed)
    if before.spec.backend_tunnels != after.spec.backend_tunnels:
        _tunnelled(found, after.name)


def _noted(releasing: Releasing | None) -> set[tuple[str, Place]]:
    routers = releasing.routers if releasing is not None else ()
    return {(address, Place(each.group, each.id)) for each in routers for address in each.addresses}


def _status(found: DirtySet, before: LVSNodeStatus, after: LVSNodeStatus, name: str) -> None:
    if held := set(before.held_addresses) ^ set(after.held_addresses):
        found.nodes.add(name)
        _announcers(found, held)
        found.groups |= groups_of(found.world, name)
    if before.virtual_routers != after.virtual_routers:
        elected(found, before.virtual_routers, after.virtual_routers, name)
    if before.loopback_addresses != after.loopback_addresses:
        _backend(found, name, set(before.loopback_addresses) ^ set(after.loopback_addresses))
    if before.tunnels != after.tunnels:
        _tunnelled(found, name)
    _addresses(found, before, after, name)
    if before.suspicions != after.suspicions:
        found.real_servers |= found.world.index.real_servers_by_node.get(name, set())
    if before.problems != after.problems:
        _problems(found, set(before.problems) ^ set(after.problems), name)
    if before.sync != after.sync or _connections(before) != _connections(after):
        found.groups |= groups_of(found.world, name)
    if before.tables != after.tables:
        table_reports(found, before.tables, after.tables)


def elected(
    found: DirtySet, before: tuple[VirtualRouterReport, ...], after: tuple[VirtualRouterReport, ...], name: str
) -> None:
    """Add the group, and the services and real servers whose Active director may be another one now."""
    world = found.world
    changed = {(id_, family) for id_, family, *_ in _states(before) ^ _states(after)}
    for group in groups_of(world, name):
        found.groups.add(group)
        for key in world.index.tables_by_group.get(group, ()):
            table = world.tables[key]
            spec = table.spec
            if (spec.virtual_router_id, version(spec.address)) in changed:
                found.services.add(table.owner)
                found.real_servers.update(Key(key.namespace, each.real_server) for each in spec.destinations)


def _states(reports: tuple[VirtualRouterReport, ...]) -> set[tuple[object, ...]]:
    return {(each.id, each.family, each.state, each.since, each.reason, each.faults) for each in reports}


def _connections(status: LVSNodeStatus) -> int:
    return status.ipvs.connections if status.ipvs is not None else 0


def _backend(found: DirtySet, name: str, addresses: set[str]) -> None:
    """Add the RealServers on the node, and those of their services whose VIP is among `addresses`."""
    world = found.world
    for key in world.index.real_servers_by_node.get(name, ()):
        found.real_servers.add(key)
        for service_key in selecting(world, world.real_servers[key]):
            service = world.virtual_services[service_key]
            known = {table.spec.address for table in own_tables(world, service)}
            if isinstance(service, VirtualService):
                known.add(service.address)
            if not known.isdisjoint(addresses):
                found.services.add(service_key)


def _tunnelled(found: DirtySet, name: str) -> None:
    """Add the RealServers on the node, and those of their services that reach them by tunnel, or did."""
    world = found.world
    found.services |= world.owners(world.index.tables_by_tunnel.get(name))
    for key in world.index.real_servers_by_node.get(name, ()):
        found.real_servers.add(key)
        for service_key in selecting(world, world.real_servers[key]):
            service = world.virtual_services[service_key]
            if (
                isinstance(service, VirtualService)
                and method_of(service, key.name).forwarding is ForwardingMethod.TUNNEL
            ):
                found.services.add(service_key)


def _addresses(found: DirtySet, before: LVSNodeStatus, after: LVSNodeStatus, name: str) -> None:
    if before.next_hops != after.next_hops:
        found.addresses(set(before.next_hops) ^ set(after.next_hops))
    if (before.interfaces, before.director_interface) == (after.interfaces, after.director_interface):
        return
    found.nodes.add(name)
    found.backend(name)
    old = {cidr for interface in before.interfaces for cidr in interface.addresses}
    new = {cidr for interface in after.interfaces for cidr in interface.addresses}
    found.addresses(cidr.partition("/")[0] for cidr in old ^ new)
    found.neighbours()
    for group in groups_of(found.world, name):
        found.group(group)


def _problems(found: DirtySet, problems: set[Problem], name: str) -> None:
    found.addresses({problem.address for problem in problems} - {""})
    found.real_servers |= found.world.index.real_servers_by_node.get(name, set())
    if any(not problem.address for problem in problems):
        for group in groups_of(found.world, name):
            found.group(group)


def _asked(found: DirtySet, name: str, record: NodeRecord) -> None:
    """Add the services whose drain waits for what the node's sockets say."""
    found.services |= found.world.owners(
        key for each in record.spec.draining if (key := table_key(each.table)) in found.world.tables
    )
    found.real_servers |= found.world.index.real_servers_by_node.get(name, set())


def _caught_up(found: DirtySet, record: NodeRecord) -> None:
    """Add what waited for this node to have acted on its LVSNode."""
    world = found.world
    found.nodes.add(record.name)
    if record.spec.director is not None or (record.spec.releasing is not None and record.spec.releasing.group):
        found.nodes |= leaving(world)
        for group in groups_of(world, record.name):
            found.groups.add(group)
            if not prospects(world, group).ok:
                found.group(group)
    if record.status is None:
        return
    carried = set(record.status.loopback_addresses)
    for key in world.index.real_servers_by_node.get(record.name, ()):
        for service_key in selecting(world, world.real_servers[key]):
            service = world.virtual_services[service_key]
            for table in own_tables(world, service):
                if table.spec.address in carried and not _has(table, service, key.name):
                    found.services.add(service_key)


def _has(table: TableRecord, service: VirtualService | Invalid, real_server: str) -> bool:
    """Tell whether the table sends to the real server as its service wants it."""
    if isinstance(service, VirtualService) and service.sorry_key == Key(table.key.namespace, real_server):
        found = table.spec.sorry_server
        return found is not None and (found.forwarding, found.tunnel) == sorry_method(service)
    entries = table.spec.destinations
    at = bisect_left(entries, real_server, key=lambda each: each.real_server)
    if at == len(entries) or entries[at].real_server != real_server or not isinstance(service, VirtualService):
        return False
    return (entries[at].forwarding, entries[at].tunnel) == method_of(service, real_server)
