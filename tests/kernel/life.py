"""One life of the agent on this kernel, without an API server: real passes, ledger and kernel.

Runs inside lab nodes. A life ends like a kill: nothing is taken back, and the next one finds its ledger. In the place
of the speaker, which lives on, `PlainSpeaker` puts VIPs on the interface: a hundred elections would take minutes.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from lvs_dr.agent.admission import Present
from lvs_dr.agent.assigner import Assigner
from lvs_dr.agent.desired import DesiredState
from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.health.checkers import Checkers
from lvs_dr.agent.health.prober import Prober
from lvs_dr.agent.inforce import InForce
from lvs_dr.agent.kernel.node import NodeKernel
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.onepass import NodePass
from lvs_dr.agent.seen import Seen
from lvs_dr.agent.speaker_client import KEPT_NAME, configuration
from lvs_dr.agent.watch import Metadata
from lvs_dr.agent.watch import Seen as Object
from lvs_dr.core.kernel import AddressConfig, AddressKey, AddressOp, Verb
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.vrrp import kept
from lvs_dr.vrrp.messages import Assignment, SpeakerState

NODE = "node-1"
LIMIT_SECONDS = 20.0


class PlainSpeaker:
    """Implements `Speaker`: what it is told is kept on disk as the speaker keeps it, then done at once."""

    def __init__(self, door: KernelDoor, kernel: NodeKernel, state_directory: Path) -> None:
        self._door = door
        self._kernel = kernel
        self._kept = str(state_directory / KEPT_NAME)
        self._state = SpeakerState("", ())

    async def look(self) -> None:
        """Find what was kept, and what of it is on the interface."""
        self._state = await self._door.call(self._found)

    async def assign(self, assignment: Assignment) -> SpeakerState:
        """Release, then take."""
        if not assignment.paused:
            self._state = await self._door.call(self._carry_out, assignment)
        return self._state

    def state(self) -> SpeakerState:
        """Tell what was reached."""
        return self._state

    async def announce(self) -> None:
        """Nobody listens."""

    def _carry_out(self, assignment: Assignment) -> SpeakerState:
        before = self._found()
        for address in sorted(frozenset(before.held) - assignment.addresses):
            self._do(AddressOp(Verb.DELETE, AddressKey(before.interface, address)))
        if assignment.interface:
            kept.save(self._kept, configuration(assignment, assignment.addresses))
        for address in sorted(assignment.addresses - frozenset(before.held)):
            config = AddressConfig(0, deprecated=":" in address)
            self._do(AddressOp(Verb.ADD, AddressKey(assignment.interface, address), config))
        if not assignment.interface:
            Path(self._kept).unlink(missing_ok=True)
        return self._found()

    def _found(self) -> SpeakerState:
        found = kept.load(self._kept)
        if found is None:
            return SpeakerState("", ())
        known = frozenset(address for each in found.instances for address in each.machine.addresses)
        hosts = Present(self._kernel.interfaces()).hosts(found.interface)
        return SpeakerState(found.interface, tuple(sorted(known & hosts)), configured=known)

    def _do(self, op: AddressOp) -> None:
        failures = self._kernel.apply((op,))
        if failures:
            raise RuntimeError(failures[0].message)


class Life:
    """An agent's parts, as `agent.agent` puts them together, with its watches replaced by `follow`."""

    def __init__(self, run_directory: Path, state_directory: Path) -> None:
        kernel = NodeKernel()
        self.door = KernelDoor(kernel)
        self.ledger = LedgerFile(run_directory, kernel.boot_id())
        self.ledger.load()
        self.source = DesiredState(NODE, wake=lambda: None)
        self._speaker = PlainSpeaker(self.door, kernel, state_directory)
        self.assigner = Assigner(self._speaker, wake=lambda: None)
        self.passes = NodePass(
            source=self.source,
            in_force=InForce(NODE),
            door=self.door,
            ledger=self.ledger,
            assigner=self.assigner,
            prober=Prober(changed=lambda: None, check=Checkers()),
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
        await self._speaker.look()
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
        """Wait until the speaker has carried out what it was told last. Raises RuntimeError when it failed."""
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
        life = Life(run_directory, run_directory.with_name(f"{run_directory.name}-state"))
        try:
            life.follow(spec, tables)
            return await life.settle()
        finally:
            life.end()

    return asyncio.run(whole())
