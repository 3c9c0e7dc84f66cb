"""Who may claim which VIP: no editor of a namespace can take an address away from a node or from another service."""

from typing import Any

import pytest
from msgspec.structs import replace

from lvs_dr.core.claims import judge
from lvs_dr.core.decisions import Action
from lvs_dr.core.indexing import Kind
from lvs_dr.core.node_status import InterfaceReport
from lvs_dr.core.objects import Invalid, Key, Namespace, Port, Protocol, Selector, VirtualService
from lvs_dr.core.reasons import Reason
from lvs_dr.core.world import Cluster
from tests.unit.core.clusters import ADDRESSES, D1, D2, S1, S2, converge, nodes, serving
from tests.unit.core.worlds import VIP, Objects, group, node, real_server, service, status


def reason(objects: Objects, given: VirtualService) -> Reason:
    """Store the service and return the verdict's reason."""
    objects.put(given)
    return judge(objects.world, given).reason


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (VIP, Reason.ACCEPTED),
        ("192.0.2.11", Reason.RESERVED_ADDRESS),  # a node's own
        ("192.0.2.254", Reason.RESERVED_ADDRESS),  # a next hop
        ("192.0.2.0", Reason.RESERVED_ADDRESS),
        ("192.0.2.255", Reason.RESERVED_ADDRESS),
        ("10.96.0.10", Reason.RESERVED_ADDRESS),  # a Service
        ("192.0.2.77", Reason.RESERVED_ADDRESS),  # the API server
        ("192.0.2.78", Reason.RESERVED_ADDRESS),  # InternalIP of a node whose agent has not reported
        ("192.0.2.79", Reason.RESERVED_ADDRESS),  # a real server that is served
        ("198.51.100.1", Reason.ADDRESS_NOT_ALLOWED),
        ("2001:db8::1", Reason.ADDRESS_NOT_ALLOWED),
    ],
)
def test_an_address_that_belongs_to_something_is_no_vip(address: str, expected: Reason) -> None:
    """Else a namespace's editor can cut a node, a gateway or the API server off."""
    bare = real_server("bare", node_name="", addresses=("192.0.2.79",))
    objects = serving(service("held", address="192.0.2.99"), bare)
    objects.world = replace(
        objects.world, cluster=Cluster(service_ranges=("10.96.0.0/12",), api_addresses=("192.0.2.77",))
    )
    objects.put(node("unheard", "192.0.2.78"))
    objects.report(S1, replace(status("192.0.2.11"), next_hops=("192.0.2.254",)))
    assert reason(objects, service(address=address)) is expected


def test_allowed_addresses_of_the_group_count_instead_of_its_subnets() -> None:
    """The administrator's list is the rule where there is one."""
    objects = nodes(D1)
    objects.put(
        group(
            "default",
            node_selector=Selector((("lvs-operator.io/director", ""),)),
            allowed_addresses=("198.51.100.0/28",),
        )
    )
    assert reason(objects, service(address="198.51.100.3")) is Reason.ACCEPTED
    assert reason(objects, service(address="198.51.100.33")) is Reason.ADDRESS_NOT_ALLOWED
    assert reason(objects, service(address=VIP)) is Reason.ADDRESS_NOT_ALLOWED


def test_namespaces_that_the_group_does_not_serve_are_refused() -> None:
    """Else anybody who may create objects somewhere takes part in the site's addresses."""
    objects = nodes(D1)
    objects.put(
        group("other", allowed_addresses=("192.0.2.0/24",), allowed_namespaces=Selector((("lvs", "yes"),))),
        Namespace("shop", (("lvs", "yes"),)),
        Namespace("blog", ()),
    )
    assert reason(objects, service(director_group="other")) is Reason.ACCEPTED
    assert reason(objects, service(namespace="blog", director_group="other")) is Reason.NAMESPACE_NOT_ALLOWED
    assert reason(objects, service(namespace="unknown", director_group="other")) is Reason.NAMESPACE_NOT_ALLOWED


def test_an_unknown_group_is_named() -> None:
    """A typing mistake in directorGroup must not end in silence."""
    objects = nodes(D1)
    objects.put(service(director_group="dmz"))
    verdict = judge(objects.world, service(director_group="dmz"))
    assert (verdict.ok, verdict.reason) == (False, Reason.UNKNOWN_GROUP)
    assert "dmz" in verdict.message


