"""Which real servers a table has: each selected RealServer judged, and those that may enter as destinations.

What is in stays in while its node drifts or is silent; health checks withdraw what does not work.
"""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from lvs_dr.core.addresses import Subnet, version
from lvs_dr.core.claims import namespace_allowed
from lvs_dr.core.decisions import Member, Verdict
from lvs_dr.core.directors import active_director, directors, interface_subnets, listed, usable_group
from lvs_dr.core.objects import Invalid, Key, RealServer, RealServerState
from lvs_dr.core.order import may_enter, unlisted
from lvs_dr.core.reasons import Reason
from lvs_dr.core.table import MAXIMUM_DESTINATIONS, TableDestination
from lvs_dr.core.world import TableRecord, World


class Context(NamedTuple):
    """What all real servers of one table have in common."""

    world: World
    namespace: str
    address: str  # VIP
    group: str
    known: Mapping[str, TableDestination]  # in the table now, by RealServer
    nodes: frozenset[str]  # of `known`: they carry the VIP
    pending: frozenset[str] | None  # RealServers that are pending in the table now; None = it is a new one
    director: str  # the Active one, "" = none
    on_link: tuple[Subnet, ...]  # of its interface; () = not known
    namespace_allowed: bool
    ready: Verdict  # whether destinations on nodes may enter at all


class Judged(NamedTuple):
    """One RealServer: what to say of it, and its destination if it is in."""

    member: Member
    destination: TableDestination | None = None
    pending: TableDestination | None = None  # what it will be once it may enter


_ABSENT = Verdict(False, Reason.WAITING_FOR_DIRECTOR, "the DirectorTable is about to be written")
_IN_SERVICE = Verdict(True, Reason.IN_SERVICE)
_MAINTENANCE = Verdict(True, Reason.MAINTENANCE, "it takes no new connections: spec.state is Maintenance")


def context(world: World, namespace: str, address: str, group: str, record: TableRecord | None) -> Context:
    """Return what judging the real servers of a table needs; `record` is the table as it is, None for a new one."""
    destinations = record.spec.destinations if record is not None else ()
    active = active_director(world, group).node
    on_link = interface_subnets(world, active) if active else ()
    if not on_link and not active:
        on_link = tuple(sorted({each for name in directors(world, group) for each in interface_subnets(world, name)}))
    return Context(
        world=world,
        namespace=namespace,
        address=address,
        group=group,
        known={each.real_server: each for each in destinations},
        nodes=frozenset(each.node for each in destinations if each.node),
        pending=frozenset(each.real_server for each in record.spec.pending) if record is not None else None,
        director=active,
        on_link=on_link,
        namespace_allowed=namespace_allowed(world, usable_group(world, group), namespace),
        ready=unlisted(world, record) if record is not None else _ABSENT,
    )


def judge(ctx: Context, key: Key) -> Judged:
    """Judge one RealServer by itself, without regard to the others of the table."""
    real_server = ctx.world.real_servers[key]
    if isinstance(real_server, Invalid):
        # It stays as it was when it could still be read.
        known = ctx.known.get(key.name)
        verdict = Verdict(False, Reason.INVALID, real_server.message)
        return Judged(Member(key, known.address if known else "", known.node if known else "", verdict), known)
    return _judge(ctx, key, real_server, ctx.known.get(key.name))


def _judge(ctx: Context, key: Key, real_server: RealServer, known: TableDestination | None) -> Judged:
    node = real_server.node_name
    if node and node not in ctx.world.nodes:
        text = f"there is no node {node}: correct spec.nodeName, or remove the RealServer"
        return Judged(Member(key, "", node, Verdict(False, Reason.NODE_MISSING, text)))
    if known is not None and known.node != node:
        known = None  # moved to another node: a new destination
    address = _address(ctx, real_server, known)
    if known is not None and address == known.address:
        return _entered(key, real_server, address)
    verdict = _usable(ctx, real_server, address)
    if verdict.ok:
        verdict = _waits(ctx, node)
        if verdict is _IN_SERVICE:
            return _entered(key, real_server, address)
    if known is None:
        pending = verdict.ok and _may_be_there(ctx, key, node)
        entry = _destination(key, real_server, address) if pending else None
        return Judged(Member(key, address, node, verdict), pending=entry)
    text = f"{verdict.message}; directors go on sending to {known.address}"
    member = Member(key, known.address, node, Verdict(verdict.ok, verdict.reason, text))
    return Judged(member, _destination(key, real_server, known.address))


def wants(judged: Judged) -> bool:
    """Tell whether the real server's node is to carry the VIP: it is in the table, or waits to get in."""
    return judged.destination is not None or judged.member.verdict.ok


def entered(member: Member) -> bool:
    """Tell whether the real server is a destination by its own merit (one that is refused may still be kept)."""
    return member.verdict.ok and member.verdict.reason in (Reason.IN_SERVICE, Reason.MAINTENANCE)


def _may_be_there(ctx: Context, key: Key, node: str) -> bool:
    """Tell whether directors may keep the real server, if they have it from a table of this name before this one.

    A table that was deleted by mistake is made anew without destinations; its backends still carry the VIP. Nobody
    becomes pending later: what a table has let go, directors must let go too.
    """
    if ctx.pending is not None and key.name not in ctx.pending:
        return False
    if not node:
        return True
    record = ctx.world.lvs_node(node)
    if record is None or record.status is None or ctx.address not in record.status.loopback_addresses:
        return False
    return not record.spec.decided or ctx.address in record.spec.backend_addresses


def _unreported(ctx: Context, keys: list[Key]) -> str:
    """Return a node of the real servers whose live agent has not reported yet; "" when there is none."""
    for key in keys:
        real_server = ctx.world.real_servers[key]
        node = real_server.node_name if isinstance(real_server, RealServer) else ""
        if node in ctx.world.nodes and node not in ctx.world.silent:
            record = ctx.world.lvs_node(node)
            if record is None or record.status is None:
                return node
    return ""


