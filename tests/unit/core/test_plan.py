"""Decisions of the agent, case by case: loop guard, health, drain, pauses, claims, order."""

from lvs_dr.core.arp_settings import arp_repairs
from lvs_dr.core.desired import desired, in_service, loopback_addresses, reserved_addresses
from lvs_dr.core.health import CheckKey, Health
from lvs_dr.core.kernel import (
    AddressConfig,
    AddressKey,
    AddressOp,
    DestinationConfig,
    DestinationOp,
    KernelState,
    RouteKey,
    RouteOp,
    ServiceConfig,
    ServiceOp,
    SysctlKey,
    SysctlOp,
    Verb,
)
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.node_status import InterfaceReport
from lvs_dr.core.objects import OnFailure
from lvs_dr.core.reasons import Reason
from lvs_dr.core.scope import IPVS, LO_ALONE
from tests.unit.core.plan_cases import CHECK, EMPTY, RIPS, VIPS, Node, destination, director, service, table

VIP, OTHER_VIP, VIP6 = VIPS
RIP, OTHER_RIP, THIRD_RIP = RIPS[4]
ALL_IGNORE = SysctlKey(("ipv4", "conf", "all", "arp_ignore"))
BACKEND = LVSNodeSpec(decided=True, backend_addresses=(VIP,))


def health(*down: str, up: tuple[str, ...] = (), port: int = 8443) -> dict[CheckKey, Health]:
    """Return a view in which some are down and some are up."""
    view = {CheckKey(rip, port, CHECK): Health.DOWN for rip in down}
    return view | {CheckKey(rip, port, CHECK): Health.UP for rip in up}


def test_a_director_gets_services_before_destinations() -> None:
    """The kernel refuses a destination without its service."""
    node = Node()
    made = node.follow(director(), {"a/web": table(ports=(80, 8443))})
    kinds = [type(op) for op in made.ops]
    assert kinds == [ServiceOp, ServiceOp, *[DestinationOp] * 4]
    assert set(node.kernel.services) == {service(port=80), service()}
    assert node.kernel.destinations[destination(RIP)] == DestinationConfig(100)


def test_a_backend_is_silent_and_guarded_before_it_has_the_vip() -> None:
    """A VIP that answers ARP, or without the guard route, takes traffic away or loops it."""
    node = Node()
    made = node.follow(BACKEND)
    kinds = [type(op) for op in made.ops]
    assert kinds == [SysctlOp] * 4 + [RouteOp, AddressOp]
    assert node.kernel.addresses == {AddressKey("lo", VIP): AddressConfig(254)}
    gone = node.follow(EMPTY)
    assert [type(op) for op in gone.ops] == [AddressOp, RouteOp, *[SysctlOp] * 4]


def test_an_ipv6_backend_needs_no_arp_settings() -> None:
    """Settings that are not needed would be changed on the node."""
    node = Node()
    made = node.follow(LVSNodeSpec(decided=True, backend_addresses=(VIP6,)))
    assert [type(op) for op in made.ops] == [RouteOp, AddressOp]
    assert node.kernel.addresses == {AddressKey("lo", VIP6): AddressConfig(0, deprecated=True)}


def test_a_vip_stays_off_lo_when_arp_cannot_be_silenced() -> None:
    """Every backend would answer ARP for the VIP, and the director would lose its clients."""
    node = Node()
    node.kernel.read_only = {ALL_IGNORE}
    node.follow(BACKEND)
    assert AddressKey("lo", VIP) not in node.kernel.addresses
    node.kernel.sysctls.clear()  # not even readable
    made = node.follow(BACKEND)
    assert made.blocked == (VIP,)
    assert AddressKey("lo", VIP) not in node.kernel.addresses


def test_a_failed_guard_route_keeps_only_its_own_vip_off_lo() -> None:
    """One refused route would stop the other VIPs, or leave a VIP without its guard."""
    node = Node()
    node.kernel.refuse = lambda op: 12 if isinstance(op, RouteOp) and op.key.address == VIP else 0
    node.follow(LVSNodeSpec(decided=True, backend_addresses=(VIP, OTHER_VIP)))
    assert set(node.kernel.addresses) == {AddressKey("lo", OTHER_VIP)}


def test_a_stricter_arp_setting_is_left_alone() -> None:
    """An administrator's stricter setting would be weakened."""
    node = Node()
    node.kernel.sysctls[ALL_IGNORE] = "2"
    node.follow(BACKEND)
    assert node.kernel.sysctls[ALL_IGNORE] == "2"


