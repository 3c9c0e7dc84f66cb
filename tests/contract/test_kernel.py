"""What every `Kernel` does, the fake one of the tests and the real one alike."""

import itertools

import pytest

from lvs_dr.agent.kernel.protocol import Kernel
from lvs_dr.core.arp_settings import ARP_KEYS, ARP_RULES
from lvs_dr.core.desired import Desired, loopback_config
from lvs_dr.core.destinations import Destinations
from lvs_dr.core.kernel import (
    AddressConfig,
    AddressKey,
    AddressOp,
    DestinationConfig,
    DestinationKey,
    DestinationOp,
    KernelState,
    Op,
    RouteKey,
    RouteOp,
    ServiceConfig,
    ServiceKey,
    ServiceOp,
    SysctlKey,
    SysctlOp,
    Verb,
)
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.plan import plan
from lvs_dr.core.reasons import Reason
from lvs_dr.core.scope import IPVS, LO_ALONE
from lvs_dr.core.unread import completed

PLAIN = ServiceConfig("wlc")
PLAIN6 = ServiceConfig("wlc", prefix_length=128)
MISSING = SysctlKey(("ipv4", "conf", "nosuchdevice", "arp_ignore"))
ALL_IGNORE = SysctlKey(("ipv4", "conf", "all", "arp_ignore"))

_numbers = itertools.count(1)


def fresh(protocol: int = 6, *, v6: bool = False) -> ServiceKey:
    """Return a service nobody uses yet."""
    number = next(_numbers)
    return ServiceKey(f"2001:db8:1::{number:x}" if v6 else f"198.51.100.{number}", 443, protocol, 0, 10 if v6 else 2)


def inside(service: ServiceKey, host: int = 21) -> DestinationKey:
    """Return a destination of a service."""
    return DestinationKey(service, f"2001:db8::{host}" if service.family == 10 else f"192.0.2.{host}", service.port)


def read(kernel: Kernel, *addresses: str) -> KernelState:
    """Read everything."""
    return kernel.read(frozenset(addresses), IPVS)


@pytest.mark.parametrize("protocol", [6, 17, 132])
@pytest.mark.parametrize("v6", [False, True])
def test_services_and_destinations_read_back_as_written(kernel: Kernel, protocol: int, v6: bool) -> None:  # noqa: FBT001
    """Every pass would see a difference and write it again."""
    key = fresh(protocol, v6=v6)
    config = PLAIN6 if v6 else PLAIN
    setting = DestinationConfig(100, upper=50, lower=10)
    ops: list[Op] = [ServiceOp(Verb.ADD, key, config), DestinationOp(Verb.ADD, inside(key), setting)]
    assert kernel.apply(ops) == ()
    state = read(kernel)
    assert state.services[key] == config
    assert state.destinations[inside(key)] == setting
    assert state.connections[inside(key)] == 0
    assert inside(key) not in state.templates


def test_remembered_clients_are_counted_where_there_is_persistence(kernel: Kernel) -> None:
    """A drain would end while clients are still brought back."""
    key = fresh()
    ops: list[Op] = [
        ServiceOp(Verb.ADD, key, ServiceConfig("rr", timeout_seconds=300)),
        DestinationOp(Verb.ADD, inside(key), DestinationConfig(1)),
    ]
    assert kernel.apply(ops) == ()
    assert read(kernel).templates[inside(key)] == 0


@pytest.mark.parametrize(
    "scheduler", ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"]
)
def test_schedulers(kernel: Kernel, scheduler: str) -> None:
    """A scheduler that the API offers could not be used."""
    key = fresh()
    assert kernel.apply([ServiceOp(Verb.ADD, key, ServiceConfig(scheduler))]) == ()
    assert read(kernel).services[key].scheduler == scheduler


