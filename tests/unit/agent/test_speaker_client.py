"""The agent's side of the speaker: VIPs handed over, kept and taken back; a speaker that is away, hangs or refuses."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lvs_dr.agent import speaker_link
from lvs_dr.agent.admission import CONFLICT_SECONDS
from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.agent.speaker_client import SpeakerClient
from lvs_dr.core.kernel import AddressConfig, AddressKey, AddressOp, Verb
from lvs_dr.core.reasons import Reason
from lvs_dr.vrrp.messages import Assignment, RouterAssignment, RouterKey, SpeakerState
from tests.contract.fake_kernel import FakeKernel
from tests.unit.agent.speaker_process import SpeakerProcess
from tests.unit.agent.wires import Segment

VIP, OTHER, VIP6 = "192.0.2.100", "192.0.2.101", "2001:db8::100"
PEER, PEER_MAC, STRANGER = "192.0.2.2", "02:00:00:00:00:22", "02:00:00:00:00:99"
HERE = AddressKey("eth0", VIP)
T = TypeVar("T")


def routers(*addresses: str, fault: str = "", priority: int = 250) -> tuple[RouterAssignment, ...]:
    """Return the virtual router 51 with these VIPs."""
    families = {4: [each for each in addresses if ":" not in each], 6: [each for each in addresses if ":" in each]}
    return tuple(
        RouterAssignment(RouterKey(51, family), priority, tuple(sorted(some)), fault)
        for family, some in families.items()
        if some
    )


def told(*addresses: str, interface: str = "eth0", **more: Any) -> Assignment:
    """Return an assignment of a director that is alone, with short intervals."""
    given: dict[str, Any] = {"interval_milliseconds": 10, "alone": True, **more}
    return Assignment(interface, routers(*addresses), **given)


class Machine:
    """A director with its parts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kernel = FakeKernel()
        self.kernel.links["eth0"] = Interface(2, "eth0", "02:00:00:00:00:01", True, ("192.0.2.1/24", "2001:db8::1/64"))
        self.kernel.links["eth1"] = Interface(3, "eth1", "02:00:00:00:00:02", True, ("198.51.100.1/24",))
        self.process = SpeakerProcess(self.kernel, directory)
        self.segment = Segment()
        self.now = 100.0
        self.news: list[SpeakerState] = []
        self.client: SpeakerClient

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Call at once."""
        return function(*arguments)

    @contextlib.asynccontextmanager
    async def agent(self) -> AsyncIterator[SpeakerClient]:
        """Live one life of the agent."""
        self.client = SpeakerClient(
            self.kernel,
            self,
            self.segment,
            run_directory=self.directory / "run",
            state_directory=self.directory / "lib",
            clock=lambda: self.now,
        )
        self.client.news = lambda: self.news.append(self.client.state())
        running = asyncio.create_task(self.client.run())
        try:
            yield self.client
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds: a kernel tells nothing."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)

    async def connected(self) -> None:
        """Wait for the speaker."""
        await self.until(lambda: self.client.state().connected)

    async def holds(self, *addresses: str) -> None:
        """Wait until the speaker says that it holds these."""
        await self.until(lambda: self.client.state().held == tuple(sorted(addresses)))

    def on(self, interface: str) -> set[str]:
        """Return the host addresses on an interface."""
        return {key.address for key in tuple(self.kernel.addresses) if key.interface == interface}


@pytest.fixture
async def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    """One director, whose speaker runs."""
    monkeypatch.setattr(speaker_link, "ALIVE_SECONDS", 0.05)
    monkeypatch.setattr(speaker_link, "ANSWER_SECONDS", 1.0)
    one = Machine(tmp_path)
    one.process.patched(monkeypatch).start()
    yield one
    one.process.thaw()
    one.process.kill()


async def test_a_vip_is_probed_for_before_it_is_handed_over(machine: Machine) -> None:
    """Two machines would have one address."""
    absent: list[set[str]] = []
    machine.segment.while_probing = lambda: absent.append(machine.on("eth0"))
    async with machine.agent() as client:
        await machine.connected()
        await client.assign(told(VIP, VIP6))
        await machine.holds(VIP, VIP6)
        assert absent == [set()]
        assert client.state().problems == ()
        assert client.state().configured == {VIP, VIP6}
        assert [each.state for each in client.state().routers] == ["Active", "Active"]
        await machine.until(lambda: machine.on("eth0") == {VIP, VIP6})


async def test_an_address_in_use_is_left_out_and_tried_again(machine: Machine) -> None:
    """A VIP that another machine has would break that machine, or never be served after it let go."""
    machine.segment.others[VIP] = {STRANGER}
    async with machine.agent() as client:
        await machine.connected()
        state = await client.assign(told(VIP, OTHER))
        assert [(one.address, one.reason) for one in state.problems] == [(VIP, Reason.ADDRESS_IN_USE)]
        assert STRANGER in state.problems[0].message
        assert state.configured == {OTHER}
        machine.segment.others.clear()
        assert (await client.assign(told(VIP, OTHER))).problems == state.problems, "probed again too soon"
        assert machine.segment.probed == [VIP, OTHER]
        machine.now += CONFLICT_SECONDS
        assert (await client.assign(told(VIP, OTHER))).problems == ()
        await machine.holds(VIP, OTHER)


async def test_a_vip_that_a_peer_holds_is_no_conflict(machine: Machine) -> None:
    """No director but the first could ever be told a VIP, and nobody would take over."""
    machine.segment.others = {VIP: {PEER_MAC}, PEER: {PEER_MAC}, OTHER: {PEER_MAC, STRANGER}}
    async with machine.agent() as client:
        await machine.connected()
        state = await client.assign(told(VIP, OTHER, alone=False, peers=(PEER,), strangers=True))
        assert state.configured == {VIP}
        assert [(one.address, STRANGER in one.message) for one in state.problems] == [(OTHER, True)]
        assert machine.process.configurations()[-1]["instances"][0]["peers"] == [PEER]


async def test_a_restart_of_the_agent_neither_releases_nor_probes(machine: Machine) -> None:
    """Restarting the agent would interrupt the service."""
    async with machine.agent() as client:
        await machine.connected()
        await client.assign(told(VIP))
        await machine.holds(VIP)
    before = machine.process.configurations()
    machine.segment.probed.clear()
    async with machine.agent() as client:
        await machine.connected()
        await machine.holds(VIP)
        await client.assign(told(VIP))
        await machine.holds(VIP)
    assert machine.segment.probed == []
    assert machine.process.configurations() == before * 2
    removed = [op for op in machine.kernel.journal if isinstance(op, AddressOp) and op.verb is Verb.DELETE]
    assert removed == []


async def test_what_is_not_assigned_is_released_before_probing(machine: Machine) -> None:
    """A VIP that is to go would be answered for while others are asked about."""
    async with machine.agent() as client:
        await machine.connected()
        await client.assign(told(VIP))
        await machine.holds(VIP)
        before: list[tuple[str, ...]] = []
        machine.segment.while_probing = lambda: before.append(tuple(sorted(client.state().configured)))
        await client.assign(told(OTHER))
        assert before == [()]
        await machine.holds(OTHER)
        await client.assign(Assignment(""))
        await machine.until(lambda: client.state().held == () and not machine.on("eth0"))
        assert client.state().configured == frozenset()


async def test_another_interface_is_probed_and_the_old_one_left(machine: Machine) -> None:
    """A VIP would stay on an interface that no client uses."""
    async with machine.agent() as client:
        await machine.connected()
        await client.assign(told(VIP))
        await machine.until(lambda: machine.on("eth0") == {VIP})
        await client.assign(told(VIP, interface="eth1"))
        await machine.until(lambda: machine.on("eth1") == {VIP} and client.state().interface == "eth1")
        assert machine.on("eth0") == set()
        assert machine.segment.probed == [VIP, VIP]


async def test_the_nodes_own_addresses_are_refused(machine: Machine) -> None:
    """The node would lose its address to whoever is Active."""
    async with machine.agent() as client:
        await machine.connected()
        state = await client.assign(told("192.0.2.1", "2001:db8::1", "198.51.100.1", VIP))
        assert {(one.address, one.reason) for one in state.problems} == {
            (address, Reason.RESERVED_ADDRESS) for address in ("192.0.2.1", "2001:db8::1", "198.51.100.1")
        }
        assert state.configured == {VIP}


async def test_a_missing_interface_and_a_dead_link_are_told(machine: Machine) -> None:
    """Nobody would know why the VIP is nowhere."""
    async with machine.agent() as client:
        await machine.connected()
        state = await client.assign(told(VIP, interface=""))
        assert [(one.address, one.reason) for one in state.problems] == [(VIP, Reason.NO_INTERFACE)]
        machine.segment.down.add("eth0")
        state = await client.assign(told(VIP))
        assert [(one.address, one.reason) for one in state.problems] == [(VIP, Reason.NO_INTERFACE)]
        machine.segment.down.clear()
        await client.assign(told(VIP))
        await machine.holds(VIP)


async def test_a_vip_found_on_the_interface_is_taken_over(machine: Machine) -> None:
    """After the speaker's files are lost its own VIP would count as a stranger's."""
    machine.kernel.addresses[HERE] = AddressConfig(0)
    async with machine.agent() as client:
        await machine.connected()
        await client.assign(told(VIP))
        await machine.holds(VIP)
    assert machine.segment.probed == []


async def test_what_the_kernel_refuses_is_not_held_and_told(machine: Machine) -> None:
    """The report would name a VIP that is not there."""
    machine.kernel.refuse = lambda op: 22 if isinstance(op, AddressOp) and op.key.address == VIP else 0
    async with machine.agent() as client:
        await machine.connected()
        await client.assign(told(VIP, OTHER))
        await machine.until(lambda: client.state().problems and client.state().held == (OTHER,))
        assert [(one.address, one.reason) for one in client.state().problems] == [(VIP, Reason.KERNEL_REFUSED)]


async def test_a_pause_changes_nothing(machine: Machine) -> None:
    """Somebody is at work on the node by hand."""
    async with machine.agent() as client:
        await machine.connected()
        await client.assign(told(VIP))
        await machine.holds(VIP)
        await client.assign(Assignment("eth0", paused=True))
        assert client.state().held == (VIP,)
        assert len(machine.process.configurations()) == 1


async def test_a_fault_moves_the_vips_and_is_told(machine: Machine) -> None:
    """A director without IPVS would hold VIPs and answer nobody."""
    async with machine.agent() as client:
        await machine.connected()
        await client.assign(told(VIP))
        await machine.holds(VIP)
        await client.assign(Assignment("eth0", routers(VIP, fault="no IPVS"), interval_milliseconds=10))
        await machine.until(lambda: not client.state().held)
        assert client.state().routers[0].faults == ("no IPVS",)
        assert client.state().configured == {VIP}


async def test_another_director_that_takes_over_is_heard_of_at_once(machine: Machine) -> None:
    """The report, and the services of a director that is a real server too, would be late."""
    async with machine.agent() as client:
        await machine.connected()
        await client.assign(told(VIP, alone=False, interval_milliseconds=100))
        await machine.holds(VIP)
        machine.process.hear(PEER, 254, VIP)
        await machine.holds()
        [router] = client.state().routers
        assert (router.state, router.active_source) == ("Backup", PEER)


async def test_nothing_is_news_while_only_time_goes_by(machine: Machine) -> None:
    """Each age that ticks would be a write to the API server."""
    async with machine.agent() as client:
        await machine.connected()
        await client.assign(told(VIP))
        await machine.until(lambda: client.state().routers and client.state().routers[0].state == "Active")
        before = client.state()
        machine.news.clear()
        count = machine.process.kinds().count("alive")
        async with asyncio.timeout(10):
            while machine.process.kinds().count("alive") < count + 30:  # noqa: ASYNC110 - the process tells nothing
                await asyncio.sleep(0.01)
        assert client.state() == before
        assert machine.news == []


async def test_a_speaker_that_is_away_is_told_and_the_interface_asked(machine: Machine) -> None:
    """The agent would report VIPs that have long left, or stop working altogether."""
    async with machine.agent() as client:
        await machine.connected()
        await client.assign(told(VIP, OTHER))
        await machine.until(lambda: machine.on("eth0") == {VIP, OTHER})
        machine.process.kill()
        await machine.until(lambda: not client.state().connected)
        assert client.state().held == (VIP, OTHER), "still on the interface"
        assert [one.reason for one in client.state().problems] == [Reason.SPEAKER_UNAVAILABLE]
        assert "lvs-speaker" in client.missing()
        del machine.kernel.addresses[HERE]
        state = await client.assign(told(VIP, OTHER))
        assert state.held == (OTHER,)
        assert state.configured == {VIP, OTHER}, "it may come back with either"
        machine.process.start()
        await machine.connected()
        await machine.holds(VIP, OTHER)
        assert client.missing() == ""
        assert machine.segment.probed == [VIP, OTHER]


async def test_what_was_assigned_meanwhile_is_told_to_a_speaker_that_comes_back(machine: Machine) -> None:
    """A VIP that was moved to others while the speaker was away would have two holders."""
    async with machine.agent() as client:
        await machine.connected()
        await client.assign(told(VIP))
        await machine.holds(VIP)
        machine.process.kill()
        await machine.until(lambda: not client.state().connected)
        await client.assign(told(OTHER))
        assert client.state().configured >= {VIP}, "until it has heard"
        machine.process.start()
        await machine.connected()
        await machine.holds(OTHER)
        await machine.until(lambda: client.state().configured == {OTHER})


async def test_an_agent_that_starts_before_its_speaker_knows_what_that_may_take(machine: Machine) -> None:
    """The controller would give a VIP to another group while this speaker can come up with it."""
    async with machine.agent() as client:
        await machine.connected()
        await client.assign(told(VIP))
        await machine.holds(VIP)
    machine.process.kill()
    async with machine.agent() as client:
        assert client.state().configured == {VIP}
        assert not client.state().connected
        await client.assign(Assignment(""))
        machine.process.start()
        await machine.connected()
        await machine.until(lambda: client.state().configured == frozenset() and client.state().held == ())


async def test_a_speaker_that_hangs_is_as_good_as_none(machine: Machine) -> None:
    """A connection that stands would hide that nobody renews the VIPs."""
    async with machine.agent() as client:
        await machine.connected()
        await client.assign(told(VIP))
        await machine.holds(VIP)
        machine.process.freeze()
        await machine.until(lambda: not client.state().connected)
        assert "no answer" in client.missing()
        machine.process.thaw()
        await machine.connected()
        await machine.holds(VIP)


async def test_an_agent_that_makes_no_progress_does_not_say_that_it_lives(machine: Machine) -> None:
    """A director whose tables are stale would stay Active beside a better one."""
    async with machine.agent() as client:
        client.alive = lambda: False
        await machine.connected()
        await client.assign(told(VIP))
        await machine.holds(VIP)
        assert "alive" not in machine.process.kinds()


async def test_a_refused_configuration_is_told_and_the_old_one_stays(machine: Machine) -> None:
    """VIPs would be dropped, or nobody would know that a change is not in force."""
    async with machine.agent() as client:
        await machine.connected()
        await client.assign(told(VIP))
        await machine.holds(VIP)
        bad = Assignment("eth0", routers(VIP, priority=999), interval_milliseconds=10, alone=True)
        state = await client.assign(bad)
        assert [one.reason for one in state.problems] == [Reason.SPEAKER_UNAVAILABLE]
        assert "priority" in state.problems[0].message
        assert state.held == (VIP,)
        assert (await client.assign(told(VIP))).problems == ()


async def test_the_speaker_is_sent_what_the_group_asks_for(machine: Machine) -> None:
    """A field that is accepted and not passed on would be a lie."""
    async with machine.agent() as client:
        await machine.connected()
        peers = ("192.0.2.2", "2001:db8::2")
        await client.assign(
            told(
                VIP,
                VIP6,
                alone=False,
                interval_milliseconds=250,
                preempt=True,
                preempt_delay_seconds=120,
                stop_hold_seconds=30,
                unicast=True,
                peers=peers,
                source6="2001:db8::1",
            )
        )
        four, six = machine.process.configurations()[-1]["instances"]
        assert four["peers"] == ["192.0.2.2"]
        assert six["peers"] == ["2001:db8::2"]
        assert (four["source"], six["source"]) == ("", "2001:db8::1")
        for each in (four, six):
            assert each["unicast"]
            assert each["preempt"]
            assert not each["alone"]
            assert (each["intervalMilliseconds"], each["preemptDelaySeconds"], each["stopHoldSeconds"]) == (
                250,
                120,
                30,
            )
            assert each["degradedBelow"] == 200
        await client.assign(told(VIP, VIP6, alone=False, peers=peers, strangers=False))
        assert [each["peers"] for each in machine.process.configurations()[-1]["instances"]] == [[], []]
