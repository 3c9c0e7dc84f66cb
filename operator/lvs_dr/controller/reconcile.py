"""The loop: what changed -> compile -> write.

One pass writes tables first and nodes after them, what takes something away before what adds. An object that cannot
be compiled or written harms only itself: it is tried again later, and readiness and metrics show it meanwhile.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from lvs_dr.controller import watched
from lvs_dr.controller.errors import ApiError, ControllerError, KindsMissing, NotLeading, OwnerGone, Unreachable
from lvs_dr.controller.guard import Guard, node_loss, table_loses
from lvs_dr.controller.pending import Item, Pending, merged
from lvs_dr.controller.store import Store
from lvs_dr.controller.watched import Watched
from lvs_dr.controller.writer import Owner, Writer
from lvs_dr.core.compile_node import compile_node
from lvs_dr.core.compile_table import compile_table
from lvs_dr.core.decisions import Action, Dirty, TableDecision
from lvs_dr.core.dirty import members_changed
from lvs_dr.core.node import LVSNodeSpec, table_key
from lvs_dr.core.objects import Invalid, Key, VirtualService
from lvs_dr.core.own_tables import names, orphans, possible_owners
from lvs_dr.core.world import TableRecord
from lvs_dr.process.metrics import Metrics

log = logging.getLogger(__name__)

SHOWN_AFTER_SECONDS = 30.0
AT_ONCE = 100  # services compiled between two turns of the event loop


class Step(NamedTuple):
    """One write of a pass."""

    item: Item
    removes: bool
    run: Callable[[], Awaitable[object]]


class Reconciler:
    """Owns the decisions of the last compile of each VirtualService."""

    def __init__(
        self,
        *,
        store: Store,
        pending: Pending,
        writer: Writer,
        guard: Guard,
        metrics: Metrics,
        relist: Callable[[Watched], None],
    ) -> None:
        self.decisions: dict[Key, TableDecision] = {}
        self.compiled: Callable[[Dirty], None] = lambda _: None
        """Told what was compiled, so that it is summarised."""
        self._replaced: set[Key] = set()  # tables that are deleted only to be written anew, for a new uid
        self._store = store
        self._pending = pending
        self._writer = writer
        self._guard = guard
        self._metrics = metrics
        self._relist = relist

    async def run(self) -> None:
        """Work until cancelled. Raises KindsMissing or NotLeading, after which the process must end."""
        while True:
            dirty = await self._pending.next()
            started = time.monotonic()
            await self.run_pass(dirty)
            self._metrics.count("lvs_controller_passes_total")
            self._metrics.count("lvs_controller_pass_seconds_total", time.monotonic() - started)

    async def run_pass(self, dirty: Dirty) -> None:
        """Compile and write everything in `dirty`."""
        keys, steps = sorted(dirty.services), list[Step]()
        for first in range(0, len(keys), AT_ONCE):
            steps += self._table_steps(keys[first : first + AT_ONCE])
            await asyncio.sleep(0)  # the Lease and the probes are answered by this event loop too
        await self._carry_out(steps)
        # What was just written changes what the nodes must be: take that along instead of writing them twice.
        dirty = merged(dirty, self._pending.take_nodes())
        await self._carry_out(self._node_steps(dirty.nodes))
        self.compiled(dirty)

    def mark_everything(self) -> None:
        """Compile all there is, for example after the first LIST of every kind."""
        world = self._store.world
        everything = Dirty(
            services=frozenset(world.owners(world.tables).union(world.virtual_services)),
            real_servers=frozenset(world.real_servers),
            groups=frozenset(world.groups),
            nodes=frozenset(world.nodes),
        )
        self._pending.add(everything)

    async def sweep(self) -> None:
        """Delete compiled objects whose owner is gone. Raises ControllerError."""
        world = self._store.world
        tables = [table for key in orphans(world) if (table := world.tables[key]).owner not in world.virtual_services]
        nodes = [record for name, record in world.lvs_nodes.items() if name not in world.nodes]
        if (tables or nodes) and not self._guard.held_for():
            await self._guard.removal()
            for table in tables:
                owner = Owner(table.owner, table.owner_uid)
                await self._writer.delete_without_owner(watched.DIRECTOR_TABLE, table.key, uid=table.uid, owner=owner)
            for node in nodes:
                key = Key("", node.name)
                owner = Owner(key, node.owner_uid)
                await self._writer.delete_without_owner(watched.LVS_NODE, key, uid=node.uid, owner=owner)

    def problem(self, now: float) -> str:
        """Say what has not worked for a while, "" when all is well. `now` is the queue's clock."""
        stuck = [(item, f) for item, f in self._pending.failures.items() if now - f.since >= SHOWN_AFTER_SECONDS]
        if not stuck:
            return ""
        item, failure = min(stuck, key=lambda each: each[1].since)
        return f"{len(stuck)} objects cannot be written, first {item}: {failure.error}"

    def _table_steps(self, keys: Iterable[Key]) -> list[Step]:
        steps = []
        for key in keys:
            item = Item("service", key)
            try:
                decision = compile_table(self._store.world, key)
            except Exception as error:  # one bad object must not stop the others
                log.exception("cannot compile %s", item)
                self._fail(item, error)
                continue
            self._remember(key, decision)
            others = {Item("service", key, each.table.name): each for each in decision.others}
            self._pending.keep_only(key, {each.table for each in others})
            self._replaced.difference_update(names(key))
            for each, of in ((item, decision), *others.items()):
                step = self._table_step(each, of)
                if step is None:
                    self._pending.succeeded(each)
                else:
                    steps.append(step)
        return steps

    def _remember(self, key: Key, decision: TableDecision) -> None:
        before = self.decisions.pop(key, None)
        present = key in self._store.world.virtual_services
        if present:
            self.decisions[key] = decision
        self.compiled(Dirty(real_servers=members_changed(before, decision if present else None)))

    def _table_step(self, item: Item, decision: TableDecision) -> Step | None:
        key, world = decision.table, self._store.world
        record, owner = world.tables.get(key), world.virtual_services.get(decision.key)
        if decision.action is Action.DELETE and record is not None:
            uid = record.uid
            if replaced := _same_claim(record, owner):
                self._replaced.add(key)
            return Step(item, not replaced, lambda: self._writer.delete(watched.DIRECTOR_TABLE, key, uid))
        if decision.action is Action.WRITE and decision.spec is not None and owner is not None:
            spec, by = decision.spec, Owner(decision.key, owner.meta.uid)
            if record is not None and (record.spec, record.owner_uid) == (spec, by.uid):
                return None
            return Step(item, table_loses(record, spec), lambda: self._writer.table(key, spec, by))
        return None

    def _node_steps(self, names: Iterable[str]) -> list[Step]:
        steps = []
        for name in sorted(names):
            item = Item("node", Key("", name))
            try:
                spec = compile_node(self._store.world, name)
            except Exception as error:  # one bad object must not stop the others
                log.exception("cannot compile %s", item)
                self._fail(item, error)
                continue
            if (step := self._node_step(item, name, spec)) is not None:
                steps.append(step)
        return steps

    def _node_step(self, item: Item, name: str, spec: LVSNodeSpec | None) -> Step | None:
        world = self._store.world
        record, node = world.lvs_nodes.get(name), world.nodes.get(name)
        if spec is None or node is None:
            self._pending.succeeded(item)
            return None
        owner_uid = node.meta.uid
        if record is not None and (record.spec, record.owner_uid) == (spec, owner_uid):
            self._pending.succeeded(item)
            return None
        loss = node_loss(record, spec)
        if unwritten := [table for table in sorted(loss.tables) if self._is_to_be_written(table_key(table))]:
            # Deleted by mistake, or with a VirtualService that is back already: nobody wants it gone.
            self._fail(item, f"waiting for DirectorTable {unwritten[0]} to be written again")
            return None
        return Step(item, bool(loss), lambda: self._writer.node(name, spec, owner_uid))

    def _is_to_be_written(self, key: Key) -> bool:
        found = (self.decisions.get(owner) for owner in possible_owners(key))
        wanted = any(each.table == key and each.action is Action.WRITE for each in found if each is not None)
        return key not in self._store.world.tables and (wanted or key in self._replaced)

    async def _carry_out(self, steps: list[Step]) -> None:
        removals = [step for step in steps if step.removes]
        if removals:
            if held := self._guard.held_for():
                for step in removals:
                    self._fail(step.item, f"removals are held for another {held:.0f} s")
                removals = []
            else:
                removals = await self._checked(removals)
        await asyncio.gather(*(self._step(step) for step in removals))
        await asyncio.gather(*(self._step(step) for step in steps if not step.removes))

    async def _checked(self, removals: list[Step]) -> list[Step]:
        try:
            await self._guard.removal()
        except (ApiError, Unreachable) as error:
            for step in removals:
                self._fail(step.item, error)
            return []
        return removals

    async def _step(self, step: Step) -> None:
        try:
            await step.run()
        except (KindsMissing, NotLeading):
            raise
        except ControllerError as error:
            self._fail(step.item, error)
            if isinstance(error, OwnerGone):
                # Its deletion was missed: only a LIST tells.
                self._relist(watched.VIRTUAL_SERVICE if step.item.kind == "service" else watched.NODE)
        else:
            self._pending.succeeded(step.item)

    def _fail(self, item: Item, error: Exception | str) -> None:
        name = "Held" if isinstance(error, str) else type(error).__name__
        self._metrics.count("lvs_controller_failures_total", error=name)
        first = item not in self._pending.failures
        log.log(logging.WARNING if first else logging.DEBUG, "%s is tried again later: %s", item, error)
        self._pending.failed(item, str(error))


def _same_claim(record: TableRecord, owner: VirtualService | Invalid | None) -> bool:
    """Tell whether a table's VirtualService was deleted and created anew for the same VIP."""
    return isinstance(owner, VirtualService) and (owner.address, owner.director_group) == (
        record.spec.address,
        record.spec.director_group,
    )
