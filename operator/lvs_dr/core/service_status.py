"""Status of a VirtualService."""

from lvs_dr.core import views
from lvs_dr.core.active import place_for
from lvs_dr.core.announcing import may_announce
from lvs_dr.core.conditions import Finding, conditions, is_true, reason_of, unknown, well, wrong
from lvs_dr.core.decisions import Action, TableDecision, Verdict
from lvs_dr.core.handover import HANDOVER_SECONDS
from lvs_dr.core.objects import Invalid, Key, VirtualService
from lvs_dr.core.own_tables import strays
from lvs_dr.core.reasons import Reason
from lvs_dr.core.service_aspects import aspects
from lvs_dr.core.service_balance import balance
from lvs_dr.core.service_subject import Subject, subject_of
from lvs_dr.core.status import RealServerCount, VirtualServiceStatus
from lvs_dr.core.views import View
from lvs_dr.core.world import TableRecord, World

MAXIMUM_PORTS_TEXT = 512


def virtual_service_status(
    world: World, key: Key, decision: TableDecision, previous: VirtualServiceStatus | None, now: str
) -> VirtualServiceStatus:
    """Return the status of a VirtualService; `now` (RFC 3339) is used where a condition changes.

    Raises KeyError when there is no such VirtualService.
    """
    service = world.virtual_services[key]
    generation = service.meta.generation
    earlier = previous.conditions if previous is not None else ()
    present = subject_of(world, service, decision, previous)
    found = _findings(present) if present is not None else _without_table(world, service, decision)
    meanwhile = _meanwhile(world, service, decision, previous)
    shown = meanwhile[0] if meanwhile is not None else present
    if shown is None:
        return VirtualServiceStatus(
            observed_generation=generation,
            serving_generation=0,
            active_director="",
            ports=_ports(service, None),
            real_servers=_count(0, len(decision.members)),
            conditions=conditions(found, generation, earlier, now),
        )
    judged = conditions(found, generation, earlier, now)
    if meanwhile is not None:
        (ready,) = conditions((("Ready", meanwhile[1]),), shown.generation, earlier, now)
        judged = tuple(ready if each.type == "Ready" else each for each in judged)
    holder = _holder(shown)
    return VirtualServiceStatus(
        observed_generation=generation,
        serving_generation=shown.serving,
        active_director=holder,
        ports=_ports(service, shown.table),
        real_servers=_count(shown.healthy, shown.total),
        conditions=judged,
        active_reason=shown.views.active.reason if holder else "",
    )


def _findings(subject: Subject) -> tuple[tuple[str, Finding], ...]:
    return (
        ("Accepted", _accepted(subject.decision.accepted)),
        ("Programmed", _programmed(subject)),
        ("Ready", _ready(subject)),
        *aspects(subject.service, subject.decision, subject.table, subject.views),
    )


def _meanwhile(
    world: World,
    service: VirtualService | Invalid,
    decision: TableDecision,
    previous: VirtualServiceStatus | None,
) -> tuple[Subject, Finding] | None:
    """Return what serves while the VIP changes, and what to say of it; None when nothing of before does."""
    former = decision.former
    subject = subject_of(world, service, former, previous, former=True) if former is not None else None
    if former is None or former.handover is None or subject is None:
        return None
    ready = _ready(subject)
    if not ready.ok or not decision.accepted.ok or not isinstance(service, VirtualService):
        return None
    text = f"serving generation {subject.serving} at {subject.table.spec.address}: {ready.message}"
    if former.action is Action.DELETE and not former.handover.ok:
        text += f"; given up, {service.address} has not come up in {HANDOVER_SECONDS // 60} minutes"
        return subject, well(Reason.GAVE_UP_WAITING, f"{text}: {former.handover.message}")
    if former.handover.ok:
        return subject, well(Reason.CHANGING_ADDRESS, f"{text}; {service.address} is served, too: this VIP goes now")
    later = f"{service.address} takes over when it is served, or in {HANDOVER_SECONDS // 60} minutes at the latest"
    return subject, well(Reason.CHANGING_ADDRESS, f"{text}; {later}: {former.handover.message}")


def _without_table(
    world: World, service: VirtualService | Invalid, decision: TableDecision
) -> tuple[tuple[str, Finding], ...]:
    accepted = decision.accepted
    if not accepted.ok:
        finding = wrong(accepted.reason, f"not served: {accepted.message}")
    else:
        finding = wrong(Reason.WAITING_FOR_DIRECTOR, "the DirectorTable is about to be written")
        if strays(world, service.meta.key):
            finding = wrong(Reason.WAITING_FOR_RELEASE, "the DirectorTable of its predecessor is about to be deleted")
    return ("Accepted", _accepted(accepted)), ("Programmed", finding), ("Ready", finding)


def _accepted(verdict: Verdict) -> Finding:
    return well(Reason.ACCEPTED, verdict.message) if verdict.ok else wrong(verdict.reason, verdict.message)


