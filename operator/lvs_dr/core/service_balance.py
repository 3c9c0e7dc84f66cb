"""Whether enough real servers serve a VirtualService, and which do not: what its condition Ready says of them."""

from lvs_dr.core import views
from lvs_dr.core.conditions import Finding, well, wrong
from lvs_dr.core.directors import listed
from lvs_dr.core.objects import Quorum, VirtualService
from lvs_dr.core.quorum import need
from lvs_dr.core.reasons import Reason
from lvs_dr.core.resolve import entered
from lvs_dr.core.service_aspects import configured_weights
from lvs_dr.core.service_subject import Subject
from lvs_dr.core.views import View

NAMED = 3
MAXIMUM_DETAIL = 160  # characters said about one real server


def balance(subject: Subject, active: View) -> Finding:
    """Judge the real servers of a service that the Active director serves, as that director sees them."""
    total, healthy = subject.total, subject.healthy
    ailing = _ailing(subject, active)
    if total == 0:
        namespace = subject.service.meta.key.namespace
        text = f"spec.realServers.selector matches no RealServer in namespace {namespace}"
        return wrong(Reason.NO_REAL_SERVER, text)
    if not subject.table.spec.destinations:
        text = f"none of {total} real servers can be used: {ailing}"
        if active.sorry:
            return wrong(Reason.SORRY_SERVER, f"{text}; director {active.director}: {active.sorry}")
        return wrong(Reason.NO_REAL_SERVER, text)
    checked = "healthy" if subject.table.spec.health_check is not None else "in service (not checked)"
    text = f"{healthy} of {total} real servers {checked}"
    if ailing:
        text += f"; not {ailing}"
    if unsure := _serving_unchecked(subject, active):
        text += f"; unsure of {unsure}"
    if active.panic:
        text += f"; director {active.director}: {active.panic}"
    return _by_quorum(subject, active, text)


def _by_quorum(subject: Subject, active: View, text: str) -> Finding:
    healthy = subject.healthy
    quorum = subject.service.quorum if isinstance(subject.service, VirtualService) else Quorum()
    weights = sorted(configured_weights(subject.world, subject.service, subject.table).values())
    needed = need(quorum, subject.total, subject.previous, sum(weights))
    short = healthy < needed.servers
    if short:
        text += f"; {needed.text}" if healthy or active.sorry else ""
    if needed.weight:
        found = _healthy_weight(subject, active, weights)
        if found < needed.weight:
            short = True
            text += f"; they weigh {found} of {sum(weights)}, {needed.weight_text}"
    if active.sorry:
        return wrong(Reason.SORRY_SERVER, f"{text}; director {active.director}: {active.sorry}")
    if healthy == 0:
        return wrong(Reason.NO_HEALTHY_REAL_SERVER, text)
    if short:
        return wrong(Reason.QUORUM_LOST, text)
    return well(Reason.PANIC if active.panic else Reason.SERVING, text + _dissent(subject, healthy))


def _healthy_weight(subject: Subject, active: View, weights: list[int]) -> int:
    """Return what the healthy ones weigh; where the report does not tell which they are, at least."""
    names = views.healthy_names(subject.table, active)
    if names is None:
        return sum(weights[: subject.healthy])
    known = configured_weights(subject.world, subject.service, subject.table)
    return sum(known.get(name, 0) for name in names)


def _ailing(subject: Subject, active: View) -> str:
    """Name the real servers that do not count, three at most, each with why."""
    unwell = active.unwell
    found: list[str] = []
    names = {each.real_server for each in subject.table.spec.destinations}
    for member in subject.decision.members:
        name = member.real_server.name
        if name in unwell and name in names and not unwell[name].serves:
            found.append(_detail(name, unwell[name].reason, unwell[name].message))
        elif not entered(member):
            found.append(_detail(name, member.verdict.reason.value, member.verdict.message))
        elif member.verdict.reason in (Reason.MAINTENANCE, Reason.DRAINING):
            found.append(f"{name} ({member.verdict.reason})")
    return listed(found, NAMED)


def _serving_unchecked(subject: Subject, active: View) -> str:
    """Name the real servers that count although their checks cannot be made, three at most, each with why."""
    names = {each.real_server for each in subject.table.spec.destinations}
    found = [each for name, each in active.unwell.items() if each.serves and name in names]
    return listed([_detail(each.real_server, each.reason, each.message) for each in found], NAMED)


def _detail(name: str, reason: str, message: str) -> str:
    return f"{name} ({reason}: {message[:MAXIMUM_DETAIL]})" if message else f"{name} ({reason})"


def _dissent(subject: Subject, healthy: int) -> str:
    table = subject.table
    others = [
        f"{view.director} sees {count}"
        for view in subject.views.all
        if view.current and not view.silent and (count := views.healthy(table, view)) != healthy
    ]
    return f"; director {listed(others, NAMED)}" if others else ""
