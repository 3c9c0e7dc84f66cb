"""Gathers what a change affects, with the steps that several kinds of change share."""

from collections.abc import Iterable

from lvs_dr.core.contest import claim_of, contesting
from lvs_dr.core.decisions import Dirty
from lvs_dr.core.directors import directors
from lvs_dr.core.forwarding import target
from lvs_dr.core.indexing import mark_of, selecting
from lvs_dr.core.objects import Invalid, Key, RealServer, VirtualService
from lvs_dr.core.table import DirectorTableSpec, TableDestination
from lvs_dr.core.world import TableRecord, World


class DirtySet:
    """Grows; `dirty` returns what came together."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.services: set[Key] = set()
        self.real_servers: set[Key] = set()
        self.groups: set[str] = set()
        self.nodes: set[str] = set()

    def backend(self, node: str) -> None:
        """Add the RealServers on a node, the services that select them and the tables that have them."""
        index = self.world.index
        for key in index.real_servers_by_node.get(node, ()):
            self.real_servers.add(key)
            self.services.update(selecting(self.world, self.world.real_servers[key]))
        self.services |= self.world.owners(index.tables_by_node.get(node))

    def group(self, name: str) -> None:
        """Add a group, its directors and its services."""
        self.directors(name)
        self.services |= self.world.index.services_by_group.get(name, set())
        self.services |= self.world.owners(self.world.index.tables_by_group.get(name))

    def neighbours(self) -> None:
        """Add every group's status: another one may share a network, and virtual router ids, with it."""
        self.groups |= self.world.groups.keys()

    def directors(self, name: str) -> None:
        """Add a group and the nodes that direct, or were told to direct, for it."""
        self.groups.add(name)
        self.nodes.update(directors(self.world, name))
        self.nodes |= self.world.index.lvs_nodes_by_group.get(name, set())

    def addresses(self, addresses: Iterable[str]) -> None:
        """Add the services that want one of the addresses, or have it, as VIP."""
        for address in addresses:
            self.services |= self.world.services_by_address.get(address, frozenset())
            self.services |= self.world.owners(self.world.tables_by_address.get(address))

    def rivals(self, key: Key, *claims: VirtualService | DirectorTableSpec) -> None:
        """Add the services that contest a claim of `key`, and all that want a VIP which is now, or no more, a VIP."""
        self.services |= contesting(self.world, *(claim_of(key, each) for each in claims))
        self.addresses(each.address for each in claims if len(self.world.tables_by_address.get(each.address, ())) <= 1)

    def marks(self, *claimed: VirtualService | DirectorTableSpec) -> None:
        """Add the services that want the same firewall mark."""
        for each in claimed:
            if each.firewall_mark:
                self.services |= self.world.index.services_by_mark.get(mark_of(each), set())
                # Checks through VIPs give way to users.
                checked = self.world.index.tables_by_check_mark.get((each.director_group, each.firewall_mark))
                self.services |= self.world.owners(checked)

    def check_marks(self, before: TableRecord | None, after: TableRecord | None) -> None:
        """Add the services that have a new mark of the table for another real server."""
        known = {(each.check_mark, target(each)) for each in _entries(before)}
        for each in _entries(after):
            way = target(each)
            if after is not None and each.check_mark and (each.check_mark, way) not in known:
                key, index = (after.spec.director_group, each.check_mark), self.world.index
                others = index.tables_by_check_mark.get(key, set())
                self.services |= self.world.owners(others - index.tables_by_check_target.get((*key, way), set()))

    def dirty(self) -> Dirty:
        """Return it all; groups that are no object have no status, and a node that is gone nothing to be told."""
        return Dirty(
            services=frozenset(self.services),
            real_servers=frozenset(self.real_servers),
            groups=frozenset(self.groups & self.world.groups.keys()),
            nodes=frozenset(self.nodes & self.world.nodes.keys()),
        )


def _entries(table: TableRecord | None) -> tuple[TableDestination, ...]:
    return (*table.spec.destinations, *table.spec.pending) if table is not None else ()


def node_of(real_server: RealServer | Invalid | None) -> str:
    """Return the node that a RealServer is; "" for none."""
    return real_server.node_name if isinstance(real_server, RealServer) else ""
