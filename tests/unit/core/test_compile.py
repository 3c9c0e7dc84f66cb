"""From what users wrote to what directors and backends are told."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lvs_dr.core.compile_node import compile_node
from lvs_dr.core.compile_table import compile_table
from lvs_dr.core.decisions import Action, Member, TableDecision
from lvs_dr.core.indexing import Kind
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.node_status import InterfaceReport
from lvs_dr.core.objects import Invalid, Key, Port, Protocol, RealServerState, Selector
from lvs_dr.core.own_tables import orphans
from lvs_dr.core.reasons import Reason
from lvs_dr.core.table import MAXIMUM_DESTINATIONS, TableDestination, TablePort
from tests.unit.core.clusters import ADDRESSES, D1, S1, S2, agent, converge, nodes, serving
from tests.unit.core.worlds import VIP, Objects, node, real_server, service, status

WEB = Key("shop", "web")


def destinations(objects: Objects, key: Key = WEB) -> list[tuple[str, str, int]]:
    """Return what the table sends to."""
    return [(each.real_server, each.address, each.weight) for each in objects.world.tables[key].spec.destinations]


def member(decision: TableDecision, name: str) -> Member:
    """Return one RealServer's part."""
    return next(each for each in decision.members if each.real_server.name == name)


def test_a_service_with_two_real_servers_becomes_a_table() -> None:
    """The README's example."""
    objects = serving(
        service(ports=(Port(443, Protocol.TCP, "tls"), Port(53, Protocol.UDP))), real_server(S1), real_server(S2)
    )
    spec = objects.world.tables[WEB].spec
    assert (spec.address, spec.scheduler, spec.director_group) == (VIP, "rr", "default")
    assert spec.ports == (TablePort(port=443, protocol=Protocol.TCP), TablePort(port=53, protocol=Protocol.UDP))
    assert spec.destinations == (
        TableDestination(real_server=S1, address="192.0.2.11", weight=100, node=S1),
        TableDestination(real_server=S2, address="192.0.2.12", weight=100, node=S2),
    )
    assert objects.world.lvs_nodes[S1].spec.backend_addresses == (VIP,)


def test_maintenance_sends_nothing_new_and_keeps_what_is_there() -> None:
    """Weight 0: existing connections live."""
    objects = serving(service(), real_server(S1, state=RealServerState.MAINTENANCE), real_server(S2, weight=3))
    assert destinations(objects) == [(S1, "192.0.2.11", 0), (S2, "192.0.2.12", 3)]


def test_a_destination_waits_until_its_node_carries_the_vip() -> None:
    """Before that the node would route the packet back: a loop."""
    objects = nodes(D1)
    objects.put(service(), real_server(S1))
    objects.settle()
    assert destinations(objects) == []
    assert member(objects.decisions[WEB], S1).verdict.reason is Reason.WAITING_FOR_BACKEND
    assert objects.world.lvs_nodes[S1].spec.backend_addresses == (VIP,)
    agent(objects, S1)
    objects.settle()
    assert destinations(objects) == [(S1, "192.0.2.11", 100)]


def test_a_machine_outside_the_cluster_enters_at_once() -> None:
    """Nobody reports for it; its owner has set it up."""
    objects = nodes(D1)
    objects.put(service(), real_server("nas", node_name="", addresses=("192.0.2.50", "2001:db8::50")))
    objects.settle()
    assert destinations(objects) == [("nas", "192.0.2.50", 100)]


def test_a_vip_leaves_a_backend_after_every_director_has_let_go_of_it() -> None:
    """Else a director sends to a node that does not take it."""
    objects = serving()
    objects.remove(Kind.REAL_SERVER, S1, "shop")
    objects.settle()
    assert destinations(objects) == [(S2, "192.0.2.12", 100)]
    assert objects.world.lvs_nodes[S1].spec.backend_addresses == (VIP,)
    agent(objects, D1)
    objects.settle()
    assert objects.world.lvs_nodes[S1].spec.backend_addresses == (VIP,)
    agent(objects, "d2")
    objects.settle()
    assert objects.world.lvs_nodes[S1].spec.backend_addresses == ()


