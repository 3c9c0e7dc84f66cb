"""Status of a RealServer."""

from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

from lvs_dr.core import views
from lvs_dr.core.active import Active, active_for
from lvs_dr.core.conditions import Finding, conditions, is_true, reason_of, unknown, well, wrong
from lvs_dr.core.decisions import Member, TableDecision
from lvs_dr.core.directors import listed
from lvs_dr.core.drain_status import drained
from lvs_dr.core.forwarding import carries
from lvs_dr.core.indexing import selecting
from lvs_dr.core.node_status import LVSNodeStatus
from lvs_dr.core.objects import ForwardingMethod, Invalid, Key, RealServer, RealServerState
from lvs_dr.core.own_tables import own_tables
from lvs_dr.core.reasons import Reason
from lvs_dr.core.status import Condition, RealServerStatus, ServiceWeight
from lvs_dr.core.suspicions import about
from lvs_dr.core.world import NodeRecord, TableRecord, World

MAXIMUM_WEIGHTS = 16


class Part(NamedTuple):
    """The RealServer's part in one VirtualService."""

    service: Key
    address: str  # VIP
    member: Member


def real_server_status(
    world: World, key: Key, decisions: Mapping[Key, TableDecision], previous: RealServerStatus | None, now: str
) -> RealServerStatus:
    """Return the status of a RealServer; `decisions` are the last of every VirtualService, `now` is RFC 3339.

    Raises KeyError when there is no such RealServer.
    """
    real_server = world.real_servers[key]
    generation = real_server.meta.generation
    services = selecting(world, real_server)
    parts = [part for service in services if (part := _part(service, decisions.get(service), key)) is not None]
    earlier = previous.conditions if previous is not None else ()
    accepted = _accepted(real_server, parts)
    configured = _configured(world, real_server, parts)
    out = drained(world, real_server, earlier, now)
    healthy = _healthy(world, key, services, earlier)
    ready = _ready(real_server, services, (("Accepted", accepted), ("Configured", configured)), healthy, out)
    addresses = sorted({part.member.address for part in parts} - {""})
    if not addresses and isinstance(real_server, RealServer):
        addresses = list(real_server.addresses)
    found: tuple[tuple[str, Finding], ...] = (
        ("Accepted", accepted),
        ("Configured", configured),
        ("Healthy", healthy),
        ("Ready", ready),
    )
    if out is not None:
        found = (*found, ("Drained", out))
    return RealServerStatus(
        observed_generation=generation,
        address=",".join(addresses[:2]),
        virtual_services=len(services),
        conditions=conditions(found, generation, earlier, now),
        weights=_weights(world, key, services),
    )


def _weights(world: World, key: Key, services: list[Key]) -> tuple[ServiceWeight, ...]:
    """Return what the Active directors tell of weights that changed by themselves."""
    found: list[ServiceWeight] = []
    for service in services:
        table = _table_with(world, service, key)
        active = active_for(world, table).node if table is not None else ""
        report = views.view(world, table, active).report if table is not None and active else None
        mine = (each for each in (report.weights if report is not None else ()) if each.real_server == key.name)
        found.extend(ServiceWeight(service.name, each.weight, each.message, each.since) for each in mine)
    return tuple(found[:MAXIMUM_WEIGHTS])


def _part(service: Key, decision: TableDecision | None, key: Key) -> Part | None:
    if decision is None or decision.spec is None:
        return None
    if decision.sorry is not None and decision.sorry.real_server == key:
        return Part(service, decision.spec.address, decision.sorry)
    at = bisect_left(decision.members, key, key=lambda member: member.real_server)
    if at == len(decision.members) or decision.members[at].real_server != key:
        return None
    return Part(service, decision.spec.address, decision.members[at])


def _accepted(real_server: RealServer | Invalid, parts: list[Part]) -> Finding:
    if isinstance(real_server, Invalid):
        return wrong(Reason.INVALID, real_server.message)
    refused = [part for part in parts if not part.member.verdict.ok]
    if refused:
        first = refused[0]
        more = f" (and for {len(refused) - 1} more VirtualServices)" if len(refused) > 1 else ""
        verdict = first.member.verdict
        return wrong(verdict.reason, f"for VirtualService {first.service}: {verdict.message}{more}")
    return well(Reason.ACCEPTED)


