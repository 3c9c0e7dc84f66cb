"""The agent with the real address holder: VIPs on the director's interface through restarts, conflicts and drift."""

import pytest

from lvs_dr.core.kernel import AddressKey
from tests.unit.agent.bench import BACKEND, DIRECTOR, VIP, Bench
from tests.unit.agent.test_speaker import Segment

HERE = AddressKey("eth0", VIP)


class Director(Bench):
    """A bench whose VIPs are held by the real address holder."""

    segment: Segment


@pytest.fixture
def director(bench: Bench) -> Director:
    """A director on a quiet segment."""
    bench.segment = Segment()
    bench.__class__ = Director
    assert isinstance(bench, Director)
    return bench


async def up(bench: Director) -> None:
    """Bring up the example, and wait until the VIP is there and reported."""
    await bench.node(DIRECTOR)
    await bench.table()
    await bench.until(lambda: HERE in bench.kernel.addresses)
    await bench.api.status_where(lambda status: status["heldAddresses"] == [VIP])


async def test_a_vip_comes_after_its_service_and_goes_before_it(director: Director) -> None:
    """A client that finds the VIP finds a service behind it, from the first packet to the last."""
    seen: list[bool] = []
    director.segment.while_probing = lambda: seen.append(bool(director.kernel.services))
    async with director.running():
        await up(director)
        assert seen == [True]
        await director.node({"decided": True})
        await director.api.status_where(lambda status: "heldAddresses" not in status and "tables" not in status)
    kinds = [
        (type(op).__name__, op.verb.value)
        for op in director.kernel.journal
        if type(op).__name__ in ("ServiceOp", "AddressOp")
    ]
    assert kinds == [("ServiceOp", "add"), ("AddressOp", "add"), ("AddressOp", "delete"), ("ServiceOp", "delete")]


async def test_a_restart_keeps_the_vip_without_probing(director: Director) -> None:
    """An upgrade of the agent takes no VIP away, not for a moment."""
    async with director.running():
        await up(director)
    director.segment.probed.clear()
    director.kernel.journal.clear()
    async with director.running():
        await director.passes(3)
        await director.api.status_where(lambda status: status["heldAddresses"] == [VIP])
    assert director.segment.probed == []
    assert director.kernel.journal == []


async def test_a_vip_that_another_machine_has_is_not_taken(director: Director) -> None:
    """Two machines with one address lose the connections of both; the report names the other one."""
    director.segment.others[VIP] = "02:00:00:00:00:99"
    async with director.running():
        await director.node(DIRECTOR)
        await director.table()
        told = await director.api.status_where(lambda status: bool(status["problems"]))
        (problem,) = told["problems"]
        assert (problem["reason"], problem["address"]) == ("AddressInUse", VIP)
        assert "02:00:00:00:00:99" in problem["message"]
        assert HERE not in director.kernel.addresses
        assert "heldAddresses" not in told


async def test_a_vip_that_vanished_is_put_back(director: Director) -> None:
    """`ip addr del` by hand, or a network daemon's restart, costs no more than the kernel's own hint."""
    async with director.running(resync=60.0) as agent:
        await up(director)
        del director.kernel.addresses[HERE]
        agent.loop.look_around()
        await director.until(lambda: HERE in director.kernel.addresses)
        await director.until(lambda: agent.repairs() == 1)


async def test_a_director_that_serves_gets_services_with_the_vip(director: Director) -> None:
    """The loop guard: a real server of the VIP balances it only while it holds it."""
    seen: list[bool] = []
    director.segment.while_probing = lambda: seen.append(bool(director.kernel.services))
    async with director.running():
        await director.node(DIRECTOR | BACKEND)
        await director.table()
        await director.until(lambda: HERE in director.kernel.addresses and len(director.destinations()) == 2)
        assert seen == [False]
        role = DIRECTOR["director"] | {"vrrp": {}}
        await director.node({"decided": True, "director": role, "backendAddresses": [VIP]})
        await director.until(lambda: not director.kernel.services)
        assert HERE not in director.kernel.addresses
        assert director.on_lo() == {VIP}
