"""The IPVS entries that one DirectorTable asks for, and those of many tables without working out any of them twice.

A node has thousands of entries and one change touches few of them: tables are told apart by identity, and what the
others ask for is the same objects as before.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import repeat
from typing import Final

from msgspec import Struct

from lvs_dr.core.health import CheckKey, Health, HealthView
from lvs_dr.core.ipvs_table import Served, destination_config, served, service_config
from lvs_dr.core.kernel import DestinationConfig, DestinationKey, ServiceConfig, ServiceKey
from lvs_dr.core.ledger import ServiceNote
from lvs_dr.core.objects import OnFailure
from lvs_dr.core.table import DirectorTableSpec, TableDestination

# As DestinationKey(*fields) does, without a frame of Python for each: they are made by the thousand.
_destination_key: Final = partial(tuple.__new__, DestinationKey)


class TableEntries(Struct, frozen=True):
    """What one table asks for. The fields are those of `Desired`; `checked`: addresses whose health counts."""

    services: dict[ServiceKey, ServiceConfig]
    destinations: dict[DestinationKey, DestinationConfig]
    notes: dict[ServiceKey, ServiceNote]
    uncertain: set[DestinationKey]
    awaited: set[DestinationKey]
    failed: set[DestinationKey]
    checked: frozenset[str]


def table_entries(table: DirectorTableSpec, services: Iterable[Served], health: HealthView) -> TableEntries:
    """Return what a table asks for with the given ones of its services."""
    config, note = service_config(table), ServiceNote(table.address, table.quiesce_seconds)
    keys = [one.service for one in services]
    check = table.health_check
    checked = (entry.address for entry in (*table.destinations, *table.pending)) if check is not None else ()
    found = TableEntries(
        dict.fromkeys(keys, config), {}, dict.fromkeys(keys, note), set(), set(), set(), frozenset(checked)
    )
    configs = [destination_config(entry) for entry in table.destinations]
    pending = [destination_config(entry) for entry in table.pending]
    for one in services:
        added = _keys(one, table.destinations)
        if check is None or not one.check_port:
            found.destinations.update(zip(added, configs, strict=True))
        else:
            waiting = _checked(found, table, one.check_port, zip(added, configs, strict=True), health)
            found.uncertain.update(waiting)
            found.awaited.update(waiting)
        if pending:
            entering = zip(_keys(one, table.pending), pending, strict=True)
            found.uncertain.update(_entering(found, table, one.check_port, entering, health))
    return found


def _keys(one: Served, entries: Iterable[TableDestination]) -> list[DestinationKey]:
    addresses = [entry.address for entry in entries]
    return list(map(_destination_key, zip(repeat(one.service), addresses, repeat(one.target_port))))


def _checked(
    found: TableEntries,
    table: DirectorTableSpec,
    port: int,
    entries: Iterable[tuple[DestinationKey, DestinationConfig]],
    health: HealthView,
) -> list[DestinationKey]:
    """Add destinations as healthy as they are, and return those that wait for their first check."""
    check = table.health_check
    waiting: list[DestinationKey] = []
    for key, setting in entries:
        verdict = Health.UP if check is None or not port else health.get(CheckKey(key[1], port, check), Health.UNKNOWN)
        if verdict is Health.UP:
            found.destinations[key] = setting
        elif verdict is Health.UNKNOWN:
            found.destinations[key] = setting
            waiting.append(key)
        elif table.on_failure is OnFailure.REMOVE:
            found.failed.add(key)
        else:
            found.destinations[key] = setting._replace(weight=0)
    return waiting


def _entering(
    found: TableEntries,
    table: DirectorTableSpec,
    port: int,
    entries: Iterable[tuple[DestinationKey, DestinationConfig]],
    health: HealthView,
) -> list[DestinationKey]:
    """Add destinations that are about to enter, and return them but for those that have failed and are not wanted."""
    listed = list(entries)
    _checked(found, table, port, listed, health)
    refused = table.on_failure is OnFailure.REMOVE
    return [key for key, _ in listed if not (refused and key in found.failed)]


class EntriesMemory:
    """Remembers the entries of each table, for the next time the very same table is asked for."""

    def __init__(self) -> None:
        self._health: HealthView = {}
        self._known: dict[str, tuple[DirectorTableSpec, tuple[Served, ...], TableEntries]] = {}

    def follow(self, tables: Mapping[str, DirectorTableSpec], health: HealthView) -> None:
        """Forget tables that are gone, and those whose health is not what it was."""
        if len(self._known) > len(tables):
            self._known = {name: one for name, one in self._known.items() if name in tables}
        if health is self._health:
            return
        changed = _changed(self._health, health)
        self._health = health
        self._known = {
            name: one
            for name, one in self._known.items()
            if not one[2].checked or (changed is not None and one[2].checked.isdisjoint(changed))
        }

    def of(self, name: str, table: DirectorTableSpec) -> tuple[tuple[Served, ...], TableEntries]:
        """Return the services of a table and all that it asks for; the latter is not to be changed."""
        known = self._known.get(name)
        if known is None or known[0] is not table:
            services = served(table)
            known = self._known[name] = table, services, table_entries(table, services, self._health)
        return known[1], known[2]


def _changed(before: HealthView, now: HealthView) -> frozenset[str] | None:
    """Return the addresses with another verdict; None where the checks themselves are others."""
    merged = {**now, **before}  # in the order of `now`; copied with the hashes, which are what costs
    if not len(merged) == len(before) == len(now):
        return None
    known = zip(now.items(), merged.values(), strict=True)
    return frozenset(key.address for (key, verdict), earlier in known if verdict is not earlier)
