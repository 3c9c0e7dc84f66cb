"""The address holder: VIPs taken, kept, announced and released on the director's interface."""

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import pytest

from lvs_dr.agent.announcer import REFRESH_SECONDS, REPEAT_SECONDS
from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.agent.speaker import CONFLICT_SECONDS, AddressHolder
from lvs_dr.agent.wire import WireError
from lvs_dr.core.kernel import AddressConfig, AddressKey
from lvs_dr.core.ledger import Ledger, merge_speaker
from lvs_dr.core.reasons import Reason
from lvs_dr.vrrp.messages import Assignment, Role
from tests.contract.fake_kernel import FakeKernel

VIP, OTHER, VIP6 = "192.0.2.100", "192.0.2.101", "2001:db8::100"
HERE = AddressKey("eth0", VIP)
T = TypeVar("T")


class Segment:
    """A wire on which some addresses are in use by others."""

    def __init__(self) -> None:
        self.others: dict[str, str] = {}
        self.down: set[str] = set()
        self.probed: list[str] = []
        self.announced: list[str] = []
        self.while_probing: Callable[[], None] = lambda: None

    async def probe(self, interface: str, addresses: Collection[str]) -> dict[str, str]:
        """Tell who has them."""
        if interface in self.down:
            raise WireError(f"interface {interface}: Network is down")
        self.while_probing()
        self.probed += addresses
        return {address: self.others[address] for address in addresses if address in self.others}

    async def announce(self, interface: str, addresses: Collection[str]) -> None:
        """Note it."""
        if interface in self.down:
            raise WireError(f"interface {interface}: Network is down")
        self.announced += addresses


class Here:
    """Calls at once; a ledger in memory that may refuse to be written; a clock."""

    def __init__(self) -> None:
        self.current = Ledger("boot-1")
        self.broken = False
        self.now = 100.0
        self.written: list[Ledger] = []

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Call."""
        return function(*arguments)

    def save_held(self, held: Mapping[AddressKey, bool]) -> bool:
        """Write."""
        if self.broken:
            raise OSError("read-only")
        self.current = merge_speaker(self.current, held)
        self.written.append(self.current)
        return True


class Machine:
    """A director with its parts."""

    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.kernel.links["eth0"] = Interface(2, "eth0", "02:00:00:00:00:01", True, ("192.0.2.1/24", "2001:db8::1/64"))
        self.kernel.links["eth1"] = Interface(3, "eth1", "02:00:00:00:00:02", True, ("198.51.100.1/24",))
        self.segment = Segment()
        self.here = Here()
        self.holder = self.start()

    def start(self) -> AddressHolder:
        """Start the agent's holder (again)."""
        self.holder = AddressHolder(self.kernel, self.here, self.here, self.segment, clock=lambda: self.here.now)
        return self.holder

    def on(self, interface: str) -> set[str]:
        """Return the host addresses on an interface."""
        return {key.address for key in self.kernel.addresses if key.interface == interface}


@pytest.fixture
def machine() -> Machine:
    """One director."""
    return Machine()


async def test_a_vip_is_probed_for_added_and_announced(machine: Machine) -> None:
    """Clients would not find the VIP, or two machines would have it."""
    machine.segment.while_probing = lambda: _assert_absent(machine)
    state = await machine.holder.assign(Assignment("eth0", (VIP, VIP6)))
    assert state.held == (VIP, VIP6)
    assert state.role is Role.ACTIVE
    assert state.problems == ()
    assert machine.kernel.addresses[HERE] == AddressConfig(0)
    assert machine.kernel.addresses[AddressKey("eth0", VIP6)] == AddressConfig(0, deprecated=True)
    assert machine.segment.probed == [VIP, VIP6]
    assert machine.segment.announced == [VIP, VIP6]
    assert machine.here.current.held == (HERE, AddressKey("eth0", VIP6))


def _assert_absent(machine: Machine) -> None:
    assert not machine.on("eth0"), "added before anyone was asked"


