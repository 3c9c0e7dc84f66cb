"""Which nodes direct for a group, which of them is Active, and what its interface is connected to."""

from functools import lru_cache

from msgspec import Struct

from lvs_dr.core.addresses import Subnet, subnet
from lvs_dr.core.decisions import Verdict
from lvs_dr.core.indexing import DEFAULT_GROUP, IMPLICIT_GROUP
from lvs_dr.core.node import InterfaceReport
from lvs_dr.core.objects import DirectorGroup, VirtualService
from lvs_dr.core.reasons import Reason
from lvs_dr.core.world import NodeRecord, World


class Active(Struct, frozen=True):
    """The Active director of a group; `node` is "" while there is none, and the verdict says why."""

    node: str
    verdict: Verdict


def usable_group(world: World, name: str) -> DirectorGroup | None:
    """Return the group, the implicit `default` included; None when there is none or it does not parse."""
    group = world.groups.get(name)
    if group is None and name == DEFAULT_GROUP:
        return IMPLICIT_GROUP
    return group if isinstance(group, DirectorGroup) else None


def frozen_group(world: World, record: NodeRecord | None) -> str:
    """Return the group the node goes on to direct for although its object is gone or unreadable; "" for none.

    A DirectorGroup that disappears while VirtualServices are served is a mistake until they go too.
    """
    if record is None or record.spec.director is None:
        return ""
    name = record.spec.director.group
    return name if usable_group(world, name) is None and world.index.tables_by_group.get(name) else ""


def group_of(world: World, node: str) -> str:
    """Return the group the node directs for; "" for none."""
    if node not in world.nodes:
        return ""
    if frozen := frozen_group(world, world.lvs_node(node)):
        return frozen
    return next((name for name, nodes in world.index.nodes_by_group.items() if node in nodes), "")


def directors(world: World, group: str) -> tuple[str, ...]:
    """Return the nodes that direct for the group, sorted.

    A node that several groups match directs for the first of them by name; the others see it not.
    """
    if usable_group(world, group) is None:
        told = world.index.lvs_nodes_by_group.get(group, ())
        return tuple(sorted(node for node in told if group_of(world, node) == group))
    matching = world.index.nodes_by_group.get(group, ())
    return tuple(sorted(node for node in matching if not frozen_group(world, world.lvs_node(node))))


def active_director(world: World, group: str) -> Active:
    """Return the one director that holds the group's VIPs.

    Whoever holds VIPs by its LVSNode's spec stays; else whoever reports to hold some of them (its LVSNode was lost);
    else the first by name that has a live agent and an interface to announce on.
    """
    names = directors(world, group)
    if not names:
        return Active("", Verdict(False, Reason.NO_DIRECTOR, _no_director(world, group)))
    records = {name: record for name in names if (record := world.lvs_node(name)) is not None}
    told = [name for name, record in records.items() if _told(record, group)]
    if told:
        return Active(told[0], _ELECTED)
    if unknown := unheard(world, group):
        text = f"waiting for the first report of the lvs-agent on {listed(unknown)}"
        return Active("", Verdict(False, Reason.UNDECIDED, text))
    live = [name for name in names if name not in world.silent]
    holding = [name for name, record in records.items() if _reports_to_hold(world, record, group)]
    if holding:
        return Active(holding[0], _ELECTED)
    if not live:
        text = f"no lvs-agent is reporting on the directors {listed(names)}: check the DaemonSet's pods there"
        return Active("", Verdict(False, Reason.NO_AGENT, text))
    return _first(records, live)


def unheard(world: World, group: str) -> list[str]:
    """Return the directors with a live agent that has not reported yet.

    One of them may hold the VIPs: an LVSNode that was deleted by mistake comes back without status.
    """
    live = (name for name in directors(world, group) if name not in world.silent)
    return [name for name in live if (record := world.lvs_nodes.get(name)) is None or record.status is None]


_ELECTED = Verdict(True, Reason.ELECTED)


def _told(record: NodeRecord, group: str) -> bool:
    role = record.spec.director
    return role is not None and role.group == group and bool(role.addresses)


def _reports_to_hold(world: World, record: NodeRecord, group: str) -> bool:
    if record.status is None or not record.status.held_addresses:
        return False
    tables = world.index.tables_by_group.get(group, set())
    return any(
        not tables.isdisjoint(world.tables_by_address.get(address, ())) or _served(world, address, group)
        for address in record.status.held_addresses
    )


def _served(world: World, address: str, group: str) -> bool:
    """Tell whether a VirtualService asks the group for the address: its table may have been lost."""
    services = (world.virtual_services.get(key) for key in world.services_by_address.get(address, ()))
    return any(isinstance(each, VirtualService) and each.director_group == group for each in services)


def _first(records: dict[str, NodeRecord], live: list[str]) -> Active:
    able = [name for name in live if (status := records[name].status) is not None and status.director_interface]
    if not able:
        behind = [name for name in live if not follows(records[name])]
        if behind:
            text = f"waiting for the directors {listed(behind)} to report their interface"
            return Active("", Verdict(False, Reason.UNDECIDED, text))
        text = (
            f"no interface to announce VIPs on was found on {listed(live)}: "
            "set spec.interface of the DirectorGroup to one that the directors have"
        )
        return Active("", Verdict(False, Reason.NO_INTERFACE, text))
    return Active(min(able, key=lambda name: (_lacks_ipvs(records[name]), name)), _ELECTED)


def _lacks_ipvs(record: NodeRecord) -> bool:
    problems = record.status.problems if record.status is not None else ()
    return any(problem.reason == Reason.IPVS_UNAVAILABLE for problem in problems)


def _no_director(world: World, group: str) -> str:
    if usable_group(world, group) is IMPLICIT_GROUP:
        return "no node is a director: label one, for example `kubectl label node NAME lvs-operator.io/director=`"
    return f"no node matches the nodeSelector of DirectorGroup {group}: label the nodes that are to direct"


def follows(record: NodeRecord) -> bool:
    """Tell whether the agent has acted on the spec as it is now (its report is from this very generation)."""
    return record.status is not None and record.spec.decided and record.status.observed_generation == record.generation


def interface_subnets(world: World, node: str) -> tuple[Subnet, ...]:
    """Return the on-link subnets of the director's interface, as its agent reports them; () while it has not."""
    record = world.lvs_node(node)
    if record is None or record.status is None or not record.status.director_interface:
        return ()
    return _subnets(record.status.interfaces, record.status.director_interface)


@lru_cache(maxsize=1024)
def _subnets(interfaces: tuple[InterfaceReport, ...], name: str) -> tuple[Subnet, ...]:
    found = (subnet(cidr) for interface in interfaces if interface.name == name for cidr in interface.addresses)
    return tuple(sorted({each for each in found if each is not None}))


def listed(names: tuple[str, ...] | list[str], most: int = 3) -> str:
    """Return at most `most` of the names as text, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
