"""A director with many tables: all parts of the agent that think, on a fake kernel, with a clock for the event loop."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from msgspec import structs

from lvs_dr.agent.assigner import Assigner
from lvs_dr.agent.desired import DesiredState
from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.facts import TableReports, status
from lvs_dr.agent.health.prober import Prober
from lvs_dr.agent.inforce import InForce
from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.loop import Loop
from lvs_dr.agent.memory import share_the_interpreter, use_memory_calmly
from lvs_dr.agent.onepass import NodePass
from lvs_dr.agent.seen import Seen as SeenByPass
from lvs_dr.agent.telling import facts
from lvs_dr.agent.watch import Metadata, Seen
from lvs_dr.core.node import DirectorRole, LVSNodeSpec
from lvs_dr.core.node_status import LVSNodeStatus
from lvs_dr.core.objects import OnFailure, Protocol
from lvs_dr.core.table import DirectorTableSpec, TableDestination, TableHealthCheck, TablePort, TcpCheck
from tests.contract.fake_kernel import FakeKernel
from tests.unit.agent.fake_speaker import FakeSpeaker

TICK_SECONDS = 0.001
CHECK = TableHealthCheck(TcpCheck(), 60, 5, 2, 3)


def table(number: int, destinations: int, *, weight: int = 100, check: bool = True) -> Seen[DirectorTableSpec]:
    """Return one DirectorTable as a watch hands it over."""
    high, low = divmod(number, 250)
    spec = DirectorTableSpec(
        director_group="default",
        service_generation=1,
        address=f"10.1.{high}.{low + 1}",
        ports=(TablePort(443, Protocol.TCP),),
        scheduler="wlc",
        on_failure=OnFailure.REMOVE,
        destinations=tuple(TableDestination(f"rs-{n}", f"10.2.{high}.{n + 1}", weight) for n in range(destinations)),
        health_check=CHECK if check else None,
    )
    return Seen(Metadata(name=f"t{number:04d}", namespace="web", uid=f"u{number}", generation=1), spec)


async def well(_key: object, _source: str) -> str:
    """Answer every check."""
    await asyncio.sleep(0)
    return ""


class Ticker:
    """Wakes up every millisecond and notes how late, in time that this process had a processor.

    What other processes of a busy machine take from us is no hold of ours.
    """

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            began, began_working = time.perf_counter(), time.process_time()
            await asyncio.sleep(TICK_SECONDS)
            late = time.perf_counter() - began - TICK_SECONDS
            self.longest = max(self.longest, min(late, time.process_time() - began_working))

    def take(self) -> float:
        """Return the longest hold since the last call, in milliseconds."""
        longest, self.longest = self.longest, 0.0
        return longest * 1000


class BigNode:
    """The thinking parts of one agent."""

    def __init__(self, directory: Path, kernel: FakeKernel | None = None) -> None:
        self.kernel = kernel or FakeKernel()
        self.kernel.links["eth0"] = Interface(2, "eth0", "02:00:00:00:00:01", True, ("10.0.0.1/8",))
        self.source = DesiredState("node-1", wake=self._wake)
        self.in_force = InForce("node-1")
        self.ledger = LedgerFile(directory, self.kernel.boot)
        self.door = KernelDoor(self.kernel, seconds=60.0)
        self.assigner = Assigner(FakeSpeaker(self.kernel), wake=self._wake)
        self.prober = Prober(changed=self._wake, check=well)
        self.node_pass = NodePass(
            source=self.source,
            in_force=self.in_force,
            door=self.door,
            ledger=self.ledger,
            assigner=self.assigner,
            prober=self.prober,
        )
        self.loop = Loop(self._once, self.node_pass.poll, resync=3600.0, poll_every=3600.0)
        self.ticker = Ticker()
        self.status = LVSNodeStatus()
        self.changed_ops: list[int] = []  # per pass
        self._reports = TableReports()

    def _wake(self) -> None:
        self.loop.wake()

    async def _once(self, deep: bool) -> None:  # noqa: FBT001 - as the loop calls it
        seen = await self.node_pass.once(deep=deep)
        self.changed_ops.append(len(seen.done.admitted))
        self.status = await asyncio.to_thread(self._describe, seen)

    def _describe(self, seen: SeenByPass) -> LVSNodeStatus:
        told = facts(
            seen,
            node_pass=self.node_pass,
            in_force=self.in_force,
            ledger=self.ledger.current,
            speaker=self.assigner.state,
            exposed=self.assigner.exposed,
            agent_version="0",
            boot_id="b",
            troubles=(),
            repairs=0,
            now=time.monotonic(),
        )
        outcomes = partial(self.prober.outcome, seen.health)
        return status(told, outcomes, self._reports(told, outcomes, seen.health))

    def be_director(self, tables: int) -> None:
        """Have the LVSNode say that this is a director of so many tables."""
        names = tuple(f"web/t{number:04d}" for number in range(tables))
        spec = LVSNodeSpec(decided=True, director=DirectorRole("default", interface_name="eth0", tables=names))
        self.source.nodes.replaced({"node-1": Seen(Metadata(name="node-1", uid="n", generation=1), spec)})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run loop, checks, speaker and ticker."""
        tasks = [
            asyncio.create_task(part)
            for part in (self.loop.run(), self.prober.run(), self.assigner.run(), self.ticker.run())
        ]
        try:
            yield
        finally:
            self.loop.stop()
            await tasks[0]
            for task in tasks[1:]:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            self.door.close()

    async def settled(self) -> None:
        """Wait until a pass after now changed nothing."""
        async with asyncio.timeout(120):
            while True:
                before = len(self.changed_ops)
                self.loop.wake()
                while len(self.changed_ops) == before:  # noqa: ASYNC110 - passes are counted, not announced
                    await asyncio.sleep(0.005)
                if not self.changed_ops[-1] and not self.loop.trouble:
                    return


async def measure(directory: Path, tables: int = 1000, destinations: int = 10) -> dict[str, float]:
    """Return the longest hold of the event loop, in milliseconds, for each kind of pass."""
    node = BigNode(directory)
    found: dict[str, float] = {}
    items = [table(number, destinations) for number in range(tables)]
    async with node.running():
        await node.settled()
        found["idle"] = node.ticker.take()
        node.be_director(tables)
        node.source.tables.replaced({item.meta.key: item for item in items})
        await node.settled()
        found["all at once"] = node.ticker.take()
        await asyncio.sleep(1.5)
        await node.settled()
        found["first checks"] = node.ticker.take()
        for _ in range(5):
            await node.settled()
        found["nothing changed"] = node.ticker.take()
        one = items[tables // 2]
        changed = structs.replace(
            one.spec, destinations=(structs.replace(one.spec.destinations[0], weight=7), *one.spec.destinations[1:])
        )
        node.source.tables.changed(structs.replace(one, meta=structs.replace(one.meta, generation=2), spec=changed))
        await node.settled()
        found["one weight"] = node.ticker.take()
        node.kernel.flush_ipvs()
        await node.settled()
        found["flushed"] = node.ticker.take()
        node.be_director(0)
        node.source.tables.replaced({})
        await node.settled()
        found["all gone"] = node.ticker.take()
    return found


def main() -> None:
    """Print the figures."""
    import tempfile  # noqa: PLC0415 - only here

    use_memory_calmly()
    share_the_interpreter()
    with tempfile.TemporaryDirectory() as directory:
        for name, longest in asyncio.run(measure(Path(directory))).items():
            print(f"{name:16} {longest:7.1f} ms")  # noqa: T201 - a measurement by hand


if __name__ == "__main__":
    main()
