"""All that the compiler may look at, as mappings that the controller's store keeps up to date.

Decisions take a `World` and return values; they never change it.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from msgspec import Struct

from lvs_dr.core.director_group import DirectorGroup
from lvs_dr.core.index import Index
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.node_status import LVSNodeStatus
from lvs_dr.core.objects import Invalid, Key, Namespace, Node, RealServer, VirtualService
from lvs_dr.core.table import DirectorTableSpec


class TableRecord(Struct, frozen=True):
    """A DirectorTable as the API server has it."""

    key: Key
    uid: str
    generation: int
    owner_uid: str  # uid of the VirtualService that owns it
    spec: DirectorTableSpec
    owner_name: str = ""  # its name; "" = that of the table
    created: str = ""  # RFC 3339

    @property
    def owner(self) -> Key:
        """The VirtualService that owns it, by name: one with another uid is a namesake."""
        return Key(self.key.namespace, self.owner_name) if self.owner_name else self.key


class NodeRecord(Struct, frozen=True):
    """An LVSNode as the API server has it."""

    name: str
    uid: str
    generation: int
    owner_uid: str  # uid of the Node that owns it
    spec: LVSNodeSpec
    status: LVSNodeStatus | None  # None = the agent has not reported yet


class Cluster(Struct, frozen=True):
    """Addresses of the cluster itself, which nobody may claim."""

    service_ranges: tuple[str, ...] = ()  # CIDRs
    api_addresses: tuple[str, ...] = ()


class World(Struct, frozen=True):
    """Snapshot or live view; every mapping is complete (the store fills it from a full LIST before first use)."""

    virtual_services: Mapping[Key, VirtualService | Invalid]
    real_servers: Mapping[Key, RealServer | Invalid]
    groups: Mapping[str, DirectorGroup | Invalid]
    nodes: Mapping[str, Node]
    namespaces: Mapping[str, Namespace]
    tables: Mapping[Key, TableRecord]
    lvs_nodes: Mapping[str, NodeRecord]
    silent: AbstractSet[str]  # nodes whose agent's Lease was not renewed for 40 s (or never seen)
    cluster: Cluster
    index: Index  # kept up by `core.indexing.reindex`, which the store calls after every change
    unconfirmed: AbstractSet[str] = frozenset()  # said to be Active before another did so, and not heard of since
    drain_over: AbstractSet[Key] = frozenset()  # RealServers in state Drain whose time is over
    overdue: AbstractSet[str] = frozenset()  # uids of tables that took too long to take over from the VIP before

    def lvs_node(self, name: str) -> NodeRecord | None:
        """Return the node's LVSNode; that of an earlier Node of the same name says nothing about this one."""
        record, node = self.lvs_nodes.get(name), self.nodes.get(name)
        return record if record is not None and node is not None and record.owner_uid == node.meta.uid else None

    def owners(self, tables: Iterable[Key] | None) -> set[Key]:
        """Return the VirtualServices, by name, that own the tables."""
        return {self.tables[key].owner for key in tables or ()}

    @property
    def services_by_address(self) -> Mapping[str, AbstractSet[Key]]:
        """VirtualServices that name a VIP."""
        return self.index.services_by_address

    @property
    def services_by_namespace(self) -> Mapping[str, AbstractSet[Key]]:
        """VirtualServices of a namespace."""
        return self.index.services_by_namespace

    @property
    def real_servers_by_namespace(self) -> Mapping[str, AbstractSet[Key]]:
        """RealServers of a namespace."""
        return self.index.real_servers_by_namespace

    @property
    def tables_by_address(self) -> Mapping[str, AbstractSet[Key]]:
        """DirectorTables that hold the claim to a VIP."""
        return self.index.tables_by_address
