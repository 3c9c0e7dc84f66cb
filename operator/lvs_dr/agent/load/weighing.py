"""Which weights follow from slow start and load: remembers what the decisions of `core` need, and feeds them.

Every director works it out by itself from what it hears; Backup directors too, so that a takeover changes no weight.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from lvs_dr.agent.load.reader import LoadReader, Want
from lvs_dr.agent.load.readings import Reading, in_words, read
from lvs_dr.agent.load.table_view import TableView
from lvs_dr.core.destinations import Place
from lvs_dr.core.health import HealthView
from lvs_dr.core.ipvs_table import Served
from lvs_dr.core.kernel import KernelState, ServiceKey
from lvs_dr.core.load_feedback import (
    WHOLE,
    LoadState,
    adjust,
    effective,
    forgotten,
    is_stale,
    measure,
    reference,
    started,
)
from lvs_dr.core.load_spec import BY_AGENT, LoadQuestion, LoadSource, TableLoadFeedback, TableSlowStart
from lvs_dr.core.loads import Sockets
from lvs_dr.core.node_status import MAXIMUM_EXCEPTIONS, TableException
from lvs_dr.core.reasons import Reason
from lvs_dr.core.slow_start import next_step, ramp, resumed
from lvs_dr.core.table import DirectorTableSpec, TableDestination
from lvs_dr.core.weight_factors import FactorView, TableFactors
from lvs_dr.core.weight_report import WeightReport

WHO: Final = "weights"
_MOST_MESSAGE: Final = 256
_NO_AGENT: Final = (
    "it is no node of this cluster, so no lvs-agent tells its load: use source AgentCheck, HTTP or Prometheus"
)


class TableWeights(NamedTuple):
    """What to tell of a table's weights: changes, and real servers whose load is not known or who withdrew."""

    reports: tuple[WeightReport, ...] = ()
    exceptions: tuple[TableException, ...] = ()


class _Server:
    """What is remembered of one real server in one table."""

    __slots__ = ("load", "out", "since", "unknown")

    def __init__(self, load: LoadState, since: float) -> None:
        self.load = load
        self.since = since  # when it was first asked for
        self.unknown = ""  # why nothing is known of its load, once the last report is stale
        self.out = ""  # the word by which it asks for no new connections

    def heard(self, policy: TableLoadFeedback, reading: Reading, now: float) -> None:
        """Take what was heard last."""
        if reading.value is not None:
            self.load = measure(self.load, policy, reading.value, reading.at)
        last = self.load.measured_at if self.load.average is not None else self.since
        silent = now - max(last, self.since) > policy.stale_seconds
        self.unknown = (reading.trouble or "no report for too long") if silent else ""
        self.out = reading.out if reading.at >= now - policy.stale_seconds else ""


class _Table:
    """What is remembered of one table."""

    __slots__ = ("due", "factors", "health", "ramps", "reports", "servers", "spec", "told")

    def __init__(self) -> None:
        self.spec: DirectorTableSpec | None = None
        self.health: HealthView | None = None
        self.servers: dict[str, _Server] = {}  # by address
        self.ramps: dict[tuple[ServiceKey, Place], float | None] = {}  # when it came back; None: it is out
        self.reports: dict[str, WeightReport] = {}
        self.factors = TableFactors()
        self.told = TableWeights()
        self.due = -math.inf


