"""A changed VIP: the new one is served completely before the old one goes, whatever the order of events."""

import random

import pytest
from msgspec.structs import replace

from lvs_dr.core.compile_table import compile_table
from lvs_dr.core.decisions import Action
from lvs_dr.core.events import events
from lvs_dr.core.indexing import IMPLICIT_GROUP, Kind
from lvs_dr.core.node_status import TableException
from lvs_dr.core.objects import Key, Port, VirtualService
from lvs_dr.core.own_tables import free_name, names, own_tables, possible_owners
from lvs_dr.core.reasons import Reason
from lvs_dr.core.summary import director_group_status, real_server_status, virtual_service_status
from tests.unit.core.clusters import D1, D2, S1, S2, agent, converge, down, serving, web_status
from tests.unit.core.machines import Machine
from tests.unit.core.worlds import LATER, NOW, VIP, Objects, group, node, real_server, service

WEB, SECOND = Key("shop", "web"), Key("shop", "web.2")
NEW, THIRD = "192.0.2.101", "192.0.2.102"


def changed(objects: Objects, address: str = NEW, **more: object) -> VirtualService:
    """Give `web` another VIP."""
    before = objects.world.virtual_services[WEB]
    assert isinstance(before, VirtualService)
    meta = replace(before.meta, generation=before.meta.generation + 1)
    after = replace(before, meta=meta, address=address, **more)
    objects.put(after)
    return after


def addresses(objects: Objects) -> dict[str, str]:
    """Return the VIP of each table, by name."""
    return {key.name: record.spec.address for key, record in sorted(objects.world.tables.items())}


def agents(objects: Objects, *but: str, times: int = 6) -> None:
    """Let controller and agents work, all agents but some."""
    for _ in range(times):
        objects.settle()
        for name in list(objects.world.lvs_nodes):
            if name not in but:
                agent(objects, name)
    objects.settle()


