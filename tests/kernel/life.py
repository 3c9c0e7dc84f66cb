"""One life of the agent on this kernel, without an API server: real passes, ledger, kernel and address holder.

Runs inside lab nodes. A life ends like a kill: nothing is taken back, and the next one finds its ledger.
"""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path

from lvs_dr.agent.assigner import Assigner
from lvs_dr.agent.desired import DesiredState
from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.health.prober import Prober
from lvs_dr.agent.inforce import InForce
from lvs_dr.agent.kernel.node import NodeKernel
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.onepass import NodePass
from lvs_dr.agent.seen import Seen
from lvs_dr.agent.speaker import AddressHolder
from lvs_dr.agent.watch import Metadata
from lvs_dr.agent.watch import Seen as Object
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.table import DirectorTableSpec

NODE = "node-1"
LIMIT_SECONDS = 20.0


class QuietWire:
    """A segment where nobody else is: probing takes no time, so that a hundred lives fit into a test."""

    async def probe(self, interface: str, addresses: Collection[str]) -> dict[str, str]:
        """Nobody has them."""
        del interface, addresses
        return {}

    async def announce(self, interface: str, addresses: Collection[str]) -> None:
        """Nobody listens."""


class Life:
    """An agent's parts, as `agent.agent` puts them together, with its watches replaced by `follow`."""

    def __init__(self, run_directory: Path) -> None:
        kernel = NodeKernel()
        self.door = KernelDoor(kernel)
        self.ledger = LedgerFile(run_directory, kernel.boot_id())
        self.ledger.load()
        self.source = DesiredState(NODE, wake=lambda: None)
        holder = AddressHolder(kernel, self.door, self.ledger, QuietWire())
        self.assigner = Assigner(holder, wake=lambda: None)
        self.passes = NodePass(
            source=self.source,
            in_force=InForce(NODE),
            door=self.door,
            ledger=self.ledger,
            assigner=self.assigner,
            prober=Prober(changed=lambda: None),
        )
        self._generation = 0

    def follow(self, spec: LVSNodeSpec, tables: Mapping[str, DirectorTableSpec]) -> None:
        """Have the API server say this."""
        self._generation += 1
        self.source.node_seen(Object(Metadata(NODE, generation=self._generation), spec))
        seen = {}
        for key, table in tables.items():
            namespace, _, name = key.partition("/")
            seen[key] = Object(Metadata(name, namespace, generation=self._generation), table)
        self.source.tables.replaced(seen)

    async def settle(self) -> Seen:
        """Make passes until one changes nothing and the VIPs are where they belong. Raises TimeoutError."""
        working = asyncio.create_task(self.assigner.run())
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                deep = True
                while True:
                    seen = await self.passes.once(deep=deep)
                    deep = False
                    await self._assigned()
                    wanted = seen.force.spec.director.addresses if seen.force and seen.force.spec.director else ()
                    done = seen.done is not None and not seen.done.admitted and not seen.done.made.draining
                    if done and set(self.assigner.state.held) == set(wanted):
                        return seen
        finally:
            working.cancel()

    async def _assigned(self) -> None:
        """Wait until the address holder has carried out what it was told last. Raises RuntimeError when it failed."""
        await asyncio.sleep(0)
        while self.assigner._news.is_set() or self.assigner._active is not None:
            if self.assigner.trouble:
                raise RuntimeError(self.assigner.trouble)
            await asyncio.sleep(0.002)

    def end(self) -> None:
        """Let go of the sockets; the kernel stays as it is."""
        self.door.close()


def live(run_directory: Path, spec: LVSNodeSpec, tables: Mapping[str, DirectorTableSpec]) -> Seen:
    """Live until all is as the objects say. Raises what a pass raises, TimeoutError."""

    async def whole() -> Seen:
        life = Life(run_directory)
        try:
            life.follow(spec, tables)
            return await life.settle()
        finally:
            life.end()

    return asyncio.run(whole())
