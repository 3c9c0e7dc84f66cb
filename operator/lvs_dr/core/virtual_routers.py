"""VRRP in a group: which virtual router a VIP is in, with which priority each director takes part, and with whom.

A VIP never changes its virtual router by itself: a director that is cut off from the API server would go on holding it
in the old one. Its DirectorTables record where it is; only an edit of the group moves it, break before make
(`core.order`). Balance is a matter of priorities.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Final, NamedTuple

from msgspec.structs import replace

from lvs_dr.core.addresses import host, number, order
from lvs_dr.core.director_group import VrrpSettings
from lvs_dr.core.directors import directors, usable_group
from lvs_dr.core.node import DirectorRole, PeerDirector, VirtualRouter, Vrrp
from lvs_dr.core.objects import Node
from lvs_dr.core.world import World

HIGHEST_PRIORITY: Final = 250
LEAST_FIT_PRIORITY: Final = 200
"""An Active below this is degraded: a director that has as much takes over although `preempt` is false."""

STEP: Final = 5
STANDBY_LOWERS_BY: Final = 100
MAXIMUM_ID: Final = 255
MAXIMUM_PEERS: Final = 64
MAXIMUM_PEER_ADDRESSES: Final = 16


class Place(NamedTuple):
    """A virtual router of a group."""

    group: str
    id: int


def settings_of(world: World, group: str) -> VrrpSettings | None:
    """Return the group's settings; None while its object is gone or unreadable."""
    known = usable_group(world, group)
    return known.vrrp if known is not None else None


def in_range(settings: VrrpSettings, id_: int) -> bool:
    """Tell whether the id is one of the group's virtual routers."""
    return 0 <= id_ - settings.first_virtual_router_id < settings.instances


def router_of(world: World, group: str, address: str) -> int:
    """Return the id of the virtual router that the VIP is in, or is to be in.

    What a table of the VIP records stays while the group has that virtual router; else what a director was told (the
    table was lost) does; else the address decides, so that nobody has to remember and consecutive VIPs spread evenly.
    """
    settings = settings_of(world, group)
    for id_ in chain(_recorded(world, group, address, settings), _told(world, group, address)):
        if settings is None or in_range(settings, id_):
            return id_
    if settings is None:
        settings = VrrpSettings()
    return settings.first_virtual_router_id + (number(address) or 0) % settings.instances


def _recorded(world: World, group: str, address: str, settings: VrrpSettings | None) -> Iterable[int]:
    """Return the ids that tables of the VIP record, of those that the group has; that of the first table first."""
    known = world.index.tables_by_router
    ids = range(1, MAXIMUM_ID + 1)
    if settings is not None:
        ids = range(settings.first_virtual_router_id, settings.first_virtual_router_id + settings.instances)
    found = [id_ for id_ in ids if (address, group, id_) in known]
    return found if len(found) <= 1 else sorted(found, key=lambda id_: min(known[address, group, id_]))


def _told(world: World, group: str, address: str) -> Iterable[int]:
    for name in sorted(world.index.holders_by_address.get(address, ())):
        place = place_of(world.lvs_nodes[name].spec.director, address)
        if place is not None and place.group == group:
            yield place.id


def place_of(role: DirectorRole | None, address: str) -> Place | None:
    """Return in which virtual router a director is told the VIP; None when it is not told it."""
    if role is None:
        return None
    for router in role.vrrp.routers:
        at = bisect_left(router.addresses, order(address), key=order)
        if at < len(router.addresses) and router.addresses[at] == address:
            return Place(role.group, router.id)
    return None


def places(role: DirectorRole | None) -> dict[str, Place]:
    """Return where each VIP is that a director is told."""
    if role is None:
        return {}
    return {each: Place(role.group, router.id) for router in role.vrrp.routers for each in router.addresses}


def vrrp(world: World, node: Node, group: str, before: DirectorRole | None, placed: Mapping[str, int]) -> Vrrp:
    """Return what a director of the group takes part in; `placed`: its VIPs, each with the id of its virtual router.

    While the group is gone or unreadable, what was said before goes on.
    """
    name, names, settings = node.meta.key.name, directors(world, group), settings_of(world, group)
    usual = {each.id: each.priority for each in before.vrrp.routers} if before is not None else {}
    by_id: dict[int, list[str]] = {}
    for address, id_ in placed.items():
        by_id.setdefault(id_, []).append(address)
    first = settings.first_virtual_router_id if settings is not None else min(by_id, default=0)
    routers = tuple(
        VirtualRouter(
            id=id_,
            priority=usual[id_] if settings is None and id_ in usual else priority(node, names, id_ - first),
            addresses=tuple(sorted(by_id[id_], key=order)),
        )
        for id_ in sorted(by_id)
    )
    others = tuple(PeerDirector(each, own_addresses(world, each)) for each in names if each != name)[:MAXIMUM_PEERS]
    if settings is None:
        return replace(before.vrrp if before is not None else Vrrp(), routers=routers, peers=others)
    return Vrrp(
        routers=routers,
        peers=others,
        advertisement_interval_milliseconds=settings.advertisement_interval_milliseconds,
        preempt=settings.preempt,
        preempt_delay_seconds=settings.preempt_delay_seconds,
        unicast=settings.unicast,
        stop_hold_seconds=settings.stop_hold_seconds,
    )


def priority(node: Node, names: tuple[str, ...], router: int) -> int:
    """Return the node's priority in a virtual router of its group, counted from 0; `names`: all directors, sorted.

    Each director is first for its share of the virtual routers. The Node's annotation counts instead where it has one.
    """
    found = node.vrrp_priority or _usual_priority(names.index(node.meta.key.name), len(names), router)
    return max(1, found - STANDBY_LOWERS_BY) if node.standby else found


def _usual_priority(rank: int, count: int, router: int) -> int:
    room = HIGHEST_PRIORITY - LEAST_FIT_PRIORITY
    step = max(1, min(STEP, room // max(1, count - 1)))
    return max(LEAST_FIT_PRIORITY, HIGHEST_PRIORITY - step * ((rank - router) % count))


def own_addresses(world: World, director: str) -> tuple[str, ...]:
    """Return a director's own addresses on its interface as its agent last reported them, VIPs left out."""
    record = world.lvs_node(director)
    if record is None or record.status is None:
        return ()
    found = {
        address
        for interface in record.status.interfaces
        if interface.name == record.status.director_interface
        for cidr in interface.addresses
        if (address := host(cidr)) not in world.tables_by_address
    }
    return tuple(sorted(found, key=order))[:MAXIMUM_PEER_ADDRESSES]
