"""What `kubectl describe directorgroup` says of the election, and which Events tell of it."""

import pytest
from msgspec.structs import replace

from lvs_dr.core.conditions import find
from lvs_dr.core.decisions import EventType
from lvs_dr.core.director_group import VrrpSettings
from lvs_dr.core.indexing import IMPLICIT_GROUP
from lvs_dr.core.node_status import InterfaceReport
from lvs_dr.core.objects import Key
from lvs_dr.core.reasons import Reason
from lvs_dr.core.status import DirectorGroupStatus
from lvs_dr.core.summary import director_group_status, events
from tests.unit.core.clusters import ADDRESSES, D1, D2, S1, S2, agent, converge, nodes, serving, web_status
from tests.unit.core.worlds import LATER, NOW, VIP, Objects, group, real_server, service, status


def site(*directors: str, **vrrp: object) -> Objects:
    """Return a cluster that serves two VIPs by a DirectorGroup."""
    objects = nodes(*(directors or (D1, D2)))
    settings = VrrpSettings(**vrrp)  # type: ignore[arg-type]
    objects.put(group("default", node_selector=IMPLICIT_GROUP.node_selector, vrrp=settings))
    objects.put(service(), service("two", address="192.0.2.101"), real_server(S1), real_server(S2))
    converge(objects)
    return objects


def told(objects: Objects, previous: DirectorGroupStatus | None = None, name: str = "default") -> DirectorGroupStatus:
    """Return the group's status."""
    return director_group_status(objects.world, name, previous, LATER if previous else NOW)


def condition(found: DirectorGroupStatus, type_: str) -> tuple[str, str, str]:
    """Return status, reason and message of a condition."""
    each = find(found.conditions, type_)
    assert each is not None
    return each.status.value, each.reason, each.message


def say(objects: Objects, name: str, state: str, id_: int = 51, **changes: object) -> None:
    """Let a director report a state of one virtual router, and hold its VIPs accordingly."""
    known = objects.world.lvs_nodes[name]
    assert known.status is not None
    assert known.spec.director is not None
    routers = tuple(
        replace(each, state=state, **({"since": LATER, "reason": "no advert was heard"} | changes))
        if each.id == id_
        else each
        for each in known.status.virtual_routers
    )
    active = {each.id for each in routers if each.state == "Active"}
    held = [each for router in known.spec.director.vrrp.routers if router.id in active for each in router.addresses]
    objects.report(name, replace(known.status, virtual_routers=routers, held_addresses=tuple(held)))


def test_a_group_with_one_active_director() -> None:
    """Who is Active, for how many VIPs, since when."""
    found = told(site())
    assert (found.directors, found.active, found.active_since, found.virtual_services) == ((D1, D2), D1, NOW, 2)
    (router,) = found.virtual_routers
    assert (router.id, router.family, router.active, router.addresses, router.message) == (51, 4, D1, 2, "elected")
    assert condition(found, "Elected") == ("True", "Elected", f"{D1} holds 2 VIPs")
    assert condition(found, "PeersHeard")[:2] == ("True", "PeersHeard")
    assert condition(found, "VirtualRouterIDsUnique")[:2] == ("True", "Unique")


def test_several_virtual_routers_name_all_who_are_active() -> None:
    """`kubectl get directorgroups` must not show one and hide the other."""
    objects = site(instances=2)
    say(objects, D1, "Backup", 52, active_source=ADDRESSES[D2])
    say(objects, D2, "Active", 52)
    found = told(objects)
    assert (found.active, found.active_since) == (f"{D1},{D2}", LATER)
    assert [(each.id, each.active) for each in found.virtual_routers] == [(51, D1), (52, D2)]
    assert condition(found, "Elected")[2] == f"{D1} holds 1 VIP, {D2} holds 1 VIP"


def test_a_split_brain_is_named_on_group_and_services() -> None:
    """Both directors, and what to open for them to hear each other."""
    objects = site()
    say(objects, D2, "Active")
    found = told(objects)
    for type_, reason in (("Elected", "SplitBrain"), ("PeersHeard", "PeersNotHeard")):
        assert condition(found, type_)[:2] == ("False", reason)
        assert all(word in condition(found, type_)[2] for word in (D1, D2, "protocol 112"))
    ready = find(web_status(objects).conditions, "Ready")
    assert ready is not None
    assert (ready.status.value, ready.reason) == ("False", "SplitBrain")


def test_a_backup_that_hears_nothing_is_named() -> None:
    """It is about to take over a VIP that is held."""
    objects = site()
    say(objects, D2, "Backup", active_source="")
    status_, reason, message = condition(told(objects), "PeersHeard")
    assert (status_, reason) == ("False", "PeersNotHeard")
    assert D2 in message
    assert "unicast" in message


def test_one_director_is_alone() -> None:
    """Nothing is wrong, and nobody takes over."""
    found = told(site(D1))
    assert condition(found, "PeersHeard")[:2] == ("True", "Alone")


def test_a_silent_active_is_unknown_until_another_takes_over() -> None:
    """It may serve or not; that another one reports to be Active settles it."""
    objects = site()
    objects.silence(D1, silent=True)
    assert condition(told(objects), "Elected")[:2] == ("Unknown", "AgentSilent")
    assert condition(told(objects), "PeersHeard")[:2] == ("Unknown", "AgentSilent")
    say(objects, D2, "Active")
    assert condition(told(objects), "Elected") == ("True", "Elected", f"{D2} holds 2 VIPs")
    assert web_status(objects).active_director == D2


