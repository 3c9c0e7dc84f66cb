"""Which nodes direct, what they are told, and which one of them is Active by the reports."""

import pytest
from msgspec.structs import replace

from lvs_dr.core.active import active_for
from lvs_dr.core.directors import directors, prospects
from lvs_dr.core.indexing import Kind
from lvs_dr.core.node import FEATURE_CONNECTION_SYNC, FEATURE_VRRP, DirectorRole, PeerDirector, Releasing
from lvs_dr.core.node_status import Problem
from lvs_dr.core.objects import Operator, Requirement, Selector
from lvs_dr.core.reasons import Reason
from tests.unit.core.clusters import ADDRESSES, D1, D2, S1, S2, agent, converge, nodes, serving
from tests.unit.core.worlds import LATER, VIP, Objects, group, node, real_server, service, status


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


def active(objects: Objects) -> str:
    """Return the director that is Active for the VIP."""
    return active_for(objects.world, objects.world.tables[service().meta.key]).node


def test_every_director_programs_the_tables_and_is_told_the_vip() -> None:
    """The Backup must be warm, and must need nobody but its peers to take over."""
    objects = serving()
    assert role(objects, D1).tables == role(objects, D2).tables == ("shop/web",)
    (first,), (second,) = role(objects, D1).vrrp.routers, role(objects, D2).vrrp.routers
    assert (first.id, first.addresses, first.priority) == (51, (VIP,), 250)
    assert (second.id, second.addresses, second.priority) == (51, (VIP,), 245)
    assert objects.world.lvs_nodes[D1].spec.requires == (FEATURE_CONNECTION_SYNC, FEATURE_VRRP)
    assert objects.world.lvs_nodes[S1].spec.requires == ()


def test_directors_know_each_other() -> None:
    """A director without peers keeps its VIPs for good, and one that does not know them takes them for strangers."""
    objects = serving()
    assert role(objects, D1).vrrp.peers == (PeerDirector(D2, (ADDRESSES[D2],)),)
    objects.silence(D2, silent=True)
    objects.settle()
    assert role(objects, D1).vrrp.peers == (PeerDirector(D2, (ADDRESSES[D2],)),), "silent, and maybe Active"
    relabel(objects, D2)
    objects.settle()
    assert role(objects, D1).vrrp.peers == ()


def test_a_node_that_joins_is_told_the_vip_at_once() -> None:
    """VRRP sees to it that it does not hold it; nobody has to let go first."""
    objects = serving(directors=(D2,))
    relabel(objects, D1, **{"lvs-operator.io/director": ""})
    objects.settle()
    assert role(objects, D1).addresses == (VIP,)
    converge(objects)
    assert active(objects) == D2, "no preemption"


def test_a_vip_that_changes_groups_is_given_after_everybody_has_let_go() -> None:
    """Break before make: directors of two groups do not agree by VRRP, and would both answer."""
    objects = nodes(D1, D2)
    objects.put(group("other"), service(), real_server(S1))
    relabel(objects, S2, group="other")
    converge(objects)
    objects.put(replace(service(director_group="other"), meta=replace(service().meta, generation=2)))
    for name in (D1, D2):
        objects.settle()
        assert role(objects, S2).addresses == (), "the Backup could still take it over"
        assert role(objects, name).addresses == ()
        agent(objects, name)
    objects.settle()
    assert role(objects, S2).addresses == (VIP,)
    assert objects.world.lvs_nodes[D1].spec.releasing is None


def test_a_silent_holder_is_waited_for_until_its_node_is_deleted() -> None:
    """A node that cannot be asked may still answer for the VIP."""
    objects = nodes(D1, D2)
    objects.put(group("other"), service(), real_server(S1))
    relabel(objects, S2, group="other")
    converge(objects)
    objects.silence(D1, silent=True)
    objects.put(replace(service(director_group="other"), meta=replace(service().meta, generation=2)))
    objects.settle()
    for name in (D2, S2):
        agent(objects, name)
    objects.settle()
    assert role(objects, S2).addresses == ()
    objects.remove(Kind.NODE, D1)
    objects.settle()
    assert role(objects, S2).addresses == (), "its LVSNode could still be obeyed"
    objects.remove(Kind.LVS_NODE, D1)
    objects.settle()
    assert role(objects, S2).addresses == (VIP,)


def test_a_paused_backup_is_waited_for() -> None:
    """Its speaker goes on by what it was told: it may take the VIP over although it reports to have it not."""
    objects = nodes(D1, D2)
    objects.put(group("other"), service(), real_server(S1))
    relabel(objects, S2, group="other")
    converge(objects)
    known = objects.world.nodes[D2]
    objects.put(replace(known, meta=replace(known.meta, paused=True)))
    objects.put(replace(service(director_group="other"), meta=replace(service().meta, generation=2)))
    converge(objects)
    assert role(objects, S2).addresses == ()
    verdict = active_for(objects.world, objects.world.tables[service().meta.key]).verdict
    assert verdict.reason is Reason.WAITING_FOR_RELEASE
    assert "paused" in verdict.message
    objects.put(known)
    converge(objects)
    assert role(objects, S2).addresses == (VIP,)


def test_a_silent_director_holds_up_nothing_within_its_group() -> None:
    """A VirtualService that is deleted and made anew must not wait for a dead Backup."""
    objects = serving()
    objects.silence(D2, silent=True)
    objects.remove(Kind.VIRTUAL_SERVICE, "web", "shop")
    objects.settle()
    agent(objects, D1)
    objects.settle()
    assert objects.world.lvs_nodes[D2].spec.releasing is not None
    objects.put(service())
    objects.settle()
    assert role(objects, D1).addresses == (VIP,)


