"""What all tables together ask of IPVS: each port and each mark belongs to one of them."""

from collections.abc import Mapping
from typing import NamedTuple

from lvs_dr.core.destinations import Place
from lvs_dr.core.health import HealthView
from lvs_dr.core.ipvs_table import Served
from lvs_dr.core.kernel import DestinationConfig, ServiceConfig, ServiceKey
from lvs_dr.core.ledger import ServiceNote, usual_note
from lvs_dr.core.probes import Probe, probe_service
from lvs_dr.core.reasons import Reason
from lvs_dr.core.redirected import Redirected, redirected
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.table_entries import EntriesMemory, TableEntries, table_entries
from lvs_dr.core.weight_factors import FactorView


class Refusal(NamedTuple):
    """Something the objects ask for that the agent does not do, and why."""

    reason: Reason
    message: str
    address: str
    table: str = ""  # "" = it is about the node's lo


class MergedTables:
    """Collects the IPVS entries of tables, one after the other: what two ask for is the first one's."""

    def __init__(
        self,
        memory: EntriesMemory,
        tables: Mapping[str, DirectorTableSpec],
        health: HealthView,
        factors: FactorView,
    ) -> None:
        memory.follow(tables, health, factors)
        self._factors = factors
        self._memory = memory
        self._health = health
        self._owner: dict[ServiceKey, str] = {}
        self.services: dict[ServiceKey, ServiceConfig] = {}
        self.destinations: dict[ServiceKey, Mapping[Place, DestinationConfig]] = {}
        self.notes: dict[ServiceKey, ServiceNote] = {}
        self.uncertain: dict[ServiceKey, frozenset[Place]] = {}
        self.awaited: dict[ServiceKey, frozenset[Place]] = {}
        self.failed: dict[ServiceKey, frozenset[Place]] = {}
        self.panic: set[ServiceKey] = set()
        self.redirects: list[Redirected] = []
        self.kept_redirects: set[str] = set()
        self.sorry: set[ServiceKey] = set()
        self.probes: dict[ServiceKey, Probe] = {}
        self.left_alone: set[str] = set()
        self.mixed = ""  # a table with real servers of the other address family

    def follow(
        self, name: str, table: DirectorTableSpec, reserved: Mapping[str, str], guarded: frozenset[str]
    ) -> list[Refusal]:
        """Take one table, unless it is paused or its VIP cannot be one here, or not now."""
        if table.paused and table.redirect is not None:
            self.kept_redirects.add(name)
        elif table.paused:
            self.probe(name, table)
            self.left_alone.add(table.address)
        elif table.address in reserved:
            text = reserved_text(table.address, reserved[table.address])
            return [Refusal(Reason.RESERVED_ADDRESS, text, table.address, name)]
        elif table.redirect is not None:
            services, entries, refusals = self._claim(name, table)
            self.redirects.extend(redirected(name, table, services, entries))
            self.panic |= entries.panic
            self.sorry |= entries.sorry
            return refusals
        else:
            self.probe(name, table)
            if table.address not in guarded:
                return self.add(name, table)
        return []

    def probe(self, name: str, table: DirectorTableSpec) -> None:
        """Take the services of checks; a mark leads where the first table that has it says."""
        for key, one in self._memory.of(name, table)[1].probes.items():
            self.probes.setdefault(key, one)

    def add_probes(self) -> None:
        """Add them to the others; a firewall mark of a VirtualService comes first."""
        for key in [key for key in self.probes if key in self.services]:
            del self.probes[key]
        for key, (place, config) in self.probes.items():
            self.services[key] = probe_service(key)
            self.destinations[key] = {place: config}
            self.notes[key] = usual_note(key)

    def add(self, name: str, table: DirectorTableSpec) -> list[Refusal]:
        """Add one table; a port or mark that another table has already is left to that one."""
        _, entries, refusals = self._claim(name, table)
        self.services.update(entries.services)
        self.destinations.update(entries.destinations)
        self.notes.update(entries.notes)
        self.uncertain.update(entries.uncertain)
        self.awaited.update(entries.awaited)
        self.failed.update(entries.failed)
        self.panic |= entries.panic
        self.sorry |= entries.sorry
        if entries.mixed:
            self.mixed = self.mixed or name
        return refusals

    def _claim(self, name: str, table: DirectorTableSpec) -> tuple[tuple[Served, ...], TableEntries, list[Refusal]]:
        """Return the services of a table that no other has, and what it asks for in them."""
        services, entries = self._memory.of(name, table)
        refusals: list[Refusal] = []
        claimed = dict.fromkeys(entries.services, name)
        if len(services) != len(claimed) or not self._owner.keys().isdisjoint(claimed):
            free: list[Served] = []
            claimed = {}
            for one in services:
                key = one.service
                owner = claimed.get(key) or self._owner.get(key)
                if owner is None:
                    claimed[key] = name
                    free.append(one)
                    continue
                reason = Reason.MARK_CLAIMED if key.mark else Reason.PORT_CLAIMED
                message = f"{table.address} {one.text} belongs to {owner}"
                refusals.append(Refusal(reason, message, table.address, name))
            factors = self._factors.get(name)
            entries = table_entries(table, free, self._health, entries.panic, factors, sorry=entries.sorry)
            services = tuple(free)
        self._owner.update(claimed)
        return services, entries, refusals


def reserved_text(address: str, what: str) -> str:
    """Return why an address cannot be a VIP; `what`: what it is on this node."""
    return f"{address} is {what}; it cannot be a VIP here"
