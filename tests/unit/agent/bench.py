"""An agent on fake parts: a kernel, a speaker, an API server; on real ones: the loop, the files, the client."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lvs_dr.agent.agent import Agent
from lvs_dr.agent.apiclient import ApiClient, ApiSettings
from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.agent.lastgood import LastGoodFile
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.load.reader import Ask
from lvs_dr.agent.peers import Resolver
from lvs_dr.agent.settings import Settings
from lvs_dr.core.health import CheckKey
from lvs_dr.vrrp.messages import Speaker
from tests.contract.fake_kernel import FakeKernel
from tests.unit.agent.fake_api import FakeApi
from tests.unit.agent.fake_speaker import FakeSpeaker

VIP = "192.0.2.100"
NODE = "node-1"
TABLE: dict[str, Any] = {
    "directorGroup": "default",
    "serviceGeneration": 1,
    "address": VIP,
    "ports": [{"port": 80, "protocol": "TCP"}],
    "scheduler": "rr",
    "onFailure": "Remove",
    "destinations": [
        {"realServer": "storage-1", "address": "192.0.2.11", "weight": 100, "node": "storage-1"},
        {"realServer": "storage-2", "address": "192.0.2.12", "weight": 100, "node": "storage-2"},
    ],
}
CHECK = {"tcp": {}, "intervalSeconds": 1, "timeoutSeconds": 1, "rise": 2, "fall": 3}
DIRECTOR: dict[str, Any] = {
    "decided": True,
    "requires": ["vrrp"],
    "director": {
        "group": "default",
        "internalAddresses": ["192.0.2.1"],
        "tables": ["web/webdav"],
        "vrrp": {"routers": [{"id": 51, "priority": 250, "addresses": [VIP]}]},
    },
}
BACKEND: dict[str, Any] = {"decided": True, "backendAddresses": [VIP]}


def vrrp(*addresses: str, **more: Any) -> dict[str, Any]:
    """Return the part of a director's role that names its VIPs."""
    return {"vrrp": {"routers": [{"id": 51, "priority": 250, "addresses": sorted(addresses)}], **more}}


class Bench:
    """What survives the agent: the node's kernel and directories, and the API server."""

    def __init__(self, api: FakeApi, directory: Path, *, node: str = NODE) -> None:
        self.node_name = node
        self.api = api
        self.directory = directory
        self.kernel = FakeKernel()
        self.kernel.links["eth0"] = Interface(2, "eth0", "02:00:00:00:00:01", True, ("192.0.2.1/24",))
        self.kernel.gateways.add("192.0.2.254")
        self.speaker = FakeSpeaker(self.kernel)
        self.down: set[tuple[str, int]] = set()  # what refuses connections
        self.checks: list[tuple[str, int]] = []
        self.resolver: Resolver | None = None  # set: peers' MACs are asked for
        self.more: dict[str, Any] = {}  # settings beside the usual ones
        self.ask_load: Ask | None = None  # set: who tells the load of real servers
        self.agent: Agent

    async def check(self, key: CheckKey, _: str) -> str:
        """Stand in for the TCP check; through a VIP, by packets that have a mark."""
        self.checks.append(key[:2])
        if key.mark:
            self.kernel.mark_packets[key.mark] = self.kernel.mark_packets.get(key.mark, 0) + 3
        return "connection refused" if key[:2] in self.down else ""

    @asynccontextmanager
    async def running(
        self, *, server: str = "", access: ApiSettings | None = None, resync: float = 0.3, poll: float = 0.1
    ) -> AsyncIterator[Agent]:
        """Run an agent; leaving stops it as SIGTERM does."""
        door = KernelDoor(self.kernel, seconds=2.0)
        settings = access or ApiSettings(server or self.api.url)
        ledger = LedgerFile(self.directory / "run", self.kernel.boot)
        ledger.load()
        speaker, more = self.its_speaker(door)
        async with ApiClient(settings, seconds=5.0) as client:
            self.agent = Agent(
                Settings(
                    self.node_name,
                    "lvs-system",
                    "0.1.0",
                    self.kernel.boot,
                    resync=resync,
                    poll=poll,
                    check=self.check,
                    **{"report_gap": 0.02, **self.more},
                    ask_load=self.ask_load,
                ),
                client=client,
                door=door,
                speaker=speaker,
                ledger=ledger,
                last_good=LastGoodFile(self.directory / "lib"),
                more=more,
                resolver=self.resolver,
            )
            self.started()
            self.agent.restore()
            task = asyncio.create_task(self.agent.run())
            try:
                yield self.agent
            finally:
                self.agent.loop.stop()
                async with asyncio.timeout(5):
                    await task
                door.close()

    def its_speaker(self, door: KernelDoor) -> tuple[Speaker, dict[str, Callable[[], Awaitable[None]]]]:
        """Return what holds the VIPs, and what of it must run."""
        del door
        return self.speaker, {}

    def started(self) -> None:
        """Do what must be done once the agent is put together."""

    async def node(self, spec: dict[str, Any], **metadata: Any) -> None:
        """Create or change the LVSNode."""
        await self.api.put("lvsnodes", NODE, spec, **metadata)

    async def table(self, name: str = "webdav", **changes: Any) -> None:
        """Create or change a DirectorTable in namespace web."""
        await self.api.put("directortables", name, TABLE | changes, namespace="web")

    async def until(self, condition: Callable[[], object], *, seconds: float = 5.0) -> None:
        """Wait for something that has no event: the state of a kernel."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - a kernel tells nothing
                await asyncio.sleep(0.005)

    async def passes(self, count: int) -> None:
        """Wait for so many more whole passes."""
        goal = self.agent.loop.passes + count + 1
        await self.until(lambda: self.agent.loop.passes >= goal)

    def destinations(self) -> dict[str, int]:
        """Return address -> weight of all destinations."""
        return {key.address: config.weight for key, config in self.kernel.destinations.items()}

    def on_lo(self) -> set[str]:
        """Return the addresses on lo."""
        return {key.address for key in self.kernel.addresses if key.interface == "lo"}
