"""How long a changed VIP has been coming up: after five minutes the one before is no longer kept for it.

Measured by this process's own clock, from when it first saw both tables: a new leader starts anew.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from lvs_dr.controller.store import Store
from lvs_dr.core.decisions import Dirty, TableDecision
from lvs_dr.core.handover import HANDOVER_SECONDS
from lvs_dr.core.objects import Key

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0


class Handovers:
    """Keeps `World.overdue` up to date. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        store: Store,
        decisions: Mapping[Key, TableDecision],
        dirty: Callable[[Dirty], None],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._decisions = decisions
        self._dirty = dirty
        self._clock = clock
        self._since: dict[str, float] = {}  # by uid of the table for the new VIP

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Note which tables wait to take over, and which of them have done so for too long."""
        now, waiting = self._clock(), self._waiting()
        self._since = {uid: self._since.get(uid, now) for uid in waiting}
        overdue = {uid for uid, since in self._since.items() if now - since >= HANDOVER_SECONDS}
        for uid in sorted(overdue - self._store.overdue):
            log.warning(
                "the VIP before of %s is given up: the new one is not served after %d s", waiting[uid], HANDOVER_SECONDS
            )
        changed = frozenset(waiting[uid] for uid in overdue ^ self._store.overdue if uid in waiting)
        self._store.overdue.clear()
        self._store.overdue.update(overdue)
        if changed:
            self._dirty(Dirty(services=changed))

    def _waiting(self) -> dict[str, Key]:
        found = {}
        for key, decision in self._decisions.items():
            former, tables = decision.former, self._store.world.tables
            if former is not None and former.table in tables and decision.table in tables:
                found[tables[decision.table].uid] = key
        return found