def test_before_a_director_has_reported_nothing_is_accepted_and_the_message_says_what_to_do() -> None:
    """Nobody knows yet which addresses are allowed; the user must learn that a director is missing."""
    objects = Objects(node(S1, ADDRESSES[S1]), service())
    verdict = judge(objects.world, service())
    assert verdict.reason is Reason.NO_DIRECTOR
    assert "kubectl label node" in verdict.message
    objects.put(node(D1, ADDRESSES[D1], director=True))
    assert judge(objects.world, service()).reason is Reason.UNDECIDED


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"ports": (Port(443),)}, Reason.ACCEPTED),
        ({}, Reason.PORT_CLAIMED),
        ({"ports": (Port(443),), "namespace": "blog"}, Reason.ADDRESS_CLAIMED),
        ({"ports": (Port(443),), "director_group": "other"}, Reason.ADDRESS_CLAIMED),
    ],
)
def test_an_address_is_one_namespaces_and_one_groups_and_ports_are_shared_there(
    other: dict[str, Any], expected: Reason
) -> None:
    """Else two services steal each other's traffic."""
    objects = serving()
    objects.put(group("other", allowed_addresses=("192.0.2.0/24",)))
    older = {"created": "2001-01-01T00:00:00Z"}
    late = service("late", meta_=older, **other)  # age does not help against who holds it
    objects.put(late)
    verdict = judge(objects.world, late)
    assert verdict.reason is expected
    assert expected is Reason.ACCEPTED or "shop/web" in verdict.message


def test_a_free_address_goes_to_the_older_object_then_by_name() -> None:
    """Who gets it must not depend on which event came first."""
    objects = nodes(D1)
    young = service("a", meta_={"created": "2025-06-01T00:00:00Z"})
    old = service("z", meta_={"created": "2025-01-01T00:00:00Z"})
    twin = service("y", meta_={"created": "2025-06-01T00:00:00Z"})
    objects.put(young, old, twin)
    assert [judge(objects.world, each).ok for each in (young, old, twin)] == [False, True, False]
    objects.remove(Kind.VIRTUAL_SERVICE, "z", "shop")
    assert [judge(objects.world, each).ok for each in (young, twin)] == [True, False]


def test_an_older_object_that_is_refused_itself_stands_in_nobodys_way() -> None:
    """Else anybody can block an address for ever by asking for it from a namespace that is not allowed."""
    objects = nodes(D1)
    objects.put(
        group(
            "default",
            node_selector=Selector((("lvs-operator.io/director", ""),)),
            allowed_namespaces=Selector((("lvs", "yes"),)),
        ),
        Namespace("shop", (("lvs", "yes"),)),
        Namespace("blog", ()),
        service(namespace="blog", meta_={"created": "2001-01-01T00:00:00Z"}),
    )
    assert reason(objects, service()) is Reason.ACCEPTED


def test_who_holds_a_claim_keeps_it_when_rules_are_narrowed_or_a_subnet_vanishes() -> None:
    """A renumbered interface or an edited list must not take services down."""
    objects = serving()
    for name in (D1, D2):
        record = objects.world.lvs_nodes[name]
        assert record.status is not None
        moved = (InterfaceReport(name="eth0", addresses=("198.51.100.1/24",)),)
        objects.report(name, replace(record.status, interfaces=moved))
    changed = service(scheduler="wlc", meta_={"generation": 2})
    objects.put(changed)
    assert judge(objects.world, changed).ok
    decision = objects.compile_service(changed.meta.key)
    assert decision.spec is not None
    assert decision.spec.scheduler == "wlc"
    assert len(decision.spec.destinations) == 2


def test_a_vip_that_kubelet_took_for_a_node_address_is_still_a_vip() -> None:
    """Else the service refuses itself as soon as kubelet sees its VIP."""
    objects = serving()
    record = objects.world.nodes[D1]
    objects.put(replace(record, internal_addresses=(*record.internal_addresses, VIP)))
    assert judge(objects.world, service()).ok
    objects.put(service("tls", ports=(Port(443),)))
    assert judge(objects.world, service("tls", ports=(Port(443),))).ok
    converge(objects)
    role = objects.world.lvs_nodes[D1].spec.director
    assert role is not None
    assert role.internal_addresses == (ADDRESSES[D1],)


