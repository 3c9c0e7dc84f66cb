"""Which real servers a table has: each selected RealServer judged by itself, and whether it may enter.

What is in stays in while its node drifts or is silent; health checks withdraw what does not work.
"""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from lvs_dr.core.addresses import Subnet, version
from lvs_dr.core.claims import namespace_allowed
from lvs_dr.core.decisions import Member, Verdict
from lvs_dr.core.directors import directors, interface_subnets, listed, usable_group
from lvs_dr.core.drain import progress
from lvs_dr.core.forwarding import carries, exclude, method, same_way, tunnel_end
from lvs_dr.core.objects import (
    ConnectionLimits,
    DrainPersistence,
    ForwardingMethod,
    Invalid,
    Key,
    Override,
    RealServer,
    RealServerState,
    TunnelType,
    VirtualService,
)
from lvs_dr.core.order import may_enter, unlisted
from lvs_dr.core.reasons import Reason
from lvs_dr.core.table import TableDestination
from lvs_dr.core.world import TableRecord, World


class Context(NamedTuple):
    """What all real servers of one table have in common."""

    world: World
    service: VirtualService
    overrides: Mapping[str, Override]  # by RealServer
    namespace: str
    address: str  # VIP
    group: str
    known: Mapping[str, TableDestination]  # in the table now, by RealServer
    nodes: frozenset[str]  # of those in `known` that carry the VIP
    pending: frozenset[str] | None  # RealServers that are pending in the table now; None = it is a new one
    on_link: tuple[Subnet, ...]  # of the directors' interfaces; () = not known
    namespace_allowed: bool
    ready: Verdict  # whether destinations on nodes may enter at all
    record: TableRecord | None  # the table as it is


class Judged(NamedTuple):
    """One RealServer: what to say of it, and its destination if it is in."""

    member: Member
    destination: TableDestination | None = None
    pending: TableDestination | None = None  # what it will be once it may enter
    goal: TableDestination | None = None  # what it is to be as soon as its node has what that needs


_ABSENT = Verdict(False, Reason.WAITING_FOR_DIRECTOR, "the DirectorTable is about to be written")
_IN_SERVICE = Verdict(True, Reason.IN_SERVICE)
_MAINTENANCE = Verdict(True, Reason.MAINTENANCE, "it takes no new connections: spec.state is Maintenance")
_DRAINING = Verdict(True, Reason.DRAINING, "it takes no new connections, those it has live on: spec.state is Drain")
_DRAINED = Verdict(True, Reason.DRAINED, "it is taken out: spec.state is Drain")
_NAMELESS = Verdict(
    False,
    Reason.NO_HOSTNAME,
    "clients would not know its name: set spec.hostname, or another redirect.host in the VirtualService",
)
_VERDICTS = {
    RealServerState.IN_SERVICE: _IN_SERVICE,
    RealServerState.MAINTENANCE: _MAINTENANCE,
    RealServerState.DRAIN: _DRAINING,
}
_ENTERED = frozenset(each.reason for each in _VERDICTS.values())


def context(world: World, service: VirtualService, address: str, group: str, record: TableRecord | None) -> Context:
    """Return what judging the real servers of a table needs; `record` is the table as it is, None for a new one.

    `address` and `group` are the table's: while a change is refused they are not those of the service.
    """
    namespace = service.meta.key.namespace
    destinations = record.spec.destinations if record is not None else ()
    return Context(
        world=world,
        service=service,
        overrides={each.real_server: each for each in service.overrides},
        namespace=namespace,
        address=address,
        group=group,
        known={each.real_server: each for each in destinations},
        nodes=frozenset(each.node for each in destinations if each.node and carries(each.forwarding)),
        pending=frozenset(each.real_server for each in record.spec.pending) if record is not None else None,
        on_link=tuple(sorted({each for name in directors(world, group) for each in interface_subnets(world, name)})),
        namespace_allowed=namespace_allowed(world, usable_group(world, group), namespace),
        ready=unlisted(world, record) if record is not None else _ABSENT,
        record=record,
    )


def judge(ctx: Context, key: Key, given: RealServer | None = None) -> Judged:
    """Judge one RealServer by itself, without regard to the others of the table; `given`: one that is no object."""
    real_server = given or ctx.world.real_servers[key]
    if isinstance(real_server, Invalid):
        # It stays as it was when it could still be read.
        known = ctx.known.get(key.name)
        verdict = Verdict(False, Reason.INVALID, real_server.message)
        return Judged(Member(key, known.address if known else "", known.node if known else "", verdict), known)
    redirect = ctx.service.redirect
    if redirect is not None and redirect.needs_hostname and not real_server.hostname:
        return Judged(Member(key, "", real_server.node_name, _NAMELESS, ForwardingMethod.REDIRECT))
    if real_server.state is RealServerState.DRAIN and _drained(ctx, key, real_server.node_name):
        return Judged(Member(key, "", real_server.node_name, _DRAINED))
    return _judge(ctx, key, real_server, ctx.known.get(key.name))