def test_a_missing_scheduler_is_named_and_harms_nothing_else(kernel: Kernel) -> None:
    """One VirtualService with a scheduler that this kernel lacks would stop all others."""
    bad, good = fresh(), fresh()
    ops: list[Op] = [
        ServiceOp(Verb.ADD, bad, ServiceConfig("nosuch")),
        DestinationOp(Verb.ADD, inside(bad), DestinationConfig(1)),
        ServiceOp(Verb.ADD, good, PLAIN),
        DestinationOp(Verb.ADD, inside(good), DestinationConfig(1)),
    ]
    failures = kernel.apply(ops)
    assert [(failure.op, failure.reason) for failure in failures] == [
        (ops[0], Reason.SCHEDULER_UNAVAILABLE),
        (ops[1], Reason.KERNEL_REFUSED),
    ]
    state = read(kernel)
    assert bad not in state.services
    assert state.destinations[inside(good)].weight == 1


def test_a_scheduler_that_cannot_be_changed_to_leaves_the_old_one(kernel: Kernel) -> None:
    """A VirtualService edited to a missing scheduler would stop serving."""
    key = fresh()
    kernel.apply([ServiceOp(Verb.ADD, key, PLAIN)])
    failures = kernel.apply([ServiceOp(Verb.SET, key, ServiceConfig("nosuch"))])
    assert [failure.reason for failure in failures] == [Reason.SCHEDULER_UNAVAILABLE]
    assert read(kernel).services[key] == PLAIN


def test_editing_changes_in_place(kernel: Kernel) -> None:
    """A changed weight or scheduler would drop the service's connections, or other settings."""
    key = fresh()
    kernel.apply(
        [
            ServiceOp(Verb.ADD, key, PLAIN),
            DestinationOp(Verb.ADD, inside(key), DestinationConfig(5)),
            DestinationOp(Verb.ADD, inside(key, 22), DestinationConfig(7, upper=9)),
        ]
    )
    edited = ServiceConfig("rr", timeout_seconds=360, prefix_length=24)
    ops: list[Op] = [ServiceOp(Verb.SET, key, edited), DestinationOp(Verb.SET, inside(key), DestinationConfig(0))]
    assert kernel.apply(ops) == ()
    state = read(kernel)
    assert state.services[key] == edited
    assert state.destinations[inside(key)] == DestinationConfig(0)
    assert state.destinations[inside(key, 22)] == DestinationConfig(7, upper=9)


def test_what_is_there_or_gone_already_is_no_failure(kernel: Kernel) -> None:
    """Two writers that agree would make every pass fail."""
    key = fresh()
    service, destination = ServiceOp(Verb.ADD, key, PLAIN), DestinationOp(Verb.ADD, inside(key), DestinationConfig(1))
    address = AddressOp(Verb.ADD, AddressKey("lo", key.address), AddressConfig(254))
    route = RouteOp(Verb.ADD, RouteKey(key.address))
    six = AddressOp(Verb.ADD, AddressKey("lo", "2001:db8:2::1"), AddressConfig(0, deprecated=True))
    route6 = RouteOp(Verb.ADD, RouteKey("2001:db8:2::1"))
    adding: list[Op] = [route, address, route6, six, service, destination]
    removing: list[Op] = [op._replace(verb=Verb.DELETE) for op in reversed(adding)]
    assert kernel.apply(removing) == ()
    assert kernel.apply(adding) == ()
    assert kernel.apply(adding) == ()
    assert kernel.apply(removing) == ()
    assert kernel.apply(removing) == ()
    state = read(kernel)
    assert key not in state.services
    assert not {address.key, six.key} & state.addresses.keys()
    assert not {route.key, route6.key} & state.routes


def test_removing_a_service_takes_its_destinations(kernel: Kernel) -> None:
    """The plan relies on it when somebody removes a service under our feet."""
    key = fresh()
    kernel.apply([ServiceOp(Verb.ADD, key, PLAIN), DestinationOp(Verb.ADD, inside(key), DestinationConfig(1))])
    assert kernel.apply([ServiceOp(Verb.DELETE, key)]) == ()
    assert inside(key) not in read(kernel).destinations


def test_a_mark_without_packets_is_silent(kernel: Kernel) -> None:
    """A VirtualService by firewall mark would look ready although nobody marks its packets."""
    marks = [ServiceKey("", 0, 0, 4711, family) for family in (2, 10)]
    port = fresh()
    ops = [ServiceOp(Verb.ADD, key, PLAIN6 if key.family == 10 else PLAIN) for key in (*marks, port)]
    assert kernel.apply(ops) == ()
    state = read(kernel)
    assert set(marks) <= state.silent_marks
    assert port not in state.silent_marks
    assert kernel.apply([ServiceOp(Verb.DELETE, key) for key in marks]) == ()
    assert not set(marks) & read(kernel).silent_marks


