"""What a DirectorGroup's status says of its election: per virtual router and family, and as conditions."""

from typing import NamedTuple

from lvs_dr.core.active import ACTIVE, PREVENTS, Active, active_of, report_of
from lvs_dr.core.addresses import version
from lvs_dr.core.announcing import may_announce
from lvs_dr.core.conditions import Finding, reason_of, unknown, well, wrong
from lvs_dr.core.director_group import DirectorGroup, VrrpSettings
from lvs_dr.core.directors import directors, interface_subnets, listed, prospects
from lvs_dr.core.indexing import groups
from lvs_dr.core.reasons import Reason
from lvs_dr.core.status import VirtualRouterStatus
from lvs_dr.core.virtual_routers import Place, router_of, settings_of
from lvs_dr.core.world import World

MAXIMUM_MESSAGE = 512


class Router(NamedTuple):
    """A virtual router of one family that has VIPs, and who is Active for it."""

    place: Place
    family: int
    addresses: frozenset[str]
    active: Active

    @property
    def text(self) -> str:
        """How messages name it."""
        return f"virtual router {self.place.id} (IPv{self.family})"


def routers(world: World, group: str) -> tuple[Router, ...]:
    """Return the group's virtual routers that have VIPs, by id and family."""
    addresses = {world.tables[key].spec.address for key in world.index.tables_by_group.get(group, ())}
    found: dict[tuple[int, int], set[str]] = {}
    for address in addresses:
        found.setdefault((router_of(world, group, address), version(address)), set()).add(address)
    return tuple(
        Router(Place(group, id_), family, frozenset(vips), active_of(world, Place(group, id_), family))
        for (id_, family), vips in sorted(found.items())
    )


def router_status(router: Router) -> VirtualRouterStatus:
    """Return what `status.virtualRouters` says of one."""
    active = router.active
    return VirtualRouterStatus(
        id=router.place.id,
        family=router.family,
        active=active.node,
        since=active.since,
        addresses=len(router.addresses),
        message=(active.reason if active.verdict.ok else active.verdict.message)[:MAXIMUM_MESSAGE],
    )


def elected(world: World, group: str, found: tuple[Router, ...]) -> Finding:
    """Exactly one director is Active for each virtual router that has VIPs, and holds them."""
    claimed = any(router.active.node for router in found)
    verdict = prospects(world, group)
    if not verdict.ok and not claimed:
        return (unknown if verdict.reason is Reason.UNDECIDED else wrong)(verdict.reason, verdict.message)
    if not found:
        return well(Reason.NO_VIP, f"there is no VIP to hold yet; directors: {listed(directors(world, group))}")
    for router in sorted(found, key=lambda each: each.active.verdict.reason is not Reason.SPLIT_BRAIN):
        if not router.active.verdict.ok:
            return wrong(router.active.verdict.reason, router.active.verdict.message)
    silent = sorted({router.active.node for router in found} & world.silent)
    if silent:
        text = (
            f"the lvs-agent on {listed(silent)}, Active when last heard, does not report, and no other director has "
            "reported to have taken over: check the node and the DaemonSet's pod there"
        )
        return unknown(Reason.AGENT_SILENT, text)
    for router in found:
        if (finding := _not_held(world, router)) is not None:
            return finding
    counts: dict[str, int] = {}
    for router in found:
        counts[router.active.node] = counts.get(router.active.node, 0) + len(router.addresses)
    holders = [f"{name} holds {count} VIP{'s' if count > 1 else ''}" for name, count in sorted(counts.items())]
    return well(Reason.ELECTED, listed(holders, 8))


def _not_held(world: World, router: Router) -> Finding | None:
    """Return why the Active director lacks a VIP; None when it has them all."""
    node = router.active.node
    record = world.lvs_node(node)
    status = record.status if record is not None else None
    missing = sorted(router.addresses - set(status.held_addresses if status is not None else ()))
    if not missing:
        return None
    for problem in status.problems if status is not None else ():
        if problem.address in missing or (not problem.address and problem.reason in PREVENTS):
            return wrong(reason_of(problem.reason), f"{node}: {problem.message}")
    for address in missing:
        verdict = may_announce(world, node, address, router.place)
        if not verdict.ok:
            return wrong(verdict.reason, verdict.message)
    return wrong(Reason.WAITING_FOR_DIRECTOR, f"{node} is about to announce {listed(missing)}")