@pytest.mark.parametrize(
    ("given", "expected", "hint"),
    [
        (real_server("x", node_name="ghost"), Reason.NODE_MISSING, "ghost"),
        (real_server("x", node_name="", addresses=("2001:db8::1",)), Reason.NO_ADDRESS, "IPv4"),
        (real_server("x", node_name="", addresses=("198.51.100.9",)), Reason.NOT_ON_LINK, "192.0.2.0/24"),
        (real_server("x", node_name="", addresses=(VIP,)), Reason.ADDRESS_IS_VIRTUAL, "shop/web"),
        (real_server("x", node_name="", addresses=("192.0.2.11",)), Reason.DUPLICATE_ADDRESS, S1),
        (real_server("x", node_name="mute"), Reason.NO_AGENT, "check the DaemonSet's pods"),
    ],
)
def test_a_real_server_that_cannot_be_used_is_left_out_with_what_to_do(given: Any, expected: Reason, hint: str) -> None:
    """It harms only itself, and the message helps."""
    objects = serving()
    objects.put(node("mute", "192.0.2.60"), given)
    objects.silence("mute", silent=True)
    converge_all_but_mute(objects)
    found = member(objects.decisions[WEB], "x").verdict
    assert (found.ok, found.reason) == (False, expected)
    assert hint in found.message
    assert [each[0] for each in destinations(objects)] == [S1, S2]


def converge_all_but_mute(objects: Objects) -> None:
    """Let all agents work but that of `mute`, which does not run."""
    for _ in range(4):
        objects.settle()
        for name in ADDRESSES:
            agent(objects, name)
    objects.settle()


def test_the_nodes_address_in_the_directors_subnet_is_taken() -> None:
    """Not the first one: the one that direct routing reaches."""
    objects = nodes(D1)
    two = (
        InterfaceReport(name="mgmt", addresses=("10.9.9.9/24",)),
        InterfaceReport(name="eth1", addresses=("192.0.2.61/24",)),
    )
    objects.report(S1, replace(status(), interfaces=two, director_interface=""))
    objects.put(service(), real_server(S1))
    converge(objects)
    assert destinations(objects) == [(S1, "192.0.2.61", 100)]
    moved = (InterfaceReport(name="eth1", addresses=("192.0.2.62/24",)),)
    record = objects.world.lvs_nodes[S1]
    assert record.status is not None
    objects.report(S1, replace(record.status, interfaces=moved))
    converge(objects)
    assert destinations(objects) == [(S1, "192.0.2.62", 100)]


def test_silence_and_drift_of_a_backend_withdraw_nothing() -> None:
    """An agent that restarts must not take its node out of service: health checks do that when there is need."""
    objects = serving()
    record = objects.world.lvs_nodes[S1]
    assert record.status is not None
    objects.report(S1, replace(record.status, loopback_addresses=(), interfaces=()))
    objects.silence(S1, silent=True)
    converge_all_but_mute(objects)
    objects.remove(Kind.LVS_NODE, S1)
    objects.settle()
    assert [each[0] for each in destinations(objects)] == [S1, S2]


def test_an_edit_of_a_real_server_that_cannot_be_used_keeps_it_as_it_was() -> None:
    """The last good state keeps serving."""
    objects = serving()
    objects.put(real_server(S1, addresses=("198.51.100.9",), weight=5))
    decision = objects.compile_service(WEB)
    assert member(decision, S1).verdict.reason is Reason.NOT_ON_LINK
    assert destinations(objects) == [(S1, "192.0.2.11", 5), (S2, "192.0.2.12", 100)]
    objects.change(Kind.REAL_SERVER, Key("shop", S2), Invalid(real_server(S2).meta, "spec.weight: no"))
    decision = objects.compile_service(WEB)
    assert member(decision, S2).verdict.reason is Reason.INVALID
    assert len(destinations(objects)) == 2


def test_no_more_destinations_than_a_table_takes_and_who_is_in_stays() -> None:
    """Else the whole table is refused by the API server."""
    objects = nodes(D1)
    late = [
        real_server(f"m{at:04}", node_name="", addresses=(f"192.0.{2 + at // 250}.{at % 250 + 1}",))
        for at in range(MAXIMUM_DESTINATIONS)
    ]
    wide = (InterfaceReport(name="eth0", addresses=("192.0.2.1/16",)),)
    record = objects.world.lvs_nodes[D1]
    assert record.status is not None
    objects.report(D1, replace(record.status, interfaces=wide))
    objects.put(service(address="192.0.200.1"), *late)
    for each in late[:20]:  # the nodes' own addresses are among the first ones
        objects.remove(Kind.REAL_SERVER, each.meta.key.name, "shop")
    objects.settle()
    count = len(destinations(objects))
    early = [
        real_server(f"a{at:04}", node_name="", addresses=(f"192.0.100.{at + 1}",))
        for at in range(MAXIMUM_DESTINATIONS - count + 3)
    ]
    objects.put(*early)
    objects.settle()
    names = [each[0] for each in destinations(objects)]
    assert len(names) == MAXIMUM_DESTINATIONS
    assert names == sorted(names)
    assert sum(name.startswith("m") for name in names) == count
    refused = [each for each in objects.decisions[WEB].members if each.verdict.reason is Reason.TOO_MANY_DESTINATIONS]
    assert len(refused) == 3