class Weighing:
    """Works out factors of tables whose weights change by themselves. `due`: when they are to be looked at again."""

    def __init__(self, reader: LoadReader, *, wall: Callable[[], float] = time.time) -> None:
        self._reader = reader
        self._wall = wall
        self._tables: dict[str, _Table] = {}
        self._seen: Mapping[str, DirectorTableSpec] | None = None
        self._plain: frozenset[str] = frozenset()  # tables that were seen without such weights
        self._factors: FactorView = {}
        self.told: Mapping[str, TableWeights] = {}
        """By table; a new object when something changes."""
        self.due = math.inf

    def follow(
        self, tables: Mapping[str, DirectorTableSpec], health: HealthView, actual: KernelState, now: float
    ) -> FactorView:
        """Return the factors: the same object while nothing changes. `actual` is what was read, `now` monotonic.

        May run in a thread: with many tables it takes a while.
        """
        changed = False
        for name, known in self._tables.items():
            spec = tables[name]
            news = spec is not known.spec or (spec.slow_start is not None and health is not known.health)
            if news or now >= known.due:
                before = (known.factors, known.told)
                self._weigh(known, TableView(spec, health, actual, now, fresh=name in self._plain))
                known.spec, known.health = spec, health
                changed = changed or (known.factors, known.told) != before or known.factors is not before[0]
        self._plain = frozenset(name for name in tables if name not in self._tables)
        if changed or self._factors.keys() != self._tables.keys():
            self._factors = {name: known.factors for name, known in self._tables.items()}
            self.told = {name: known.told for name, known in self._tables.items() if any(known.told)}
        self.due = min((known.due for known in self._tables.values()), default=math.inf)
        return self._factors

    def take(self, tables: Mapping[str, DirectorTableSpec]) -> bool:
        """Note which tables there are, and have asked for what they need; returns whether there is anything to do."""
        if tables is self._seen:
            return bool(self._tables or self._factors)
        self._seen = tables
        moving = {
            name: one for name, one in tables.items() if one.slow_start is not None or one.load_feedback is not None
        }
        self._tables = {name: self._tables.get(name) or _Table() for name in moving}
        wanted: dict[LoadQuestion, Want] = {}
        for table in moving.values():
            policy = table.load_feedback
            if policy is None:
                continue
            sockets = Sockets.COUNT if policy.source is LoadSource.CONNECTIONS else Sockets.NONE
            want = Want(float(policy.interval_seconds), sockets)
            for entry in table.destinations:
                if entry.node or policy.source not in BY_AGENT:
                    question = policy.question(entry.address)
                    wanted[question] = want.joined(wanted.get(question))
        self._reader.want(WHO, wanted)
        if not self._tables:
            self._plain = frozenset(tables)
        return bool(self._tables or self._factors)

    def _weigh(self, known: _Table, look: TableView) -> None:
        """Decide the factors of one table."""
        table, now = look.table, look.now
        due = [math.inf]
        if table.load_feedback is not None:
            self._follow_loads(known, look, table.load_feedback)
            due.append(now + table.load_feedback.interval_seconds)
        else:
            known.servers.clear()
        percents: dict[ServiceKey, dict[Place, int]] = {}
        ramps: dict[tuple[ServiceKey, Place], float | None] = {}
        for entry in look.entries:
            server = known.servers.get(entry.address)
            load = WHOLE if server is None else 0 if server.out else server.load.told
            for one in look.services:
                place = (entry.address, one.target_port)
                slow = WHOLE
                if table.slow_start is not None:
                    began = self._ramp(known, look, table.slow_start, entry, one)
                    ramps[one.service, place] = began
                    if began is not None:
                        slow = ramp(table.slow_start, began, now)
                        due.append(next_step(table.slow_start, began, now) or math.inf)
                percent = max(1, round(load * slow / WHOLE)) if load else 0
                if percent != WHOLE:
                    percents.setdefault(one.service, {})[place] = percent
        known.ramps = ramps
        factors = TableFactors(look.scale, percents)
        if factors != known.factors:
            known.factors = factors
        known.due = min(due)
        names = {entry.real_server for entry in look.entries}
        known.reports = {name: each for name, each in known.reports.items() if name in names}
        known.told = TableWeights(_latest(known.reports.values()), tuple(_exceptions(known, table)))

    def _ramp(
        self, known: _Table, look: TableView, policy: TableSlowStart, entry: TableDestination, one: Served
    ) -> float | None:
        """Return when a destination came back; None while it is out."""
        here = look.percent(entry, one)
        if not look.serves(entry, one, in_kernel=here is not None):
            return None
        began = known.ramps.get((one.service, (entry.address, one.target_port)))
        if began is not None:
            return began
        if here is not None:  # it serves already: what it has is what it goes on with
            whole = here < policy.floor_percent or look.table.load_feedback is not None
            return resumed(policy, WHOLE if whole else here, look.now)
        last = effective(entry.weight, look.scale)
        first = effective(entry.weight, look.scale, policy.floor_percent)
        words = f"{first} -> {last} in {policy.seconds} s, slow start on {one.text}"
        self._report(known, entry, first, words)
        return look.now

    def _follow_loads(self, known: _Table, look: TableView, policy: TableLoadFeedback) -> None:
        """Take what was heard of each real server, and decide what share of its weight it is left."""
        table, now = look.table, look.now
        servers: dict[str, _Server] = {}
        for entry in table.destinations:
            server = known.servers.get(entry.address)
            if server is None:
                percent = look.least(entry)
                usable = percent is not None and policy.minimum_percent <= percent <= policy.maximum_percent
                server = _Server(started(policy, percent) if usable and percent is not None else LoadState(), now)
            servers[entry.address] = server
            server.heard(policy, self._read(table, policy, entry), now)
        known.servers = servers
        limit = reference(policy, [servers[entry.address].load for entry in _taking(look, policy, servers)])
        for entry in table.destinations:
            server = servers[entry.address]
            before = server.load.told
            if server.unknown:
                server.load = forgotten(server.load)
                why = f"its load is not known: {server.unknown}"
            else:
                server.load = adjust(server.load, policy, limit, now)
                why = in_words(policy, server.load, now)
            if server.load.told != before and entry.weight > 0:
                old, new = (effective(entry.weight, look.scale, each) for each in (before, server.load.told))
                self._report(known, entry, new, f"{old} -> {new}, {why}")

    def _read(self, table: DirectorTableSpec, policy: TableLoadFeedback, entry: TableDestination) -> Reading:
        if not entry.node and policy.source in BY_AGENT:
            return Reading(trouble=_NO_AGENT)
        question = policy.question(entry.address)
        return read(table, policy, entry, self._reader.heard(question), self._reader.trouble(question))

    def _report(self, known: _Table, entry: TableDestination, weight: int, message: str) -> None:
        since = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = f"{entry.real_server}: {message}"[:_MOST_MESSAGE]
        known.reports[entry.real_server] = WeightReport(entry.real_server, weight, text, since)


