"""Keeps a world's index in step with its objects, and finds by it who selects whom."""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from lvs_dr.core.addresses import edges, host, version
from lvs_dr.core.director_group import DirectorGroup, InterfaceChoice
from lvs_dr.core.forwarding import carries, target
from lvs_dr.core.index import REDIRECTED_PORT, Index, Label, Mark
from lvs_dr.core.node_status import LVSNodeStatus
from lvs_dr.core.objects import (
    Invalid,
    Key,
    Metadata,
    Node,
    Operator,
    RealServer,
    Requirement,
    Selector,
    VirtualService,
)
from lvs_dr.core.selector import matches
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.world import NodeRecord, TableRecord, World

DEFAULT_GROUP = "default"
DIRECTOR_LABEL = "lvs-operator.io/director"
OS_LABEL = "kubernetes.io/os"

IMPLICIT_GROUP = DirectorGroup(
    meta=Metadata(key=Key("", DEFAULT_GROUP), uid="", generation=0, created=""),
    node_selector=Selector(match_expressions=(Requirement(DIRECTOR_LABEL, Operator.EXISTS),)),
    interface=InterfaceChoice(),
    allowed_addresses=(),
    allowed_namespaces=None,
)
"""The group `default` where no such object exists."""


class Kind(StrEnum):
    """Kinds of the world's objects, as Kubernetes names them."""

    VIRTUAL_SERVICE = "VirtualService"
    REAL_SERVER = "RealServer"
    DIRECTOR_GROUP = "DirectorGroup"
    NODE = "Node"
    NAMESPACE = "Namespace"
    DIRECTOR_TABLE = "DirectorTable"
    LVS_NODE = "LVSNode"


Entry = tuple[str, Any]  # name of the index, value in it


def reindex(world: World, kind: str, key: Key, before: Any, after: Any) -> None:  # noqa: ANN401 - any of the kinds
    """Bring the index up to date after one object changed; `world` already holds `after` (None: absent).

    `key` has namespace "" for cluster-scoped kinds.
    """
    index = world.index
    entries = ENTRIES.get(kind)
    if entries is not None:
        old = set(entries(key, before)) if before is not None else set()
        new = set(entries(key, after)) if after is not None else set()
        member: Any = key if kind in NAMESPACED else key.name
        for name, value in old - new:
            _discard(getattr(index, name), value, member)
        for name, value in new - old:
            getattr(index, name).setdefault(value, set()).add(member)
    if kind == Kind.DIRECTOR_GROUP:
        _regroup(world)
    elif kind == Kind.NODE:
        known = groups(world)
        _move(index, key.name, _member(before, known), _member(after, known))


def eligible(node: Node) -> bool:
    """Tell whether an agent can run on the node: every node that is not labelled with another system than Linux."""
    return all(value == "linux" for label, value in node.meta.labels if label == OS_LABEL)


def groups(world: World) -> Mapping[str, DirectorGroup]:
    """Return the groups that parse, by name in order, the implicit `default` included."""
    found = {name: group for name, group in world.groups.items() if isinstance(group, DirectorGroup)}
    if DEFAULT_GROUP not in world.groups:
        found[DEFAULT_GROUP] = IMPLICIT_GROUP
    return dict(sorted(found.items()))


def selected(world: World, service: VirtualService) -> list[Key]:
    """Return the RealServers that the service selects, sorted by name (unreadable ones too: they have labels).

    Its sorry server is none of them.
    """
    namespace, selector = service.meta.key.namespace, service.selector
    index = world.index
    if selector.match_labels:
        choices = [
            index.real_servers_by_label.get((namespace, key, value), frozenset[Key]())
            for key, value in selector.match_labels
        ]
        candidates = min(choices, key=len)
    else:
        candidates = index.real_servers_by_namespace.get(namespace, frozenset[Key]())
    chosen = (key for key in candidates if matches(selector, world.real_servers[key].meta.labels))
    return sorted(key for key in chosen if key != service.sorry_key)


def selecting(world: World, real_server: RealServer | Invalid) -> list[Key]:
    """Return the VirtualServices that select the RealServer, or have it as sorry server, sorted by name."""
    namespace, labels = real_server.meta.key.namespace, real_server.meta.labels
    index = world.index.services_by_label
    found = set(world.index.services_by_sorry_server.get(real_server.meta.key, ()))
    for label in ((namespace, "", ""), *((namespace, key, value) for key, value in labels)):
        for key in index.get(label, ()):
            service = world.virtual_services[key]
            if isinstance(service, VirtualService) and matches(service.selector, labels):
                found.add(key)
    return sorted(found)


def mark_of(what: VirtualService | DirectorTableSpec) -> Mark:
    """Return the IPVS service that a firewall mark makes."""
    return what.director_group, what.firewall_mark, version(what.address)


def _service_entries(key: Key, service: VirtualService | Invalid) -> Iterator[Entry]:
    yield "services_by_namespace", key.namespace
    if isinstance(service, VirtualService):
        yield "services_by_address", service.address
        yield "services_by_place", (service.address, key.namespace, service.director_group)
        for port in service.ports:
            yield "services_by_port", (service.address, port.port, port.protocol)
        if service.redirect is not None:
            yield "services_by_port", (service.address, *REDIRECTED_PORT)
        yield "services_by_group", service.director_group
        if service.firewall_mark:
            yield "services_by_mark", mark_of(service)
        label: Label = (
            (key.namespace, *service.selector.match_labels[0])
            if service.selector.match_labels
            else (key.namespace, "", "")
        )
        yield "services_by_label", label
        if service.sorry_key is not None:
            yield "services_by_sorry_server", service.sorry_key


