"""When the time of draining RealServers is over.

Measured by the wall clock, from the time of transition of their condition `Drained`: it is in the API server, so that
a new leader, or a restart, goes on where the one before was.
"""

import asyncio
import datetime as dt
import logging
from collections.abc import Callable

from lvs_dr.controller.store import Store
from lvs_dr.core.conditions import find
from lvs_dr.core.decisions import Dirty
from lvs_dr.core.dirty import drain_over_changed
from lvs_dr.core.drain_status import DRAINED, drain_end
from lvs_dr.core.objects import Key, RealServer, RealServerState
from lvs_dr.core.status import ConditionStatus

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


def utc_now() -> dt.datetime:
    """Return the time."""
    return dt.datetime.now(dt.UTC)


class Drains:
    """Keeps `World.drain_over` up to date."""

    def __init__(self, store: Store, dirty: Callable[[Dirty], None], now: Callable[[], dt.datetime] = utc_now) -> None:
        self._store = store
        self._dirty = dirty
        self._now = now
        self._unreadable: set[Key] = set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Note whose time is over."""
        now, world = self._now(), self._store.world
        over = {
            key
            for key, each in world.real_servers.items()
            if isinstance(each, RealServer) and each.state is RealServerState.DRAIN and self._is_over(key, each, now)
        }
        changed = over ^ self._store.drain_over
        for key in sorted(over - self._store.drain_over):
            log.warning("RealServer %s is taken out with what connections it has: its drain's time is over", key)
        self._store.drain_over.clear()
        self._store.drain_over.update(over)
        for key in sorted(changed):
            self._dirty(drain_over_changed(world, key))

    def _is_over(self, key: Key, real_server: RealServer, now: dt.datetime) -> bool:
        """Tell whether it drains for longer than it may. Once it has been taken out, its time stays over."""
        status = self._store.statuses.get(("RealServer", key))
        condition = find(status.conditions, DRAINED) if status is not None else None
        if condition is None or condition.status is not ConditionStatus.FALSE:
            return False
        try:
            end = drain_end(condition.last_transition_time, real_server.drain_seconds)
        except ValueError as error:
            if key not in self._unreadable:
                log.warning("RealServer %s: since when it drains cannot be read: %s", key, error)
                self._unreadable.add(key)
            return False
        return end is not None and now >= end
