"""Which virtual router a VIP is in, and who is first for it: stable, spread evenly, and never two at once."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lvs_dr.core.director_group import VrrpSettings
from lvs_dr.core.indexing import IMPLICIT_GROUP, Kind
from lvs_dr.core.node import DirectorRole
from lvs_dr.core.objects import Invalid, Key, Node, Port
from lvs_dr.core.virtual_routers import priority
from tests.unit.core.clusters import D1, D2, S1, agent, converge, nodes, serving
from tests.unit.core.worlds import VIP, Objects, group, node, real_server, service

WEB = Key("shop", "web")


def role(objects: Objects, name: str) -> DirectorRole:
    """Return what a director was told."""
    found = objects.world.lvs_nodes[name].spec.director
    assert found is not None
    return found


def edit(objects: Objects, **vrrp: object) -> None:
    """Give the group of all directors other settings."""
    settings = VrrpSettings(**vrrp)  # type: ignore[arg-type]
    objects.put(group("default", node_selector=IMPLICIT_GROUP.node_selector, vrrp=settings))


def several(**vrrp: object) -> Objects:
    """Return a cluster with twelve consecutive VIPs."""
    objects = nodes(D1, D2)
    edit(objects, **vrrp)
    objects.put(real_server(S1))
    objects.put(*(service(f"v{at}", address=f"192.0.2.{100 + at}") for at in range(12)))
    converge(objects)
    return objects


def ids(objects: Objects) -> dict[str, int]:
    """Return the virtual router of each VIP, as the tables record it."""
    return {each.spec.address: each.spec.virtual_router_id for each in objects.world.tables.values()}


def test_vips_are_spread_evenly_and_each_director_is_first_for_its_share() -> None:
    """Else one director carries what several should."""
    objects = several(first_virtual_router_id=60, instances=2)
    assert Counter(ids(objects).values()) == {60: 6, 61: 6}
    first, second = ({each.id: each.priority for each in role(objects, name).vrrp.routers} for name in (D1, D2))
    assert first == {60: 250, 61: 245}
    assert second == {60: 245, 61: 250}
    told = [each for router in role(objects, D1).vrrp.routers for each in router.addresses]
    assert sorted(told) == sorted(ids(objects))
    assert role(objects, D1).addresses == tuple(f"192.0.2.{100 + at}" for at in range(12))


def test_services_of_one_vip_share_its_virtual_router() -> None:
    """A VIP in two virtual routers would be held by two directors."""
    objects = serving(service(), service("tls", ports=(Port(443),)), real_server(S1))
    edit(objects, instances=7)
    objects.put(service("more", ports=(Port(8080),)))
    converge(objects)
    assert ids(objects) == {VIP: 51}
    assert {each.spec.virtual_router_id for each in objects.world.tables.values()} == {51}


def test_more_instances_move_no_vip() -> None:
    """A director that is cut off from the API server would hold it in the old virtual router, another in the new."""
    objects = several(instances=2)
    before = ids(objects)
    edit(objects, instances=5)
    converge(objects)
    assert ids(objects) == before


def test_a_table_without_virtual_router_is_given_one_in_place() -> None:
    """It was written by an older version; its services go on."""
    objects = serving()
    record = objects.world.tables[WEB]
    objects.put(replace(record, generation=9, spec=replace(record.spec, virtual_router_id=0)))
    objects.settle()
    found = objects.world.tables[WEB]
    assert (found.uid, found.spec.virtual_router_id) == (record.uid, 51)
    assert role(objects, D1).addresses == (VIP,)


def test_a_table_that_was_lost_comes_back_in_its_virtual_router() -> None:
    """After more instances the address alone would say another one."""
    objects = several(instances=2)
    before = ids(objects)
    edit(objects, instances=5)
    converge(objects)
    for at in range(12):
        objects.change(Kind.DIRECTOR_TABLE, Key("shop", f"v{at}"), None)
    converge(objects)
    assert ids(objects) == before


@pytest.mark.parametrize("directors", [(D1,), (D1, D2)])
def test_other_ids_are_break_before_make(directors: tuple[str, ...]) -> None:
    """Routers with different ids do not hear each other: whoever has the VIP in the old one lets go first."""
    objects = serving(directors=directors)
    uid = objects.world.tables[WEB].uid
    edit(objects, first_virtual_router_id=90)
    objects.settle()
    for name in directors:
        assert role(objects, name).addresses == ()
    for name in directors:
        assert all(role(objects, each).addresses == () for each in directors)
        agent(objects, name)
        objects.settle()
    assert [(each.id, each.addresses) for each in role(objects, D1).vrrp.routers] == [(90, (VIP,))]
    converge(objects)
    assert objects.world.tables[WEB].uid == uid, "its services and connections stay"
    assert objects.world.lvs_nodes[D1].spec.releasing is None


def test_a_group_that_is_unreadable_goes_on_as_it_was() -> None:
    """A mistake in one object must move no VIP."""
    objects = several(first_virtual_router_id=60, instances=2, preempt=True, advertisement_interval_milliseconds=500)
    before = [role(objects, name) for name in (D1, D2)]
    known = objects.world.groups["default"]
    objects.change(Kind.DIRECTOR_GROUP, Key("", "default"), Invalid(known.meta, "no"))
    objects.settle()
    assert [role(objects, name) for name in (D1, D2)] == before


def test_a_node_gives_its_vips_away_when_it_is_cordoned() -> None:
    """`kubectl drain` is the planned hand-over: below 200 any other director takes over."""
    objects = serving()
    objects.put(replace(objects.world.nodes[D1], standby=True))
    objects.settle()
    assert role(objects, D1).vrrp.routers[0].priority == 150
    assert role(objects, D2).vrrp.routers[0].priority == 245
    objects.put(replace(objects.world.nodes[D1], vrrp_priority=7, standby=False))
    objects.settle()
    assert role(objects, D1).vrrp.routers[0].priority == 7


def directing(name: str, **given: object) -> Node:
    """Return a Node that directs."""
    return replace(node(name, "192.0.2.1"), **given)


@given(st.integers(1, 64), st.integers(0, 31))
def test_priorities_tell_directors_apart_and_stay_fit(count: int, router: int) -> None:
    """Equal ones would leave the choice to chance; one below 200 would be replaced at once."""
    names = tuple(f"d{at:02}" for at in range(count))
    found = [priority(directing(name), names, router) for name in names]
    assert all(200 <= each <= 250 for each in found)
    assert found.index(250) == router % count
    if count <= 51:
        assert len(set(found)) == count


@given(st.integers(2, 11), st.integers(2, 32))
def test_each_director_is_first_for_its_share(count: int, instances: int) -> None:
    """With as many virtual routers as directors each has one."""
    names = tuple(f"d{at:02}" for at in range(count))
    first = Counter(max(names, key=lambda name: priority(directing(name), names, at)) for at in range(instances))
    assert max(first.values()) - min(first.get(name, 0) for name in names) <= 1


def test_an_annotation_counts_instead() -> None:
    """Who knows which machine is stronger can say so."""
    names = (D1, D2)
    assert [priority(directing(D2, vrrp_priority=254), names, at) for at in (0, 1)] == [254, 254]
    assert priority(directing(D2, vrrp_priority=254, standby=True), names, 0) == 154
    assert priority(directing(D2, vrrp_priority=9, standby=True), names, 0) == 1
