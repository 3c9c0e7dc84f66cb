"""Which nodes direct, and which one of them holds the VIPs: never two, and no change without need."""

import pytest
from msgspec.structs import replace

from lvs_dr.core.directors import active_director, directors
from lvs_dr.core.indexing import Kind
from lvs_dr.core.node import DirectorRole, Problem
from lvs_dr.core.objects import Operator, Requirement, Selector
from lvs_dr.core.reasons import Reason
from tests.unit.core.clusters import ADDRESSES, D1, D2, S1, agent, converge, nodes, serving
from tests.unit.core.worlds import VIP, Objects, group, node, status


def role(objects: Objects, name: str) -> DirectorRole:
    """Return what a director was told."""
    found = objects.world.lvs_nodes[name].spec.director
    assert found is not None
    return found


def relabel(objects: Objects, name: str, **labels: str) -> None:
    """Give a Node other labels."""
    known = objects.world.nodes[name]
    found = tuple(sorted({"kubernetes.io/os": "linux", **labels}.items()))
    objects.put(replace(known, meta=replace(known.meta, labels=found)))


def test_every_director_programs_the_tables_and_one_holds_the_vip() -> None:
    """The Backup must be warm, and must not answer for the VIP."""
    objects = serving()
    assert role(objects, D1).tables == role(objects, D2).tables == ("shop/web",)
    assert (role(objects, D1).addresses, role(objects, D2).addresses) == ((VIP,), ())


def test_the_choice_is_sticky() -> None:
    """A node that joins, or the Active one's silence, must not move VIPs."""
    objects = serving(directors=(D2,))
    relabel(objects, D1, **{"lvs-operator.io/director": ""})
    converge(objects)
    assert active_director(objects.world, "default").node == D2
    objects.silence(D2, silent=True)
    objects.settle()
    assert (role(objects, D1).addresses, role(objects, D2).addresses) == ((), (VIP,))


def test_a_new_director_gets_the_vip_only_after_the_old_one_has_let_go() -> None:
    """Break before make: else two nodes answer for one address."""
    objects = serving()
    relabel(objects, D1)
    objects.settle()
    assert objects.world.lvs_nodes[D1].spec.director is None
    assert role(objects, D2).addresses == ()
    agent(objects, D1)
    objects.settle()
    assert role(objects, D2).addresses == (VIP,)
    agent(objects, D1)
    objects.settle()
    assert objects.world.lvs_nodes[D1].spec.releasing is None


def test_a_silent_holder_is_waited_for_until_its_node_is_deleted() -> None:
    """A node that cannot be asked may still answer for the VIP."""
    objects = serving()
    objects.silence(D1, silent=True)
    relabel(objects, D1)
    objects.settle()
    assert role(objects, D2).addresses == ()
    objects.remove(Kind.NODE, D1)
    objects.settle()
    assert role(objects, D2).addresses == (), "its LVSNode could still be obeyed"
    objects.remove(Kind.LVS_NODE, D1)
    objects.settle()
    assert role(objects, D2).addresses == (VIP,)


def test_a_lost_lvs_node_moves_nothing() -> None:
    """`kubectl delete lvsnode` by mistake: nothing is told before the agent has said what it holds."""
    objects = serving()
    before = objects.world.lvs_nodes[D1]
    assert before.status is not None
    objects.remove(Kind.LVS_NODE, D1)
    objects.settle()
    assert not objects.world.lvs_nodes[D1].spec.decided
    assert role(objects, D2).addresses == ()
    assert active_director(objects.world, "default").verdict.reason is Reason.UNDECIDED
    objects.report(D1, replace(before.status, observed_generation=0))
    objects.settle()
    assert objects.world.lvs_nodes[D1].spec == before.spec
    assert role(objects, D2).addresses == ()


def test_a_node_that_several_groups_match_directs_for_the_first_by_name() -> None:
    """A node directs for one group; which one must not be left to chance."""
    objects = nodes()
    any_node = Selector(match_expressions=(Requirement("kubernetes.io/os", Operator.EXISTS),))
    objects.put(group("b", node_selector=any_node), group("a", node_selector=Selector((("group", "a"),))))
    relabel(objects, D1, group="a")
    assert directors(objects.world, "a") == (D1,)
    assert directors(objects.world, "b") == (D2, S1, "s2")


def test_windows_nodes_direct_nothing() -> None:
    """No agent runs there."""
    objects = Objects(node(D1, ADDRESSES[D1], director=True, labels={"kubernetes.io/os": "windows"}))
    assert directors(objects.world, "default") == ()


def test_a_director_without_interface_or_ipvs_is_passed_over() -> None:
    """Else the VIP ends on the one node that cannot serve it."""
    objects = nodes(D1, D2)
    objects.report(D1, status(ADDRESSES[D1], observed_generation=2, director_interface=""))
    assert active_director(objects.world, "default").node == D2
    problem = Problem(reason="IPVSUnavailable", message="no ip_vs")
    objects.report(D1, status(ADDRESSES[D1], observed_generation=2, problems=(problem,)))
    assert active_director(objects.world, "default").node == D2


@pytest.mark.parametrize("silent", [False, True])
def test_without_any_usable_director_the_verdict_says_why(silent: bool) -> None:  # noqa: FBT001
    """The user has to learn what to repair."""
    objects = nodes(D1)
    objects.report(D1, status(ADDRESSES[D1], observed_generation=2, director_interface=""))
    if silent:
        objects.silence(D1, silent=True)
    found = active_director(objects.world, "default")
    assert found.node == ""
    assert found.verdict.reason is (Reason.NO_AGENT if silent else Reason.NO_INTERFACE)
    assert D1 in found.verdict.message