async def test_an_address_in_use_is_not_taken_and_tried_again(machine: Machine) -> None:
    """A VIP that another machine has would break that machine, or never be served after it let go."""
    machine.segment.others[VIP] = "02:00:00:00:00:99"
    state = await machine.holder.assign(Assignment("eth0", (VIP, OTHER)))
    assert state.held == (OTHER,)
    assert [(one.address, one.reason) for one in state.problems] == [(VIP, Reason.ADDRESS_IN_USE)]
    assert "02:00:00:00:00:99" in state.problems[0].message
    machine.segment.others.clear()
    again = await machine.holder.assign(Assignment("eth0", (VIP, OTHER)))
    assert again.problems == state.problems, "probed again too soon"
    assert machine.segment.probed == [VIP, OTHER]
    machine.here.now += CONFLICT_SECONDS
    assert (await machine.holder.assign(Assignment("eth0", (VIP, OTHER)))).held == (VIP, OTHER)


async def test_a_restart_keeps_what_is_held_without_probing(machine: Machine) -> None:
    """An agent restart would drop the VIP, or take the answers of its own backends for a conflict."""
    await machine.holder.assign(Assignment("eth0", (VIP,)))
    fresh = machine.start()
    assert fresh.state().held == (VIP,)
    assert fresh.state().role is Role.ACTIVE
    machine.segment.probed.clear()
    assert (await fresh.assign(Assignment("eth0", (VIP,)))).held == (VIP,)
    assert machine.segment.probed == []


async def test_a_vanished_vip_is_put_back_and_announced(machine: Machine) -> None:
    """Somebody's `ip addr flush` would end the service."""
    await machine.holder.assign(Assignment("eth0", (VIP,)))
    machine.kernel.addresses.clear()
    machine.segment.announced.clear()
    machine.segment.probed.clear()
    assert (await machine.holder.assign(Assignment("eth0", (VIP,)))).held == (VIP,)
    assert machine.on("eth0") == {VIP}
    assert machine.segment.announced == [VIP]
    assert machine.segment.probed == []
    assert machine.holder.repairs == 1


async def test_release_happens_before_anything_is_taken(machine: Machine) -> None:
    """A VIP that moves to another interface would be on both."""
    await machine.holder.assign(Assignment("eth0", (VIP,)))
    machine.segment.while_probing = lambda: _assert_absent(machine)
    state = await machine.holder.assign(Assignment("eth1", (VIP,)))
    assert state.interface == "eth1"
    assert (machine.on("eth0"), machine.on("eth1")) == (set(), {VIP})
    released = await machine.holder.assign(Assignment(""))
    assert released.held == ()
    assert released.role is Role.INITIALIZE
    assert machine.on("eth1") == set()
    assert machine.here.current.holds_nothing


async def test_a_vip_that_cannot_be_released_counts_as_held(machine: Machine) -> None:
    """The controller would give it to another director, and both would answer."""
    await machine.holder.assign(Assignment("eth0", (VIP,)))
    machine.kernel.refuse = lambda _: 1
    state = await machine.holder.assign(Assignment("eth0"))
    assert state.held == (VIP,)
    assert [one.reason for one in state.problems] == [Reason.KERNEL_REFUSED]
    machine.kernel.refuse = lambda _: 0
    assert (await machine.holder.assign(Assignment("eth0"))).held == ()


async def test_an_address_found_there_is_taken_over_and_left_at_the_end(machine: Machine) -> None:
    """An administrator's own VIP would be removed with our VirtualService."""
    machine.kernel.addresses[HERE] = AddressConfig(0)
    assert (await machine.holder.assign(Assignment("eth0", (VIP,)))).held == (VIP,)
    assert machine.here.current.adopted_held == (HERE,)
    assert machine.segment.probed == []
    assert machine.segment.announced == [VIP]
    assert (await machine.start().assign(Assignment("eth0"))).held == ()
    assert machine.on("eth0") == {VIP}
    assert machine.here.current.holds_nothing


async def test_the_nodes_own_addresses_are_never_taken(machine: Machine) -> None:
    """The node would lose its own address when the VIP is released."""
    state = await machine.holder.assign(Assignment("eth0", ("192.0.2.1", "2001:db8::1", "198.51.100.1")))
    assert state.held == ()
    assert {one.reason for one in state.problems} == {Reason.RESERVED_ADDRESS}
    assert machine.kernel.journal == []


