"""Which nodes direct for a group, whether any of them could, and what their interfaces are connected to."""

from functools import lru_cache

from lvs_dr.core.addresses import Subnet, subnet
from lvs_dr.core.decisions import Verdict
from lvs_dr.core.director_group import DirectorGroup
from lvs_dr.core.indexing import DEFAULT_GROUP, IMPLICIT_GROUP
from lvs_dr.core.node_status import InterfaceReport
from lvs_dr.core.reasons import Reason
from lvs_dr.core.world import NodeRecord, World


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


def prospects(world: World, group: str) -> Verdict:
    """Tell whether a director of the group could be Active, by what the agents report; if not, what is missing."""
    names = directors(world, group)
    if not names:
        return Verdict(False, Reason.NO_DIRECTOR, _no_director(world, group))
    if unknown := unheard(world, group):
        return Verdict(False, Reason.UNDECIDED, f"waiting for the first report of the lvs-agent on {listed(unknown)}")
    live = [name for name in names if name not in world.silent]
    if not live:
        text = f"no lvs-agent is reporting on the directors {listed(names)}: check the DaemonSet's pods there"
        return Verdict(False, Reason.NO_AGENT, text)
    records = {name: record for name in live if (record := world.lvs_node(name)) is not None}
    if any(record.status is not None and record.status.director_interface for record in records.values()):
        return Verdict(True, Reason.ACCEPTED)
    if behind := [name for name, record in records.items() if not follows(record)]:
        text = f"waiting for the directors {listed(behind)} to report their interface"
        return Verdict(False, Reason.UNDECIDED, text)
    text = (
        f"no interface to announce VIPs on was found on {listed(live)}: "
        "set spec.interface of the DirectorGroup to one that the directors have"
    )
    return Verdict(False, Reason.NO_INTERFACE, text)


def unheard(world: World, group: str) -> list[str]:
    """Return the directors with a live agent that has not reported yet.

    One of them may hold the VIPs: an LVSNode that was deleted by mistake comes back without status.
    """
    live = (name for name in directors(world, group) if name not in world.silent)
    return [name for name in live if (record := world.lvs_nodes.get(name)) is None or record.status is None]


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