def peers_heard(world: World, group: str, found: tuple[Router, ...]) -> Finding:  # noqa: PLR0911 - in order, the first finding counts
    """The directors hear each other's VRRP adverts."""
    names = directors(world, group)
    if not names:
        return unknown(Reason.NO_DIRECTOR, "the group has no director")
    if len(names) == 1:
        text = f"{names[0]} is the only director: when it fails, nobody takes over"
        return well(Reason.ALONE, text)
    if not found:
        return unknown(Reason.NO_VIP, "there is no VIP yet, so no director speaks VRRP")
    for router in found:
        if router.active.verdict.reason is Reason.SPLIT_BRAIN:
            return wrong(Reason.PEERS_NOT_HEARD, router.active.verdict.message)
        if deaf := _deaf(world, names, router):
            text = (
                f"{listed(deaf)} would take part in {router.text} and hears no advert of {router.active.node}, which "
                "is Active: let IP protocol 112 (VRRP) through firewalls and switches between the directors, or set "
                "spec.vrrp.unicast where multicast does not get through"
            )
            return wrong(Reason.PEERS_NOT_HEARD, text)
    if silent := [name for name in names if name in world.silent]:
        text = f"the lvs-agent on {listed(silent)} does not report: nobody can tell what that director hears"
        return unknown(Reason.AGENT_SILENT, text)
    mute = [
        name
        for name in names
        if any(report_of(world, name, router.place.id, router.family) is None for router in found)
    ]
    if mute:
        return unknown(Reason.WAITING_FOR_DIRECTOR, f"waiting for {listed(mute)} to report what it hears")
    return well(Reason.PEERS_HEARD, f"{listed(names)} hear each other")


def _deaf(world: World, names: tuple[str, ...], router: Router) -> list[str]:
    """Return the directors that wait as Backup for adverts of an Active one and hear none."""
    active = router.active.node
    if not active or active in world.silent:
        return []
    found = []
    for name in names:
        report = report_of(world, name, router.place.id, router.family)
        if name in world.silent or name == active or report is None or report.state == ACTIVE or report.faults:
            continue
        if report.state == "Backup" and not report.active_source:
            found.append(name)
    return found


def ids_unique(world: World, group: str) -> Finding:
    """Nobody else uses the group's virtual router ids on its segment."""
    for name in directors(world, group):
        record = world.lvs_node(name)
        for report in record.status.virtual_routers if record is not None and record.status is not None else ():
            if report.conflicts:
                text = (
                    f"{name}, virtual router {report.id}: {report.conflicts[0]}; choose other ids by "
                    "spec.vrrp.firstVirtualRouterID"
                )
                return wrong(Reason.VRID_CONFLICT, text)
    settings = settings_of(world, group)
    if settings is None:
        return unknown(Reason.INVALID, "the DirectorGroup cannot be read, so its virtual router ids are not known")
    if other := _overlapping(world, group, settings):
        text = (
            f"DirectorGroup {other.meta.key.name} has virtual router ids {_ids(other.vrrp)} on the same network, this "
            f"one {_ids(settings)}: give one of them others by spec.vrrp.firstVirtualRouterID; its VIPs are away for a "
            "moment while they move"
        )
        return wrong(Reason.VRID_CONFLICT, text)
    return well(Reason.UNIQUE, f"virtual router ids {_ids(settings)}")


def _overlapping(world: World, group: str, settings: VrrpSettings) -> DirectorGroup | None:
    mine = range(settings.first_virtual_router_id, settings.first_virtual_router_id + settings.instances)
    subnets = {each for name in directors(world, group) for each in interface_subnets(world, name)}
    for name, other in groups(world).items():
        theirs = other.vrrp.first_virtual_router_id, other.vrrp.first_virtual_router_id + other.vrrp.instances
        if name == group or mine.stop <= theirs[0] or theirs[1] <= mine.start:
            continue
        if any(each in subnets for node in directors(world, name) for each in interface_subnets(world, node)):
            return other
    return None


def _ids(settings: VrrpSettings) -> str:
    first, last = settings.first_virtual_router_id, settings.first_virtual_router_id + settings.instances - 1
    return str(first) if first == last else f"{first} to {last}"
