"""MassRemovalHeld: one relist that would take away most of a node's VIPs is not believed at once.

A restored backup of the API server, a controller that saw half of the world or a mistaken label look just like
many deletions. What a watch tells one by one is believed; what vanished between two full reads is held for a
while, in case it comes back, unless a person releases it.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from lvs_dr.core.addresses import order
from lvs_dr.core.node import DirectorRole, LVSNodeSpec
from lvs_dr.core.table import DirectorTableSpec

HOLD_SECONDS: Final = 300.0
LEAST_REMOVED: Final = 2


class Hold(Struct, frozen=True):
    """VIPs that are kept although the objects no longer name them, and since when (monotonic seconds)."""

    addresses: frozenset[str]
    since: float


def node_addresses(spec: LVSNodeSpec, tables: Mapping[str, DirectorTableSpec]) -> frozenset[str]:
    """Return every VIP that a node has to do with: served, held or carried on lo."""
    served = frozenset(table.address for table in tables.values()) if spec.director else frozenset()
    announced = frozenset(spec.director.addresses) if spec.director else frozenset()
    return served | announced | frozenset(spec.backend_addresses)


def decide(
    before: frozenset[str],
    after: frozenset[str],
    hold: Hold | None,
    *,
    relisted: bool,
    released: bool,
    now: float,
    limit: float = HOLD_SECONDS,
) -> Hold | None:
    """Return the hold that is in force, if any.

    `before`: the node's VIPs in force until now (held ones included); `after`: those that the objects name now.
    `relisted`: the objects were read afresh as a whole. `released`: a person said that it is meant.
    """
    if released:
        return None
    if hold is not None:
        kept = hold.addresses - after
        if kept and now - hold.since < limit:
            hold = Hold(kept, hold.since)
        else:
            hold, before = None, before - kept
    gone = before - after - (hold.addresses if hold is not None else frozenset())
    if relisted and len(gone) >= LEAST_REMOVED and 2 * len(gone) > len(before):
        return Hold(gone | (hold.addresses if hold is not None else frozenset()), now)
    return hold


def held_spec(hold: Hold | None, before: LVSNodeSpec, after: LVSNodeSpec) -> LVSNodeSpec:
    """Return the new spec with what the hold keeps of the old one."""
    if hold is None:
        return after
    backend = frozenset(after.backend_addresses) | (hold.addresses & frozenset(before.backend_addresses))
    tunnels = after.backend_tunnels
    if hold.addresses & frozenset(before.backend_addresses):
        # Which of them a held VIP needs is not known here.
        tunnels = (*before.backend_tunnels, *(end for end in tunnels if end not in before.backend_tunnels))
    return replace(
        after,
        backend_addresses=tuple(sorted(backend)),
        backend_tunnels=tunnels,
        director=_held_role(hold, before.director, after.director),
    )


def held_tables(
    hold: Hold | None,
    before_spec: LVSNodeSpec,
    before: Mapping[str, DirectorTableSpec],
    after: Mapping[str, DirectorTableSpec],
) -> dict[str, DirectorTableSpec]:
    """Return the new tables with the old ones of held VIPs."""
    result = dict(after)
    if hold is not None and before_spec.director is not None:
        for name, table in before.items():
            if table.address in hold.addresses:
                result.setdefault(name, table)
    return result


def _held_role(hold: Hold, before: DirectorRole | None, after: DirectorRole | None) -> DirectorRole | None:
    if before is None:
        return after
    kept = {
        router.id: addresses
        for router in before.vrrp.routers
        if (addresses := tuple(each for each in router.addresses if each in hold.addresses))
    }
    if after is None:
        routers = tuple(replace(each, addresses=kept[each.id]) for each in before.vrrp.routers if each.id in kept)
        return replace(before, tables=(), vrrp=replace(before.vrrp, routers=routers))
    present = frozenset(after.addresses)
    routers_by_id = {each.id: each for each in after.vrrp.routers}
    for each in before.vrrp.routers:
        missing = frozenset(kept.get(each.id, ())) - present
        if missing:
            known = routers_by_id.get(each.id, replace(each, addresses=()))
            joined = tuple(sorted({*known.addresses, *missing}, key=order))
            routers_by_id[each.id] = replace(known, addresses=joined)
    routers = tuple(routers_by_id[id_] for id_ in sorted(routers_by_id))
    return replace(after, vrrp=replace(after.vrrp, routers=routers))