def _judge(ctx: Context, key: Key, real_server: RealServer, known: TableDestination | None) -> Judged:
    node = real_server.node_name
    if node and node not in ctx.world.nodes:
        text = f"there is no node {node}: correct spec.nodeName, or remove the RealServer"
        return Judged(Member(key, "", node, Verdict(False, Reason.NODE_MISSING, text)))
    if known is not None and known.node != node:
        known = None  # moved to another node: a new destination
    goal = _destination(ctx, real_server, known)
    if known is not None and same_way(goal, known):
        return _entered(key, real_server, goal)
    verdict = _usable(ctx, real_server, goal)
    if verdict.ok:
        verdict = _waits(ctx, goal)
        if verdict is _IN_SERVICE:
            return _entered(key, real_server, goal)
    member = Member(key, goal.address, node, verdict, goal.forwarding, goal.tunnel)
    if known is None:
        pending = goal if verdict.ok and _may_be_there(ctx, goal) else None
        return Judged(member, pending=pending, goal=goal)
    if verdict.ok and exclude(tunnel_end(known), tunnel_end(goal)):
        return Judged(member, goal=goal)  # the node cannot have both ends: the old one goes first
    text = f"{verdict.message}; directors go on sending to {known.address}"
    if known.forwarding is not goal.forwarding:
        text += f" by {known.forwarding}"
    member = replace(member, address=known.address, verdict=Verdict(verdict.ok, verdict.reason, text))
    kept = replace(goal, address=known.address, forwarding=known.forwarding, tunnel=known.tunnel)
    return Judged(member, kept, goal=goal)


def _drained(ctx: Context, key: Key, node: str) -> bool:
    """Tell whether a draining real server is out of the table, or may leave it: nobody is left, or its time is over."""
    known = ctx.known.get(key.name)
    if known is None or known.node != node or ctx.record is None or key in ctx.world.drain_over:
        return True
    return progress(ctx.world, ctx.record, key.name).done


def entered(member: Member) -> bool:
    """Tell whether the real server is a destination by its own merit (one that is refused may still be kept)."""
    return member.verdict.ok and member.verdict.reason in _ENTERED


def _may_be_there(ctx: Context, goal: TableDestination) -> bool:
    """Tell whether directors may keep the real server, if they have it from a table of this name before this one.

    A table that was deleted by mistake is made anew without destinations; its backends still carry the VIP. Nobody
    becomes pending later: what a table has let go, directors must let go too.
    """
    if ctx.pending is not None and goal.real_server not in ctx.pending:
        return False
    if not goal.node or not carries(goal.forwarding):
        return True
    record, end = ctx.world.lvs_node(goal.node), tunnel_end(goal)
    if record is None or record.status is None or ctx.address not in record.status.loopback_addresses:
        return False
    if end is not None and end not in record.status.tunnels:
        return False
    spec = record.spec
    return not spec.decided or (ctx.address in spec.backend_addresses and (end is None or end in spec.backend_tunnels))


def _entered(key: Key, real_server: RealServer, entry: TableDestination) -> Judged:
    verdict = _VERDICTS[real_server.state]
    return Judged(Member(key, entry.address, entry.node, verdict, entry.forwarding, entry.tunnel), entry, goal=entry)


def _destination(ctx: Context, real_server: RealServer, known: TableDestination | None) -> TableDestination:
    """Return the destination as it is to be; its address is "" when there is none that its method reaches."""
    name = real_server.meta.key.name
    override = ctx.overrides.get(name)
    forwarding, tunnel = method(ctx.service, override)
    redirected = forwarding is ForwardingMethod.REDIRECT
    weight, limits = real_server.weight, ConnectionLimits() if redirected else real_server.limits  # they are IPVS's
    if override is not None:
        weight = weight if override.weight is None else override.weight
        limits = override.limits or limits
    family = version(ctx.address)
    address = _address(ctx, real_server, known, family)
    # IPv6 inside IPv4 would need a sit device on the real server, which brings an address of its own: only by GRE.
    if not address and tunnel is not None and (family == IPV4 or tunnel.type is TunnelType.GRE):
        address = _address(ctx, real_server, known, _OTHER[family])
    return TableDestination(
        real_server=name,
        address=address,
        weight=weight if real_server.state is RealServerState.IN_SERVICE else 0,
        node=real_server.node_name,
        forwarding=forwarding,
        tunnel=tunnel,
        upper=limits.upper,
        lower=limits.lower,
        check_address=real_server.check_address,
        draining=real_server.state is RealServerState.DRAIN,
        forget_clients=real_server.state is RealServerState.DRAIN
        and real_server.drain_persistence is DrainPersistence.IGNORE
        and ctx.service.persistence is not None,
        hostname=real_server.hostname if redirected else "",
    )