def test_an_unreadable_group_lets_what_it_serves_go_on_and_takes_nothing_new() -> None:
    """A bad object harms only itself."""
    objects = serving(group("other"), service(director_group="other"), real_server(S2), directors=())
    known = objects.world.nodes[D1]
    objects.put(replace(known, meta=replace(known.meta, labels=(("group", "other"),))))
    converge(objects)
    assert objects.world.tables[Key("shop", "web")].spec.destinations
    before = dict(objects.world.lvs_nodes)
    objects.change(Kind.DIRECTOR_GROUP, Key("", "other"), Invalid(group("other").meta, "spec.interface: no"))
    converge(objects)
    assert objects.world.lvs_nodes == before
    assert objects.decisions[Key("shop", "web")].accepted.ok
    assert reason(objects, service("new", address="192.0.2.101", director_group="other")) is Reason.UNKNOWN_GROUP


def test_a_group_that_is_deleted_by_mistake_tears_nothing_down() -> None:
    """`kubectl delete dg` while services run: they go on, the status says what is missing, deleting them cleans up."""
    objects = serving(group("other"), service(director_group="other"), real_server(S2), directors=())
    known = objects.world.nodes[D1]
    objects.put(replace(known, meta=replace(known.meta, labels=(("group", "other"),))))
    converge(objects)
    before = dict(objects.world.lvs_nodes)
    objects.remove(Kind.DIRECTOR_GROUP, "other")
    converge(objects)
    assert objects.world.lvs_nodes == before
    assert objects.decisions[Key("shop", "web")].accepted.reason is Reason.UNKNOWN_GROUP
    objects.remove(Kind.VIRTUAL_SERVICE, "web", "shop")
    converge(objects)
    assert objects.world.lvs_nodes[D1].spec.director is None
    assert objects.world.lvs_nodes[S2].spec.backend_addresses == ()


def test_a_refused_change_keeps_the_last_good_table() -> None:
    """A mistake in an edit must not take the service down."""
    objects = serving()
    before = objects.world.tables[Key("shop", "web")].spec
    objects.put(service(address="198.51.100.1", scheduler="wlc", meta_={"generation": 2}))
    decision = objects.compile_service(Key("shop", "web"))
    assert (decision.action, decision.accepted.reason) == (Action.KEEP, Reason.ADDRESS_NOT_ALLOWED)
    assert objects.world.tables[Key("shop", "web")].spec == before
    objects.put(replace(real_server(S1), weight=7))
    objects.compile_service(Key("shop", "web"))
    after = objects.world.tables[Key("shop", "web")].spec
    assert [each.weight for each in after.destinations] == [7, 100]
    assert (after.address, after.scheduler, after.service_generation) == (VIP, "rr", 1)
    assert S2 in ADDRESSES


def test_a_firewall_mark_is_one_services_in_a_group_and_family() -> None:
    """The kernel has one service for a mark, whatever the VIP: the second would take the first one's packets."""
    objects = serving(service("first", ports=(), firewall_mark=7), real_server(S1))
    rival = service("rival", ports=(), firewall_mark=7, address="192.0.2.101")
    assert reason(objects, rival) is Reason.MARK_CLAIMED
    assert reason(objects, replace(rival, firewall_mark=8)) is Reason.ACCEPTED
    objects.put(group("other"))
    elsewhere = replace(rival, director_group="other", meta=replace(rival.meta, key=Key("shop", "elsewhere")))
    assert reason(objects, elsewhere) is not Reason.MARK_CLAIMED
    objects.put(rival)
    objects.settle()
    assert Key("shop", "rival") not in objects.world.tables
    objects.remove(Kind.VIRTUAL_SERVICE, "first", "shop")
    converge(objects)
    assert objects.world.tables[Key("shop", "rival")].spec.firewall_mark == 7, "a mark that is free again is taken"


def test_a_free_firewall_mark_goes_to_the_older_service() -> None:
    """Whichever is compiled first."""
    objects = nodes(D1)
    older = service("older", ports=(), firewall_mark=7, meta_={"created": "2024-01-01T00:00:00Z"})
    younger = service("a", ports=(), firewall_mark=7, address="192.0.2.101")
    objects.put(younger, older)
    assert judge(objects.world, younger).reason is Reason.MARK_CLAIMED
    assert judge(objects.world, older).reason is Reason.ACCEPTED


def test_any_port_leaves_single_ports_to_other_services() -> None:
    """The kernel looks for the port first, so both have their packets; two services for any port cannot."""
    objects = serving(service("all", ports=(Port(0),)), real_server(S1))
    assert reason(objects, service("one", ports=(Port(443),))) is Reason.ACCEPTED
    second = service("second", ports=(Port(0),))
    assert reason(objects, second) is Reason.PORT_CLAIMED
    assert "any port of TCP" in judge(objects.world, second).message
    assert reason(objects, service("udp", ports=(Port(0, Protocol.UDP),))) is Reason.ACCEPTED
