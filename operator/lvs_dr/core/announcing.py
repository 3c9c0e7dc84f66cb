"""The order between nodes for VIPs on directors: who may be given a VIP, and what is noted of what was taken away.

The directors of a group that are told a VIP in the same virtual router agree on who holds it by VRRP. Anybody else
lets go of it first, and says so.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from lvs_dr.core.addresses import order as by_value
from lvs_dr.core.decisions import Verdict
from lvs_dr.core.directors import follows, group_of, listed
from lvs_dr.core.indexing import is_unsure
from lvs_dr.core.node import DirectorRole, LVSNodeSpec, Releasing, ReleasingRouter, table_key
from lvs_dr.core.node_status import TableReport
from lvs_dr.core.reasons import Reason
from lvs_dr.core.virtual_routers import Place, in_range, place_of, places, router_of, settings_of
from lvs_dr.core.world import NodeRecord, World

_CLEAR: Final = Verdict(True, Reason.ACCEPTED)
_NOWHERE: Final = Place("", 0)


def announced(record: NodeRecord, group: str) -> frozenset[str]:
    """Return the VIPs that the director is told for the group; of one whose LVSNode was lost, those that it holds."""
    role, status = record.spec.director, record.status
    if not record.spec.decided and status is not None:
        return frozenset(status.held_addresses)
    return frozenset(role.addresses if role is not None and role.group == group else ())


def given(world: World, record: NodeRecord, group: str, wanted: Iterable[str]) -> dict[str, int]:
    """Return the VIPs that the director is told, each with its virtual router: those it has there, and those it may."""
    told, found = places(record.spec.director), {}
    for address in wanted:
        place = Place(group, router_of(world, group, address))
        if told.get(address) == place or may_announce(world, record.name, address, place).ok:
            found[address] = place.id
    return found


def may_announce(world: World, node: str, address: str, place: Place) -> Verdict:
    """Tell whether `node` may be given the VIP in a virtual router; if not, who has to let go of it first.

    Directors that are told it in the same place agree by VRRP; whoever may announce it otherwise, also `node` itself
    in another virtual router, is waited for. Its Node may be gone: its LVSNode is about to follow, and would be obeyed
    till then.
    """
    index = world.index
    holders = index.holders_by_address.get(address, set())
    for name in sorted(holders | index.unsure_nodes.get("", set())):
        if _agrees(world, world.lvs_nodes[name], address, place, own=name == node):
            continue
        who = "is still held by" if name in holders else "may still be held by"
        text = f"{address} {who} node {name}"
        if name in world.silent:
            text += ", which does not report: bring it back, or delete its Node if it is gone for good"
        elif world.lvs_nodes[name].spec.paused:
            text += ", which is paused: remove its annotation lvs-operator.io/paused"
        elif name == node:
            text += " in another virtual router"
        return Verdict(False, Reason.WAITING_FOR_RELEASE, text)
    if node in holders and not world.lvs_nodes[node].spec.decided:
        return _CLEAR  # it has it already
    if unheard := unheard_directors(world, node):
        # An LVSNode that was deleted by mistake comes back without status: its node may hold anything.
        text = f"waiting for the first report of the lvs-agent on {listed(unheard)}"
        return Verdict(False, Reason.WAITING_FOR_RELEASE, text)
    return _CLEAR


def _agrees(world: World, record: NodeRecord, address: str, place: Place, *, own: bool) -> bool:
    """Tell whether all that the node may announce the VIP by is the virtual router that it is asked for.

    An LVSNode that was lost and made anew says nothing about what the node was told. Its group, and the ids that it
    reports, do: what is recorded never leaves the group's range.
    """
    unsure = is_unsure(record)
    if unsure and not own and not _is_within(world, record, place.group):
        return False
    told, noted = place_of(record.spec.director, address), _noted(record.spec.releasing, address)
    if told is None and noted is None:
        return own or unsure
    return told in (None, place) and noted in (None, place)


def _noted(releasing: Releasing | None, address: str) -> Place | None:
    for router in releasing.routers if releasing is not None else ():
        if address in router.addresses:
            return Place(router.group, router.id)
    return None


def _is_within(world: World, record: NodeRecord, group: str) -> bool:
    settings = settings_of(world, group)
    if record.status is None or group_of(world, record.name) != group:
        return False
    return settings is None or all(in_range(settings, each.id) for each in record.status.virtual_routers)


def unheard_directors(world: World, but: str = "") -> list[str]:
    """Return the directors of all groups whose agents live and have not reported yet, sorted."""
    found = {name for names in world.index.nodes_by_group.values() for name in names} - world.silent - {but}
    return sorted(name for name in found if (record := world.lvs_node(name)) is None or record.status is None)


def releasing(world: World, record: NodeRecord, role: DirectorRole | None) -> Releasing | None:
    """Return what stays noted of VIPs and tables that the node had, given its new role."""
    spec, status = record.spec, record.status
    known = spec.releasing or Releasing()
    noted = {each: Place(router.group, router.id) for router in known.routers for each in router.addresses}
    before, after = places(spec.director), places(role)
    if not spec.decided and status is not None:
        before = {each: after.get(each, _NOWHERE) for each in status.held_addresses}
    unknown = is_unsure(record)
    group = known.group
    if follows(record) and status is not None:
        if not spec.paused:  # else its speaker goes on by what it was told before, and a Backup may take over
            # The report was made from this spec, so what is in neither of them is gone.
            noted = {each: place for each, place in noted.items() if each in before or each in status.held_addresses}
            unknown = False
        if (spec.director is None or spec.director.group != group) and _own_tables(world, spec, status.tables):
            group = ""
    if spec.director is not None and (role is None or role.group != spec.director.group):
        group = spec.director.group
    elif role is not None and role.group == group:
        group = ""  # back again: they are its own
    left = {each: place for each, place in {**noted, **before}.items() if after.get(each) != place}
    if not left and not group and not unknown:
        return None
    return Releasing(routers=_by_router(left), group=group, unknown=unknown)


def _by_router(placed: Mapping[str, Place]) -> tuple[ReleasingRouter, ...]:
    found: dict[Place, list[str]] = {}
    for address, place in placed.items():
        found.setdefault(place, []).append(address)
    return tuple(
        ReleasingRouter(addresses=tuple(sorted(found[place], key=by_value)), group=place.group, id=place.id)
        for place in sorted(found)
    )


def _own_tables(world: World, spec: LVSNodeSpec, reports: tuple[TableReport, ...]) -> bool:
    """Tell whether all reported tables are those of the group the node directs for now."""
    group = spec.director.group if spec.director is not None else ""
    for report in reports:
        table = world.tables.get(table_key(report.table))
        if table is None or table.spec.director_group != group:
            return False
    return True