def _taking(look: TableView, policy: TableLoadFeedback, servers: Mapping[str, _Server]) -> Iterator[TableDestination]:
    """Return the real servers that take connections and whose load is known: with them others are compared."""
    for entry in look.table.destinations:
        server = servers[entry.address]
        if server.out or is_stale(server.load, policy, look.now):
            continue
        if any(look.serves(entry, one, in_kernel=True) for one in look.services):
            yield entry


def _exceptions(known: _Table, table: DirectorTableSpec) -> Iterable[TableException]:
    for entry in table.destinations:
        server = known.servers.get(entry.address)
        if server is None or entry.weight == 0:
            continue
        if server.out:
            text = f"{entry.address} says {server.out} by its agent check: it gets no new connections"
            yield TableException(Reason.WITHDRAWN, text, entry.real_server)
        elif server.unknown:
            text = f"it has its configured weight, because its load is not known: {server.unknown}"
            yield TableException(Reason.LOAD_UNKNOWN, text[:512], entry.real_server, serves=True)


def _latest(reports: Iterable[WeightReport]) -> tuple[WeightReport, ...]:
    """Return the latest changes, by name."""
    latest = sorted(reports, key=lambda each: each.since, reverse=True)[:MAXIMUM_EXCEPTIONS]
    return tuple(sorted(latest, key=lambda each: each.real_server))
