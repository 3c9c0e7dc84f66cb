"""A cluster's objects for the tests of `core`: an API server in a few dicts, with generations, uids and the index."""

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from lvs_dr.core.checks import TableHealthCheck, TcpCheck
from lvs_dr.core.compile_node import compile_node
from lvs_dr.core.compile_table import compile_table
from lvs_dr.core.decisions import Action, Dirty, TableDecision
from lvs_dr.core.director_group import DirectorGroup, InterfaceChoice
from lvs_dr.core.dirty import affected, silence_changed
from lvs_dr.core.index import Index
from lvs_dr.core.indexing import Kind, reindex
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.node_status import InterfaceReport, LVSNodeStatus
from lvs_dr.core.objects import (
    Invalid,
    Key,
    Metadata,
    Namespace,
    Node,
    OnFailure,
    Operator,
    Port,
    RealServer,
    RealServerState,
    Requirement,
    Selector,
    VirtualService,
)
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.world import Cluster, NodeRecord, TableRecord, World

NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:00:09Z"
VIP = "192.0.2.100"


def meta(name: str, namespace: str = "shop", **given: Any) -> Metadata:
    """Return metadata; `labels` may be a dict."""
    labels = tuple(sorted(dict(given.pop("labels", {})).items()))
    fields = {"uid": f"uid-{namespace}-{name}", "generation": 1, "created": "2025-01-01T00:00:00Z"} | given
    return Metadata(key=Key(namespace, name), labels=labels, **fields)


def service(name: str = "web", namespace: str = "shop", **given: Any) -> VirtualService:
    """Return a VirtualService that selects `pool: web`; metadata by `meta_`."""
    fields: dict[str, Any] = {
        "director_group": "default",
        "address": VIP,
        "ports": (Port(80),),
        "scheduler": "rr",
        "selector": Selector(match_labels=(("pool", "web"),)),
        "health_check": TableHealthCheck(TcpCheck()),
        "on_failure": OnFailure.REMOVE,
    }
    about = given.pop("meta_", {})
    return VirtualService(meta=meta(name, namespace, **about), **(fields | given))


def real_server(name: str, namespace: str = "shop", **given: Any) -> RealServer:
    """Return a RealServer with label `pool: web` on the node of the same name."""
    about = {"labels": {"pool": "web"}} | given.pop("meta_", {})
    fields = {"node_name": name, "addresses": (), "weight": 100, "state": RealServerState.IN_SERVICE}
    return RealServer(meta=meta(name, namespace, **about), **(fields | given))


def group(name: str, **given: Any) -> DirectorGroup:
    """Return a DirectorGroup whose nodes carry the label `group: NAME`."""
    fields: dict[str, Any] = {
        "node_selector": Selector(match_expressions=(Requirement("group", Operator.IN, (name,)),)),
        "interface": InterfaceChoice(),
        "allowed_addresses": (),
        "allowed_namespaces": None,
    }
    return DirectorGroup(meta=meta(name, "", **given.pop("meta_", {})), **(fields | given))


def node(name: str, address: str, *, director: bool = False, **given: Any) -> Node:
    """Return a Node."""
    labels = {"kubernetes.io/os": "linux"} | given.pop("labels", {})
    if director:
        labels["lvs-operator.io/director"] = ""
    return Node(meta=meta(name, "", labels=labels, **given), internal_addresses=(address,))


def status(address: str = "192.0.2.1", **given: Any) -> LVSNodeStatus:
    """Return a report of a node with one interface in 192.0.2.0/24."""
    fields: dict[str, Any] = {
        "observed_generation": 1,
        "director_interface": "eth0",
        "interfaces": (InterfaceReport(name="eth0", addresses=(f"{address}/24",)),),
    }
    return LVSNodeStatus(**(fields | given))


KINDS: dict[type, Kind] = {
    VirtualService: Kind.VIRTUAL_SERVICE,
    RealServer: Kind.REAL_SERVER,
    DirectorGroup: Kind.DIRECTOR_GROUP,
    Node: Kind.NODE,
    Namespace: Kind.NAMESPACE,
    TableRecord: Kind.DIRECTOR_TABLE,
    NodeRecord: Kind.LVS_NODE,
}


