"""How many connections real servers still have that are being taken out: counted anew in each pass, told sparingly."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from lvs_dr.core.drain_report import DrainReport
from lvs_dr.core.ipvs_table import served
from lvs_dr.core.kernel import DestinationKey, KernelState, ServiceKey
from lvs_dr.core.leaving import SETTLE_SECONDS
from lvs_dr.core.node_status import MAXIMUM_EXCEPTIONS
from lvs_dr.core.table import DirectorTableSpec

DrainReports = Mapping[str, tuple[DrainReport, ...]]

_NOTHING: Final = DrainReport("")
_LEAST_NEWS: Final = 20  # a larger count is told again once it has changed by this part


class _Draining(NamedTuple):
    """One real server of one table, and its places in the kernel."""

    table: str
    real_server: str
    places: tuple[DestinationKey, ...]
    remembers: bool  # clients that persistence remembers are waited for
    redirected: bool = False  # what it has is not in the kernel


class DrainCounts:
    """Remembers for each draining real server since when it has been empty, and what was told last."""

    def __init__(self) -> None:
        self._tables: Mapping[str, DirectorTableSpec] | None = None
        self._draining: tuple[_Draining, ...] = ()
        self._empty: dict[_Draining, float] = {}
        self._told: dict[_Draining, DrainReport] = {}

    @property
    def waiting(self) -> bool:
        """Whether a count is waited for: nothing tells when a connection ends."""
        return any(not self._told[each].idle for each in self._draining if each in self._told)

    @property
    def services(self) -> frozenset[ServiceKey]:
        """The services whose connections are counted: they are read in every pass."""
        return frozenset(place.service for each in self._draining for place in each.places)

    def follow(
        self,
        tables: Mapping[str, DirectorTableSpec],
        actual: KernelState,
        now: float,
        in_flight: Mapping[tuple[str, str], int] = MappingProxyType({}),
    ) -> DrainReports:
        """Return what to tell of each table. `actual` is what was read; `now`: seconds of the monotonic clock.

        `in_flight`: uploads by table and real server, where redirects are; one that is not in it is not known.

        A real server is idle when for `SETTLE_SECONDS` it had no connection and could get none: one whose opening
        packets are on their way is not counted yet.
        """
        if tables is not self._tables:
            self._tables, self._draining = tables, _draining(tables)
        told: dict[_Draining, DrainReport] = {}
        empty: dict[_Draining, float] = {}
        for each in self._draining:
            if each.redirected and (each.table, each.real_server) not in in_flight:
                told[each] = DrainReport(each.real_server, self._told.get(each, _NOTHING).connections)
                continue
            count = in_flight.get((each.table, each.real_server), 0) if each.redirected else 0
            count += sum(actual.connections.get(place, 0) for place in each.places)
            clients = sum(actual.templates.get(place, 0) for place in each.places) if each.remembers else 0
            closed = all(
                (config := actual.destinations.get(place)) is None or config.weight == 0 for place in each.places
            )
            if closed and not count and not clients:
                empty[each] = self._empty.get(each, now)
            idle = each in empty and now - empty[each] >= SETTLE_SECONDS
            before = self._told.get(each)
            told[each] = DrainReport(
                each.real_server,
                _rounded(before.connections if before is not None else None, count),
                _rounded(before.remembered if before is not None else None, clients),
                idle,
            )
        self._empty, self._told = empty, told
        found: dict[str, list[DrainReport]] = {}
        for each, report in told.items():
            found.setdefault(each.table, []).append(report)
        return {name: tuple(reports[:MAXIMUM_EXCEPTIONS]) for name, reports in found.items()}


def _rounded(before: int | None, count: int) -> int:
    """Return the number told before, until the new one is far from it: each report is a write."""
    if before is None or not count or abs(count - before) > before // _LEAST_NEWS:
        return count
    return before


def _draining(tables: Mapping[str, DirectorTableSpec]) -> tuple[_Draining, ...]:
    return tuple(
        _Draining(
            name,
            entry.real_server,
            tuple(DestinationKey(one.service, entry.address, one.target_port) for one in served(table)),
            table.persistence is not None and not entry.forget_clients,
            table.redirect is not None,
        )
        for name, table in tables.items()
        for entry in table.destinations
        if entry.draining and entry.weight == 0
    )
