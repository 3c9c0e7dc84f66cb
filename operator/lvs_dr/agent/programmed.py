"""Which generation of which DirectorTable is in the kernel: what the controller's order waits for."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import msgspec

from lvs_dr.agent.lastgood import TableVersion
from lvs_dr.core.ipvs_table import services_of
from lvs_dr.core.kernel import ServiceKey
from lvs_dr.core.table import DirectorTableSpec


class Entry(msgspec.Struct, frozen=True):
    """A table as it is in the kernel."""

    version: TableVersion
    services: frozenset[ServiceKey]


class Programmed:
    """A table counts at its new generation once nothing of the old one is left: no refused removal, no drain."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def start_from(
        self,
        tables: Mapping[str, DirectorTableSpec],
        versions: Mapping[str, TableVersion],
        ours: AbstractSet[ServiceKey],
    ) -> None:
        """Take what an agent before us put into the kernel: tables of the last good state with services of ours."""
        for name, table in tables.items():
            services = services_of(table)
            if services & ours:
                self._entries[name] = Entry(versions[name], services)

    def settle(
        self,
        tables: Mapping[str, DirectorTableSpec],
        versions: Mapping[str, TableVersion],
        *,
        busy: AbstractSet[ServiceKey],
        untouched: AbstractSet[str],
    ) -> None:
        """Note a pass over `tables`.

        `busy` services still have something of before; tables in `untouched` were not written (paused).
        """
        for name, table in tables.items():
            if name in untouched or name not in versions:
                continue
            services = services_of(table)
            before = self._entries.get(name)
            left = before.services if before is not None else frozenset()
            if not (services | left) & busy:
                self._entries[name] = Entry(versions[name], services)
            elif before is not None:
                self._entries[name] = Entry(before.version, services | (left & busy))
        for name in self._entries.keys() - tables.keys():
            if not self._entries[name].services & busy:
                del self._entries[name]

    def versions(self) -> Mapping[str, TableVersion]:
        """Return the version of every table that is in the kernel."""
        return {name: entry.version for name, entry in self._entries.items()}
