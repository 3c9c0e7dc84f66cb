"""All real servers of a table together: one for each address, and no more than IPVS is given."""

from typing import NamedTuple

from msgspec.structs import replace

from lvs_dr.core.decisions import Member, Verdict
from lvs_dr.core.objects import Key, RealServer
from lvs_dr.core.reasons import Reason
from lvs_dr.core.resolve import Context, judge
from lvs_dr.core.sorry_server import judge_sorry_server
from lvs_dr.core.table import MAXIMUM_DESTINATIONS, TableDestination


class Roll(NamedTuple):
    """All real servers of a table: what to say of each, who is in, and who is about to enter."""

    members: tuple[Member, ...]
    destinations: tuple[TableDestination, ...]
    pending: tuple[TableDestination, ...]
    unreported: str  # a node whose live agent has not reported yet; "" = none
    sorry: Member | None = None  # what to say of the sorry server; None = none is wished
    sorry_server: TableDestination | None = None  # where it can be sent to


def members(ctx: Context, keys: list[Key]) -> Roll:
    """Judge the selected RealServers (sorted) together: one for each address, and no more than IPVS is given."""
    found: list[Member] = []
    destinations: dict[str, TableDestination] = {}
    waiting: list[TableDestination] = []
    owners: dict[str, str] = {}
    for key in keys:
        member, destination, pending, _ = judge(ctx, key)
        if pending is not None:
            waiting.append(pending)
        if destination is not None:
            owner = owners.setdefault(destination.address, key.name)
            if owner == key.name:
                destinations[key.name] = destination
            else:
                text = f"RealServer {owner} has the same address {destination.address}: remove one of them"
                member = replace(member, verdict=Verdict(False, Reason.DUPLICATE_ADDRESS, text))
        found.append(member)
    if len(destinations) > MAXIMUM_DESTINATIONS:
        found, destinations = _cut(ctx, found, destinations)
    later = {each.address: each for each in reversed(waiting) if each.address not in owners}
    room = MAXIMUM_DESTINATIONS - len(destinations)
    sorry = judge_sorry_server(ctx)
    return Roll(
        tuple(found),
        tuple(destinations.values()),
        tuple(reversed(later.values()))[:room],
        _unreported(ctx, keys),
        sorry.member if sorry is not None else None,
        sorry.destination if sorry is not None else None,
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
