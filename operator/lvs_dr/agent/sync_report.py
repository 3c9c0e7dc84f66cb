"""What a report says of connection sync on a director."""

from collections.abc import Iterable

from lvs_dr.agent.facts import cut, problem
from lvs_dr.agent.seen import Seen
from lvs_dr.core.kernel import DaemonOp
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.node_status import Problem
from lvs_dr.core.reasons import Reason
from lvs_dr.core.sync import daemon_words, running, unmet_sync
from lvs_dr.core.sync_spec import SyncReport


def sync_report(seen: Seen, spec: LVSNodeSpec) -> SyncReport | None:
    """Return the report of a director that is to carry connections; None on others."""
    wish = spec.director.sync if spec.director is not None else None
    if wish is None:
        return None
    shared, actual = seen.goal.shared, seen.actual
    refused = {failure.op for failure in seen.done.failures}
    ops = [op for op in seen.done.admitted if isinstance(op, DaemonOp) and op not in refused]
    texts = []
    others = [daemon_words(key, actual.daemons[key]) for key in seen.done.made.foreign_daemons]
    if others:
        texts.append(f"somebody else runs {' and '.join(others)}: stop it (ipvsadm --stop-daemon), or set "
                     "connectionSync.mode to Off")  # fmt: skip
    wrong = unmet_sync(shared, wish, actual)
    if wrong:
        texts.append(f"{shared.owner} sets what the whole network namespace shares; not written: {', '.join(wrong)}")
    return SyncReport(
        daemons=running(shared.daemons, actual, ops),
        interface=shared.link.name if shared.link is not None else "",
        conflict=cut("; ".join(texts)),
    )


def sync_problems(report: SyncReport | None) -> Iterable[Problem]:
    """Return what is in the way of connection sync, as a problem of the node."""
    if report is not None and report.conflict:
        yield problem(Reason.SHARED_SETTING_CONFLICT, report.conflict)