def _real_server_entries(key: Key, real_server: RealServer | Invalid) -> Iterator[Entry]:
    yield "real_servers_by_namespace", key.namespace
    for label, value in real_server.meta.labels:
        yield "real_servers_by_label", (key.namespace, label, value)
    if isinstance(real_server, RealServer):
        if real_server.node_name:
            yield "real_servers_by_node", real_server.node_name
        for address in real_server.addresses:
            yield "real_servers_by_address", address


def _table_entries(key: Key, table: TableRecord) -> Iterator[Entry]:
    yield "tables_by_owner", table.owner
    yield "tables_by_address", table.spec.address
    yield "tables_by_place", (table.spec.address, key.namespace, table.spec.director_group)
    for port in table.spec.ports:
        yield "tables_by_port", (table.spec.address, port.port, port.protocol)
    if table.spec.redirect is not None:
        yield "tables_by_port", (table.spec.address, *REDIRECTED_PORT)
    yield "tables_by_group", table.spec.director_group
    if table.spec.virtual_router_id:
        yield "tables_by_router", (table.spec.address, table.spec.director_group, table.spec.virtual_router_id)
    if table.spec.firewall_mark:
        yield "tables_by_mark", mark_of(table.spec)
    yield from _check_marks(table.spec)
    for destination in table.spec.entries:
        yield "tables_by_destination", destination.address
        yield "tables_by_real_server", Key(table.key.namespace, destination.real_server)
        if destination.node:
            yield "tables_by_node", destination.node
            if carries(destination.forwarding):
                yield "tables_by_carrier", destination.node
            if destination.tunnel is not None:
                yield "tables_by_tunnel", destination.node


def _check_marks(table: DirectorTableSpec) -> Iterator[Entry]:
    for each in (*table.destinations, *table.pending):
        if each.check_mark:
            yield "tables_by_check_mark", (table.director_group, each.check_mark)
            yield "tables_by_check_target", (table.director_group, each.check_mark, target(each))


def _node_entries(_: Key, node: Node) -> Iterator[Entry]:
    for address in node.internal_addresses:
        yield "nodes_by_internal_address", address


def _lvs_node_entries(_: Key, record: NodeRecord) -> Iterator[Entry]:
    spec, status = record.spec, record.status
    role, releasing = spec.director, spec.releasing
    if role is not None:
        yield "lvs_nodes_by_group", role.group
    if role is not None or (releasing and releasing.group) or (status and status.tables):
        yield "programmers", ""
    for router in role.vrrp.routers if role else ():
        for address in router.addresses:
            yield "holders_by_address", address
    for address in releasing.addresses if releasing else ():
        yield "holders_by_address", address
    if is_unsure(record):
        yield "unsure_nodes", ""
    for address in spec.backend_addresses:
        yield "backends_by_address", address
    if spec.backend_tunnels:
        yield "tunnel_nodes", ""
    if status is not None:
        yield from _status_entries(status)


def is_unsure(record: NodeRecord) -> bool:
    """Tell whether the node takes part in VRRP for VIPs that are not noted: its LVSNode was lost and made anew."""
    spec, status = record.spec, record.status
    if not spec.decided:
        return status is not None and bool(status.virtual_routers)
    return spec.releasing is not None and spec.releasing.unknown


def _status_entries(status: LVSNodeStatus) -> Iterator[Entry]:
    for address in status.held_addresses:
        yield "holders_by_address", address
    for address in status.next_hops:
        yield "nodes_by_next_hop", address
    for interface in status.interfaces:
        for cidr in interface.addresses:
            yield "nodes_by_own_address", host(cidr)
            for address in edges(cidr):
                yield "nodes_by_edge", address


ENTRIES: Mapping[str, Callable[[Key, Any], Iterator[Entry]]] = {
    Kind.VIRTUAL_SERVICE: _service_entries,
    Kind.REAL_SERVER: _real_server_entries,
    Kind.DIRECTOR_TABLE: _table_entries,
    Kind.NODE: _node_entries,
    Kind.LVS_NODE: _lvs_node_entries,
}
NAMESPACED = frozenset({Kind.VIRTUAL_SERVICE, Kind.REAL_SERVER, Kind.DIRECTOR_TABLE})


def _member(node: Node | None, known: Mapping[str, DirectorGroup]) -> str:
    """Return the group the node directs for, "" for none: a node that several match belongs to the first by name."""
    if node is None or not eligible(node):
        return ""
    return next((name for name, group in known.items() if matches(group.node_selector, node.meta.labels)), "")


def _regroup(world: World) -> None:
    found: dict[str, set[str]] = {}
    known = groups(world)
    for name, node in world.nodes.items():
        if group := _member(node, known):
            found.setdefault(group, set()).add(name)
    world.index.nodes_by_group.clear()
    world.index.nodes_by_group.update(found)


def _move(index: Index, node: str, before: str, after: str) -> None:
    if before != after and before:
        _discard(index.nodes_by_group, before, node)
    if after:
        index.nodes_by_group.setdefault(after, set()).add(node)


def _discard(index: dict[Any, set[Any]], value: object, member: object) -> None:
    members = index.get(value)
    if members is not None:
        members.discard(member)
        if not members:
            del index[value]