def test_an_unreadable_service_keeps_its_table() -> None:
    """A newer controller's field must not take the service down after a downgrade."""
    objects = serving()
    before = objects.world.tables[WEB].spec
    objects.change(Kind.VIRTUAL_SERVICE, WEB, Invalid(service().meta, "spec.ports: no"))
    decision = compile_table(objects.world, WEB)
    assert (decision.action, decision.spec, decision.accepted.reason) == (Action.KEEP, before, Reason.INVALID)
    converge(objects)
    assert objects.world.tables[WEB].spec == before


def test_a_table_without_its_service_is_deleted() -> None:
    """Also when the service was deleted and made anew while the controller was down."""
    objects = serving()
    assert orphans(objects.world) == ()
    objects.put(service(meta_={"uid": "another"}))
    assert orphans(objects.world) == (WEB,)
    assert compile_table(objects.world, WEB).action is Action.DELETE
    objects.remove(Kind.VIRTUAL_SERVICE, "web", "shop")
    assert orphans(objects.world) == (WEB,)
    assert compile_table(objects.world, WEB).action is Action.DELETE


def test_pause_reaches_table_and_node() -> None:
    """`lvs-operator.io/paused` must stop writes where it was set."""
    objects = serving()
    objects.put(service(meta_={"paused": True}))
    known = objects.world.nodes[S1]
    objects.put(replace(known, meta=replace(known.meta, paused=True)))
    objects.settle()
    assert objects.world.tables[WEB].spec.paused
    assert objects.world.lvs_nodes[S1].spec.paused


def test_nothing_is_decided_before_the_agent_has_reported() -> None:
    """A node whose LVSNode was lost must not read the new one as `clean up`."""
    objects = Objects(node(D1, ADDRESSES[D1], director=True))
    assert compile_node(objects.world, D1) == LVSNodeSpec()
    objects.compile_lvs_node(D1)
    assert compile_node(objects.world, D1) == LVSNodeSpec()
    objects.report(D1, status())
    spec = compile_node(objects.world, D1)
    assert spec is not None
    assert spec.decided
    assert compile_node(objects.world, "ghost") is None


def test_an_ipv6_service_uses_ipv6_addresses() -> None:
    """Dual stack is two services; each takes its family's addresses."""
    objects = nodes(D1)
    for name, number in ((D1, 1), (S1, 11)):
        record = objects.world.lvs_nodes[name]
        assert record.status is not None
        both = InterfaceReport(name="eth0", addresses=(f"192.0.2.{number}/24", f"2001:db8::{number:x}/64"))
        objects.report(name, replace(record.status, interfaces=(both,)))
    objects.put(service(address="2001:db8::100"), real_server(S1))
    converge(objects)
    assert destinations(objects) == [(S1, "2001:db8::b", 100)]


@given(st.randoms(use_true_random=False))
def test_the_order_in_which_objects_arrive_changes_nothing(dice: random.Random) -> None:
    """Else two controllers write different tables from the same objects, for ever."""
    objects = serving(
        service(),
        service("tls", ports=(Port(443),)),
        service("twin"),
        service("all", address="192.0.2.102", selector=Selector()),
        real_server(S1),
        real_server(S2),
        real_server("nas", node_name="", addresses=("192.0.2.50",)),
        real_server("nas2", node_name="", addresses=("192.0.2.50",)),
    )
    shuffled = Objects()
    shuffled.silent = objects.silent
    everything = [(kind, key, each) for kind, found in objects.by_kind.items() for key, each in found.items()]
    dice.shuffle(everything)
    for kind, key, each in everything:
        shuffled.change(kind, key if isinstance(key, Key) else Key("", key), each)
    for key in objects.world.virtual_services:
        assert compile_table(shuffled.world, key) == compile_table(objects.world, key)
        assert compile_table(objects.world, key).action is Action.KEEP
    for name in objects.world.nodes:
        assert compile_node(shuffled.world, name) == objects.world.lvs_nodes[name].spec