def test_a_lost_lvs_node_moves_nothing() -> None:
    """`kubectl delete lvsnode` by mistake: nothing is told before the agent has said what it holds."""
    objects = serving()
    before = objects.world.lvs_nodes[D1]
    assert before.status is not None
    objects.remove(Kind.LVS_NODE, D1)
    objects.settle()
    assert not objects.world.lvs_nodes[D1].spec.decided
    assert role(objects, D2).addresses == (VIP,)
    objects.report(D1, replace(before.status, observed_generation=0))
    objects.settle()
    made_anew = objects.world.lvs_nodes[D1].spec
    assert made_anew.releasing == Releasing(unknown=True)
    assert replace(made_anew, releasing=None) == before.spec
    agent(objects, D1)
    objects.settle()
    assert objects.world.lvs_nodes[D1].spec == before.spec


def test_a_lost_backup_may_take_a_vip_that_its_group_no_longer_has() -> None:
    """It still follows its old LVSNode while a new one is made: another group's directors wait for it."""
    objects = nodes(D1, D2)
    objects.put(group("other"), service(), real_server(S1))
    relabel(objects, S2, group="other")
    converge(objects)
    before = objects.world.lvs_nodes[D2].status
    assert before is not None
    objects.remove(Kind.LVS_NODE, D2)
    objects.settle()
    objects.report(D2, replace(before, observed_generation=0))
    objects.put(replace(service(director_group="other"), meta=replace(service().meta, generation=2)))
    for _ in range(2):
        objects.settle()
        agent(objects, D1)
    objects.settle()
    assert role(objects, S2).addresses == ()
    agent(objects, D2)
    objects.settle()
    assert role(objects, S2).addresses == (VIP,)


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


def test_the_active_is_who_reports_to_be() -> None:
    """The election is the directors' own; the controller only tells."""
    objects = serving()
    assert active(objects) == D1
    fail_over(objects)
    assert active(objects) == D2


def fail_over(objects: Objects) -> None:
    """Let D1 be told that D2 has taken over."""
    for name, state in ((D1, "Backup"), (D2, "Active")):
        known = objects.world.lvs_nodes[name].status
        assert known is not None
        routers = tuple(replace(each, state=state, since=LATER) for each in known.virtual_routers)
        held = (VIP,) if state == "Active" else ()
        objects.report(name, replace(known, virtual_routers=routers, held_addresses=held))
        objects.settle()


def both_active(objects: Objects) -> None:
    """Let D2 take over while D1 goes on to say that it is Active."""
    known = objects.world.lvs_nodes[D2].status
    assert known is not None
    routers = tuple(replace(each, state="Active", since=LATER) for each in known.virtual_routers)
    objects.report(D2, replace(known, virtual_routers=routers, held_addresses=(VIP,)))


def test_two_that_say_so_at_once_are_a_split_brain() -> None:
    """Clients reach one or the other: both must be named, and what to look at."""
    objects = serving()
    both_active(objects)
    found = active_for(objects.world, objects.world.tables[service().meta.key])
    assert found.verdict.reason is Reason.SPLIT_BRAIN
    assert D1 in found.verdict.message
    assert D2 in found.verdict.message
    assert "112" in found.verdict.message


@pytest.mark.parametrize("how", ["silent", "unconfirmed"])
def test_a_claim_that_is_out_of_date_gives_way(how: str) -> None:
    """A director that lost power cannot say that it was replaced: that is a takeover, not a split brain."""
    objects = serving()
    both_active(objects)
    (objects.silent if how == "silent" else objects.unconfirmed).add(D1)
    found = active_for(objects.world, objects.world.tables[service().meta.key])
    assert (found.node, found.verdict.ok) == (D2, True)


def test_an_active_that_stops_counts_until_it_is_replaced() -> None:
    """It keeps its VIPs until it hears its successor."""
    objects = serving()
    known = objects.world.lvs_nodes[D1].status
    assert known is not None
    leaving = tuple(replace(each, state="Releasing") for each in known.virtual_routers)
    objects.report(D1, replace(known, virtual_routers=leaving))
    assert active(objects) == D1
    both_active(objects)
    assert active(objects) == D2


@pytest.mark.parametrize("silent", [False, True])
def test_without_any_usable_director_the_verdict_says_why(silent: bool) -> None:  # noqa: FBT001
    """The user has to learn what to repair."""
    objects = nodes(D1)
    objects.report(D1, status(ADDRESSES[D1], observed_generation=2, director_interface=""))
    if silent:
        objects.silence(D1, silent=True)
    found = prospects(objects.world, "default")
    assert not found.ok
    assert found.reason is (Reason.NO_AGENT if silent else Reason.NO_INTERFACE)
    assert D1 in found.message


def test_nobody_active_names_what_keeps_the_directors_from_it() -> None:
    """Else the user sees only that nothing serves."""
    objects = serving(directors=(D1,))
    known = objects.world.lvs_nodes[D1].status
    assert known is not None
    faulty = tuple(replace(each, state="Initialize", faults=("eth0 has no carrier",)) for each in known.virtual_routers)
    objects.report(D1, replace(known, virtual_routers=faulty, held_addresses=()))
    found = active_for(objects.world, objects.world.tables[service().meta.key])
    assert (found.node, found.verdict.reason) == ("", Reason.NOBODY_ACTIVE)
    assert f"{D1}: eth0 has no carrier" in found.verdict.message
    problem = Problem(reason="IPVSUnavailable", message="no ip_vs")
    objects.report(D1, replace(known, virtual_routers=(), held_addresses=(), problems=(problem,)))
    found = active_for(objects.world, objects.world.tables[service().meta.key])
    assert found.verdict.reason is Reason.IPVS_UNAVAILABLE
