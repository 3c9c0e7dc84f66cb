"""Status of a DirectorGroup."""

from lvs_dr.core.conditions import Finding, conditions, reason_of, unknown, well, wrong
from lvs_dr.core.directors import active_director, directors, follows, listed
from lvs_dr.core.objects import DirectorGroup, Invalid, IpvsSettings
from lvs_dr.core.order import may_announce
from lvs_dr.core.reasons import Reason
from lvs_dr.core.status import DirectorGroupStatus
from lvs_dr.core.world import World

MAXIMUM_LISTED = 64
PREVENTS = frozenset({Reason.NO_INTERFACE, Reason.PAUSED, Reason.UNSUPPORTED, Reason.MASS_REMOVAL_HELD})
"""Problems of a node that keep it from announcing any VIP."""


def director_group_status(
    world: World, name: str, previous: DirectorGroupStatus | None, now: str
) -> DirectorGroupStatus:
    """Return the status of a DirectorGroup; `now` is RFC 3339. Raises KeyError when there is no such object."""
    group = world.groups[name]
    generation = group.meta.generation
    names = directors(world, name)
    if isinstance(group, Invalid):
        accepted = wrong(Reason.INVALID, f"{group.message}; its directors go on as they were")
    else:
        accepted = well(Reason.ACCEPTED)
    found = [("Accepted", accepted), ("Elected", _elected(world, name))]
    if isinstance(group, DirectorGroup) and group.ipvs != IpvsSettings():
        found.append(("SettingsApplied", _settings(world, names)))
    earlier = previous.conditions if previous is not None else ()
    return DirectorGroupStatus(
        observed_generation=generation,
        directors=names[:MAXIMUM_LISTED],
        active=active_director(world, name).node,
        virtual_services=len(world.index.tables_by_group.get(name, ())),
        conditions=conditions(found, generation, earlier, now),
    )


def _elected(world: World, name: str) -> Finding:  # noqa: PLR0911 - in order, the first finding counts
    """Exactly one director holds the group's VIPs."""
    active = active_director(world, name)
    node = active.node
    if not node:
        if active.verdict.reason is Reason.UNDECIDED:
            return unknown(Reason.UNDECIDED, active.verdict.message)
        return wrong(active.verdict.reason, active.verdict.message)
    if node in world.silent:
        text = (
            f"the lvs-agent on {node}, the Active director, does not report: check the node and the DaemonSet's "
            "pod there; another director takes over when the Node is deleted"
        )
        return unknown(Reason.AGENT_SILENT, text)
    record = world.lvs_node(node)
    status = record.status if record is not None else None
    held = status.held_addresses if status is not None else ()
    wanted = {world.tables[key].spec.address for key in world.index.tables_by_group.get(name, ())}
    missing = sorted(wanted - set(held))
    if not missing:
        return well(Reason.ELECTED, f"{node} holds {len(wanted)} VIPs")
    for problem in status.problems if status is not None else ():
        if problem.address in missing or (not problem.address and problem.reason in PREVENTS):
            return wrong(reason_of(problem.reason), f"{node}: {problem.message}")
    for address in missing:
        verdict = may_announce(world, node, address)
        if not verdict.ok:
            return wrong(verdict.reason, verdict.message)
    return wrong(Reason.WAITING_FOR_DIRECTOR, f"{node} is about to announce {listed(missing)}")


_UNSET = frozenset({Reason.SHARED_SETTING_CONFLICT, Reason.UNSUPPORTED})
"""Problems of a node that keep a setting from it: someone else's, or one that its kernel does not have."""


def _settings(world: World, names: tuple[str, ...]) -> Finding:
    """All directors have the group's timeouts and kernel settings."""
    behind: list[str] = []
    for name in names:
        record = world.lvs_node(name)
        status = record.status if record is not None else None
        for problem in status.problems if status is not None else ():
            if problem.reason in _UNSET:
                return wrong(reason_of(problem.reason), f"{name}: {problem.message}")
        if record is None or name in world.silent or not follows(record):
            behind.append(name)
    if not names:
        return unknown(Reason.NO_DIRECTOR, "the group has no director")
    if behind:
        return unknown(Reason.WAITING_FOR_DIRECTOR, f"waiting for {listed(behind)} to report the settings")
    return well(Reason.CONFIGURED, f"on {listed(names)}")
