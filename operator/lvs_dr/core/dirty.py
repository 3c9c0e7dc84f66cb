"""What must be compiled, or summarised, again after something changed: enough, and not everything."""

from collections.abc import Callable, Mapping
from typing import Any

from lvs_dr.core import dirty_node, dirty_table
from lvs_dr.core.decisions import Dirty, Member, TableDecision
from lvs_dr.core.director_group import DirectorGroup
from lvs_dr.core.dirty_set import DirtySet, node_of
from lvs_dr.core.indexing import Kind, eligible, selected, selecting
from lvs_dr.core.objects import Invalid, Key, Namespace, Node, RealServer, RealServerState, VirtualService
from lvs_dr.core.own_tables import own_tables
from lvs_dr.core.world import Cluster, World


def affected(world: World, kind: str, before: Any, after: Any) -> Dirty:  # noqa: ANN401 - any of the kinds
    """Tell what is affected by an object of `kind` that was `before` and is `after` (None: absent).

    `world` and its index already hold `after`. Kind "Cluster" is the cluster's own addresses. Raises KeyError for
    an unknown kind.
    """
    if before == after:
        return Dirty()
    found = DirtySet(world)
    _BY_KIND[kind](found, before, after)
    return found.dirty()


def silence_changed(world: World, node: str) -> Dirty:
    """Tell what is affected when the agent of a node falls silent or is heard again."""
    found = DirtySet(world)
    found.nodes.add(node)
    found.backend(node)
    record = world.lvs_nodes.get(node)
    for group in dirty_node.groups_of(world, node):
        found.group(group)
    if record is None or record.status is None:
        dirty_node.heard(found)  # one that never reported is waited for only while it is alive
    else:
        dirty_node.elected(found, record.status.virtual_routers, (), node)
    return found.dirty()


def confirmation_changed(world: World, node: str) -> Dirty:
    """Tell what is affected when a node's report that it is Active becomes doubtful, or is confirmed."""
    found = DirtySet(world)
    record = world.lvs_nodes.get(node)
    if record is not None and record.status is not None:
        dirty_node.elected(found, record.status.virtual_routers, (), node)
    return found.dirty()


def drain_over_changed(world: World, key: Key) -> Dirty:
    """Tell what is affected when the time of a draining RealServer is over, or it does not drain any more."""
    found = DirtySet(world)
    found.real_servers.add(key)
    real_server = world.real_servers.get(key)
    if real_server is not None:
        found.services.update(selecting(world, real_server))
    return found.dirty()


def members_changed(before: TableDecision | None, after: TableDecision | None) -> frozenset[Key]:
    """Return the RealServers whose part in a VirtualService changed between two compiles: their status follows."""
    if before is not None and after is not None and before.accepted == after.accepted:
        return frozenset(each.real_server for each in _all(before) ^ _all(after))
    return frozenset(each.real_server for decision in (before, after) if decision for each in _all(decision))


def _all(decision: TableDecision) -> set[Member]:
    return {*decision.members, *((decision.sorry,) if decision.sorry is not None else ())}


def _service(found: DirtySet, before: VirtualService | Invalid | None, after: VirtualService | Invalid | None) -> None:
    world = found.world
    present = after if after is not None else before
    if present is None:
        return
    found.services.add(present.meta.key)
    if _claim(before) != _claim(after):
        for each in (before, after):
            if isinstance(each, VirtualService):
                found.rivals(each.meta.key, each)
                found.marks(each)
                if not own_tables(world, each):
                    found.directors(each.director_group)  # they may be keeping a lost table for it
    if _selection(before) != _selection(after):
        for each in (before, after):
            if isinstance(each, VirtualService):
                keys = selected(world, each)
                if (sorry := each.sorry_key) is not None and sorry in world.real_servers:
                    keys.append(sorry)
                found.real_servers.update(keys)
                found.nodes |= {node for key in keys if (node := node_of(world.real_servers[key]))}


def _claim(service: VirtualService | Invalid | None) -> object:
    if not isinstance(service, VirtualService):
        return None
    return (
        service.meta.uid,
        service.address,
        service.director_group,
        service.ports,
        service.firewall_mark,
        service.redirect is None,
        service.meta.created,
    )


def _selection(service: VirtualService | Invalid | None) -> object:
    """Return what of a service decides what its real servers' nodes carry."""
    if not isinstance(service, VirtualService):
        return None
    return (
        service.meta.uid,
        service.selector,
        service.forwarding,
        service.tunnel,
        service.overrides,
        service.sorry_server,
    )


