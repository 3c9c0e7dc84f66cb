"""How long a changed VIP has been coming up: after five minutes the one before is no longer kept for it.

Measured by the wall clock, from the time at which the younger of the two tables was created: it is in the API server,
so that a new leader, or a restart, goes on where the one before was.
"""

import asyncio
import datetime as dt
import logging
from collections.abc import Callable, Mapping

from lvs_dr.controller.drains import utc_now
from lvs_dr.controller.store import Store
from lvs_dr.core.decisions import Dirty, TableDecision
from lvs_dr.core.handover import HANDOVER_SECONDS
from lvs_dr.core.objects import Key
from lvs_dr.core.world import TableRecord

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
LIMIT = dt.timedelta(seconds=HANDOVER_SECONDS)


class Handovers:
    """Keeps `World.overdue` up to date."""

    def __init__(
        self,
        store: Store,
        decisions: Mapping[Key, TableDecision],
        dirty: Callable[[Dirty], None],
        now: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self._store = store
        self._decisions = decisions
        self._dirty = dirty
        self._now = now
        self._unreadable: set[str] = set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Note which tables wait to take over, and which of them have done so for too long."""
        now, tables = self._now(), self._store.world.tables
        waiting: dict[str, Key] = {}  # by uid of the table for the new VIP
        overdue: set[str] = set()
        for key, decision in self._decisions.items():
            former = tables.get(decision.former.table) if decision.former is not None else None
            present = tables.get(decision.table)
            if former is None or present is None:
                continue
            waiting[present.uid] = key
            if self._is_late(former, present, now):
                overdue.add(present.uid)
        for uid in sorted(overdue - self._store.overdue):
            log.warning(
                "the VIP before of %s is given up: the new one is not served after %d s", waiting[uid], HANDOVER_SECONDS
            )
        changed = frozenset(waiting[uid] for uid in overdue ^ self._store.overdue if uid in waiting)
        self._store.overdue.clear()
        self._store.overdue.update(overdue)
        if changed:
            self._dirty(Dirty(services=changed))

    def _is_late(self, former: TableRecord, present: TableRecord, now: dt.datetime) -> bool:
        """Tell whether both have been there for too long."""
        try:
            began = max(dt.datetime.fromisoformat(each.created) for each in (former, present))
        except ValueError as error:
            if present.uid not in self._unreadable:
                log.warning("DirectorTable %s: since when it is there cannot be read: %s", present.key, error)
                self._unreadable.add(present.uid)
            return False
        return now - began >= LIMIT