def test_only_safe_vips_are_reported_on_lo() -> None:
    """The director would send packets to a node that answers ARP or lacks the guard."""
    wanted = desired(BACKEND, {}, {}, Ledger("b"), held=frozenset(), reserved={})
    node = Node()
    node.apply(wanted)
    complete = node.kernel.read(frozenset(), LO_ALONE)
    assert loopback_addresses(wanted, complete) == (VIP,)
    node.kernel.routes.clear()
    assert loopback_addresses(wanted, node.kernel.read(frozenset(), LO_ALONE)) == ()
    node.kernel.routes.add(RouteKey(VIP))
    node.kernel.sysctls[ALL_IGNORE] = "0"
    drifted = node.kernel.read(frozenset(), LO_ALONE)
    assert loopback_addresses(wanted, drifted) == ()
    assert arp_repairs(wanted.sysctls, drifted.sysctls) == (SysctlOp(Verb.SET, ALL_IGNORE, "1"),)


def test_a_director_that_serves_balances_only_while_it_holds_the_vip() -> None:
    """Two such directors would send a packet back and forth until its TTL ends."""
    node, tables = Node(), {"a/web": table()}
    node.follow(director(backend=(VIP,)), tables)
    assert not node.kernel.services
    node.follow(director(backend=(VIP,)), tables, held=(VIP,))
    assert service() in node.kernel.services
    node.kernel.connections[destination(RIP)] = 9
    node.follow(director(backend=(VIP,)), tables)
    assert not node.kernel.services


def test_a_failed_destination_is_removed_at_once() -> None:
    """New connections would go to a dead real server while old ones are waited for."""
    node, tables = Node(), {"a/web": table(check=CHECK)}
    node.follow(director(), tables, health(up=(RIP, OTHER_RIP)), held=(VIP,))
    node.kernel.connections[destination(RIP)] = 5
    node.follow(director(), tables, health(RIP, up=(OTHER_RIP,)), held=(VIP,))
    assert set(node.kernel.destinations) == {destination(OTHER_RIP)}


def test_a_failed_destination_is_quiesced_where_asked() -> None:
    """Live connections would be cut although the user chose Quiesce."""
    node, tables = Node(), {"a/web": table(check=CHECK, on_failure=OnFailure.QUIESCE)}
    node.follow(director(), tables, health(up=(RIP, OTHER_RIP)))
    node.follow(director(), tables, health(RIP, up=(OTHER_RIP,)))
    assert node.kernel.destinations[destination(RIP)].weight == 0
    assert node.kernel.destinations[destination(OTHER_RIP)].weight == 100


def test_someone_elses_destination_is_never_removed_for_its_health() -> None:
    """An adopted destination could not be put back as found."""
    node = Node()
    node.kernel.services[service()] = ServiceConfig("wlc")
    node.kernel.destinations[destination(RIP)] = DestinationConfig(7)
    node.follow(director(), {"a/web": table(check=CHECK)}, health(RIP, OTHER_RIP))
    assert node.kernel.destinations == {destination(RIP): DestinationConfig(0)}
    node.follow(EMPTY)
    node.follow(EMPTY)
    assert node.kernel.services == {service(): ServiceConfig("wlc")}
    assert node.kernel.destinations == {destination(RIP): DestinationConfig(7)}


def test_an_unchecked_destination_changes_nothing_in_the_kernel() -> None:
    """A restarted agent would withdraw real servers until their first check, or add dead ones."""
    node, tables = Node(), {"a/web": table(check=CHECK)}
    node.follow(director(), tables, health(up=(RIP,)))
    assert set(node.kernel.destinations) == {destination(RIP)}
    made = node.follow(director(), tables, {})
    assert made.ops == ()
    assert in_service(tables.values(), node.kernel.read(frozenset(), IPVS)) == {CheckKey(RIP, 8443, CHECK)}


def test_maintenance_keeps_live_connections() -> None:
    """Weight 0 must stay in the table."""
    node = Node()
    node.follow(director(), {"a/web": table(rips={RIP: 0, OTHER_RIP: 5})})
    assert node.kernel.destinations == {
        destination(RIP): DestinationConfig(0),
        destination(OTHER_RIP): DestinationConfig(5),
    }


def test_real_servers_are_exchanged_without_an_empty_moment() -> None:
    """New connections between the two would be refused."""
    node = Node()
    node.follow(director(), {"a/web": table(rips=(RIP,))})
    made = node.follow(director(), {"a/web": table(rips=(OTHER_RIP,))})
    assert [op.verb for op in made.ops] == [Verb.ADD, Verb.DELETE]


