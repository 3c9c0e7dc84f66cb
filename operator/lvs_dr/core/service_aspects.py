"""Conditions that a VirtualService has only where they say something: marks, weights, overrides, other writers."""

from collections.abc import Mapping

from lvs_dr.core.check_marks import wants_mark
from lvs_dr.core.conditions import Finding, reason_of, unknown, well, wrong
from lvs_dr.core.decisions import TableDecision
from lvs_dr.core.directors import listed
from lvs_dr.core.objects import Invalid, Key, RealServer, VirtualService
from lvs_dr.core.reasons import Reason
from lvs_dr.core.redirect import harms
from lvs_dr.core.redirect_spec import ADDRESS, TableRedirect
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.views import Views
from lvs_dr.core.weights import ignored
from lvs_dr.core.world import TableRecord, World


def aspects(
    service: VirtualService | Invalid, decision: TableDecision, table: TableRecord, seen: Views
) -> tuple[tuple[str, Finding], ...]:
    """Return the conditions that apply, by type."""
    found: list[tuple[str, Finding]] = []
    if table.spec.firewall_mark:
        found.append(("Marked", _marked(table, seen)))
    if text := ignored(table.spec):
        found.append(("WeightsHonoured", wrong(Reason.WEIGHTS_IGNORED, text)))
    if table.spec.load_feedback is not None:
        found.append(("LoadKnown", _load_known(seen)))
    if isinstance(service, VirtualService) and (unused := _unused_overrides(service, decision)):
        text = (
            f"spec.realServers.overrides names {listed(unused)}, which the selector does not select: correct the name"
        )
        found.append(("OverridesApplied", wrong(Reason.NOT_SELECTED, text)))
    if table.spec.redirect is not None and (harmful := _harms(table.spec, table.spec.redirect)):
        found.append(("RedirectSafe", wrong(Reason.HARMFUL_REDIRECT, "; ".join(harmful))))
    if decision.sorry is not None:
        found.append(("SorryServerPrepared", _sorry_server(decision, table)))
    if isinstance(service, VirtualService) and (left := _unmarked(service, table)):
        text = (
            f"no firewall mark is left for {listed(left)}: checked at its own address only; give the DirectorGroup a"
            " larger range of checkMarks"
        )
        found.append(("CheckedThroughVIP", wrong(Reason.MARKS_EXHAUSTED, text)))
    if (disturbed := _disturbed(table, seen)) is not None:
        found.append(("Undisturbed", disturbed))
    return tuple(found)


def _harms(table: DirectorTableSpec, redirect: TableRedirect) -> list[str]:
    """Return what the redirects of a table do to clients."""
    found = list(
        harms(
            status_code=redirect.status_code,
            methods=redirect.methods,
            cache_control=redirect.cache_control,
            tls=bool(redirect.tls_secret),
            target_scheme=redirect.scheme,
            token=redirect.token is not None,
        )
    )
    by_address = redirect.host == ADDRESS or (
        not redirect.host and any(not each.hostname for each in table.destinations)
    )
    if redirect.scheme == "https" and by_address:
        found.append(
            "clients are sent to https by an address, which the certificate of a real server hardly names: give each "
            "RealServer a spec.hostname"
        )
    return found


def _disturbed(table: TableRecord, seen: Views) -> Finding | None:
    """Return what disturbs the VIP: a real server answers ARP for it, or somebody on a director is in our way."""
    for reason in (Reason.ARP_ANSWERED, Reason.CONTESTED, Reason.FOREIGN_ENTRY):
        for view in seen.all:
            status = view.record.status if view.record is not None else None
            for problem in status.problems if status is not None else ():
                if problem.reason == reason and problem.address == table.spec.address:
                    return wrong(reason, f"director {view.director}: {problem.message}")
    return None