def test_destinations_of_some_services_can_be_left_out(kernel: Kernel) -> None:
    """With hundreds of services one change would wait for a read of them all."""
    known, asked = fresh(), fresh()
    setting = DestinationConfig(100)
    for key in (known, asked):
        assert kernel.apply([ServiceOp(Verb.ADD, key, PLAIN), DestinationOp(Verb.ADD, inside(key), setting)]) == ()
    state = kernel.read(frozenset(), IPVS._replace(unread={known}))
    assert state.services.keys() >= {known, asked}
    assert known not in state.destinations.groups
    assert known not in state.connections.groups
    assert state.destinations[inside(asked)] == setting
    assert completed(state, read(kernel), {known}) == read(kernel)


def test_the_size_of_the_connection_table_is_told(kernel: Kernel) -> None:
    """Nobody would see that a busy director has too small a table."""
    assert read(kernel).ipvs_slots >= 256
    assert kernel.read(frozenset(), LO_ALONE).ipvs_slots == 0


def test_editing_what_is_absent_is_a_failure(kernel: Kernel) -> None:
    """A change that did not happen would be reported as done."""
    key = fresh()
    failures = kernel.apply(
        [ServiceOp(Verb.SET, key, PLAIN), DestinationOp(Verb.SET, inside(key), DestinationConfig(1))]
    )
    assert len(failures) == 2


def test_ipvs_is_left_alone_where_it_is_not_asked_for(kernel: Kernel) -> None:
    """A plain backend would load ip_vs and read a table that is not its own."""
    key = fresh()
    kernel.apply([ServiceOp(Verb.ADD, key, PLAIN)])
    assert not kernel.read(frozenset(), LO_ALONE).services


def test_vips_on_lo(kernel: Kernel) -> None:
    """A VIP on lo must be as the plan wants it, or every pass writes it again."""
    four, six = AddressKey("lo", "198.51.100.200"), AddressKey("lo", "2001:db8:1::200")
    ops = [AddressOp(Verb.ADD, key, loopback_config(key.address)) for key in (four, six)]
    assert kernel.apply(ops) == ()
    state = read(kernel)
    assert state.addresses[four] == AddressConfig(254)
    assert state.addresses[six] == AddressConfig(0, deprecated=True)
    assert AddressKey("lo", "127.0.0.1") not in state.addresses
    assert kernel.apply([AddressOp(Verb.SET, six, AddressConfig(0))]) == ()
    assert read(kernel).addresses[six] == AddressConfig(0)
    assert kernel.apply([AddressOp(Verb.DELETE, key) for key in (four, six)]) == ()
    assert not {four, six} & read(kernel).addresses.keys()


def test_vips_on_the_directors_interface(kernel: Kernel) -> None:
    """The holder of a VIP would not see that it vanished, or would see other people's addresses."""
    four, six = AddressKey("eth0", "198.51.100.201"), AddressKey("eth0", "2001:db8:1::201")
    for key in (four, six):
        assert kernel.apply([AddressOp(Verb.ADD, key, AddressConfig(0, deprecated=":" in key.address))]) == ()
    state = read(kernel, four.address, six.address)
    assert state.addresses[four] == AddressConfig(0)
    assert state.addresses[six] == AddressConfig(0, deprecated=True)
    assert four not in read(kernel).addresses
    told = {interface.name: interface for interface in kernel.interfaces()}
    assert f"{four.address}/32" in told["eth0"].addresses
    for key in (four, six):
        assert kernel.apply([AddressOp(Verb.DELETE, key)]) == ()
        assert kernel.apply([AddressOp(Verb.DELETE, key)]) == ()
    assert not {four, six} & read(kernel, four.address, six.address).addresses.keys()


def test_an_interface_that_is_gone_is_a_failure(kernel: Kernel) -> None:
    """A VIP would be reported as held on an interface that does not exist."""
    key = AddressKey("nosuch0", "198.51.100.202")
    [failure] = kernel.apply([AddressOp(Verb.ADD, key, AddressConfig(0))])
    assert failure.reason == Reason.KERNEL_REFUSED
    assert kernel.apply([AddressOp(Verb.DELETE, key)]) == ()