IPV4 = 4
_OTHER = {4: 6, 6: 4}


def _address(ctx: Context, real_server: RealServer, known: TableDestination | None, family: int) -> str:
    """Return the address directors send to, "" for none: its own, else its node's (the known one while it is there)."""
    for address in real_server.addresses:
        if version(address) == family:
            return address
    if not real_server.node_name:
        return ""
    own = node_addresses(ctx.world, real_server.node_name, family)
    if known is not None and version(known.address) == family and (not own or known.address in own):
        return known.address
    for address in own:
        if any(each.holds(address) for each in ctx.on_link):
            return address
    for address in ctx.world.nodes[real_server.node_name].internal_addresses:
        if version(address) == family and address not in ctx.world.tables_by_address:
            return address
    return ""


def node_addresses(world: World, node: str, family: int) -> tuple[str, ...]:
    """Return the node's own addresses of a family (4 or 6) as its agent reports them, VIPs left out."""
    record = world.lvs_node(node)
    if record is None or record.status is None:
        return ()
    found = (cidr.partition("/")[0] for interface in record.status.interfaces for cidr in interface.addresses)
    return tuple(each for each in found if version(each) == family and each not in world.tables_by_address)


def _usable(ctx: Context, real_server: RealServer, goal: TableDestination) -> Verdict:
    node, address = goal.node, goal.address
    if not address:
        family = "IPv6" if version(ctx.address) == 6 else "IPv4"  # noqa: PLR2004 - an IP version
        whose = f"node {node} has none" if node else "it names none"
        text = f"no {family} address to send to: {whose}; set one in spec.addresses"
        if real_server.addresses:
            text += ", or use forwardingMethod Tunnel, which reaches the other family"
        return Verdict(False, Reason.NO_ADDRESS, text)
    if address in ctx.world.tables_by_address:
        claimer = min(ctx.world.owners(ctx.world.tables_by_address[address]))
        text = f"{address} is the VIP of VirtualService {claimer}: a real server needs an address of its own"
        return Verdict(False, Reason.ADDRESS_IS_VIRTUAL, text)
    if not ctx.namespace_allowed:
        text = f"DirectorGroup {ctx.group} does not serve namespace {ctx.namespace} (its spec.allowedNamespaces)"
        return Verdict(False, Reason.NAMESPACE_NOT_ALLOWED, text)
    if node in ctx.world.silent:
        text = f"node {node} has no lvs-agent reporting: check the DaemonSet's pods there"
        return Verdict(False, Reason.NO_AGENT, text)
    direct = goal.forwarding is ForwardingMethod.DIRECT_ROUTING
    if direct and ctx.on_link and not any(each.holds(address) for each in ctx.on_link):
        text = (
            f"{address} is not in {listed([str(each) for each in ctx.on_link])}, the subnet of the directors' "
            "interfaces: direct routing reaches only that segment; name an address there in spec.addresses, or another "
            "interface in the DirectorGroup, or use forwardingMethod Tunnel"
        )
        return Verdict(False, Reason.NOT_ON_LINK, text)
    return _IN_SERVICE


def _waits(ctx: Context, goal: TableDestination) -> Verdict:
    """Return what a usable real server waits for before it enters; `_IN_SERVICE` when it may."""
    if not ctx.on_link:
        text = f"no director of {ctx.group} has reported its subnets yet"
        return Verdict(True, Reason.WAITING_FOR_DIRECTOR, text)
    if not goal.node or not carries(goal.forwarding):
        return _IN_SERVICE
    if not ctx.ready.ok:
        return Verdict(True, ctx.ready.reason, ctx.ready.message)
    if goal.node in ctx.nodes and goal.forwarding is ForwardingMethod.DIRECT_ROUTING:
        return _IN_SERVICE
    verdict = may_enter(ctx.world, ctx.address, goal)
    return _IN_SERVICE if verdict.ok else Verdict(True, verdict.reason, verdict.message)
