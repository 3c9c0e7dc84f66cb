"""The agent's parts, put together: watches in, passes, health checks, speaker, report and Lease out."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from msgspec import structs

from lvs_dr.agent.apiclient import ApiClient
from lvs_dr.agent.arp_watch import ArpWatch
from lvs_dr.agent.arp_watch import Asker as ArpAsker
from lvs_dr.agent.assigner import Assigner
from lvs_dr.agent.desired import DesiredState
from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.facts import MAXIMUM_PROBLEMS, TableReports, problem, status
from lvs_dr.agent.groupwatch import GroupWatch
from lvs_dr.agent.health.checkers import Checkers
from lvs_dr.agent.health.marks import Marks
from lvs_dr.agent.health.prober import Prober
from lvs_dr.agent.inforce import InForce
from lvs_dr.agent.lastgood import LastGoodFile
from lvs_dr.agent.lastgood_keeper import NAME as LAST_GOOD
from lvs_dr.agent.lastgood_keeper import LastGoodKeeper
from lvs_dr.agent.lease import LeaseKeeper
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.load.asking import Asker
from lvs_dr.agent.load.reader import LoadReader
from lvs_dr.agent.load.weighing import Weighing
from lvs_dr.agent.loop import Loop
from lvs_dr.agent.metrics import METRICS, watch_parts
from lvs_dr.agent.onepass import NodePass
from lvs_dr.agent.peers import PeerMacs, Resolver
from lvs_dr.agent.redirects import Redirecting, Redirects
from lvs_dr.agent.report import LVSNODES, Reporter
from lvs_dr.agent.secrets import Secrets
from lvs_dr.agent.seen import Seen
from lvs_dr.agent.settings import Settings
from lvs_dr.agent.telling import facts
from lvs_dr.agent.watch import Watch
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.node_status import LVSNodeStatus
from lvs_dr.core.reasons import Reason
from lvs_dr.process.metrics import Metrics
from lvs_dr.vrrp.messages import Speaker

log = logging.getLogger(__name__)

RESTART_SECONDS = 1.0


class Agent:
    """One agent. Everything runs in the event loop, but for the kernel's thread and the disk."""

    def __init__(
        self,
        settings: Settings,
        *,
        client: ApiClient,
        door: KernelDoor,
        speaker: Speaker,
        ledger: LedgerFile,
        last_good: LastGoodFile,
        resolver: Resolver | None = None,
        asker: ArpAsker | None = None,
        speaker_repairs: Callable[[], int] = lambda: 0,
        more: Mapping[str, Callable[[], Awaitable[None]]] | None = None,
    ) -> None:
        self._settings = settings
        self._client = client
        self._door = door
        self._ledger = ledger
        self._stored = last_good
        self._speaker_repairs = speaker_repairs
        self._more = dict(more or {})
        self.metrics = Metrics(METRICS)
        self.troubles: dict[str, str] = {}  # of parts other than the loop, for the report
        self.source = DesiredState(settings.node, wake=self.wake)
        self._tables = GroupWatch(client, self.source, idle=settings.watch_idle)
        self.in_force = InForce(settings.node)
        self._last_good = LastGoodKeeper(last_good, self.in_force, self.source, troubles=self.troubles)
        self.secrets = Secrets(client, settings.namespace, changed=self.wake)
        self._checkers = Checkers(settings.check_scripts, self.secrets.read)
        self.marks = Marks(door.mark_use, changed=self._marks_changed)
        self._checkers.asked, self._checkers.hops = self.marks.asked, self.marks.hops
        self.prober = Prober(
            changed=self.wake, counted=self._checked, check=settings.check or self._checkers, marks=self.marks
        )
        self.loads = LoadReader(settings.ask_load or Asker(settings.load_port))
        self.redirects = Redirects(
            settings.redirector_socket,
            uids=settings.redirector_uids,
            secret=self.secrets.read,
            loads=self.loads,
            wake=self.wake,
        )
        self.assigner = Assigner(speaker, wake=self.wake)
        self.peers = PeerMacs(resolver, changed=self.wake) if resolver is not None else None
        self.arp_watch = ArpWatch(asker, changed=self.wake) if asker is not None else None
        self.node_pass = NodePass(
            source=self.source,
            in_force=self.in_force,
            door=door,
            ledger=ledger,
            assigner=self.assigner,
            prober=self.prober,
            weighing=Weighing(self.loads),
            marks=self.marks,
            arp_watch=self.arp_watch,
            peers=self.peers,
            redirects=self.redirects,
        )
        self.loop = Loop(
            self._pass,
            self.node_pass.poll,
            failed=self._failed,
            resync=settings.resync,
            poll_every=settings.poll,
        )
        self.reporter = Reporter(
            client,
            settings.node,
            counted=partial(self.metrics.count, "lvs_agent_report_writes_total"),
            least_gap=settings.report_gap,
        )
        self.lease = LeaseKeeper(
            client,
            namespace=settings.namespace,
            node=settings.node,
            identity=settings.identity or settings.node,
            alive=self.alive,
            holding=lambda: bool(self.assigner.state.held),
        )
        self._node_watch = Watch(
            client,
            LVSNODES,
            LVSNodeSpec,
            self.source.nodes,
            field_selector=f"metadata.name={settings.node}",
            idle=settings.watch_idle,
        )
        self._status: LVSNodeStatus | None = None
        self._table_reports = TableReports()
        watch_parts(
            self.metrics,
            loop=self.loop,
            prober=self.prober,
            loads=self.loads,
            redirects=self.redirects,
            assigner=self.assigner,
            repairs=self.repairs,
            restarts=lambda: self._node_watch.restarts + self._tables.restarts,
        )

    def alive(self) -> bool:
        """Whether passes make progress."""
        return self.loop.alive() and not self._door.stuck

    def healthy(self) -> str:
        """Return why the process should be restarted, "" if it should not."""
        return "" if self.alive() else "the loop makes no progress"

    def well(self) -> bool:
        """Whether passes succeed: what the speaker hears of us. Without that another director is the better one."""
        return self.alive() and self.loop.succeeding()

    def repairs(self) -> int:
        """Return how much drift was repaired since the start."""
        return self.node_pass.drift.repairs + self._speaker_repairs()

    def _marks_changed(self) -> None:
        self.prober.marks_changed()
        self.wake()

    def wake(self) -> None:
        """Have a pass made soon."""
        self.loop.wake()

    def restore(self) -> bool:
        """Start from the last good state on disk; returns whether there is one. Before `run`."""
        stored = self._stored.load(self._settings.node)
        if stored is None:
            return False
        self.source.restore(stored)
        # In force before the first list: what a relist takes away is measured against it.
        self.in_force.follow(self.source.take(), time.monotonic())
        ledger = self._ledger.current
        services = frozenset(ledger.services) | {key for key, _ in ledger.adopted_services}
        versions = {name: table.version for name, table in stored.tables.items()}
        tables = {name: table.spec for name, table in stored.tables.items()}
        self.node_pass.programmed.start_from(tables, versions, services)
        return True

    async def run(self) -> None:
        """Run until `loop.stop()`. The kernel stays as it is."""
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "speaker": self.assigner.run,
            "health checks": self.prober.run,
            "loads of real servers": self.loads.run,
            "report": self.reporter.run,
            "lease": self.lease.run,
            "watch of the LVSNode": self._node_watch.run,
            "watch of the DirectorTables": self._tables.run,
            LAST_GOOD: self._last_good.run,
            "Secrets": self.secrets.run,
            "redirector": self.redirects.run,
            **self._more,
        }
        if self.peers is not None:
            parts["MAC addresses of peers"] = self.peers.run
        if self.arp_watch is not None:
            parts["ARP of real servers"] = self.arp_watch.run
        tasks = [asyncio.create_task(self._kept_running(name, part), name=name) for name, part in parts.items()]
        try:
            await self.loop.run()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._checkers.close()
            self._last_good.save()

    async def _kept_running(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run a part for ever; what it raises is logged, reported, and the part started again."""
        while True:
            try:
                await part()
            except Exception as error:
                log.exception("%s failed", name)
                self.troubles[name] = f"{name}: {type(error).__name__}: {error}"
                self.wake()
            await asyncio.sleep(RESTART_SECONDS)

    # Passes.

    async def _pass(self, deep: bool) -> None:  # noqa: FBT001 - the loop's only word
        seen = await self.node_pass.once(deep=deep)
        self.metrics.count("lvs_agent_operations_total", seen.done.carried_out)
        self.metrics.count("lvs_agent_operations_failed_total", len(seen.done.failures))
        self._last_good.look()
        role = seen.force.spec.director if seen.force is not None else None
        self.secrets.want(role.secrets if role is not None else ())
        redirects = Redirecting(self.redirects.troubles(), self.redirects.in_flight())
        self._status = await asyncio.to_thread(self._describe, seen, redirects)
        if seen.wanted.present:
            self.reporter.offer(self._status, again=seen.wanted.unreported)

    def _describe(self, seen: Seen, redirects: Redirecting) -> LVSNodeStatus:
        """Return what to report of a pass. Runs in a thread: it reads, and changes nothing that others read."""
        told = facts(
            seen,
            node_pass=self.node_pass,
            in_force=self.in_force,
            ledger=self._ledger.current,
            speaker=self.assigner.state,
            exposed=self.assigner.exposed,
            agent_version=self._settings.version,
            boot_id=self._settings.boot_id,
            secrets=self.secrets.problems(),
            redirects=redirects,
            troubles=[*self.troubles.values(), self.assigner.trouble, self.peers.trouble if self.peers else ""],
            repairs=self.repairs(),
            now=time.monotonic(),
        )
        outcomes = partial(self.prober.outcome, seen.health)
        return status(told, outcomes, self._table_reports(told, outcomes, seen.health))

    def _failed(self, text: str) -> None:
        """Say in the report that passes fail; the rest of it stays as it was last seen."""
        self.metrics.count("lvs_agent_pass_failures_total")
        if self.source.present:
            before = self._status or LVSNodeStatus(agent_version=self._settings.version, boot_id=self._settings.boot_id)
            self.reporter.offer(with_trouble(before, text))

    def _checked(self, success: bool) -> None:  # noqa: FBT001 - a result
        self.metrics.count("lvs_agent_checks_total")
        if not success:
            self.metrics.count("lvs_agent_checks_failed_total")


def with_trouble(before: LVSNodeStatus, text: str) -> LVSNodeStatus:
    """Return a status that also says that passes fail."""
    told = problem(Reason.KERNEL_REFUSED, f"the last pass failed: {text}")
    others = tuple(one for one in before.problems if not one.message.startswith("the last pass failed: "))
    return structs.replace(before, problems=(told, *others)[:MAXIMUM_PROBLEMS])