class Objects:
    """The API server and the controller's store in one; `dirty` gathers what changes affect."""

    def __init__(self, *given: Any, cluster: Cluster | None = None) -> None:
        self.by_kind: dict[Kind, dict[Any, Any]] = {kind: {} for kind in Kind}
        self.silent: set[str] = set()
        self.unconfirmed: set[str] = set()
        self.overdue: set[str] = set()
        self.drain_over: set[Key] = set()
        self.left: dict[tuple[str, str], int] = {}  # (director, draining real server) -> live connections
        self.remembered: dict[tuple[str, str], int] = {}  # likewise -> clients that persistence brings back
        self.own: dict[str, int] = {}  # node -> connections that its own sockets have to a VIP it is taken out of
        self.decisions: dict[Key, TableDecision] = {}
        self.services: set[Key] = set()
        self.nodes: set[str] = set()
        self.count = 0
        self.world = World(
            virtual_services=self.by_kind[Kind.VIRTUAL_SERVICE],
            real_servers=self.by_kind[Kind.REAL_SERVER],
            groups=self.by_kind[Kind.DIRECTOR_GROUP],
            nodes=self.by_kind[Kind.NODE],
            namespaces=self.by_kind[Kind.NAMESPACE],
            tables=self.by_kind[Kind.DIRECTOR_TABLE],
            lvs_nodes=self.by_kind[Kind.LVS_NODE],
            silent=self.silent,
            cluster=cluster or Cluster(),
            index=Index(),
            unconfirmed=self.unconfirmed,
            overdue=self.overdue,
            drain_over=self.drain_over,
        )
        self.put(*given)

    def put(self, *objects: Any) -> Dirty:
        """Store objects; return what the last one affects."""
        dirty = Dirty()
        for each in objects:
            if isinstance(each, TableRecord):
                dirty = self.change(Kind.DIRECTOR_TABLE, each.key, each)
            elif isinstance(each, NodeRecord):
                dirty = self.change(Kind.LVS_NODE, Key("", each.name), each)
            elif isinstance(each, Namespace):
                dirty = self.change(Kind.NAMESPACE, Key("", each.name), each)
            elif isinstance(each, Invalid):
                raise TypeError("say which kind is invalid: use `change`")
            else:
                dirty = self.change(KINDS[type(each)], each.meta.key, each)
        return dirty

    def change(self, kind: Kind, key: Key, after: Any) -> Dirty:
        """Store one object, or remove it (None)."""
        objects = self.by_kind[kind]
        name = key if key.namespace else key.name
        before = objects.get(name)
        if after is None:
            objects.pop(name, None)
        else:
            objects[name] = after
        reindex(self.world, kind, key, before, after)
        dirty = affected(self.world, kind, before, after)
        self.services |= dirty.services
        self.nodes |= dirty.nodes
        return dirty

    def remove(self, kind: Kind, name: str, namespace: str = "") -> Dirty:
        """Remove an object."""
        return self.change(kind, Key(namespace, name), None)

    def silence(self, name: str, *, silent: bool) -> None:
        """Let an agent fall silent, or be heard."""
        (self.silent.add if silent else self.silent.discard)(name)
        dirty = silence_changed(self.world, name)
        self.services |= dirty.services
        self.nodes |= dirty.nodes

    def report(self, name: str, given: LVSNodeStatus) -> Dirty:
        """Write an agent's report."""
        record = self.world.lvs_nodes[name]
        return self.change(Kind.LVS_NODE, Key("", name), replace(record, status=given))

    def uid(self) -> str:
        """Return a new uid."""
        self.count += 1
        return f"uid-{self.count}"

    # The controller's part

    def compile_service(self, key: Key) -> TableDecision:
        """Compile one VirtualService and write what comes out."""
        decision = compile_table(self.world, key)
        self.decisions[key] = decision
        for each in (*decision.others, decision):
            if each.action is Action.DELETE:
                self.change(Kind.DIRECTOR_TABLE, each.table, None)
            elif each.action is Action.WRITE:
                assert each.spec is not None
                self.write_table(each.table, each.spec, key)
        return decision

    def write_table(self, key: Key, spec: DirectorTableSpec, service: Key | None = None) -> None:
        """Write a table as the API server would."""
        record = self.world.tables.get(key)
        if record is None:
            owner = self.world.virtual_services[service or key].meta
            record = TableRecord(key, self.uid(), 0, owner.uid, spec, owner.key.name)
        self.put(replace(record, spec=spec, generation=record.generation + 1))

    def compile_lvs_node(self, name: str) -> None:
        """Compile one node and write what comes out."""
        spec = compile_node(self.world, name)
        record = self.world.lvs_nodes.get(name)
        if spec is None:
            return
        if record is not None and (record.spec, record.owner_uid) == (spec, self.world.nodes[name].meta.uid):
            return
        self.write_node(name, spec)

    def write_node(self, name: str, spec: LVSNodeSpec) -> None:
        """Write an LVSNode's spec as the API server would."""
        record = self.world.lvs_nodes.get(name)
        if record is None:
            record = NodeRecord(name, self.uid(), 0, "", spec, None)
        owner = self.world.nodes[name].meta.uid
        self.put(replace(record, spec=spec, generation=record.generation + 1, owner_uid=owner))

    def settle(self, most: int = 1000) -> None:
        """Compile until nothing is dirty."""
        for _ in range(most):
            if self.services:
                key = min(self.services)
                self.services.discard(key)  # what its own write affects comes after
                self.compile_service(key)
            elif self.nodes:
                name = min(self.nodes)
                self.nodes.discard(name)
                self.compile_lvs_node(name)
            else:
                return
        raise AssertionError("the controller does not come to rest")

    def everything(self) -> None:
        """Mark all there is."""
        self.services |= self.world.owners(self.world.tables) | set(self.world.virtual_services)
        self.nodes |= set(self.world.nodes)


def names(keys: Iterable[Key]) -> list[str]:
    """Return the names of keys, sorted."""
    return sorted(key.name for key in keys)
