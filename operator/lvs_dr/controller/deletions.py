"""RealServers that are drained before they are deleted: our finalizer comes, and goes when the drain is over.

Only those whose user asked for it have one, so that nothing else that is deleted ever waits for the controller.
"""

import asyncio
import logging
from collections.abc import Iterator
from typing import NamedTuple

from lvs_dr.controller.errors import ControllerError, KindsMissing, NotLeading
from lvs_dr.controller.store import Store
from lvs_dr.controller.writer import Writer
from lvs_dr.core.conditions import is_true
from lvs_dr.core.drain_status import DRAINED
from lvs_dr.core.objects import Key, RealServer
from lvs_dr.process.metrics import Metrics

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class Wish(NamedTuple):
    """A RealServer whose finalizer is to come (`hold`) or go."""

    key: Key
    hold: bool


class Deletions:
    """Keeps finalizers in step with what users wish and with what has drained."""

    def __init__(self, store: Store, writer: Writer, metrics: Metrics) -> None:
        self._store = store
        self._writer = writer
        self._metrics = metrics
        self._failing: set[Key] = set()

    async def run(self) -> None:
        """Work until cancelled. Raises KindsMissing or NotLeading, after which the process must end."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Write the finalizers that are not as they should be."""
        for wish in list(self.wishes()):
            try:
                await self._writer.finalizer(wish.key, hold=wish.hold)
            except (KindsMissing, NotLeading):
                raise
            except ControllerError as error:
                level = logging.DEBUG if wish.key in self._failing else logging.WARNING
                log.log(level, "the finalizer of RealServer %s is tried again: %s", wish.key, error)
                self._failing.add(wish.key)
                self._metrics.count("lvs_controller_failures_total", error=type(error).__name__)
            else:
                self._failing.discard(wish.key)

    def wishes(self) -> Iterator[Wish]:
        """Return what is to change."""
        for key, each in self._store.world.real_servers.items():
            if not isinstance(each, RealServer):
                continue
            if each.deleting:
                if each.held and (not each.drains_first or self._drained(key)):
                    yield Wish(key, hold=False)
            elif each.drains_first != each.held:
                yield Wish(key, hold=each.drains_first)

    def _drained(self, key: Key) -> bool:
        """Tell whether the summary has said so: until then nobody has looked."""
        status = self._store.statuses.get(("RealServer", key))
        return status is not None and is_true(status.conditions, DRAINED)
