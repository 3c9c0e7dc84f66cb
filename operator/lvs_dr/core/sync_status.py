"""The condition ConnectionsSynced of a DirectorGroup: whether connections outlive a director, as far as it shows."""

from collections.abc import Sequence
from typing import Final

from lvs_dr.core.conditions import Finding, unknown, well, wrong
from lvs_dr.core.directors import follows, listed
from lvs_dr.core.node_status import LVSNodeStatus
from lvs_dr.core.reasons import Reason
from lvs_dr.core.sync import DAEMONS
from lvs_dr.core.world import NodeRecord, World

COUNTED_FROM: Final = 400
"""Connections of the director that has most, below which nothing is concluded: reports round by hundreds."""


def wanted(world: World, names: Sequence[str]) -> bool:
    """Tell whether any of the directors is to carry connections."""
    return any(_record_wants(world.lvs_node(name)) for name in names)


def synced(world: World, names: Sequence[str]) -> Finding:
    """Return whether sync works: both daemons run everywhere, and the directors know about the same connections."""
    waiting: list[str] = []
    counts: dict[str, int] = {}
    for name in names:
        record = world.lvs_node(name)
        if record is None or record.status is None or name in world.silent or not follows(record):
            waiting.append(name)
            continue
        if (problem := _problem(name, record.status)) is not None:
            return problem
        if record.status.ipvs is not None:
            counts[name] = record.status.ipvs.connections
    if waiting:
        return unknown(Reason.WAITING_FOR_DIRECTOR, f"waiting for {listed(waiting)} to report connection sync")
    return _counted(names, counts)


def _record_wants(record: NodeRecord | None) -> bool:
    return record is not None and record.spec.director is not None and record.spec.director.sync is not None


def _problem(name: str, status: LVSNodeStatus) -> Finding | None:
    report = status.sync
    if report is None:
        return wrong(Reason.SYNC_DAEMON_MISSING, f"{name} has not started the sync daemons")
    if report.conflict:
        return wrong(Reason.SHARED_SETTING_CONFLICT, f"{name}: {report.conflict}")
    told = {each.reason: each.message for each in status.problems}
    if not report.interface or Reason.SYNC_INTERFACE_MISSING in told:
        text = told.get(Reason.SYNC_INTERFACE_MISSING, "the interface of connection sync is not there")
        return wrong(Reason.SYNC_INTERFACE_MISSING, f"{name}: {text}")
    missing = [key.state for key in DAEMONS if key.state not in report.daemons]
    if missing:
        reasons = (Reason.SYNC_DAEMON_MISSING, Reason.KERNEL_REFUSED, Reason.SHARED_SETTING_CONFLICT)
        why = next((told[each] for each in reasons if each in told), "see problems in its LVSNode's status")
        return wrong(Reason.SYNC_DAEMON_MISSING, f"{name} does not run the sync daemon {' and '.join(missing)}: {why}")
    return None


def _counted(names: Sequence[str], counts: dict[str, int]) -> Finding:
    """Compare how many connections the directors know: with sync each knows all of the group's."""
    if not counts or max(counts.values()) < COUNTED_FROM:
        return well(Reason.SYNCED, f"on {listed(list(names))}")
    most = max(counts, key=lambda name: (counts[name], name))
    behind = [name for name, count in sorted(counts.items()) if 2 * count < counts[most]]
    if behind:
        text = f"{most} has about {counts[most]} connections"
        known = ", ".join(f"{name} about {counts[name]}" for name in behind[:3])
        return wrong(Reason.CONNECTIONS_BEHIND, f"{text}, {known}: a takeover now would lose the rest")
    fewest = min(counts.values())
    return well(
        Reason.SYNCED, f"on {listed(list(names))}; each knows about {fewest} of {counts[most]} connections or more"
    )
