"""One pass: what is wanted, what is there, what to do, done, told."""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial

from msgspec import structs

from lvs_dr.agent.arp_watch import ArpWatch
from lvs_dr.agent.assigner import Assigner
from lvs_dr.agent.decider import Decider, Situation
from lvs_dr.agent.desired import DesiredState, Wanted
from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.drains import DrainCounts
from lvs_dr.agent.health.checklist import CheckList
from lvs_dr.agent.health.marks import Done as MarksDone
from lvs_dr.agent.health.marks import Marks
from lvs_dr.agent.health.prober import Prober
from lvs_dr.agent.inforce import Force, InForce
from lvs_dr.agent.interface import director_interface, sync_link
from lvs_dr.agent.ipvs_report import ConnectionCount
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.load.weighing import Weighing
from lvs_dr.agent.peers import PeerMacs
from lvs_dr.agent.programmed import Programmed
from lvs_dr.agent.reader import KernelReader, Look
from lvs_dr.agent.redirects import Redirects
from lvs_dr.agent.seen import Done, Seen, Surroundings
from lvs_dr.agent.sockets import SocketCounts
from lvs_dr.agent.speaker_orders import SpeakerOrders
from lvs_dr.agent.succession import Succession
from lvs_dr.agent.suspicion_watch import SuspicionWatch
from lvs_dr.agent.writer import KernelWriter
from lvs_dr.core.arp_settings import arp_repairs
from lvs_dr.core.desired import Desired
from lvs_dr.core.ipvs_table import services_of
from lvs_dr.core.kernel import DestinationOp, KernelState, ServiceKey, ServiceOp, Verb
from lvs_dr.core.node import DirectorRole, LVSNodeSpec
from lvs_dr.core.node_status import InterfaceReport
from lvs_dr.core.plan import Plan
from lvs_dr.core.probes import EVERYWHERE, STRICT
from lvs_dr.core.settings import other_owner
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.unread import concerned


