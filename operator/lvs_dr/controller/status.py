"""Writes what is true of the users' objects to their status, when it changed.

A changed condition is written at once, unless the object was written a moment ago: on its way to Ready an object passes
many states. Counts and other details are written at most once a second per object.
"""

import asyncio
import datetime as dt
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from lvs_dr.controller import watched
from lvs_dr.controller.errors import ControllerError, NotLeading
from lvs_dr.controller.events import Recorder
from lvs_dr.controller.store import Status, Store
from lvs_dr.controller.watched import Watched
from lvs_dr.controller.writer import Writer
from lvs_dr.core import summary
from lvs_dr.core.decisions import Dirty, TableDecision
from lvs_dr.core.objects import Key
from lvs_dr.core.status import DirectorGroupStatus, RealServerStatus, VirtualServiceStatus
from lvs_dr.process.metrics import Metrics

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.02
URGENT_SECONDS = 0.3
DETAIL_SECONDS = 1.0
RETRY_SECONDS = 2.0
AT_ONCE = 32  # more than are in flight to the API server, few enough to let the event loop turn


Kept = TypeVar("Kept", VirtualServiceStatus, RealServerStatus, DirectorGroupStatus)


class Subject(NamedTuple):
    """A user's object whose status is kept."""

    kind: Watched
    key: Key


def wall_clock() -> str:
    """Return the time as Kubernetes writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def urgent(before: Status | None, after: Status) -> bool:
    """Tell whether a condition changed, and not only a count or a text."""
    if before is None or before.observed_generation != after.observed_generation:
        return True
    return _states(before) != _states(after)


def _states(status: Status) -> list[tuple[str, str, str, int]]:
    return [(each.type, each.status, each.reason, each.observed_generation) for each in status.conditions]


class StatusKeeper:
    """One loop that summarises what is marked. `clock` is monotonic."""

    def __init__(
        self,
        *,
        store: Store,
        writer: Writer,
        decisions: Mapping[Key, TableDecision],
        recorder: Recorder,
        metrics: Metrics,
        clock: Callable[[], float],
        now: Callable[[], str] = wall_clock,
    ) -> None:
        self._store = store
        self._writer = writer
        self._decisions = decisions
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._due: dict[Subject, float] = {}
        self._written: dict[Subject, float] = {}
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)

    def mark(self, dirty: Dirty) -> None:
        """Summarise these objects soon."""
        now = self._clock()
        for subject in self._subjects(dirty):
            self._due[subject] = min(now + GATHER_SECONDS, self._due.get(subject, now + GATHER_SECONDS))
        self._wake.set()

    def _subjects(self, dirty: Dirty) -> list[Subject]:
        return [
            *(Subject(watched.VIRTUAL_SERVICE, key) for key in dirty.services),
            *(Subject(watched.REAL_SERVER, key) for key in dirty.real_servers),
            *(Subject(watched.DIRECTOR_GROUP, Key("", name)) for name in dirty.groups),
        ]

    async def run(self) -> None:
        """Work until cancelled. Raises NotLeading, after which the process must end."""
        while True:
            self._wake.clear()
            if not self._due:
                await self._wake.wait()
            else:
                pause = min(self._due.values()) - self._clock()
                try:
                    async with asyncio.timeout(max(0.001, pause)):
                        await self._wake.wait()
                except TimeoutError:
                    await self.write_due()

    async def write_due(self) -> None:
        """Summarise and write what is due now."""
        now = self._clock()
        due = [subject for subject, at in self._due.items() if at <= now]
        for subject in due:
            del self._due[subject]
        await asyncio.gather(*(self._keep(subject) for subject in due))

    async def _keep(self, subject: Subject) -> None:
        async with self._slots:
            await self._summarise(subject)

    async def _summarise(self, subject: Subject) -> None:
        kind, key = subject
        before = self._store.statuses.get((kind.kind, key))
        try:
            after = self._summary(subject, before)
        except Exception:  # one bad object must not stop the others
            log.exception("cannot summarise %s %s", kind.kind, key)
            self._metrics.count("lvs_controller_failures_total", error="Summary")
            return
        if after is None:
            self._written.pop(subject, None)
            return
        if after == before:
            return
        now = self._clock()
        pause = URGENT_SECONDS if urgent(before, after) else DETAIL_SECONDS
        allowed = self._written.get(subject, float("-inf")) + pause
        if now < allowed:
            self._later(subject, allowed)
            return
        self._written[subject] = now
        try:
            await self._writer.status(kind, key, after)
        except NotLeading:
            raise
        except ControllerError as error:
            log.warning("status of %s %s is tried again: %s", kind.kind, key, error)
            self._metrics.count("lvs_controller_failures_total", error=type(error).__name__)
            self._later(subject, self._clock() + RETRY_SECONDS)
        else:
            self._recorder.record(kind, key, self._store.uid(kind.kind, key), summary.events(before, after))

    def _later(self, subject: Subject, at: float) -> None:
        self._due[subject] = min(at, self._due.get(subject, at))
        self._wake.set()

    def _summary(self, subject: Subject, before: Status | None) -> Status | None:
        """Return the status as it should be; None when the object is gone."""
        world, key = self._store.world, subject.key
        if subject.kind is watched.VIRTUAL_SERVICE:
            decision = self._decisions.get(key)
            if key not in world.virtual_services or decision is None:
                return None
            return summary.virtual_service_status(world, key, decision, _as(VirtualServiceStatus, before), self._now())
        if subject.kind is watched.REAL_SERVER:
            if key not in world.real_servers:
                return None
            return summary.real_server_status(world, key, self._decisions, _as(RealServerStatus, before), self._now())
        if key.name not in world.groups:
            return None
        return summary.director_group_status(world, key.name, _as(DirectorGroupStatus, before), self._now())


def _as(kind: type[Kept], status: Status | None) -> Kept | None:
    return status if isinstance(status, kind) else None