def test_guard_routes(kernel: Kernel) -> None:
    """A backend that loses its VIP would route packets back to the director."""
    keys = [RouteKey("198.51.100.203"), RouteKey("2001:db8:1::203")]
    assert kernel.apply([RouteOp(Verb.ADD, key) for key in keys]) == ()
    assert set(keys) <= read(kernel).routes
    assert kernel.apply([RouteOp(Verb.DELETE, key) for key in keys]) == ()
    assert not set(keys) & read(kernel).routes


def test_sysctls(kernel: Kernel) -> None:
    """ARP settings could not be read, written or polled."""
    assert kernel.read(frozenset(), LO_ALONE).sysctls.keys() == set(ARP_KEYS)
    before = kernel.read_sysctls()[ALL_IGNORE]
    assert kernel.apply([SysctlOp(Verb.SET, ALL_IGNORE, "1")]) == ()
    assert kernel.read_sysctls()[ALL_IGNORE] == "1"
    assert kernel.apply([SysctlOp(Verb.SET, ALL_IGNORE, before)]) == ()
    failures = kernel.apply([SysctlOp(Verb.SET, MISSING, "1")])
    assert [failure.reason for failure in failures] == [Reason.KERNEL_REFUSED]


def test_a_vip_is_not_put_on_lo_after_a_failed_setting(kernel: Kernel) -> None:
    """A backend would answer ARP for the VIP and take the clients away from the director."""
    four, six = AddressKey("lo", "198.51.100.204"), AddressKey("lo", "2001:db8:1::204")
    failures = kernel.apply(
        [
            SysctlOp(Verb.SET, MISSING, "1"),
            AddressOp(Verb.ADD, four, AddressConfig(254)),
            AddressOp(Verb.ADD, six, AddressConfig(0, deprecated=True)),
        ]
    )
    assert [failure.op.key for failure in failures] == [MISSING, four]
    state = read(kernel)
    assert four not in state.addresses
    assert six in state.addresses
    kernel.apply([AddressOp(Verb.DELETE, six)])


def test_the_surroundings_of_a_node(kernel: Kernel) -> None:
    """The controller could not tell a VIP from a node's own address or gateway."""
    told = {interface.name: interface for interface in kernel.interfaces()}
    assert told["eth0"].up
    assert told["eth0"].mac
    assert set(told["eth0"].addresses) == {"192.0.2.1/24", "2001:db8::1/64"}
    assert "192.0.2.254" in kernel.next_hops()
    assert kernel.boot_id()


def test_a_plan_is_reached_and_undone_exactly(kernel: Kernel) -> None:
    """What the plan promises would hold on the fake only."""
    mine, theirs = fresh(), fresh()
    vips = ("198.51.100.210", "2001:db8:1::210")
    foreign: list[Op] = [
        ServiceOp(Verb.ADD, theirs, ServiceConfig("rr", timeout_seconds=300)),
        DestinationOp(Verb.ADD, inside(theirs), DestinationConfig(3)),
        DestinationOp(Verb.ADD, inside(theirs, 99), DestinationConfig(4)),
        AddressOp(Verb.ADD, AddressKey("lo", vips[1]), AddressConfig(0)),
    ]
    assert kernel.apply(foreign) == ()
    before = read(kernel)
    wanted = Desired(
        services={mine: PLAIN, theirs: PLAIN},
        destinations=Destinations.of([(inside(mine), DestinationConfig(1)), (inside(theirs), DestinationConfig(100))]),
        addresses={AddressKey("lo", vip): loopback_config(vip) for vip in vips},
        routes=frozenset(RouteKey(vip) for vip in vips),
        sysctls={rule.key: rule for rule in ARP_RULES},
    )
    made = plan(wanted, before, Ledger("boot"))
    assert kernel.apply(made.ops) == ()
    reached = read(kernel)
    assert plan(wanted, reached, made.ledger).ops == ()
    assert reached.destinations[inside(theirs, 99)] == DestinationConfig(4)
    assert kernel.apply(plan(Desired(), reached, made.ledger).ops) == ()
    assert read(kernel) == before
