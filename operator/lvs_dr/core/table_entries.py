"""The IPVS entries that one DirectorTable asks for, and those of many tables without working out any of them twice.

A node has thousands of entries and one change touches few of them: tables are told apart by identity, and what the
others ask for is the same objects as before.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import repeat
from typing import Final, NamedTuple

from msgspec import Struct

from lvs_dr.core.destinations import Place
from lvs_dr.core.health import Health, HealthView, check_key
from lvs_dr.core.ipvs_table import Served, destination_config, served, service_config
from lvs_dr.core.kernel import DestinationConfig, ServiceConfig, ServiceKey
from lvs_dr.core.ledger import ServiceNote
from lvs_dr.core.objects import ForwardingMethod, OnFailure
from lvs_dr.core.panic import panics
from lvs_dr.core.probes import Probe, probes
from lvs_dr.core.quorum import is_short
from lvs_dr.core.table import DirectorTableSpec, TableDestination
from lvs_dr.core.weight_factors import FactorView, TableFactors


class TableEntries(Struct, frozen=True):
    """What one table asks for: the fields of `Desired`, by service.

    `checked`: addresses whose health counts. `probes`: firewall-mark services of checks through the VIP.
    `mixed`: some real servers are of the other address family than the VIP. `panic`: services in which failed real
    servers get connections all the same (`core.panic`). `sorry`: services in which the sorry server has taken their
    place (`core.quorum`).
    """

    services: dict[ServiceKey, ServiceConfig]
    destinations: dict[ServiceKey, Mapping[Place, DestinationConfig]]
    notes: dict[ServiceKey, ServiceNote]
    uncertain: dict[ServiceKey, frozenset[Place]]
    awaited: dict[ServiceKey, frozenset[Place]]
    failed: dict[ServiceKey, frozenset[Place]]
    checked: frozenset[str]
    probes: dict[ServiceKey, Probe] = {}
    mixed: bool = False
    panic: frozenset[ServiceKey] = frozenset()
    sorry: frozenset[ServiceKey] = frozenset()


def table_entries(
    table: DirectorTableSpec,
    services: Iterable[Served],
    health: HealthView,
    panic: AbstractSet[ServiceKey] = frozenset(),
    factors: TableFactors | None = None,
    *,
    sorry: AbstractSet[ServiceKey] = frozenset(),
) -> TableEntries:
    """Return what a table asks for with the given ones of its services.

    `panic`: of those that panic already. `sorry`: of those whose sorry server serves already.
    `factors`: what becomes of the configured weights, where they change by themselves.
    """
    services = tuple(services)
    config, note = service_config(table), ServiceNote(table.address, table.quiesce_seconds)
    keys = [one.service for one in services]
    check = table.health_check
    checked = (entry.checked_at for entry in (*table.destinations, *table.pending)) if check is not None else ()
    mixed = any((":" in entry.address) != (":" in table.address) for entry in (*table.entries, *table.pending))
    wanted, notes = dict.fromkeys(keys, config), dict.fromkeys(keys, note)
    panicking = frozenset(one.service for one in services if _panics(table, one, health, panic))
    short = frozenset(one.service for one in services if _is_short(table, one, health, sorry))
    found = TableEntries(wanted, {}, notes, {}, {}, {}, frozenset(checked), probes(table), mixed, panicking, short)
    configs = [destination_config(entry) for entry in table.destinations]
    pending = [destination_config(entry) for entry in table.pending]
    for one in services:
        all_in = one.service in panicking
        group = _group(table, one, _asked(one, table.destinations, configs), health, all_in=all_in)
        awaited = frozenset(group.waiting)
        uncertain = awaited
        if pending:
            entering = _group(table, one, _asked(one, table.pending, pending), health, all_in=False)
            group.wanted.update(entering.wanted)
            group.failed.extend(entering.failed)
            uncertain = awaited.union(entering.wanted)
        if one.service in short:
            place = _stand_in(table, one, group)
            awaited, uncertain = awaited - {place}, uncertain - {place}
        for of_all, of_this in (
            (found.uncertain, uncertain),
            (found.awaited, awaited),
            (found.failed, frozenset(group.failed)),
        ):
            if of_this:
                of_all[one.service] = of_this
        if group.wanted:
            wanted_here = group.wanted if factors is None else factors.applied(one.service, group.wanted)
            found.destinations[one.service] = wanted_here
    return found


_BLIND: Final = frozenset({"sh", "dh"})
"""Schedulers that choose real servers of weight 0 all the same (ip_vs_sh.c, ip_vs_dh.c)."""

_Asked = tuple[Place, DestinationConfig, TableDestination]
"""A destination, how it is set, and what it follows from."""


def _asked(one: Served, entries: Sequence[TableDestination], configs: Iterable[DestinationConfig]) -> Iterable[_Asked]:
    places = zip((entry.address for entry in entries), repeat(one.target_port))
    return zip(places, configs, entries, strict=True)


class _Group(NamedTuple):
    """What a table asks for in one service: entries with their settings, those without a result, those that failed."""

    wanted: dict[Place, DestinationConfig]
    waiting: list[Place]
    failed: list[Place]


def _panics(table: DirectorTableSpec, one: Served, health: HealthView, panic: AbstractSet[ServiceKey]) -> bool:
    check, threshold = table.health_check, table.panic_threshold_percent
    if not threshold or check is None or one.check_port is None:
        return False
    port = one.check_port
    serving = (entry for entry in table.destinations if entry.weight > 0)
    verdicts = [health.get(check_key(table, entry, port, check), Health.UNKNOWN) for entry in serving]
    return panics(threshold, verdicts, already=one.service in panic)


def _verdicts(table: DirectorTableSpec, one: Served, health: HealthView) -> list[tuple[int, Health]]:
    """Return weight and health of those that are to serve; what is not checked counts as healthy."""
    check, serving = table.health_check, [entry for entry in table.destinations if entry.weight > 0]
    if check is None or one.check_port is None:
        return [(entry.weight, Health.UP) for entry in serving]
    port = one.check_port
    return [(entry.weight, health.get(check_key(table, entry, port, check), Health.UNKNOWN)) for entry in serving]


def _is_short(table: DirectorTableSpec, one: Served, health: HealthView, sorry: AbstractSet[ServiceKey]) -> bool:
    """Tell whether the sorry server is to serve."""
    if table.sorry_server is None or table.quorum is None:
        return False
    return is_short(table.quorum, _verdicts(table, one, health), already=one.service in sorry)


def _stand_in(table: DirectorTableSpec, one: Served, group: "_Group") -> Place | None:
    """Put the sorry server in the place of all others: they keep the connections that they have, and get no new ones.

    sh and dh send clients to a real server of weight 0, too, where they are turned away: there the others leave, as
    they do when they are taken out of the service (`core.leaving`). Returns where the sorry server is.
    """
    entry = table.sorry_server
    if entry is None:
        return None
    if table.scheduler in _BLIND:
        group.wanted.clear()
    else:
        group.wanted.update({place: config._replace(weight=0) for place, config in group.wanted.items()})
    rewrites = entry.forwarding is ForwardingMethod.MASQUERADE
    port = (table.sorry_port or one.target_port) if rewrites else one.service.port
    place = (entry.address, port)
    group.wanted[place] = destination_config(entry)
    if place in group.failed:
        group.failed.remove(place)
    return place


def _group(
    table: DirectorTableSpec, one: Served, entries: Iterable[_Asked], health: HealthView, *, all_in: bool
) -> _Group:
    """Return destinations as healthy as they are; with `all_in` failed ones as if they were."""
    check = table.health_check
    if check is None or one.check_port is None:
        return _Group({place: setting for place, setting, _ in entries}, [], [])
    found = _Group({}, [], [])
    for place, setting, entry in entries:
        verdict = health.get(check_key(table, entry, one.check_port, check), Health.UNKNOWN)
        if verdict is Health.UP or (all_in and verdict is Health.DOWN):
            found.wanted[place] = setting
        elif verdict is Health.UNKNOWN:
            found.wanted[place] = setting
            found.waiting.append(place)
        elif table.on_failure is OnFailure.REMOVE:
            found.failed.append(place)
        else:
            found.wanted[place] = setting._replace(weight=0)
    return found


class EntriesMemory:
    """Remembers the entries of each table, for the next time the very same table is asked for."""

    def __init__(self) -> None:
        self._health: HealthView = {}
        self._known: dict[str, tuple[DirectorTableSpec, tuple[Served, ...], TableEntries]] = {}
        self._panic: dict[str, frozenset[ServiceKey]] = {}  # outlives a change of health or of the table
        self._factors: FactorView = {}
        self._sorry: dict[str, frozenset[ServiceKey]] = {}  # likewise

    def follow(self, tables: Mapping[str, DirectorTableSpec], health: HealthView, factors: FactorView) -> None:
        """Forget tables that are gone, and those whose health or factors are not what they were."""
        if factors is not self._factors:
            for name in {**self._factors, **factors}:
                if self._factors.get(name) is not factors.get(name):
                    self._known.pop(name, None)
            self._factors = factors
        if self._panic:
            self._panic = {name: panic for name, panic in self._panic.items() if name in tables}
        if self._sorry:
            self._sorry = {name: sorry for name, sorry in self._sorry.items() if name in tables}
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
            panic, sorry = self._panic.get(name, frozenset()), self._sorry.get(name, frozenset())
            entries = table_entries(table, services, self._health, panic, self._factors.get(name), sorry=sorry)
            known = self._known[name] = table, services, entries
            for kept, now in ((self._panic, entries.panic), (self._sorry, entries.sorry)):
                if now:
                    kept[name] = now
                else:
                    kept.pop(name, None)
        return known[1], known[2]


def _changed(before: HealthView, now: HealthView) -> frozenset[str] | None:
    """Return the addresses with another verdict; None where the checks themselves are others."""
    merged = {**now, **before}  # in the order of `now`; copied with the hashes, which are what costs
    if not len(merged) == len(before) == len(now):
        return None
    known = zip(now.items(), merged.values(), strict=True)
    return frozenset(key.address for (key, verdict), earlier in known if verdict is not earlier)