class NodePass:
    """Carries out passes. Holds nothing of the kernel between them but what cannot be read from it."""

    def __init__(
        self,
        *,
        source: DesiredState,
        in_force: InForce,
        door: KernelDoor,
        ledger: LedgerFile,
        assigner: Assigner,
        prober: Prober,
        weighing: Weighing | None = None,
        marks: Marks | None = None,
        arp_watch: ArpWatch | None = None,
        peers: PeerMacs | None = None,
        redirects: Redirects | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._peers = peers
        self._redirects = redirects
        self._marks = marks
        self.arp_watch = arp_watch
        self._in_force = in_force
        self._door = door
        self._ledger = ledger
        self._assigner = assigner
        self._prober = prober
        self.weighing = weighing
        self._clock = clock
        self.connections = ConnectionCount()
        self.drains = DrainCounts()
        self.sockets = SocketCounts()
        self.programmed = Programmed()
        self._reader = KernelReader(door, ledger, assigner)
        self._writer = KernelWriter(door, ledger, assigner, clock=clock)
        self.drift = self._writer.drift
        self._suspicions = SuspicionWatch(door)
        self._orders = SpeakerOrders(assigner, ledger)
        self._succession = Succession()
        self._decider = Decider()
        self._interface = ""
        self._checks = CheckList()
        self._checked: Mapping[str, DirectorTableSpec] | None = None
        self._served: Mapping[str, DirectorTableSpec] = {}  # tables of the pass before
        self._sysctls: Desired = Desired(writable=False)
        self._draining = False

    @property
    def own_interfaces(self) -> tuple[InterfaceReport, ...] | None:
        """The node's interfaces with its own addresses; None before the first pass."""
        return self._reader.own_interfaces

    async def once(self, *, deep: bool) -> Seen:
        """Make one pass; a `deep` one reads everything, and has the speaker look at its addresses.

        Raises KernelError, KernelStuckError, OSError (the ledger cannot be written: nothing was changed).
        """
        wanted = self._source.take()
        force = self._in_force.follow(wanted, self._clock())
        spec = force.spec if force is not None else LVSNodeSpec()
        if not wanted.decided:
            spec = structs.replace(spec, decided=False)
        around = await self._reader.surroundings(spec, deep=deep)
        self._interface = director_interface(spec.director, around.interfaces, self._interface) if spec.director else ""
        facing = tuple(each for one in around.own if one.name == self._interface for each in one.addresses)
        self._prober.use_addresses(tuple(each for one in around.interfaces for each in one.addresses), facing)
        if force is None:
            return Seen(wanted, None, around)
        inherited = self._succession.follow(force.tables, force.versions, self._clock())
        if spec.decided and not spec.paused and wanted.heard:
            await self._orders.release_first(spec, self._interface, around)
        tables = self._with_lingering(spec, inherited)
        look = Look(spec, tables, self._interface)
        needed = await asyncio.to_thread(self._needed, tables) if not deep else None
        actual = await self._reader.state(look, needed)
        await self._check(tables, actual)
        situation = await self._weighed(self._situation(spec, tables, wanted, around, actual), actual)
        goal, made, missing = await asyncio.to_thread(self._decide, situation, actual)
        while missing:
            # Nothing is written to what was not read in this pass.
            actual = await self._reader.more(look, missing)
            goal, made, missing = await asyncio.to_thread(self._decide, situation, actual)
        if self._redirects is not None:
            self._redirects.follow(goal)
        planned = await asyncio.to_thread(self._writer.admit, goal, made, heard=wanted.heard)
        done = await self._writer.carry_out(planned)
        if self._marks is not None:
            refused = tuple(failure.op for failure in done.failures)
            told = MarksDone(done.admitted, (*refused, *done.withheld), done.made.taken, done.made.ledger)
            self._marks.follow(goal.probes, actual, told, self._interface)
        if done.beyond_ipvs:
            # What is reported of lo and of tunnels opens the way for traffic: it is read, not inferred.
            actual = await self._reader.beyond_ipvs(look, actual)
        self._served, self._sysctls = tables, goal
        await asyncio.to_thread(self._settle, force, tables, goal, done)
        if spec.director is not None:
            await self._judge(spec.director, tables)
        if self.arp_watch is not None:
            self.arp_watch.follow(spec, tables, self._interface, around.own)
        suspicious = await self._suspicions.look(spec, around, actual, deep=deep)
        seen = Seen(wanted, force, around, self._interface, actual, goal, done, situation.health, suspicious)
        redirected = self._redirects.addresses if self._redirects is not None else frozenset[str]()
        self._orders.give(spec, seen, tables, redirected=redirected, again=deep)
        return seen

    async def _judge(self, director: DirectorRole, tables: Mapping[str, DirectorTableSpec]) -> None:
        """Find out how fit the node is to be a director now, which the speaker is to hear."""
        view, now = self._prober.view(), self._clock()
        unserved = self._redirects.unserved if self._redirects is not None else frozenset[str]()
        look = partial(self._orders.fitness.look, unserved=unserved)
        await asyncio.to_thread(look, director, tables, view, self._assigner.state, now)

    async def poll(self) -> bool:
        """Tell whether a pass is needed although nothing told so. Raises KernelError.

        ARP settings raise no event when they change, nor does the end of a connection that a removal waits for.
        """
        if self._draining or self.drains.waiting or self.sockets.waiting or self._clock() >= self._orders.fitness.due:
            return True
        if self.weighing is not None and self._clock() >= self.weighing.due:
            return True
        if self._redirects is not None and self._redirects.news:
            return True
        if not self._sysctls.sysctls:
            return False
        repairs = arp_repairs(self._sysctls.sysctls, await self._door.read_sysctls(tuple(self._sysctls.sysctls)))
        return bool(self.drift.admit(repairs, self._clock())[0])

    def _with_lingering(
        self, spec: LVSNodeSpec, tables: Mapping[str, DirectorTableSpec]
    ) -> Mapping[str, DirectorTableSpec]:
        """Return the tables, and old ones whose VIP is still held although it is about to go."""
        held = frozenset(self._assigner.state.held)
        announced = frozenset(spec.director.addresses if spec.director else ())
        if not held or tables is self._served:
            return tables
        current = {table.address for table in tables.values()}
        lingering = {}
        for name, table in self._served.items():
            replaced = name not in tables or tables[name].address != table.address
            if replaced and table.address in held and not (table.address in announced and table.address in current):
                lingering[name if name not in tables else f"{name} at {table.address}"] = table
        return {**tables, **lingering} if lingering else tables

    async def _check(self, tables: Mapping[str, DirectorTableSpec], actual: KernelState) -> None:
        if tables is not self._checked:
            self._prober.update(*await asyncio.to_thread(self._checks.follow, tables, actual))
            self._checked = tables

    def _situation(
        self,
        spec: LVSNodeSpec,
        tables: Mapping[str, DirectorTableSpec],
        wanted: Wanted,
        around: Surroundings,
        actual: KernelState,
    ) -> Situation:
        unreadable = frozenset(
            one.address for name, one in wanted.refused.items() if name not in tables and one.address
        )
        return Situation(
            spec=spec,
            tables=tables,
            health=self._prober.view(),
            ledger=self._ledger.current,
            held=frozenset(self._assigner.state.held),
            reserved=around.reserved,
            unreadable=unreadable,
            owner=other_owner({interface.name for interface in around.interfaces}),
            link=sync_link(spec.director, self._interface, around.interfaces, around.virtual),
            interface=self._interface,
            strict=actual.sysctls.get(EVERYWHERE) == STRICT,
            macs=self._peers.look_for(spec, tables, self._interface, around.own) if self._peers else {},
        )

    async def _weighed(self, situation: Situation, actual: KernelState) -> Situation:
        """Return the situation with the weights that follow from slow start and load."""
        tables = situation.tables
        if self.weighing is None or not self.weighing.take(tables):
            return situation
        factors = await asyncio.to_thread(self.weighing.follow, tables, situation.health, actual, self._clock())
        return structs.replace(situation, factors=factors)

    def _needed(self, tables: Mapping[str, DirectorTableSpec]) -> frozenset[ServiceKey]:
        """Return what to look at even if the pass is not deep: changed tables, and where a count is waited for."""
        changed = (table for name, table in tables.items() if self._served.get(name) is not table)
        found = changed if tables is not self._served else ()
        return self.drains.services.union(*map(services_of, found))

    def _decide(self, situation: Situation, actual: KernelState) -> tuple[Desired, Plan, frozenset[ServiceKey]]:
        """Return what is wanted, what to do, and what must be read for that. In a thread: it takes a while."""
        goal, made = self._decider.decide(situation, actual, self._clock())
        return goal, made, concerned(made) & self._reader.unread

    def _settle(self, force: Force, tables: Mapping[str, DirectorTableSpec], goal: Desired, done: Done) -> None:
        """Note which tables are in the kernel now, and which still have something of before."""
        self._draining = bool(done.made.draining)
        self._reader.settled(concerned(done.made))
        if not goal.writable:
            return
        unfinished = [*done.withheld, *(one.op for one in done.failures if one.op.verb is Verb.DELETE)]
        busy = {key.service for key in done.made.draining}
        busy |= {op.key for op in unfinished if isinstance(op, ServiceOp)}
        busy |= {op.key.service for op in unfinished if isinstance(op, DestinationOp)}
        for name, table in tables.items():
            if name not in force.tables or name in self._succession.unsettled:
                busy |= services_of(table)
        paused = {name for name, table in force.tables.items() if table.paused}
        self.programmed.settle(force.tables, force.versions, busy=busy, untouched=paused)
