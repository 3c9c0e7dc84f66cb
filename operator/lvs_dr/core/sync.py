"""Connections survive a takeover: the kernel's sync daemons and the sysctls that go with them.

A director of a group with others runs both daemons at once: the master tells the others of its connections, the
backup learns theirs. A network namespace has one of each, so one that is not ours is left alone and told, never
fought over. A daemon is bound to its interface (not to the name) and to the address it had at the start: when either
changes it runs on and carries nothing, so the ledger remembers them, and it is started anew.
Sources: net/netfilter/ipvs/ip_vs_sync.c, Documentation/networking/ipvs-sysctl.rst.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from msgspec.structs import replace

from lvs_dr.core.arp_settings import SysctlRule
from lvs_dr.core.kernel import DaemonConfig, DaemonKey, DaemonOp, KernelState, SysctlKey, Verb
from lvs_dr.core.ledger import DaemonRecord
from lvs_dr.core.reasons import Reason
from lvs_dr.core.settings import Link, Settings, sysctl_key
from lvs_dr.core.sync_spec import ConnectionSync

MASTER: Final = DaemonKey("master")
BACKUP: Final = DaemonKey("backup")
DAEMONS: Final = (MASTER, BACKUP)

USUAL_MTU: Final = 1500  # what the kernel takes for a master's messages, whatever the interface has
_UDP_HEADER: Final = 8
_IP_HEADER: Final = {False: 20, True: 40}  # by whether it is IPv6
_LEAST_BUFFER: Final = 1024  # the kernel's for a backup


class DaemonPlan(NamedTuple):
    """What to do about daemons, and what the ledger must say of it before that. `foreign` ones are in the way."""

    ops: tuple[DaemonOp, ...] = ()
    records: tuple[DaemonRecord, ...] = ()
    foreign: tuple[DaemonKey, ...] = ()
    repairs: frozenset[DaemonOp] = frozenset()


def largest_message(group: str) -> int:
    """Return how many bytes a message has that fills a packet of the usual MTU."""
    return USUAL_MTU - _IP_HEADER[":" in group] - _UDP_HEADER


def with_sync(shared: Settings, sync: ConnectionSync | None, link: Link | None, mixed: str = "") -> Settings:
    """Return the settings together with the daemons and sysctls of connection sync; `link`: its interface.

    A sysctl that the DirectorGroup's kernelSettings name stays as they say. Where the settings have another owner
    the daemons run all the same, and no sysctl is written. While a table, `mixed`, has real servers of the other
    address family the kernel has no sync: serving them comes first.
    """
    if sync is None:
        return shared
    if mixed:
        text = f"connections are not carried to other directors: {mixed} has real servers of the other address family"
        return replace(shared, problems=(*shared.problems, (Reason.SYNC_DAEMON_MISSING, text)), link=link)
    sysctls = shared.sysctls if shared.owner else {**sysctl_rules(sync), **shared.sysctls}
    if link is None:
        where = f"interface {sync.interface}" if sync.interface else "the interface that faces the clients"
        problem = (Reason.SYNC_INTERFACE_MISSING, f"connections are not carried to other directors: no {where}")
        return replace(shared, sysctls=sysctls, problems=(*shared.problems, problem), awaiting_link=True)
    return replace(shared, sysctls=sysctls, daemons=daemons(sync, link.name), link=link)


def daemons(sync: ConnectionSync, interface: str) -> dict[DaemonKey, DaemonConfig]:
    """Return both daemons. A backup's buffer holds the longest message that a master may send."""
    usual = largest_message(sync.group)
    length = sync.maximum_length or usual
    master = DaemonConfig(interface, sync.id, length, sync.group, sync.port, sync.ttl)
    return {MASTER: master, BACKUP: master._replace(maximum_length=max(length, usual, _LEAST_BUFFER))}


def sysctl_rules(sync: ConnectionSync) -> dict[SysctlKey, SysctlRule]:
    """Return the sysctls that say when a connection is told, each with its reason."""
    values = (
        (
            "sync_threshold", f"{sync.threshold}\t{sync.period}",
            "which packets of a connection tell the others of it: the kernel's default leaves young and idle ones out",
        ),
        (
            "sync_refresh_period", str(sync.refresh_seconds),
            "connections are told again after this time: a director that came back learns those that are in use",
        ),
        ("sync_retries", str(sync.retries), "a message may get lost: it is sent again with the next packets"),
        ("sloppy_tcp", str(int(sync.sloppy)), "a connection that was not told of in time is picked up in its middle"),
        ("sloppy_sctp", str(int(sync.sloppy)), "the same for SCTP"),
    )  # fmt: skip
    return {
        key: SysctlRule(key, value, frozenset(), reason)
        for key, value, reason in ((sysctl_key(name), value, reason) for name, value, reason in values)
    }