class Roll(NamedTuple):
    """All real servers of a table: what to say of each, who is in, and who is about to enter."""

    members: tuple[Member, ...]
    destinations: tuple[TableDestination, ...]
    pending: tuple[TableDestination, ...]
    unreported: str  # a node whose live agent has not reported yet; "" = none


def members(ctx: Context, keys: list[Key]) -> Roll:
    """Judge the selected RealServers (sorted) together: one for each address, and no more than IPVS is given."""
    found: list[Member] = []
    destinations: dict[str, TableDestination] = {}
    waiting: list[TableDestination] = []
    owners: dict[str, str] = {}
    for key in keys:
        member, destination, pending = judge(ctx, key)
        if pending is not None:
            waiting.append(pending)
        if destination is not None:
            owner = owners.setdefault(destination.address, key.name)
            if owner == key.name:
                destinations[key.name] = destination
            else:
                text = f"RealServer {owner} has the same address {destination.address}: remove one of them"
                member = Member(key, member.address, member.node, Verdict(False, Reason.DUPLICATE_ADDRESS, text))
        found.append(member)
    if len(destinations) > MAXIMUM_DESTINATIONS:
        found, destinations = _cut(ctx, found, destinations)
    later = {each.address: each for each in reversed(waiting) if each.address not in owners}
    room = MAXIMUM_DESTINATIONS - len(destinations)
    return Roll(
        tuple(found), tuple(destinations.values()), tuple(reversed(later.values()))[:room], _unreported(ctx, keys)
    )


def _cut(
    ctx: Context, found: list[Member], destinations: dict[str, TableDestination]
) -> tuple[list[Member], dict[str, TableDestination]]:
    order = sorted(destinations, key=lambda name: (name not in ctx.known, name))
    out = frozenset(order[MAXIMUM_DESTINATIONS:])
    text = f"a VirtualService has {MAXIMUM_DESTINATIONS} real servers at most: narrow its selector"
    verdict = Verdict(False, Reason.TOO_MANY_DESTINATIONS, text)
    return (
        [replace(each, verdict=verdict) if each.real_server.name in out else each for each in found],
        {name: each for name, each in destinations.items() if name not in out},
    )


def _entered(key: Key, real_server: RealServer, address: str) -> Judged:
    serving = real_server.state is RealServerState.IN_SERVICE
    member = Member(key, address, real_server.node_name, _IN_SERVICE if serving else _MAINTENANCE)
    return Judged(member, _destination(key, real_server, address))


def _destination(key: Key, real_server: RealServer, address: str) -> TableDestination:
    weight = real_server.weight if real_server.state is RealServerState.IN_SERVICE else 0
    return TableDestination(real_server=key.name, address=address, weight=weight, node=real_server.node_name)


def _address(ctx: Context, real_server: RealServer, known: TableDestination | None) -> str:
    """Return the address directors send to, "" for none: its own, else its node's (the known one while it is there)."""
    family = version(ctx.address)
    for address in real_server.addresses:
        if version(address) == family:
            return address
    if not real_server.node_name:
        return ""
    own = node_addresses(ctx.world, real_server.node_name, family)
    if known is not None and (not own or known.address in own):
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


def _usable(ctx: Context, real_server: RealServer, address: str) -> Verdict:
    node = real_server.node_name
    if not address:
        family = "IPv6" if version(ctx.address) == 6 else "IPv4"  # noqa: PLR2004 - an IP version
        whose = f"node {node} has none" if node else "it names none"
        text = f"no {family} address to send to: {whose}; set one in spec.addresses"
        return Verdict(False, Reason.NO_ADDRESS, text)
    if address in ctx.world.tables_by_address:
        claimer = min(ctx.world.tables_by_address[address])
        text = f"{address} is the VIP of VirtualService {claimer}: a real server needs an address of its own"
        return Verdict(False, Reason.ADDRESS_IS_VIRTUAL, text)
    if not ctx.namespace_allowed:
        text = f"DirectorGroup {ctx.group} does not serve namespace {ctx.namespace} (its spec.allowedNamespaces)"
        return Verdict(False, Reason.NAMESPACE_NOT_ALLOWED, text)
    if node in ctx.world.silent:
        text = f"node {node} has no lvs-agent reporting: check the DaemonSet's pods there"
        return Verdict(False, Reason.NO_AGENT, text)
    if ctx.on_link and not any(each.holds(address) for each in ctx.on_link):
        where = f"director {ctx.director}'s interface" if ctx.director else "the directors' interfaces"
        text = (
            f"{address} is not in {listed([str(each) for each in ctx.on_link])}, the subnet of {where}: direct "
            "routing reaches only that segment; name an address there in spec.addresses, or another interface in the "
            "DirectorGroup"
        )
        return Verdict(False, Reason.NOT_ON_LINK, text)
    return _IN_SERVICE


def _waits(ctx: Context, node: str) -> Verdict:
    """Return what a usable real server waits for before it enters; `_IN_SERVICE` when it may."""
    if not ctx.on_link:
        text = f"no director of {ctx.group} has reported its subnets yet"
        return Verdict(True, Reason.WAITING_FOR_DIRECTOR, text)
    if not node:
        return _IN_SERVICE
    if not ctx.ready.ok:
        return Verdict(True, ctx.ready.reason, ctx.ready.message)
    if node in ctx.nodes:
        return _IN_SERVICE
    verdict = may_enter(ctx.world, ctx.address, node)
    return _IN_SERVICE if verdict.ok else Verdict(True, verdict.reason, verdict.message)
