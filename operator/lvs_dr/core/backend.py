"""What a node carries as a real server: VIPs on lo, and the ends of tunnels."""

from collections.abc import Collection
from typing import NamedTuple

from lvs_dr.core import resolve
from lvs_dr.core.addresses import order as by_value
from lvs_dr.core.forwarding import by_address, carries, exclude, method_of, tunnel_end
from lvs_dr.core.indexing import selecting
from lvs_dr.core.node import MAXIMUM_ADDRESSES, BackendTunnel
from lvs_dr.core.objects import ForwardingMethod, Key, RealServer, VirtualService
from lvs_dr.core.order import Release, tunnels_needed
from lvs_dr.core.own_tables import own_tables
from lvs_dr.core.reasons import Reason
from lvs_dr.core.sorry_server import judge_sorry_server, sorry_method
from lvs_dr.core.suspicions import BackendService
from lvs_dr.core.world import NodeRecord, TableRecord, World


class Backend(NamedTuple):
    """VIPs in order of value, tunnels in order of address, and what is served on these VIPs."""

    addresses: tuple[str, ...]
    tunnels: tuple[BackendTunnel, ...]
    services: tuple[BackendService, ...]


def backend(world: World, record: NodeRecord) -> Backend:
    """Return what the node is to carry: what tables need there, or will need, and what may not leave yet."""
    before, opened = set(record.spec.backend_addresses), set(record.spec.backend_tunnels)
    if not record.spec.decided and record.status is not None:
        before |= set(record.status.loopback_addresses)
        opened |= set(record.status.tunnels)
    wanted = _Wanted(world, record)
    release = Release(world)
    addresses, tunnels = wanted.addresses, wanted.tunnels
    services = wanted.services
    if leaving := before - addresses:
        kept = {address for address in leaving if not release.may_drop(record.name, address).ok}
        addresses |= kept
        services |= {each for each in record.spec.backend_services if each.address in kept}
    if closing := opened - tunnels - wanted.later:
        tunnels |= {end for end in closing if not release.may_close(record.name, end, before).ok}
    tunnels |= wanted.later & opened
    for end in sorted(wanted.later - opened, key=by_address):
        if not any(exclude(end, each) for each in tunnels):
            tunnels.add(end)
    served = (each for each in services if each.address in addresses)
    told = sorted(served, key=lambda each: (each.address, each.port, each.protocol))[:MAXIMUM_ADDRESSES]
    return Backend(tuple(sorted(addresses, key=by_value)), tuple(sorted(tunnels, key=by_address)), tuple(told))


class _Wanted:
    """Gathers what the tables need in which the node is, or is to be."""

    def __init__(self, world: World, record: NodeRecord) -> None:
        self._world = world
        self._record = record
        self._contexts: dict[Key, resolve.Context] = {}  # by table
        carried = world.index.tables_by_carrier.get(record.name, ())
        self.addresses = {world.tables[key].spec.address for key in carried}
        self.services: set[BackendService] = set()
        for key in carried:
            self._serve(world.tables[key])
        self.tunnels = tunnels_needed(world, record.name)
        self.later: set[BackendTunnel] = set()  # for what is not in its table yet: where two exclude each other, one
        for key in sorted(world.index.real_servers_by_node.get(record.name, ())):
            real_server = world.real_servers[key]
            if isinstance(real_server, RealServer):
                for service_key in selecting(world, real_server):
                    self._add(key, service_key)
        self.later -= self.tunnels

    def _add(self, key: Key, service_key: Key) -> None:
        service = self._world.virtual_services[service_key]
        if isinstance(service, VirtualService):
            for table in own_tables(self._world, service):
                self._add_for(key, service, table)

    def _add_for(self, key: Key, service: VirtualService, table: TableRecord) -> None:
        sorry = service.sorry_key == key
        forwarding = (sorry_method(service) if sorry else method_of(service, key.name)).forwarding
        if not carries(forwarding):
            return
        self._serve(table)  # before it enters, too: one write tells the node all
        if forwarding is ForwardingMethod.DIRECT_ROUTING and table.spec.address in self.addresses:
            return
        ctx = self._context(service, table)
        judged = judge_sorry_server(ctx) if sorry else resolve.judge(ctx, key)
        goal = judged.goal if judged is not None else None
        if judged is None or goal is None or not (judged.member.verdict.ok or self._silent(judged, table.spec.address)):
            return
        self.addresses.add(table.spec.address)
        if (end := tunnel_end(goal)) is not None:
            self.later.add(end)

    def _serve(self, table: TableRecord) -> None:
        spec = table.spec
        self.services |= {BackendService(spec.address, each.port, each.protocol) for each in spec.ports if each.port}

    def _context(self, service: VirtualService, table: TableRecord) -> resolve.Context:
        if table.key not in self._contexts:
            spec = table.spec
            self._contexts[table.key] = resolve.context(self._world, service, spec.address, spec.director_group, table)
        return self._contexts[table.key]

    def _silent(self, judged: resolve.Judged, address: str) -> bool:
        """Tell whether the node only waits for its own agent, having been told of the VIP before."""
        told: Collection[str] = self._record.spec.backend_addresses
        return judged.member.verdict.reason is Reason.NO_AGENT and address in told