def _configured(world: World, real_server: RealServer | Invalid, parts: list[Part]) -> Finding:
    """VIPs and ARP settings are in place on its node."""
    if isinstance(real_server, Invalid):
        return unknown(Reason.INVALID, "spec.nodeName cannot be read")
    node = real_server.node_name
    if not node:
        text = "it is no node of this cluster: whoever runs it puts the VIPs on its lo and silences ARP for them"
        if parts and not any(carries(part.member.forwarding) for part in parts):
            text = "it is no node of this cluster: whoever runs it routes its answers through the directors"
            if _all_redirected(parts):
                text = "it is no node of this cluster, and clients are told its name: whoever runs it lets them in"
        return well(Reason.CONFIGURED, text)
    if node not in world.nodes:
        return wrong(Reason.NODE_MISSING, f"there is no node {node}: correct spec.nodeName, or remove the RealServer")
    record = world.lvs_node(node)
    if record is None or record.status is None:
        text = f"node {node} has no lvs-agent reporting: check the DaemonSet's pods there"
        return wrong(Reason.NO_AGENT, text)
    if node in world.silent:
        text = f"the lvs-agent on {node} does not report: check the node and the DaemonSet's pod there"
        return unknown(Reason.AGENT_SILENT, text)
    return _set_up(record, [part for part in parts if part.member.verdict.ok])


def _set_up(record: NodeRecord, parts: list[Part]) -> Finding:
    staying = [part for part in parts if part.member.verdict.reason is not Reason.DRAINED]
    if parts and not staying:
        return unknown(Reason.DRAINED, f"nothing is needed on node {record.name} any more: spec.state is Drain")
    return _on_node(record, staying)


def _on_node(record: NodeRecord, parts: list[Part]) -> Finding:  # noqa: PLR0911 - in order, the first finding counts
    node, status = record.name, record.status or LVSNodeStatus()
    needed = {part.address for part in parts if carries(part.member.forwarding)}
    if parts and not needed:
        way = "clients are told its name" if _all_redirected(parts) else "its answers go through the directors"
        return well(Reason.CONFIGURED, f"nothing to set up on node {node}: {way}")
    missing = sorted(needed - set(status.loopback_addresses))
    for problem in status.problems:
        if problem.address in missing:
            return wrong(reason_of(problem.reason), f"node {node}: {problem.message}")
    if missing and record.spec.paused:
        text = f"{node} is paused, without {listed(missing)} on lo: remove annotation lvs-operator.io/paused from it"
        return wrong(Reason.PAUSED, text)
    if missing:
        text = f"waiting for the lvs-agent on node {node} to report {listed(missing)} on lo"
        return wrong(Reason.WAITING_FOR_BACKEND, text)
    if not needed:
        return unknown(Reason.NOT_SELECTED, "no VirtualService sends to it")
    if closed := sorted({_tunnel(part) for part in parts if part.member.tunnel and not _is_open(part, status)}):
        for problem in status.problems:
            if problem.reason == Reason.TUNNEL_UNAVAILABLE:
                return wrong(Reason.TUNNEL_UNAVAILABLE, f"node {node}: {problem.message}")
        text = f"waiting for the lvs-agent on node {node} to report its end of {listed(closed)}"
        return wrong(Reason.WAITING_FOR_TUNNEL, text)
    return _set_up_as_wished(f"node {node} carries {listed(sorted(needed))}", status, needed)


def _set_up_as_wished(text: str, status: LVSNodeStatus, needed: set[str]) -> Finding:
    """All is in place; which way answers go is the node's own affair, and may be wrong all the same."""
    for each in status.suspicions:
        if each.reason == Reason.REPLY_PATH_SUSPECT and each.address in needed:
            return well(Reason.REPLY_PATH_SUSPECT, f"{text}; {each.message}")
    return well(Reason.CONFIGURED, text)


def _all_redirected(parts: list[Part]) -> bool:
    return all(part.member.forwarding is ForwardingMethod.REDIRECT for part in parts)


def _is_open(part: Part, status: LVSNodeStatus) -> bool:
    return any(each.tunnel == part.member.tunnel for each in status.tunnels)


def _tunnel(part: Part) -> str:
    return f"{part.member.tunnel.type} to {part.member.address}" if part.member.tunnel is not None else ""