def test_a_vip_that_the_active_lacks_is_told() -> None:
    """The group has elected, and yet one VIP answers to nobody."""
    objects = site()
    known = objects.world.lvs_nodes[D1].status
    assert known is not None
    objects.report(D1, replace(known, held_addresses=(VIP,)))
    status_, reason, message = condition(told(objects), "Elected")
    assert (status_, reason) == ("False", "WaitingForDirector")
    assert "192.0.2.101" in message


def test_without_vips_there_is_nothing_to_elect() -> None:
    """`kubectl wait --for=condition=Elected` on a new group must not wait for the first VirtualService."""
    objects = nodes(D1, D2)
    objects.put(group("default", node_selector=IMPLICIT_GROUP.node_selector))
    converge(objects)
    found = told(objects)
    assert condition(found, "Elected")[:2] == ("True", "NoVIP")
    assert condition(found, "PeersHeard")[:2] == ("Unknown", "NoVIP")
    assert (found.active, found.active_since, found.virtual_routers) == ("", "", ())


@pytest.mark.parametrize(
    ("subnet", "first", "reason"),
    [
        ("192.0.2.0", 51, "VRIDConflict"),
        ("192.0.2.0", 52, "VRIDConflict"),
        ("192.0.2.0", 53, "Unique"),
        ("198.51.100.0", 51, "Unique"),
    ],
)
def test_groups_on_one_network_need_ids_of_their_own(subnet: str, first: int, reason: str) -> None:
    """Their directors would obey each other's adverts."""
    objects = site(instances=2)
    objects.put(group("other", vrrp=VrrpSettings(first_virtual_router_id=first)))
    known = objects.world.nodes[S2]
    objects.put(replace(known, meta=replace(known.meta, labels=(("group", "other"), *known.meta.labels))))
    there = (InterfaceReport("eth0", (f"{subnet[:-1]}12/24",)),)
    objects.report(S2, replace(status(ADDRESSES[S2]), interfaces=there))
    for name, other in (("default", "other"), ("other", "default")):
        status_, found, message = condition(told(objects, name=name), "VirtualRouterIDsUnique")
        assert (status_, found) == ("True" if reason == "Unique" else "False", reason)
        assert (other in message) is (reason == "VRIDConflict")


def test_a_stranger_on_the_wire_is_told() -> None:
    """A keepalived with the same id moves VIPs about."""
    objects = site()
    say(objects, D2, "Backup", active_source=ADDRESSES[D1], conflicts=("192.0.2.77 advertises other addresses",))
    status_, reason, message = condition(told(objects), "VirtualRouterIDsUnique")
    assert (status_, reason) == ("False", "VRIDConflict")
    assert all(word in message for word in (D2, "192.0.2.77", "firstVirtualRouterID"))


def test_a_priority_that_is_none_is_told() -> None:
    """A typo in an annotation must not look as if it had worked."""
    objects = site()
    assert find(told(objects).conditions, "AnnotationsAccepted") is None
    dirty = objects.put(replace(objects.world.nodes[D2], refused_priority="high"))
    assert dirty.groups == {"default"}
    status_, reason, message = condition(told(objects), "AnnotationsAccepted")
    assert (status_, reason) == ("False", "Invalid")
    assert all(word in message for word in (D2, "'high'", "1 to 254"))


def test_a_takeover_is_an_event_on_group_and_service() -> None:
    """With the old one, the new one and the reason: what the person on call asks first."""
    objects = site()
    before, web_before = told(objects), web_status(objects)
    say(objects, D1, "Backup", active_source=ADDRESSES[D2])
    say(objects, D2, "Active")
    after, web_after = told(objects, before), web_status(objects, web_before)
    (note,) = events(before, after)
    assert (note.type, note.reason) == (EventType.NORMAL, Reason.TOOK_OVER)
    assert all(word in note.message for word in (D1, D2, "51", "no advert was heard"))
    (note,) = events(web_before, web_after)
    assert note.reason is Reason.TOOK_OVER
    assert all(word in note.message for word in (D1, D2, "no advert was heard"))
    assert events(after, after) == events(web_after, web_after) == ()


def test_the_loss_of_every_active_is_a_warning() -> None:
    """Nobody answers for the VIPs any more."""
    objects = site()
    before = told(objects)
    say(objects, D1, "Initialize", faults=("eth0 has no carrier",))
    say(objects, D2, "Backup", active_source="")
    notes = events(before, told(objects, before))
    assert {note.type for note in notes} == {EventType.WARNING}
    assert any("no carrier" in note.message for note in notes)


def test_a_takeover_concerns_the_services_of_its_virtual_router() -> None:
    """Else a failover of one share compiles all the others."""
    objects = site(instances=2)
    objects.services.clear()
    objects.nodes.clear()
    known = objects.world.lvs_nodes[D2].status
    assert known is not None
    routers = tuple(replace(each, state="Active") if each.id == 52 else each for each in known.virtual_routers)
    dirty = objects.report(D2, replace(known, virtual_routers=routers))
    assert (dirty.services, dirty.nodes, dirty.groups) == ({Key("shop", "two")}, frozenset(), {"default"})


def test_an_address_of_each_family_is_elected_apart() -> None:
    """IPv4 may fail over while IPv6 does not."""
    objects = serving()
    six = (InterfaceReport("eth0", ("192.0.2.1/24", "2001:db8::1/64")),)
    objects.put(group("default", node_selector=IMPLICIT_GROUP.node_selector, allowed_addresses=("2001:db8::/64",)))
    objects.report(D1, replace(status(), interfaces=six))
    objects.put(service("six", address="2001:db8::100"))
    converge(objects)
    assert [(each.id, each.family, each.active) for each in told(objects).virtual_routers] == [
        (51, 4, D1),
        (51, 6, D1),
    ]
    agent(objects, D1)
