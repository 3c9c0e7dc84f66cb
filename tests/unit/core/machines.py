"""Nodes with agents, in the smallest form that can go wrong: they act on what they read and tell it later.

Reading the LVSNode, reading the tables, applying, looking and reporting are steps of their own, so that any delay
between them can be tried. So is the election: a director that is told a VIP looks now and then who holds it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from lvs_dr.core.forwarding import carries, exclude, tunnel_end
from lvs_dr.core.indexing import Kind
from lvs_dr.core.node import BackendTunnel, LVSNodeSpec, table_name
from lvs_dr.core.node_status import LVSNodeStatus, TableReport, VirtualRouterReport
from lvs_dr.core.objects import ForwardingMethod, Key, Tunnel, TunnelChecksum, TunnelType
from lvs_dr.core.table import TableDestination
from lvs_dr.core.virtual_routers import Place
from lvs_dr.core.world import TableRecord
from tests.unit.core.worlds import Objects, status

METHODS = (
    (ForwardingMethod.DIRECT_ROUTING, None),
    (ForwardingMethod.MASQUERADE, None),
    (ForwardingMethod.TUNNEL, None),
    (ForwardingMethod.TUNNEL, Tunnel(TunnelType.GRE)),
    (ForwardingMethod.TUNNEL, Tunnel(TunnelType.GRE, checksum=TunnelChecksum.CHECKSUM)),
    (ForwardingMethod.TUNNEL, Tunnel(TunnelType.GUE, 6080)),
    (ForwardingMethod.TUNNEL, Tunnel(TunnelType.GUE, 6081)),
)
"""Ways to reach a real server: the fourth and the fifth exclude each other on one node."""


@dataclass
class Machine:
    """One node: its kernel, and what its agent has read."""

    name: str
    address: str
    lan: "Mapping[str, Machine]" = field(repr=False, compare=False)
    """All machines on the segment, by name: whose adverts are heard."""
    alive: bool = True  # the agent; VRRP goes on without it
    # kernel
    lo: frozenset[str] = frozenset()
    tunnels: tuple[BackendTunnel, ...] = ()
    told: dict[str, Place] = field(default_factory=dict)  # VIP -> where it is elected
    priorities: dict[Place, int] = field(default_factory=dict)
    active: frozenset[Place] = frozenset()
    programmed: dict[str, TableRecord] = field(default_factory=dict)
    destinations: dict[str, frozenset[TableDestination]] = field(default_factory=dict)
    # agent
    uid: str = ""
    generation: int = 0
    spec: LVSNodeSpec | None = None
    tables: dict[str, TableRecord] = field(default_factory=dict)
    applied: int = 0  # generation
    looked: tuple[str, LVSNodeStatus] | None = None

    def read_node(self, objects: Objects) -> None:
        """See the LVSNode; a missing one changes nothing."""
        record = objects.world.lvs_nodes.get(self.name)
        if record is not None:
            if record.uid != self.uid:
                self.applied = 0
            self.uid, self.generation, self.spec = record.uid, record.generation, record.spec

    def read_tables(self, objects: Objects) -> None:
        """See the group's tables."""
        group = self.spec.director.group if self.spec is not None and self.spec.director is not None else ""
        self.tables = {
            table_name(key): record
            for key, record in objects.world.tables.items()
            if record.spec.director_group == group
        }

    def apply(self) -> None:
        """Bring the kernel to what was read."""
        if self.spec is None:
            return
        self.applied = self.generation
        if not self.spec.decided:
            return
        role = self.spec.director
        self.lo = frozenset(self.spec.backend_addresses)
        opened: list[BackendTunnel] = []
        for end in self.spec.backend_tunnels:
            if not any(exclude(end, each) for each in opened):
                opened.append(end)
        self.tunnels = tuple(opened)
        listed = role.tables if role is not None else ()
        kept = {name: record for name, record in self.programmed.items() if name in listed}
        mine = {n: r for n, r in self.tables.items() if role is not None and r.spec.director_group == role.group}
        self.programmed = kept | mine
        before, self.destinations = self.destinations, {}
        for name, record in self.programmed.items():
            there = {(each.real_server, each.address) for each in before.get(name, ())}
            stay = (each for each in record.spec.pending if (each.real_server, each.address) in there)
            self.destinations[name] = frozenset((*record.spec.destinations, *stay))
        self.told, self.priorities = {}, {}
        for router in role.vrrp.routers if role is not None else ():
            place = Place(role.group if role is not None else "", router.id)
            self.told |= dict.fromkeys(router.addresses, place)
            self.priorities[place] = router.priority
        self.active &= self.priorities.keys()

    @property
    def held(self) -> frozenset[str]:
        """VIPs on the director's interface."""
        return frozenset(address for address, place in self.told.items() if place in self.active)

    def elect(self) -> None:
        """Take a look at who is Active: let go where somebody better is; take over where nobody as good is."""
        for place, priority in self.priorities.items():
            rivals = [
                (other.priorities[place], other.name)
                for other in self.lan.values()
                if other is not self and place in other.active
            ]
            better = max(rivals, default=(0, "")) > (priority, self.name)
            self.active = self.active - {place} if better else self.active | {place}

    def look(self) -> None:
        """Make a report."""
        self.looked = (
            self.uid,
            status(
                self.address,
                observed_generation=self.applied,
                director_interface="eth0" if self.spec is not None and self.spec.director is not None else "",
                held_addresses=tuple(sorted(self.held)),
                virtual_routers=tuple(
                    VirtualRouterReport(place.id, 4, "Active" if place in self.active else "Backup", priority)
                    for place, priority in sorted(self.priorities.items())
                ),
                loopback_addresses=tuple(sorted(self.lo)),
                tunnels=self.tunnels,
                tables=tuple(
                    TableReport(
                        table=name,
                        uid=record.uid,
                        generation=record.generation,
                        healthy=len(record.spec.destinations),
                        total=len(record.spec.destinations),
                    )
                    for name, record in sorted(self.programmed.items())
                ),
            ),
        )

    def report(self, objects: Objects) -> None:
        """Send the report; the API server takes it for the object it is meant for only."""
        record = objects.world.lvs_nodes.get(self.name)
        if record is not None and self.looked is not None and self.looked[0] == record.uid:
            objects.change(Kind.LVS_NODE, Key("", self.name), replace(record, status=self.looked[1]))

    def turn(self, objects: Objects) -> None:
        """Do all of it once."""
        self.read_node(objects)
        self.read_tables(objects)
        self.apply()
        self.elect()
        self.look()
        self.report(objects)

    def takes(self, entry: TableDestination, vip: str) -> bool:
        """Tell whether the node takes what is sent to it in this way: else it routes it back, or drops it."""
        if not carries(entry.forwarding):
            return True
        end = tunnel_end(entry)
        return vip in self.lo and (end is None or end in self.tunnels)

    def sends_to(self) -> list[tuple[TableDestination, str, str]]:
        """Return (destination, VIP, uid of the table) of the destinations on nodes in the kernel.

        A real server of a VIP balances it only while it holds it.
        """
        return [
            (each, record.spec.address, record.uid)
            for name, record in self.programmed.items()
            if record.spec.address not in self.lo - self.held
            for each in self.destinations[name]
            if each.node
        ]