def _real_server(found: DirtySet, before: RealServer | Invalid | None, after: RealServer | Invalid | None) -> None:
    for each in (before, after):
        if each is not None:
            found.real_servers.add(each.meta.key)
            found.services.update(selecting(found.world, each))
    if _place(before) != _place(after):
        found.nodes |= {node for each in (before, after) if (node := node_of(each))}


def _place(real_server: RealServer | Invalid | None) -> object:
    """Return what of a RealServer decides about the VIPs on its node."""
    if not isinstance(real_server, RealServer):
        return real_server
    return real_server.node_name, real_server.addresses, real_server.meta.labels, _drains(real_server)


def _drains(real_server: RealServer) -> bool:
    return real_server.state is RealServerState.DRAIN


def _group(found: DirtySet, before: DirectorGroup | Invalid | None, after: DirectorGroup | Invalid | None) -> None:
    present = after if after is not None else before
    if present is None:
        return
    world, name = found.world, present.meta.key.name
    found.group(name)
    found.neighbours()
    if _membership(before) != _membership(after):
        # Its nodes come from, or go to, the groups that sort after it.
        for other in {*world.groups, *world.index.nodes_by_group, *world.index.lvs_nodes_by_group}:
            if other > name:
                found.group(other)


def _membership(group: DirectorGroup | Invalid | None) -> object:
    return group.node_selector if isinstance(group, DirectorGroup) else group is not None


def _node(found: DirtySet, before: Node | None, after: Node | None) -> None:
    present = after if after is not None else before
    if present is None:
        return
    world, name = found.world, present.meta.key.name
    if before is None or after is None or before.meta.uid != after.meta.uid or eligible(before) != eligible(after):
        found.nodes.add(name)
        found.backend(name)
        for group in dirty_node.groups_of(world, name):
            found.group(group)
        dirty_node.freed(found, world.lvs_nodes.get(name))
        dirty_node.heard(found)
    elif before.meta.paused != after.meta.paused or _rank(before) != _rank(after):
        found.nodes.add(name)
        found.groups |= dirty_node.groups_of(world, name)
    if before is not None and after is not None and before.meta.labels != after.meta.labels:
        _labels(found, name)
    addresses = {*(before.internal_addresses if before else ()), *(after.internal_addresses if after else ())}
    if before is None or after is None or before.internal_addresses != after.internal_addresses:
        found.nodes.add(name)
        found.backend(name)
        found.addresses(addresses)


def _rank(node: Node) -> object:
    """Return what of a Node decides about its priority among directors."""
    return node.vrrp_priority, node.standby, node.refused_priority


def _labels(found: DirtySet, name: str) -> None:
    """Follow a Node's label only where it changes whom the node directs for, or may have kept it undecided."""
    world = found.world
    record = world.lvs_nodes.get(name)
    told = record.spec.director.group if record is not None and record.spec.director is not None else ""
    now = next((group for group, nodes in world.index.nodes_by_group.items() if name in nodes), "")
    if told != now or (record is not None and not record.spec.decided):
        found.nodes.add(name)
        for group in {told, now} - {""}:
            found.group(group)
        found.neighbours()


def _namespace(found: DirtySet, before: Namespace | None, after: Namespace | None) -> None:
    present = after if after is not None else before
    if present is None:
        return
    world = found.world
    for key in world.services_by_namespace.get(present.name, ()):
        service = world.virtual_services[key]
        group = world.groups.get(service.director_group) if isinstance(service, VirtualService) else None
        if isinstance(group, DirectorGroup) and group.allowed_namespaces is not None:
            found.services.add(key)


def _cluster(found: DirtySet, _before: Cluster | None, _after: Cluster | None) -> None:
    found.services.update(found.world.virtual_services)


_BY_KIND: Mapping[str, Callable[[DirtySet, Any, Any], None]] = {
    Kind.VIRTUAL_SERVICE: _service,
    Kind.REAL_SERVER: _real_server,
    Kind.DIRECTOR_GROUP: _group,
    Kind.NODE: _node,
    Kind.NAMESPACE: _namespace,
    Kind.DIRECTOR_TABLE: dirty_table.director_table,
    Kind.LVS_NODE: dirty_node.lvs_node,
    "Cluster": _cluster,
}
