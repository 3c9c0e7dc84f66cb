"""From what one pass saw to LVSNode.status: pure, so that what people read can be tested by itself."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from lvs_dr.agent.drains import DrainReports
from lvs_dr.agent.health.outcomes import Outcome
from lvs_dr.agent.lastgood import TableVersion
from lvs_dr.agent.load.weighing import TableWeights
from lvs_dr.agent.watch import Unreadable
from lvs_dr.core.health import CheckKey, Health, HealthView, check_key
from lvs_dr.core.ipvs_table import check_ports, served, services_of
from lvs_dr.core.kernel import DestinationOp, Failure, ServiceKey, ServiceOp
from lvs_dr.core.merged_tables import Refusal
from lvs_dr.core.node import MAXIMUM_TABLES, BackendTunnel
from lvs_dr.core.node_status import (
    MAXIMUM_EXCEPTIONS,
    InterfaceReport,
    IpvsReport,
    LVSNodeStatus,
    Problem,
    SocketReport,
    TableException,
    TableReport,
    VirtualRouterReport,
)
from lvs_dr.core.reasons import Reason
from lvs_dr.core.suspicions import Suspicion
from lvs_dr.core.sync_spec import SyncReport
from lvs_dr.core.table import DirectorTableSpec, TableDestination

MAXIMUM_MESSAGE = 512
MAXIMUM_PROBLEMS = 64
MAXIMUM_NEXT_HOPS = 64

_NOWHERE = TableVersion(0, "")  # known, but not in the kernel
_AS_CONFIGURED = TableWeights()

Outcomes = Callable[[CheckKey], Outcome]


class Facts(msgspec.Struct, frozen=True):
    """What one pass saw."""

    agent_version: str
    boot_id: str
    observed_generation: int
    tables: Mapping[str, DirectorTableSpec]
    programmed: Mapping[str, TableVersion]
    refused: Mapping[str, Unreadable] = {}
    refusals: Sequence[Refusal] = ()
    failures: Sequence[Failure] = ()
    director_interface: str = ""
    held: Sequence[str] = ()
    routers: Sequence[VirtualRouterReport] = ()
    loopback: Sequence[str] = ()
    tunnels: Sequence[BackendTunnel] = ()
    interfaces: Sequence[InterfaceReport] = ()
    next_hops: Sequence[str] = ()
    problems: Sequence[Problem] = ()
    suspicions: tuple[Suspicion, ...] = ()
    repairs: int = 0
    ipvs: IpvsReport | None = None
    sync: SyncReport | None = None
    draining: DrainReports = {}  # by table
    redirects: Mapping[str, tuple[TableException, ...]] = {}  # what is wrong with them, by table
    weights: Mapping[str, TableWeights] = {}  # by table, those that changed by themselves
    panic: AbstractSet[ServiceKey] = frozenset()  # services in which failed real servers serve
    sockets: Sequence[SocketReport] = ()  # of VIPs that this node is being taken out of
    sorry: AbstractSet[ServiceKey] = frozenset()  # services in which the sorry server serves
    silent: AbstractSet[ServiceKey] = frozenset()  # firewall-mark services that should see packets and do not


class TableReports:
    """Makes the reports of tables, and hands out the same ones while nothing changed: there may be thousands."""

    def __init__(self) -> None:
        self._of: tuple[Facts, HealthView] | None = None
        self._reports: tuple[TableReport, ...] = ()

    def __call__(self, facts: Facts, outcomes: Outcomes, health: HealthView) -> tuple[TableReport, ...]:
        """Return the reports. `health`: the verdicts, the same object until one changes."""
        if self._of is None or self._of[1] is not health or not _same_tables(self._of[0], facts):
            self._reports = _table_reports(facts, outcomes)
            self._of = (facts, health)
        return self._reports


def _same_tables(one: Facts, other: Facts) -> bool:
    return one.tables is other.tables and (
        (
            *(one.programmed, one.refused, one.refusals, one.failures),
            *(one.silent, one.draining, one.panic, one.redirects, one.weights, one.sorry),
        )
        == (
            *(other.programmed, other.refused, other.refusals, other.failures),
            *(other.silent, other.draining, other.panic, other.redirects, other.weights, other.sorry),
        )
    )


def status(facts: Facts, outcomes: Outcomes, reports: tuple[TableReport, ...] | None = None) -> LVSNodeStatus:
    """Return the status to report; `reports` of the tables, where they are made already."""
    return LVSNodeStatus(
        agent_version=facts.agent_version,
        boot_id=facts.boot_id,
        observed_generation=facts.observed_generation,
        director_interface=facts.director_interface,
        held_addresses=tuple(sorted(facts.held)),
        loopback_addresses=tuple(sorted(facts.loopback)),
        virtual_routers=tuple(facts.routers),
        tunnels=tuple(facts.tunnels),
        interfaces=tuple(facts.interfaces),
        next_hops=tuple(facts.next_hops)[:MAXIMUM_NEXT_HOPS],
        tables=_table_reports(facts, outcomes) if reports is None else reports,
        problems=_problems(facts),
        sockets=tuple(facts.sockets),
        suspicions=facts.suspicions,
        ipvs=facts.ipvs,
        sync=facts.sync,
        repairs=facts.repairs,
    )


def problem(reason: Reason, message: str, address: str = "") -> Problem:
    """Return a problem with its message cut to what the API takes."""
    return Problem(reason=reason, message=cut(message), address=address)


def cut(message: str) -> str:
    """Return a message no longer than the API takes."""
    return message if len(message) <= MAXIMUM_MESSAGE else message[: MAXIMUM_MESSAGE - 1] + "…"


def _problems(facts: Facts) -> tuple[Problem, ...]:
    found = list(facts.problems)
    found += [problem(one.reason, one.message, one.address) for one in facts.refusals if not one.table]
    for failure in facts.failures:
        if not isinstance(failure.op, ServiceOp | DestinationOp):
            address = getattr(failure.op.key, "address", "")
            found.append(problem(Reason(failure.reason), failure.message, address))
    unavailable = [one for one in facts.failures if one.reason == Reason.IPVS_UNAVAILABLE]
    if unavailable:
        found.append(problem(Reason.IPVS_UNAVAILABLE, unavailable[0].message))
    unique = dict.fromkeys(found)
    return tuple(sorted(unique, key=lambda one: (one.reason, one.address, one.message)))[:MAXIMUM_PROBLEMS]


def _table_reports(facts: Facts, outcomes: Outcomes) -> tuple[TableReport, ...]:
    by_service: dict[ServiceKey, list[Failure]] = {}
    for failure in facts.failures:
        if isinstance(failure.op, ServiceOp):
            by_service.setdefault(failure.op.key, []).append(failure)
        elif isinstance(failure.op, DestinationOp):
            by_service.setdefault(failure.op.key.service, []).append(failure)
    by_table: dict[str, list[Refusal]] = {}
    for refusal in facts.refusals:
        by_table.setdefault(refusal.table, []).append(refusal)
    reports = []
    for name in sorted({*facts.programmed, *facts.tables, *facts.refused}):
        report = _table_report(name, facts, by_service, by_table.get(name, ()), outcomes)
        if report is not None:
            reports.append(report)
    return tuple(reports[:MAXIMUM_TABLES])


def _table_report(
    name: str,
    facts: Facts,
    by_service: Mapping[ServiceKey, Sequence[Failure]],
    refusals: Sequence[Refusal],
    outcomes: Outcomes,
) -> TableReport | None:
    """Return the report of one table; None where there is nothing to tell."""
    table = facts.tables.get(name)
    about: list[TableException] = []
    if name in facts.refused:
        about.append(TableException(facts.refused[name].reason, cut(facts.refused[name].message)))
    about += [TableException(one.reason, cut(one.message)) for one in refusals]
    healthy = total = 0
    if table is not None:
        if table.paused:
            about.append(TableException(Reason.PAUSED, "nothing is written to the kernel for this table"))
        about += _failed_entries(table, by_service) if by_service else ()
        about += facts.redirects.get(name, ())
        if facts.silent and table.firewall_mark and facts.silent & services_of(table):
            about.append(TableException(Reason.MARK_NOT_SEEN, _unseen(table)))
        if facts.panic and (panicking := [one.text for one in served(table) if one.service in facts.panic]):
            about.append(TableException(Reason.PANIC, cut(_panic(table, panicking))))
        if facts.sorry and (short := [one.text for one in served(table) if one.service in facts.sorry]):
            about.append(TableException(Reason.SORRY_SERVER, cut(_sorry(table, short))))
        poor = [*_not_well(table, outcomes), *facts.weights.get(name, _AS_CONFIGURED).exceptions]
        about += poor
        total = len(table.destinations)
        down = {one.real_server for one in poor if not one.serves}
        healthy = sum(1 for one in table.destinations if one.weight > 0 and one.real_server not in down)
    elif name not in facts.programmed and not about:
        return None
    listed, left_out = tuple(about[:MAXIMUM_EXCEPTIONS]), max(0, len(about) - MAXIMUM_EXCEPTIONS)
    version = facts.programmed.get(name, _NOWHERE)
    draining = facts.draining.get(name, ())
    weights = facts.weights.get(name, _AS_CONFIGURED).reports
    return TableReport(name, version.generation, healthy, total, listed, left_out, version.uid, draining, weights)


def _panic(table: DirectorTableSpec, services: Sequence[str]) -> str:
    return (
        f"fewer than {table.panic_threshold_percent}% of the real servers are healthy on {', '.join(services)}: "
        "connections go to all of them, also to those that failed their check"
    )


def _sorry(table: DirectorTableSpec, services: Sequence[str]) -> str:
    entry = table.sorry_server
    name = (
        (entry.real_server if entry.real_server == entry.address else f"{entry.real_server} ({entry.address})")
        if entry
        else ""
    )
    return f"too few real servers are healthy on {', '.join(services)}: new connections go to the sorry server {name}"


def _unseen(table: DirectorTableSpec) -> str:
    return (
        f"no packet with firewall mark {table.firewall_mark} has arrived here; mark them on every director, for "
        f"example: iptables -t mangle -A PREROUTING -d {table.address} -j MARK --set-mark {table.firewall_mark}"
    )


def _failed_entries(
    table: DirectorTableSpec, by_service: Mapping[ServiceKey, Sequence[Failure]]
) -> Iterable[TableException]:
    names = {entry.address: entry.real_server for entry in table.entries}
    found: dict[TableException, None] = {}
    for one in served(table):
        key = one.service
        broken = any(isinstance(failure.op, ServiceOp) for failure in by_service.get(key, ()))
        for failure in by_service.get(key, ()):
            if isinstance(failure.op, ServiceOp):
                found[TableException(failure.reason, cut(failure.message))] = None
            elif not broken and isinstance(failure.op, DestinationOp):
                # The destinations of a service that could not be made say nothing new.
                name = names.get(failure.op.key.address, "")
                found[TableException(failure.reason, cut(failure.message), name)] = None
    return found


def _not_well(table: DirectorTableSpec, outcomes: Outcomes) -> Iterable[TableException]:
    """Return one exception for each real server that is not healthy on all ports."""
    if table.health_check is None:
        return
    ports = check_ports(table)
    for entry in table.destinations:
        found = [(port, outcomes(check_key(table, entry, port, table.health_check))) for port in ports]
        exception = _first_wrong(table.address, entry, found)
        if exception is not None:
            yield exception


def _first_wrong(vip: str, entry: TableDestination, found: Sequence[tuple[int, Outcome]]) -> TableException | None:
    """Return what is wrong with a real server: what takes it out first, then what is not known."""
    failed = [(port, one) for port, one in found if one.health is Health.DOWN]
    if failed:
        texts = (one.message or "check failed" for _, one in failed)
        if all(one.blackholed for _, one in failed):
            texts = (f"well there, and not on the VIP {vip}: {text}" for text in texts)
            return _about(entry, Reason.BLACKHOLED, [port for port, _ in failed], texts, failed[0][1])
        reason = Reason.FLAPPING if any(one.flapping for _, one in failed) else Reason.CHECK_FAILED
        return _about(entry, reason, [port for port, _ in failed], texts, failed[0][1])
    broken = [(port, one) for port, one in found if one.trouble]
    unknown = any(one.health is Health.UNKNOWN for _, one in found)
    if broken:
        state = "it does not enter" if unknown else "it goes on as it was"
        texts = (f"cannot be checked ({state}): {one.trouble}" for _, one in broken)
        return _about(entry, Reason.CHECK_BROKEN, [port for port, _ in broken], texts, broken[0][1], serves=not unknown)
    if unknown:
        return TableException(Reason.CHECKING, f"{entry.address} no check has ended yet", entry.real_server)
    return None


def _about(
    entry: TableDestination,
    reason: Reason,
    ports: Iterable[int],
    texts: Iterable[str],
    first: Outcome,
    *,
    serves: bool = False,
) -> TableException:
    at = f" (checked at {entry.check_address})" if entry.check_address else ""
    told = "; ".join(f"port {port}: {text}" if port else text for port, text in zip(ports, texts, strict=True))
    return TableException(
        reason, cut(f"{entry.address}{at} {told}"), entry.real_server, serves, first.since, first.milliseconds
    )