def _marked(table: TableRecord, seen: Views) -> Finding:
    """Packets with the firewall mark arrive at the Active director: users mark them, so only that tells."""
    mark, active = table.spec.firewall_mark, seen.of_active
    if active is None:
        return unknown(seen.active.verdict.reason, seen.active.verdict.message)
    if active.silent:
        return unknown(Reason.AGENT_SILENT, f"the lvs-agent on director {active.director} does not report")
    report = active.report
    if report is None or not active.current:
        text = f"director {active.director} has not reported on firewall mark {mark} yet"
        return unknown(Reason.WAITING_FOR_DIRECTOR, text)
    for each in report.exceptions:
        if not each.real_server and each.reason == Reason.MARK_NOT_SEEN:
            return wrong(reason_of(each.reason), f"director {active.director}: {each.message or _how_to_mark(table)}")
    return well(Reason.MARK_SEEN, f"director {active.director} has seen packets with firewall mark {mark}")


def _load_known(seen: Views) -> Finding:
    """The Active director hears the load of every real server; others have their configured weight."""
    active = seen.of_active
    if active is None:
        return unknown(seen.active.verdict.reason, seen.active.verdict.message)
    if active.silent:
        return unknown(Reason.AGENT_SILENT, f"the lvs-agent on director {active.director} does not report")
    if active.report is None or not active.current:
        return unknown(Reason.WAITING_FOR_DIRECTOR, f"director {active.director} has not reported on it yet")
    missing = [each for each in active.report.exceptions if each.reason == Reason.LOAD_UNKNOWN]
    if not missing:
        return well(Reason.LOAD_KNOWN, f"director {active.director} hears the load of the real servers")
    text = f"director {active.director} does not hear the load of {listed([each.real_server for each in missing])}"
    return wrong(Reason.LOAD_UNKNOWN, f"{text}: {missing[0].message}")


def _how_to_mark(table: TableRecord) -> str:
    mark, address = table.spec.firewall_mark, table.spec.address
    tool = "ip6tables" if ":" in address else "iptables"
    return (
        f"no packet with firewall mark {mark} has arrived: mark them on the directors, for example "
        f"{tool} -t mangle -A PREROUTING -d {address} -p tcp --dport PORT -j MARK --set-mark {mark}"
    )


def _sorry_server(decision: TableDecision, table: TableRecord) -> Finding:
    """The sorry server can take over any moment."""
    member = decision.sorry
    verdict, name = (member.verdict, member.real_server.name) if member is not None else (None, "")
    if verdict is not None and not verdict.ok:
        return wrong(verdict.reason, verdict.message)
    if table.spec.sorry_server is None or table.spec.sorry_server.real_server != name:
        text = verdict.message if verdict is not None and verdict.message else f"{name} is about to be prepared"
        return wrong(verdict.reason if verdict is not None else Reason.WAITING_FOR_BACKEND, text)
    return well(Reason.CONFIGURED, f"{name} takes new connections when too few real servers are healthy")


def configured_weights(world: World, service: VirtualService | Invalid, table: TableRecord) -> Mapping[str, int]:
    """Return the weights of a table's destinations that are to serve, as users wrote them, by RealServer."""
    overrides = (
        {each.real_server: each.weight for each in service.overrides} if isinstance(service, VirtualService) else {}
    )
    found: dict[str, int] = {}
    for each in table.spec.destinations:
        known = world.real_servers.get(Key(table.key.namespace, each.real_server))
        if each.weight > 0:
            weight = overrides.get(each.real_server)
            own = known.weight if isinstance(known, RealServer) else each.weight
            found[each.real_server] = own if weight is None else weight
    return found


def _unmarked(service: VirtualService, table: TableRecord) -> list[str]:
    entries, vip = table.spec.destinations, table.spec.address
    return [each.real_server for each in entries if not each.check_mark and wants_mark(service, vip, each)]


def _unused_overrides(service: VirtualService, decision: TableDecision) -> list[str]:
    selected = {member.real_server.name for member in decision.members}
    return [each.real_server for each in service.overrides if each.real_server not in selected]