class TestTables:
    """Two tables, of which the former goes in the end."""

    def test_the_new_vip_replaces_the_old_one(self) -> None:
        """Nothing of the old VIP may stay on any node; and the next change goes the same way back."""
        objects = serving()
        before = objects.world.tables[WEB]
        changed(objects)
        objects.settle()
        assert addresses(objects) == {"web": VIP, "web.2": NEW}
        assert objects.world.tables[WEB] == before
        converge(objects)
        assert addresses(objects) == {"web.2": NEW}
        assert objects.world.lvs_nodes[S1].spec.backend_addresses == (NEW,)
        changed(objects, THIRD)
        objects.settle()
        assert addresses(objects) == {"web": THIRD, "web.2": NEW}
        converge(objects)
        assert addresses(objects) == {"web": THIRD}
        assert objects.world.lvs_nodes[D1].spec.director.tables == ("shop/web",)  # type: ignore[union-attr]

    @pytest.mark.parametrize("late", [D2, S2])
    def test_every_director_and_every_real_server_is_waited_for(self, late: str) -> None:
        """Clients would find fewer real servers behind the new VIP, or none after a takeover."""
        objects = serving()
        changed(objects)
        agents(objects, late)
        assert addresses(objects) == {"web": VIP, "web.2": NEW}
        converge(objects)
        assert addresses(objects) == {"web.2": NEW}

    @pytest.mark.parametrize("silent", [D2, S2])
    def test_a_silent_node_is_not_waited_for(self, silent: str) -> None:
        """A machine that is down would keep the old VIP for five minutes."""
        objects = serving()
        objects.silence(silent, silent=True)
        changed(objects)
        agents(objects, silent)
        assert objects.decisions[WEB].former is None

    def test_a_real_server_that_is_not_selected_any_more_is_not_waited_for(self) -> None:
        """An edit of VIP and selector in one would be held up by what it takes out."""
        objects = serving()
        objects.put(real_server(S2, meta_={"labels": {"pool": "other"}}))
        changed(objects)
        converge(objects)
        assert addresses(objects) == {"web.2": NEW}

    def test_a_real_server_that_is_still_checked_is_waited_for(self) -> None:
        """The new VIP would be held and answer with resets."""
        objects = serving()
        changed(objects)
        checking = tuple(TableException(reason="Checking", real_server=each) for each in (S1, S2))
        agents(objects, D1, D2)
        for _ in range(4):
            for name in (D1, D2):
                agent(objects, name, **{"web.2": checking})
            objects.settle()
        former = objects.decisions[WEB].former
        assert former is not None
        assert former.handover is not None
        assert former.handover.reason is Reason.CHECKING
        converge(objects)
        assert addresses(objects) == {"web.2": NEW}

    def test_a_new_vip_without_a_healthy_real_server_is_waited_for(self) -> None:
        """With the VIP the port was changed to one where nobody listens: the old one still works."""
        objects = serving()
        changed(objects, ports=(Port(81),))
        for _ in range(6):
            for name in (S1, S2):
                agent(objects, name)
            for name in (D1, D2):
                agent(objects, name, **{"web.2": (*down(S1), *down(S2))})
            objects.settle()
        assert addresses(objects) == {"web": VIP, "web.2": NEW}

    def test_it_does_not_wait_for_ever(self) -> None:
        """A new VIP that somebody else has would keep the old one for ever."""
        objects = serving()
        changed(objects)
        agents(objects, S2)
        objects.overdue.add(objects.world.tables[SECOND].uid)
        objects.compile_service(WEB)
        assert addresses(objects) == {"web.2": NEW}

    def test_a_paused_service_keeps_its_vip(self) -> None:
        """Agents do nothing for the new table while it is paused: nobody would serve either."""
        objects = serving()
        before = objects.world.virtual_services[WEB]
        objects.put(replace(before, meta=replace(before.meta, paused=True)))
        changed(objects)
        converge(objects)
        objects.overdue.add(objects.world.tables[SECOND].uid)
        objects.compile_service(WEB)
        assert addresses(objects) == {"web": VIP, "web.2": NEW}

    def test_going_back_keeps_the_old_table(self) -> None:
        """Who corrects a typing mistake must not pay for it with an outage."""
        objects = serving()
        uid = objects.world.tables[WEB].uid
        changed(objects)
        objects.settle()
        changed(objects, VIP)
        converge(objects)
        assert addresses(objects) == {"web": VIP}
        assert objects.world.tables[WEB].uid == uid
        assert objects.world.lvs_nodes[S1].spec.backend_addresses == (VIP,)

    def test_a_third_vip_replaces_the_second_while_the_first_serves(self) -> None:
        """Two changes in a row: the VIP that serves is kept, not the one that never came up."""
        objects = serving()
        changed(objects)
        objects.settle()
        changed(objects, THIRD)
        objects.settle()
        assert addresses(objects) == {"web": VIP, "web.3": THIRD}
        converge(objects)
        assert addresses(objects) == {"web.3": THIRD}

    def test_the_former_table_follows_its_real_servers(self) -> None:
        """One that is drained meanwhile would go on getting new connections."""
        objects = serving()
        changed(objects)
        agents(objects, S1)
        objects.put(real_server(S2, weight=7))
        agents(objects, S1)
        assert [each.weight for each in objects.world.tables[WEB].spec.destinations] == [100, 7]
        objects.remove(Kind.REAL_SERVER, S2, "shop")
        agents(objects, S1)
        assert [each.real_server for each in objects.world.tables[WEB].spec.destinations] == [S1]

    def test_a_new_real_server_enters_both_tables(self) -> None:
        """One that is added while a change waits for a director would serve nobody."""
        objects = serving(service(), real_server(S1))
        changed(objects)
        objects.put(real_server(S2))
        agents(objects, D2)
        for key in (WEB, SECOND):
            assert [each.real_server for each in objects.world.tables[key].spec.destinations] == [S1, S2]

    def test_the_active_director_must_hold_the_new_vip(self) -> None:
        """Its address may still be probed for, or be somebody else's."""
        objects = serving()
        changed(objects)
        for _ in range(6):
            objects.settle()
            for name in (S1, S2, D1, D2):
                agent(objects, name)
                status = objects.world.lvs_nodes[name].status
                assert status is not None
                held = tuple(each for each in status.held_addresses if each != NEW)
                objects.report(name, replace(status, held_addresses=held))
        objects.settle()
        assert addresses(objects) == {"web": VIP, "web.2": NEW}
        converge(objects)
        assert addresses(objects) == {"web.2": NEW}

    def test_a_refused_change_on_top_lets_the_first_one_finish(self) -> None:
        """The last good VIP is the one that was coming up."""
        objects = serving()
        changed(objects)
        objects.settle()
        changed(objects, "198.51.100.1")
        converge(objects)
        assert addresses(objects) == {"web.2": NEW}
        assert not objects.decisions[WEB].accepted.ok

    def test_all_goes_with_the_service(self) -> None:
        """A VIP of a service that is deleted in the middle of a change would be served for ever."""
        objects = serving()
        changed(objects)
        objects.settle()
        objects.remove(Kind.VIRTUAL_SERVICE, "web", "shop")
        converge(objects)
        assert not objects.world.tables
        assert objects.world.lvs_nodes[S1].spec.backend_addresses == ()


