"""What a pass reads: the surroundings now and then, of the kernel's state what the node has to do with."""

from collections.abc import Iterable, Mapping

from msgspec import structs

from lvs_dr.agent.assigner import Assigner
from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.interface import ledger_addresses
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.seen import Surroundings
from lvs_dr.core.kernel import KernelState
from lvs_dr.core.node import InterfaceReport, LVSNodeSpec
from lvs_dr.core.scope import Scope, scope
from lvs_dr.core.table import DirectorTableSpec


class KernelReader:
    """Reads through the door; which VIPs matter say spec and tables, the ledger, and what the speaker may hold."""

    def __init__(self, door: KernelDoor, ledger: LedgerFile, assigner: Assigner) -> None:
        self._door = door
        self._ledger = ledger
        self._assigner = assigner
        self._surroundings: Surroundings | None = None

    @property
    def own_interfaces(self) -> tuple[InterfaceReport, ...] | None:
        """The node's interfaces with its own addresses; None before the first read."""
        return self._surroundings.own if self._surroundings is not None else None

    async def surroundings(self, spec: LVSNodeSpec, *, deep: bool) -> Surroundings:
        """Return the surroundings, the same object while they are the same; read if `deep`. Raises KernelError."""
        virtual = self._addresses(spec)
        around = self._surroundings
        if around is None or deep:
            interfaces, next_hops = await self._door.surroundings()
            fresh = Surroundings(interfaces, next_hops, virtual)
            around = around if fresh == around else fresh
        elif around.virtual != virtual:
            around = Surroundings(around.interfaces, around.next_hops, virtual)
        self._surroundings = around
        return around

    async def state(self, spec: LVSNodeSpec, tables: Mapping[str, DirectorTableSpec], interface: str) -> KernelState:
        """Read the state; `interface`: the director's. Raises KernelError."""
        return await self._read(spec, tables.values(), scope(spec, self._ledger.current, interface))

    async def beyond_ipvs(
        self, spec: LVSNodeSpec, tables: Mapping[str, DirectorTableSpec], interface: str, state: KernelState
    ) -> KernelState:
        """Return the state with everything but IPVS read again. Raises KernelError."""
        parts = scope(spec, self._ledger.current, interface)._replace(ipvs=False)
        found = await self._read(spec, tables.values(), parts)
        return structs.replace(
            state,
            addresses=found.addresses,
            routes=found.routes,
            sysctls={**state.sysctls, **found.sysctls},
            tunnels=found.tunnels,
            gue_ports=found.gue_ports,
            guards=found.guards,
        )

    async def _read(self, spec: LVSNodeSpec, tables: Iterable[DirectorTableSpec], parts: Scope) -> KernelState:
        return await self._door.read(self._addresses(spec) | {table.address for table in tables}, parts)

    def _addresses(self, spec: LVSNodeSpec) -> frozenset[str]:
        """Return the VIPs that the node has, is to have, or may have any moment."""
        announced = spec.director.addresses if spec.director else ()
        known = ledger_addresses(self._ledger.current) | {*spec.backend_addresses, *announced}
        return known | self._assigner.exposed
