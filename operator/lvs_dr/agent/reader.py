"""What a pass reads: of the kernel's state what the node has to do with, the surroundings now and then.

Of IPVS a pass that is not deep reads what something is to be done to (`core.unread`).
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from msgspec import structs

from lvs_dr.agent.assigner import Assigner
from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.interface import ledger_addresses
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.seen import Surroundings
from lvs_dr.core.kernel import KernelState, ServiceKey
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.node_status import InterfaceReport
from lvs_dr.core.scope import Scope, scope
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.unread import completed


class Look(NamedTuple):
    """What decides about what there is to read."""

    spec: LVSNodeSpec
    tables: Mapping[str, DirectorTableSpec]
    interface: str  # the director's


class KernelReader:
    """Reads through the door; which VIPs matter say spec and tables, the ledger, and what the speaker may hold."""

    def __init__(self, door: KernelDoor, ledger: LedgerFile, assigner: Assigner) -> None:
        self._door = door
        self._ledger = ledger
        self._assigner = assigner
        self._surroundings: Surroundings | None = None
        self._last = KernelState()
        self._settled: AbstractSet[ServiceKey] = frozenset()  # services in `_last` to which nothing was to be done
        self.unread: AbstractSet[ServiceKey] = frozenset()
        """Services whose destinations are told as they were in an earlier pass."""

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

    async def state(self, look: Look, needed: AbstractSet[ServiceKey] | None) -> KernelState:
        """Read the state. `needed` services are read in any case; None: all of them. Raises KernelError.

        Until `settled` tells what this pass did, the next one reads everything.
        """
        before = self._last
        unread = self._settled - needed if needed is not None else frozenset[ServiceKey]()
        self._settled = frozenset()
        parts = scope(look.spec, self._ledger.current, look.interface)._replace(unread=unread)
        self._last = completed(await self._read(look, parts), before, unread)
        self.unread = unread
        return self._last

    async def more(self, look: Look, needed: AbstractSet[ServiceKey]) -> KernelState:
        """Read again, with these services of those that were left unread. Raises KernelError."""
        self._settled = self.unread
        return await self.state(look, needed)

    def settled(self, but: AbstractSet[ServiceKey]) -> None:
        """Note that a pass is over, and that it did nothing to any service but these."""
        self._settled = self._last.services.keys() - but

    async def beyond_ipvs(self, look: Look, state: KernelState) -> KernelState:
        """Return the state with everything but IPVS read again. Raises KernelError."""
        parts = scope(look.spec, self._ledger.current, look.interface)._replace(ipvs=False)
        found = await self._read(look, parts)
        return structs.replace(
            state,
            addresses=found.addresses,
            routes=found.routes,
            sysctls={**state.sysctls, **found.sysctls},
            tunnels=found.tunnels,
            gue_ports=found.gue_ports,
            guards=found.guards,
        )

    async def _read(self, look: Look, parts: Scope) -> KernelState:
        return await self._door.read(self._addresses(look.spec) | {one.address for one in look.tables.values()}, parts)

    def _addresses(self, spec: LVSNodeSpec) -> frozenset[str]:
        """Return the VIPs that the node has, is to have, or may have any moment."""
        announced = spec.director.addresses if spec.director else ()
        known = ledger_addresses(self._ledger.current) | {*spec.backend_addresses, *announced}
        return known | self._assigner.exposed