class TestClaims:
    """Who has which VIP meanwhile."""

    def test_nobody_else_gets_the_old_vip_before_its_table_is_gone(self) -> None:
        """Two services of one VIP and port would be programmed at once."""
        objects = serving()
        changed(objects)
        objects.settle()
        objects.put(service("rival", address=VIP, meta_={"created": "2025-02-01T00:00:00Z"}))
        objects.settle()
        verdict = objects.decisions[Key("shop", "rival")].accepted
        assert verdict.reason is Reason.PORT_CLAIMED
        assert "VirtualService shop/web:" in verdict.message
        converge(objects)
        assert addresses(objects) == {"rival": VIP, "web.2": NEW}

    def test_two_services_may_swap_names_with_dots(self) -> None:
        """A VirtualService that has the very name of another's second table is served, under another name."""
        objects = serving()
        changed(objects)
        converge(objects)
        objects.put(service("web.2", address=VIP))
        converge(objects)
        assert addresses(objects) == {"web.2": NEW, "web.2.2": VIP}
        assert objects.world.tables[Key("shop", "web.2.2")].owner == SECOND
        objects.remove(Kind.VIRTUAL_SERVICE, "web", "shop")
        converge(objects)
        assert addresses(objects) == {"web.2.2": VIP}

    def test_a_service_of_the_name_of_the_second_table_is_left_alone(self) -> None:
        """Its table would be overwritten."""
        objects = serving(service(), real_server(S1), real_server(S2), service("web.2", address=THIRD))
        changed(objects)
        converge(objects)
        assert addresses(objects) == {"web.2": THIRD, "web.3": NEW}

    def test_the_same_mark_is_taken_over_break_before_make(self) -> None:
        """A firewall mark is one IPVS service: two tables of it would fight."""
        objects = serving(service(firewall_mark=7, ports=()), real_server(S1), real_server(S2))
        changed(objects)
        assert compile_table(objects.world, WEB).action is Action.DELETE
        converge(objects)
        assert addresses(objects) == {"web": NEW}

    def test_the_same_vip_in_another_group_is_released_first(self) -> None:
        """Directors of two groups would both answer for it."""
        objects = serving()
        objects.put(group("other", allowed_addresses=("192.0.2.0/24",)))
        changed(objects, VIP, director_group="other")
        objects.compile_service(WEB)
        assert not objects.world.tables

    def test_names_are_within_their_bounds(self) -> None:
        """The API server refuses longer ones; then the table is replaced as best it can be."""
        assert [key.name for key in names(WEB)] == ["web", "web.2", "web.3", "web.4", "web.5"]
        long = Key("shop", "a" * 253)
        assert names(long) == (long,)
        assert possible_owners(SECOND) == (SECOND, WEB)
        assert possible_owners(WEB) == (WEB,)
        objects = serving()
        web = objects.world.virtual_services[WEB]
        assert isinstance(web, VirtualService)
        assert free_name(objects.world, web) == SECOND


class TestStatus:
    """What users read meanwhile."""

    def test_ready_stays_true_for_the_generation_that_is_served(self) -> None:
        """An alarm for a service that works; or `kubectl wait` that ends before the new VIP is served."""
        objects = serving()
        before = web_status(objects)
        changed(objects)
        agents(objects, S2)
        status = web_status(objects, before, LATER)
        accepted, programmed, ready = status.conditions[:3]
        assert (status.observed_generation, status.serving_generation, status.active_director) == (2, 1, D1)
        assert (accepted.status, accepted.observed_generation) == ("True", 2)
        assert programmed.observed_generation == 2
        assert (ready.status, ready.reason, ready.observed_generation) == ("True", "ChangingAddress", 1)
        assert ready.last_transition_time == NOW
        assert f"serving generation 1 at {VIP}" in ready.message
        assert f"report {NEW} on lo" in ready.message
        converge(objects)
        status = web_status(objects, status, LATER)
        assert (status.serving_generation, status.conditions[2].observed_generation) == (2, 2)
        assert status.conditions[2].reason == "Serving"

    def test_real_servers_and_groups_stay_what_they_are(self) -> None:
        """A RealServer that serves would be called unhealthy, and one VirtualService counted twice."""
        objects = serving()
        changed(objects)
        agents(objects, D1)
        key = Key("shop", S1)
        status = real_server_status(objects.world, key, objects.decisions, None, NOW)
        healthy = next(each for each in status.conditions if each.type == "Healthy")
        assert healthy.status == "True"
        objects.put(group("default", node_selector=IMPLICIT_GROUP.node_selector))
        assert director_group_status(objects.world, "default", None, NOW).virtual_services == 1

    def test_another_director_for_another_vip_is_no_takeover(self) -> None:
        """Who reads of a takeover looks for the director that failed."""
        objects = serving()
        before = web_status(objects)
        changed(objects)
        agents(objects, S2)
        changing = web_status(objects, before, LATER)
        assert events(before, changing) == ()
        converge(objects)
        after = replace(web_status(objects, changing, LATER), active_director=D2)
        (note,) = events(changing, after)
        assert (note.type, note.reason) == ("Normal", Reason.SERVING)

    def test_giving_up_is_said(self) -> None:
        """The old VIP goes, and nobody would know why."""
        objects = serving()
        changed(objects)
        agents(objects, S2)
        objects.overdue.add(objects.world.tables[SECOND].uid)
        decision = compile_table(objects.world, WEB)
        ready = virtual_service_status(objects.world, WEB, decision, None, NOW).conditions[2]
        assert (ready.status, ready.reason) == ("True", "GaveUpWaiting")
        assert f"{NEW} has not come up in 5 minutes" in ready.message


