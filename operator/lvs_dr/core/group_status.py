"""Status of a DirectorGroup."""

from lvs_dr.core import sync_status
from lvs_dr.core.conditions import Finding, conditions, reason_of, unknown, well, wrong
from lvs_dr.core.director_group import DirectorGroup, IpvsSettings
from lvs_dr.core.directors import directors, follows, listed
from lvs_dr.core.group_election import elected, ids_unique, peers_heard, router_status, routers
from lvs_dr.core.objects import Invalid
from lvs_dr.core.reasons import Reason
from lvs_dr.core.status import DirectorGroupStatus
from lvs_dr.core.world import World

MAXIMUM_LISTED = 64
MAXIMUM_NAMES_TEXT = 1024


def director_group_status(
    world: World, name: str, previous: DirectorGroupStatus | None, now: str
) -> DirectorGroupStatus:
    """Return the status of a DirectorGroup; `now` is RFC 3339. Raises KeyError when there is no such object."""
    group = world.groups[name]
    generation = group.meta.generation
    names, election = directors(world, name), routers(world, name)
    if isinstance(group, Invalid):
        accepted = wrong(Reason.INVALID, f"{group.message}; its directors go on as they were")
    else:
        accepted = well(Reason.ACCEPTED)
    found = [
        ("Accepted", accepted),
        ("Elected", elected(world, name, election)),
        ("PeersHeard", peers_heard(world, name, election)),
        ("VirtualRouterIDsUnique", ids_unique(world, name)),
    ]
    if (refused := _refused_priorities(world, names)) is not None:
        found.append(("AnnotationsAccepted", refused))
    if isinstance(group, DirectorGroup) and group.ipvs != IpvsSettings():
        found.append(("SettingsApplied", _settings(world, names)))
    if isinstance(group, DirectorGroup) and group.secrets:
        found.append(("SecretsRead", _secrets(world, names)))
    if sync_status.wanted(world, names):
        found.append(("ConnectionsSynced", sync_status.synced(world, names)))
    earlier = previous.conditions if previous is not None else ()
    return DirectorGroupStatus(
        observed_generation=generation,
        directors=names[:MAXIMUM_LISTED],
        active=",".join(sorted({each.active.node for each in election} - {""}))[:MAXIMUM_NAMES_TEXT],
        virtual_services=len(world.owners(world.index.tables_by_group.get(name))),
        conditions=conditions(found, generation, earlier, now),
        active_since=max((each.active.since for each in election), default=""),
        virtual_routers=tuple(router_status(each) for each in election[:MAXIMUM_LISTED]),
    )


def _refused_priorities(world: World, names: tuple[str, ...]) -> Finding | None:
    """Return which Nodes have a priority that is none; None when there is no such Node."""
    bad = [name for name in names if world.nodes[name].refused_priority]
    if not bad:
        return None
    text = (
        f"Node {bad[0]}: annotation lvs-operator.io/vrrp-priority is {world.nodes[bad[0]].refused_priority!r}: write a "
        "number from 1 to 254, or remove it; until then the usual priority counts"
    )
    return wrong(Reason.INVALID, text + (f"; also {listed(bad[1:])}" if bad[1:] else ""))


def _secrets(world: World, names: tuple[str, ...]) -> Finding:
    """All directors have read the Secrets that the group names."""
    behind: list[str] = []
    for name in names:
        record = world.lvs_node(name)
        for problem in record.status.problems if record is not None and record.status is not None else ():
            if problem.reason == Reason.SECRET_UNAVAILABLE:
                return wrong(Reason.SECRET_UNAVAILABLE, f"{name}: {problem.message}")
        if record is None or name in world.silent or not follows(record):
            behind.append(name)
    if not names:
        return unknown(Reason.NO_DIRECTOR, "the group has no director")
    if behind:
        return unknown(Reason.WAITING_FOR_DIRECTOR, f"waiting for {listed(behind)} to report")
    return well(Reason.SECRETS_READ, f"by {listed(names)}")


_UNSET = frozenset({Reason.SHARED_SETTING_CONFLICT, Reason.UNSUPPORTED})
"""Problems of a node that keep a setting from it: someone else's, or one that its kernel does not have."""


def _settings(world: World, names: tuple[str, ...]) -> Finding:
    """All directors have the group's timeouts and kernel settings."""
    behind: list[str] = []
    for name in names:
        record = world.lvs_node(name)
        status = record.status if record is not None else None
        conflict = status.sync.conflict if status is not None and status.sync is not None else ""
        for problem in status.problems if status is not None else ():
            if problem.reason in _UNSET and (not conflict or problem.message != conflict):
                return wrong(reason_of(problem.reason), f"{name}: {problem.message}")
        if record is None or name in world.silent or not follows(record):
            behind.append(name)
    if not names:
        return unknown(Reason.NO_DIRECTOR, "the group has no director")
    if behind:
        return unknown(Reason.WAITING_FOR_DIRECTOR, f"waiting for {listed(behind)} to report the settings")
    return well(Reason.CONFIGURED, f"on {listed(names)}")