def _holder(subject: Subject) -> str:
    active = subject.views.of_active
    return active.director if active is not None and _holds(active, subject.table.spec.address) else ""


def _holds(view: View, address: str) -> bool:
    return view.record is not None and view.record.status is not None and address in view.record.status.held_addresses


def _programmed(subject: Subject) -> Finding:
    """Every director that should hold the table has it in its kernel."""
    seen = subject.views.all
    if not seen:
        return _of(subject.views.active.verdict)
    live = [view for view in seen if not view.silent]
    for view in live:
        for fault in view.faults[:1]:
            return wrong(reason_of(fault.reason), f"director {view.director}: {fault.message}")
    behind = [view for view in live if not view.current]
    if behind:
        return _behind(subject, behind)
    silent = [view for view in seen if view.silent]
    if silent:
        others = f"; {views.names(live)} has it" if live else ""
        return unknown(Reason.AGENT_SILENT, f"{_silence(views.names(silent))}{others}")
    return well(Reason.PROGRAMMED, f"in the kernel of {views.names(list(seen))}")


def _of(verdict: Verdict) -> Finding:
    return wrong(verdict.reason, verdict.message)


def _behind(subject: Subject, behind: list[View]) -> Finding:
    if subject.service.meta.paused:
        return wrong(Reason.PAUSED, "paused: nothing is written until annotation lvs-operator.io/paused is removed")
    paused = [view for view in behind if view.record is not None and view.record.spec.paused]
    if paused:
        text = f"{views.names(paused)} is paused: remove annotation lvs-operator.io/paused from the Node"
        return wrong(Reason.PAUSED, text)
    return wrong(Reason.WAITING_FOR_DIRECTOR, f"waiting for {views.names(behind)} to report that it has the table")


def _silence(names: str) -> str:
    return f"the lvs-agent on {names} does not report: check the node and the DaemonSet's pod there"


def _ready(subject: Subject) -> Finding:  # noqa: PLR0911 - in order, the first finding counts
    """An Active director serves it, and a real server is healthy."""
    accepted = subject.decision.accepted
    serving = f"; serving generation {subject.serving}" if subject.serving else ""
    if not accepted.ok:
        return wrong(accepted.reason, accepted.message + serving)
    active = subject.views.of_active
    if active is None:
        return _kept_from(subject) or _of(subject.views.active.verdict)
    if active.silent:
        return unknown(Reason.AGENT_SILENT, f"{_silence(active.director)}; it was the Active director when last heard")
    if not subject.views.active.verdict.ok:
        return _of(subject.views.active.verdict)
    for fault in active.faults[:1]:
        return wrong(reason_of(fault.reason), f"director {active.director}: {fault.message}")
    if not active.current and (active.report is None or not _was_programmed(subject)):
        finding = _behind(subject, [active])
        return wrong(finding.reason, finding.message + serving)
    if not _holds(active, subject.table.spec.address):
        return _not_held(subject, active)
    return balance(subject, active)


def _kept_from(subject: Subject) -> Finding | None:
    """Return what keeps directors from the VIP itself; None if nothing does."""
    live = (view for view in subject.views.all if not view.silent)
    return next((found for view in live if (found := _trouble(view, subject.table.spec.address)) is not None), None)


def _trouble(view: View, address: str) -> Finding | None:
    problem = view.problem_with(address)
    if problem is None:
        return None
    return wrong(reason_of(problem.reason), f"director {view.director}: {problem.message}")


def _was_programmed(subject: Subject) -> bool:
    """Tell whether only real servers changed since the Active director took over this generation of the service."""
    return subject.serving == subject.generation and is_true(
        subject.previous.conditions if subject.previous is not None else (), "Ready"
    )


def _not_held(subject: Subject, active: View) -> Finding:
    address = subject.table.spec.address
    if (trouble := _trouble(active, address)) is not None:
        return trouble
    verdict = may_announce(subject.world, active.director, address, place_for(subject.world, subject.table))
    if not verdict.ok:
        return wrong(verdict.reason, verdict.message)
    return wrong(Reason.WAITING_FOR_DIRECTOR, f"director {active.director} is about to announce {address}")


def _count(healthy: int, total: int) -> RealServerCount:
    return RealServerCount(healthy=healthy, total=total, summary=f"{healthy}/{total}")


def _ports(service: VirtualService | Invalid, table: TableRecord | None) -> str:
    """Return `80/TCP,443/TCP`, `any/TCP` or `fwmark 7`."""
    given = service if isinstance(service, VirtualService) else table.spec if table is not None else None
    if given is None:
        return ""
    if given.firewall_mark:
        return f"fwmark {given.firewall_mark}"
    return ",".join(f"{each.port or 'any'}/{each.protocol.value}" for each in given.ports)[:MAXIMUM_PORTS_TEXT]