class Site:
    """Two directors and two real servers that serve one VIP, every step of theirs on its own."""

    def __init__(self, *, other_group: bool = False) -> None:
        self.objects = Objects(group("other"))
        self.machines: dict[str, Machine] = {}
        places = {"d1": "192.0.2.1", "d2": "192.0.2.2", "s1": "192.0.2.11", "s2": "192.0.2.12"}
        for name, address in places.items():
            self.machines[name] = Machine(name, address, self.machines)
            labels = {"group": "other"} if other_group and name == "d2" else {}
            director = name.startswith("d") and not labels
            self.objects.put(node(name, address, director=director, uid=f"node-{name}", labels=labels))
        self.objects.put(service("web"), real_server("s1"), real_server("s2"))
        self.rest()

    def rest(self) -> None:
        """Let everybody work until nothing changes."""
        for _ in range(30):
            self.objects.settle()
            for machine in self.machines.values():
                machine.turn(self.objects)
        self.objects.settle()

    def step(self, dice: random.Random) -> None:
        """Let the controller or one agent do one thing."""
        objects, machine = self.objects, dice.choice(list(self.machines.values()))
        steps = [machine.read_node, machine.read_tables, machine.report]
        match dice.randrange(8):
            case 0 | 1 if objects.services or objects.nodes:
                if objects.services and (dice.random() < 0.5 or not objects.nodes):
                    objects.compile_service(objects.services.pop())
                elif objects.nodes:
                    objects.compile_lvs_node(objects.nodes.pop())
            case 2:
                machine.apply()
            case 3:
                machine.look()
            case 4:
                machine.elect()
            case other:
                steps[other % 3](objects)

    def served(self, vip: str) -> bool:
        """Tell whether the director that holds the VIP sends it to both real servers; what it sends must arrive."""
        complete = False
        for machine in self.machines.values():
            sent = {entry.node for entry, address, _ in machine.sends_to() if address == vip}
            for name in sent:
                assert vip in self.machines[name].lo, f"{machine.name} sends {vip} to {name} in vain"
            complete = complete or (vip in machine.held and sent == {"s1", "s2"})
        return complete


@pytest.mark.parametrize("other_group", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_one_of_the_vips_is_served_at_every_moment(seed: int, other_group: bool) -> None:  # noqa: FBT001
    """A moment without either is an outage for everybody; the new one must answer before the old one stops."""
    site, dice = Site(other_group=other_group), random.Random(seed)
    assert site.served(VIP)
    more = {"director_group": "other"} if other_group else {}
    changed(site.objects, NEW, **more)
    for _ in range(600):
        site.step(dice)
        assert site.served(VIP) or site.served(NEW)
    site.rest()
    assert site.served(NEW)
    assert addresses(site.objects) == {"web.2": NEW}
    for machine in site.machines.values():
        assert VIP not in machine.lo | machine.held


@pytest.mark.parametrize("seed", range(10))
def test_a_table_that_is_lost_after_a_change_comes_back_under_its_name(seed: int) -> None:
    """Directors would take down what they know by the second name while they learn of the first."""
    site, dice = Site(), random.Random(seed)
    changed(site.objects)
    site.rest()
    site.objects.change(Kind.DIRECTOR_TABLE, SECOND, None)
    if seed % 2:
        for name in site.machines:
            site.objects.remove(Kind.LVS_NODE, name)
    site.objects.everything()
    for _ in range(200):
        site.step(dice)
        assert site.served(NEW)
    site.rest()
    assert addresses(site.objects) == {"web.2": NEW}
    assert own_tables(site.objects.world, site.objects.world.virtual_services[WEB])