async def test_a_vip_on_lo_may_be_held_as_well(machine: Machine) -> None:
    """A director that is a real server of the VIP too could never be Active."""
    machine.kernel.addresses[AddressKey("lo", VIP)] = AddressConfig(254)
    assert (await machine.holder.assign(Assignment("eth0", (VIP,)))).held == (VIP,)
    await machine.holder.assign(Assignment("eth0"))
    assert machine.on("lo") == {VIP}


async def test_without_a_link_nothing_is_taken_blindly(machine: Machine) -> None:
    """A VIP would be taken without having been probed for."""
    machine.segment.down.add("eth0")
    state = await machine.holder.assign(Assignment("eth0", (VIP,)))
    assert state.held == ()
    assert [one.reason for one in state.problems] == [Reason.NO_INTERFACE]
    missing = await machine.holder.assign(Assignment("eth9", (VIP,)))
    assert [one.reason for one in missing.problems] == [Reason.NO_INTERFACE]
    machine.segment.down.clear()
    assert (await machine.holder.assign(Assignment("eth0", (VIP,)))).held == (VIP,)


async def test_paused_changes_nothing(machine: Machine) -> None:
    """A person working on a paused node would be fought."""
    await machine.holder.assign(Assignment("eth0", (VIP,)))
    machine.kernel.journal.clear()
    state = await machine.holder.assign(Assignment("eth0", (), paused=True))
    assert state.held == (VIP,)
    assert machine.kernel.journal == []


async def test_the_ledger_is_written_before_the_kernel(machine: Machine) -> None:
    """After a crash between the two nobody would know that the VIP is ours."""
    machine.here.broken = True
    with pytest.raises(OSError, match="read-only"):
        await machine.holder.assign(Assignment("eth0", (VIP,)))
    assert machine.on("eth0") == set()


async def test_a_refused_address_is_a_problem_of_its_own(machine: Machine) -> None:
    """One address that the kernel refuses would keep the others from being served."""
    machine.kernel.refuse = lambda op: 22 if op.key == HERE else 0
    state = await machine.holder.assign(Assignment("eth0", (VIP, OTHER)))
    assert state.held == (OTHER,)
    assert [one.address for one in state.problems] == [VIP]
    assert machine.here.current.held == (AddressKey("eth0", OTHER),)


async def test_announcements_repeat_then_refresh(machine: Machine) -> None:
    """A lost first announcement would leave clients with the old director's MAC."""
    await machine.holder.assign(Assignment("eth0", (VIP,)))
    counts = []
    for pause in (*REPEAT_SECONDS, REFRESH_SECONDS, REFRESH_SECONDS):
        machine.here.now += pause / 2
        await machine.holder._announcer.send_due()
        machine.here.now += pause / 2 + 0.001
        await machine.holder._announcer.send_due()
        counts.append(len(machine.segment.announced))
    assert counts == [2, 3, 4, 5, 6, 7]
    await machine.holder.assign(Assignment("eth0"))
    machine.here.now += REFRESH_SECONDS
    await machine.holder._announcer.send_due()
    assert len(machine.segment.announced) == 7, "announced after its release"


async def test_announce_on_demand_and_after_the_link_came_back(machine: Machine) -> None:
    """Clients that learnt a wrong MAC, or a switch that forgot, would wait for the next refresh."""
    await machine.holder.assign(Assignment("eth0", (VIP,)))
    await machine.holder.announce()
    assert machine.segment.announced == [VIP, VIP]
    link = machine.kernel.links["eth0"]
    for up in (False, True):
        machine.kernel.links["eth0"] = Interface(link.index, link.name, link.mac, up, link.addresses)
        await machine.holder.assign(Assignment("eth0", (VIP,)))
    assert machine.segment.announced == [VIP] * 3


async def test_a_failed_announcement_is_made_up_for(machine: Machine) -> None:
    """A link that was down for a moment would swallow the announcement for a minute."""
    await machine.holder.assign(Assignment("eth0", (VIP,)))
    machine.segment.down.add("eth0")
    await machine.holder.announce()
    machine.segment.down.clear()
    machine.here.now += 1.0
    await machine.holder._announcer.send_due()
    assert machine.segment.announced == [VIP, VIP]
