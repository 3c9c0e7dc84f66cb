"""The agent with the real speaker: VIPs on the director's interface through restarts, conflicts and take-overs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lvs_dr.agent import speaker_link
from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.speaker_client import SpeakerClient
from lvs_dr.core.kernel import AddressKey
from lvs_dr.vrrp.messages import Speaker
from tests.unit.agent.bench import BACKEND, CHECK, DIRECTOR, VIP, Bench, vrrp
from tests.unit.agent.fake_api import FakeApi
from tests.unit.agent.speaker_process import SpeakerProcess
from tests.unit.agent.wires import Segment

HERE = AddressKey("eth0", VIP)
PEER = "192.0.2.9"
PAIR = DIRECTOR | {"director": DIRECTOR["director"] | vrrp(VIP, peers=[{"node": "node-2", "addresses": [PEER]}])}


class Director(Bench):
    """A bench whose VIPs are held by the real speaker, as a process of its own."""

    def __init__(self, api: FakeApi, directory: Path) -> None:
        super().__init__(api, directory)
        self.segment = Segment()
        self.process = SpeakerProcess(self.kernel, directory)
        self.client: SpeakerClient

    def its_speaker(self, door: KernelDoor) -> tuple[Speaker, dict[str, Callable[[], Awaitable[None]]]]:
        """Return the client of the process."""
        self.client = SpeakerClient(
            self.kernel,
            door,
            self.segment,
            run_directory=self.directory / "run",
            state_directory=self.directory / "lib",
        )
        return self.client, {"connection to the speaker": self.client.run}

    def started(self) -> None:
        """Put both together, as `lvs-agent run` does."""
        self.client.news, self.client.alive = self.agent.wake, self.agent.well


@pytest.fixture
async def director(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Director]:
    """A director on a quiet segment."""
    monkeypatch.setattr(speaker_link, "ALIVE_SECONDS", 0.1)
    bench = Director(api, tmp_path)
    bench.process.patched(monkeypatch).start()
    yield bench
    bench.process.kill()


async def up(bench: Director) -> None:
    """Bring up the example, and wait until the VIP is there and reported."""
    await bench.node(DIRECTOR)
    await bench.table()
    await bench.until(lambda: HERE in bench.kernel.addresses)
    await bench.api.status_where(lambda status: status.get("heldAddresses") == [VIP])


@asynccontextmanager
async def active_peer(bench: Director) -> AsyncIterator[None]:
    """Have another director be Active while the block runs."""

    async def speak() -> None:
        while True:
            await asyncio.to_thread(bench.process.hear, PEER, 254, VIP)
            await asyncio.sleep(0.05)

    speaking = asyncio.create_task(speak())
    try:
        yield
    finally:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)


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
        await director.api.status_where(lambda status: status.get("heldAddresses") == [VIP])
    assert director.segment.probed == []
    assert director.kernel.journal == []


async def test_a_vip_that_another_machine_has_is_not_taken(director: Director) -> None:
    """Two machines with one address lose the connections of both; the report names the other one."""
    director.segment.others[VIP] = {"02:00:00:00:00:99"}
    async with director.running():
        await director.node(DIRECTOR)
        await director.table()
        told = await director.api.status_where(
            lambda status: any(one["reason"] == "AddressInUse" for one in status.get("problems", ()))
        )
        (problem,) = told["problems"]
        assert problem["address"] == VIP
        assert "02:00:00:00:00:99" in problem["message"]
        assert HERE not in director.kernel.addresses
        assert "heldAddresses" not in told


async def test_a_director_that_serves_gets_services_with_the_vip(director: Director) -> None:
    """The loop guard: a real server of the VIP balances it only while it holds it."""
    async with director.running():
        await director.node(PAIR | BACKEND)
        await director.table()
        await director.until(lambda: HERE in director.kernel.addresses and len(director.destinations()) == 2)
        async with active_peer(director):
            await director.until(lambda: not director.kernel.services)
            assert HERE not in director.kernel.addresses
            assert director.on_lo() == {VIP}


async def test_a_backup_is_warm_and_says_who_is_active(director: Director) -> None:
    """A take-over would begin with programming, and nobody could see who serves."""
    async with director.running():
        await director.node(PAIR)
        await director.table()
        await director.until(lambda: HERE in director.kernel.addresses)
        async with active_peer(director):
            told = await director.api.status_where(
                lambda status: (
                    status.get("virtualRouters", [{}])[0].get("activeSource") == PEER and "heldAddresses" not in status
                )
            )
        [router] = told["virtualRouters"]
        assert (router["id"], router["family"], router["state"]) == (51, 4, "Backup")
        assert router["since"].endswith("Z")
        assert len(director.destinations()) == 2


async def test_without_ipvs_another_director_takes_over(director: Director) -> None:
    """The VIP would stay where nobody answers."""
    async with director.running():
        await up(director)
        director.kernel.flush_ipvs()
        director.kernel.has_ipvs = False
        await director.until(lambda: HERE not in director.kernel.addresses)
        told = await director.api.status_where(lambda status: bool(status.get("virtualRouters", [{}])[0].get("faults")))
        assert "IPVS" in told["virtualRouters"][0]["faults"][0]
        director.kernel.has_ipvs = True
        await director.until(lambda: HERE in director.kernel.addresses)


async def test_a_speaker_that_is_away_stops_nothing_else(director: Director) -> None:
    """Health checks and real servers would wait for a container that is being pulled."""
    async with director.running() as agent:
        await up(director)
        director.process.kill()
        told = await director.api.status_where(
            lambda status: any(one["reason"] == "SpeakerUnavailable" for one in status.get("problems", ()))
        )
        assert told["heldAddresses"] == [VIP], "it is still on the interface"
        await director.table(healthCheck=CHECK | {"fall": 1}, serviceGeneration=2)
        director.down.add(("192.0.2.11", 80))
        await director.until(lambda: director.destinations() == {"192.0.2.12": 100})
        assert agent.loop.trouble == ""
        director.process.start()
        await director.api.status_where(lambda status: not status.get("problems"))


async def test_nothing_is_written_while_only_time_goes_by(director: Director) -> None:
    """Each director would write to the API server every two seconds for ever."""
    async with director.running() as agent:
        await up(director)
        await director.api.status_where(lambda status: status["virtualRouters"][0]["state"] == "Active")
        await director.until(lambda: not agent.reporter.pending)
        before = agent.metrics.value("lvs_agent_report_writes_total")
        alive = director.process.kinds().count("alive")
        await director.until(lambda: director.process.kinds().count("alive") > alive + 20, seconds=10)
        assert agent.metrics.value("lvs_agent_report_writes_total") == before