def unmet_sync(shared: Settings, sync: ConnectionSync | None, actual: KernelState) -> tuple[str, ...]:
    """Return in words the sysctls of connection sync that have another owner and other values."""
    if sync is None or not shared.owner or not actual.timeouts:
        return ()
    return tuple(
        f"net.{'.'.join(key.path)} is {_flat(actual.sysctls[key])}, not {_flat(rule.value)}"
        for key, rule in sysctl_rules(sync).items()
        if key in actual.sysctls and not rule.accepts(actual.sysctls[key])
    )


def plan_daemons(shared: Settings, actual: KernelState, recorded: Iterable[DaemonRecord]) -> DaemonPlan:
    """Return what to start, stop, and start anew. Nothing while IPVS was not read."""
    records = {record.key: record for record in recorded}
    if not actual.timeouts or shared.awaiting_link:
        # Without its interface a daemon carries nothing; stopped, it would not come back with the same interface.
        return DaemonPlan(records=tuple(records.values()))
    ops: list[DaemonOp] = []
    foreign: list[DaemonKey] = []
    repairs: set[DaemonOp] = set()
    kept: list[DaemonRecord] = []
    for key in DAEMONS:
        record, wanted, found = records.get(key), shared.daemons.get(key), actual.daemons.get(key)
        if wanted is None:
            op = _ended(key, record, found)
            if op is not None and record is not None:
                ops.append(op)
                kept.append(record)
            continue
        if found is not None and found != wanted and (record is None or record.adopted or not record.is_ours(found)):
            foreign.append(key)
            continue
        mine = _record(key, wanted, found, record, shared.link)
        kept.append(mine)
        op = _started(key, wanted, found, record, mine)
        if op is not None:
            ops.append(op)
            if record is not None and record.config == wanted:
                repairs.add(op)
    return DaemonPlan(tuple(ops), tuple(sorted(kept, key=lambda one: one.key)), tuple(foreign), frozenset(repairs))


def running(wanted: Mapping[DaemonKey, DaemonConfig], actual: KernelState, ops: Iterable[DaemonOp]) -> tuple[str, ...]:
    """Return which daemons run as wanted after `ops` were carried out, sorted."""
    state = dict(actual.daemons)
    for op in ops:
        if op.config is None:
            state.pop(op.key, None)
        else:
            state[op.key] = op.config
    return tuple(sorted(key.state for key, config in wanted.items() if state.get(key) == config))


def daemon_words(key: DaemonKey, config: DaemonConfig | None) -> str:
    """Return a daemon as people write it."""
    if config is None:
        return f"sync daemon {key.state}"
    return f"sync daemon {key.state} on {config.interface} with sync id {config.sync_id}"


def _ended(key: DaemonKey, record: DaemonRecord | None, found: DaemonConfig | None) -> DaemonOp | None:
    """Stop what we started; one that was there before us, or that somebody started after us, stays."""
    if record is None or found is None or record.adopted or not record.is_ours(found):
        return None
    return DaemonOp(Verb.DELETE, key)


def _record(
    key: DaemonKey, wanted: DaemonConfig, found: DaemonConfig | None, record: DaemonRecord | None, link: Link | None
) -> DaemonRecord:
    """Return the record to write; an address that is away for a moment does not end a daemon."""
    number, source = (link.number, link.source) if link is not None else (0, "")
    if record is None or (record.adopted and found is None):
        return DaemonRecord(key, wanted, number, source, adopted=found is not None)
    return replace(record.wanting(wanted), number=number, source=source or record.source)


def _started(
    key: DaemonKey,
    wanted: DaemonConfig,
    found: DaemonConfig | None,
    record: DaemonRecord | None,
    mine: DaemonRecord,
) -> DaemonOp | None:
    if found is None:
        return DaemonOp(Verb.ADD, key, wanted)
    moved = record is not None and (record.number, record.source) != (mine.number, mine.source)
    return DaemonOp(Verb.SET, key, wanted) if found != wanted or moved else None


def _flat(value: str) -> str:
    return value.replace("\t", " ")