def _healthy(world: World, key: Key, services: list[Key], earlier: tuple[Condition, ...]) -> Finding:
    """It is well in every table that has it, as the Active directors see it."""
    tables = [table for service in services if (table := _table_with(world, service, key)) is not None]
    if not tables:
        if sorry := world.index.services_by_sorry_server.get(key):
            return unknown(Reason.NOT_CHECKED, f"it is the sorry server of {min(sorry)}, which nobody checks")
        return unknown(Reason.NOT_SELECTED, "no director sends to it")
    actives: dict[tuple[str, str], Active] = {}  # hundreds of tables may be of one VIP
    findings: list[Finding] = []
    for table in tables:
        vip = table.spec.director_group, table.spec.address
        active = actives.get(vip) or actives.setdefault(vip, active_for(world, table))
        findings.append(_health_in(world, key, table, active, was_healthy=is_true(earlier, "Healthy")))
    for finding in findings:
        if not finding.ok and not finding.unknown:
            return finding
    for finding in findings:
        if finding.unknown and finding.reason is not Reason.NOT_CHECKED:
            return finding
    return next((finding for finding in findings if finding.ok), findings[0])


def _cause(world: World, key: Key, vip: str) -> str:
    """Return what the agent on the real server's node sees that keeps clients from an answer; "" for nothing."""
    real_server = world.real_servers[key]
    node = real_server.node_name if isinstance(real_server, RealServer) else ""
    record = world.lvs_node(node) if node else None
    if record is None or record.status is None:
        return ""
    found = about(record.status.suspicions, vip)
    return f"node {node}: {found}" if found else ""


def _table_with(world: World, service: Key, key: Key) -> TableRecord | None:
    """Return the service's table that has the real server; while the VIP changes, the one before if it can be."""
    for table in reversed(own_tables(world, world.virtual_services[service])):
        if any(each.real_server == key.name for each in table.spec.destinations):
            return table
    return None


def _health_in(  # noqa: PLR0911 - in order, the first finding counts
    world: World, key: Key, table: TableRecord, active: Active, *, was_healthy: bool
) -> Finding:
    if not active.node:
        return unknown(active.verdict.reason, active.verdict.message)
    seen = views.view(world, table, active.node)
    if seen.silent:
        return unknown(Reason.AGENT_SILENT, f"the lvs-agent on director {active.node} does not report")
    exception = seen.unwell.get(key.name)
    if exception is not None:
        text = f"{table.key}, by director {active.node}: {exception.message or exception.reason}"
        if exception.reason in (Reason.CHECKING, Reason.CHECK_BROKEN):
            return unknown(reason_of(exception.reason), text)
        if exception.reason == Reason.BLACKHOLED and (cause := _cause(world, key, table.spec.address)):
            text += f"; {cause}"
        return wrong(reason_of(exception.reason), text)
    if table.spec.health_check is None:
        return unknown(Reason.NOT_CHECKED, f"{table.key} has no healthCheck: it counts as healthy")
    if seen.report is not None and seen.report.cut:
        text = f"director {active.node} reports more that is wrong with {table.key} than fits: it may be among them"
        return unknown(Reason.CHECKING, text)
    if seen.current or (seen.report is not None and was_healthy):
        return well(Reason.HEALTHY, "as the Active director sees it")
    return unknown(Reason.CHECKING, f"director {active.node} has not reported on it in {table.key} yet")


def _ready(  # noqa: PLR0911 - in order, the first finding counts
    real_server: RealServer | Invalid,
    services: list[Key],
    first: tuple[tuple[str, Finding], ...],
    healthy: Finding,
    out: Finding | None,
) -> Finding:
    for type_, finding in first:
        if type_ == "Accepted" and not finding.ok:
            return finding
    if not services:
        text = "no VirtualService selects it: compare its labels with spec.realServers.selector"
        return wrong(Reason.NOT_SELECTED, text)
    if isinstance(real_server, RealServer) and real_server.state is RealServerState.MAINTENANCE:
        return wrong(Reason.MAINTENANCE, "it takes no new connections: spec.state is Maintenance")
    if out is not None:
        why = (
            "it is being deleted"
            if isinstance(real_server, RealServer) and real_server.deleting
            else "spec.state is Drain"
        )
        return wrong(out.reason, f"it takes no new connections: {why}; {out.message}")
    for _, finding in first:
        if not finding.ok:
            return finding
    if not healthy.ok and healthy.reason is not Reason.NOT_CHECKED:
        return healthy
    return well(Reason.IN_SERVICE, f"{len(services)} VirtualService{'s' if len(services) > 1 else ''}")