def test_a_paused_node_and_an_undecided_one_are_left_as_they_are() -> None:
    """A person working on the node would be fought; a re-created LVSNode would tear it down."""
    node = Node()
    node.follow(director(), {"a/web": table()})
    node.kernel.flush_ipvs()
    assert node.follow(director(paused=True), {}).ops == ()
    assert node.follow(director(decided=False), {}).ops == ()
    assert node.follow(LVSNodeSpec(), {}).ops == ()
    assert node.follow(director(), {"a/web": table()}).ops


def test_a_paused_table_is_left_as_it_is_and_others_are_not() -> None:
    """A pause would stop more, or less, than the one VirtualService."""
    node = Node()
    tables = {"a/web": table(), "b/mail": table(OTHER_VIP, ports=(25,))}
    node.follow(director(), tables)
    del node.kernel.destinations[destination(RIP)]
    node.kernel.flush_ipvs()
    node.kernel.services[service()] = ServiceConfig("wlc")
    node.follow(director(), tables | {"a/web": table(paused=True, ports=(80,))})
    assert node.kernel.services[service()] == ServiceConfig("wlc")
    assert service(port=80) not in node.kernel.services
    assert service(OTHER_VIP, 25) in node.kernel.services
    node.follow(director(), tables)
    assert node.kernel.services[service()] == ServiceConfig("rr")
    assert destination(RIP) in node.kernel.destinations


def test_a_table_that_cannot_be_read_keeps_its_entries() -> None:
    """A newer controller would take a service down through an older agent that has no earlier version of it."""
    node = Node()
    node.follow(director(), {"a/web": table()})
    wanted = desired(director(), {}, {}, node.ledger, held=frozenset(), reserved={}, unreadable=frozenset({VIP}))
    assert node.plan(wanted).ops == ()


def test_an_address_of_the_node_is_never_taken_as_a_vip() -> None:
    """A VirtualService would take the node's own address, gateway or broadcast address away from it."""
    reports = (InterfaceReport("eth0", ("192.0.2.100/24", "2001:db8::7/64")),)
    reserved = reserved_addresses(reports, ("192.0.2.1",))
    assert set(reserved) == {"192.0.2.100", "192.0.2.0", "192.0.2.255", "192.0.2.1", "2001:db8::7"}
    node = Node()
    made = node.follow(director(backend=(VIP,)), {"a/web": table()}, held=(VIP,), reserved=reserved)
    assert made.ops == ()
    wanted = desired(director(backend=(VIP,)), {"a/web": table()}, {}, node.ledger, held=frozenset(), reserved=reserved)
    assert {(refusal.reason, refusal.table) for refusal in wanted.refusals} == {
        (Reason.RESERVED_ADDRESS, ""),
        (Reason.RESERVED_ADDRESS, "a/web"),
    }


def test_a_vip_that_serves_is_not_revoked_by_a_later_claim() -> None:
    """A router or interface that appears later would take a serving VIP down."""
    node = Node()
    node.follow(BACKEND)
    assert node.follow(BACKEND, reserved={VIP: "this node's own address on eth1"}).ops == ()


def test_two_tables_with_one_port_do_not_fight() -> None:
    """Two tables would change the same service in every pass."""
    tables = {"a/web": table(), "b/web": table(scheduler="wlc")}
    node = Node()
    node.follow(director(), tables)
    assert node.kernel.services == {service(): ServiceConfig("rr")}
    assert node.follow(director(), tables).ops == ()
    wanted = desired(director(), tables, {}, node.ledger, held=frozenset(), reserved={})
    assert [(refusal.reason, refusal.table) for refusal in wanted.refusals] == [(Reason.PORT_CLAIMED, "b/web")]


def test_foreign_entries_are_named() -> None:
    """An administrator would not learn that someone else's entry is in the way."""
    node = Node()
    node.kernel.services[service(OTHER_VIP)] = ServiceConfig("rr")
    node.kernel.services[service()] = ServiceConfig("rr")
    node.kernel.destinations[destination(THIRD_RIP)] = DestinationConfig(1)
    node.kernel.addresses[AddressKey("lo", OTHER_VIP)] = AddressConfig(0)
    made = node.follow(director(), {"a/web": table()})
    assert made.foreign == (service(OTHER_VIP), destination(THIRD_RIP), AddressKey("lo", OTHER_VIP))


def test_an_empty_node_stays_untouched() -> None:
    """A node without any role would be written to."""
    node = Node()
    made = node.follow(EMPTY)
    assert made.ops == ()
    assert made.ledger == Ledger("boot-1")
    assert loopback_addresses(desired(EMPTY, {}, {}, made.ledger, held=frozenset(), reserved={}), KernelState()) == ()
