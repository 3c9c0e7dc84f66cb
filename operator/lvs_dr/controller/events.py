"""Kubernetes Events for people: few, and each told once with a count.

The same text about the same object is one Event that is counted up (`series`); every object has a small budget that
refills slowly; what exceeds it is counted in the metrics and dropped, because conditions hold the truth anyway.
"""

import asyncio
import hashlib
import logging
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from lvs_dr.controller.apiclient import Api, Body
from lvs_dr.controller.errors import ControllerError, NotFound
from lvs_dr.controller.leader import micro_time
from lvs_dr.controller.watched import Watched
from lvs_dr.core.objects import Key
from lvs_dr.process.metrics import Metrics

log = logging.getLogger(__name__)

BURST = 10.0
REFILL_PER_SECOND = 1 / 30
REMEMBERED_OBJECTS = 4096
REMEMBERED_EVENTS = 4096
QUEUE = 1000
NOTE_CHARACTERS = 1024
COMPONENT = "lvs-operator.io/controller"


class Note(Protocol):
    """What `core.summary.events` returns."""

    @property
    def type(self) -> str:
        """Normal or Warning."""

    @property
    def reason(self) -> str:
        """Reason in one word."""

    @property
    def message(self) -> str:
        """Text for people."""


class Posting(NamedTuple):
    """One Event to create, or to count up when `times` is above 1."""

    kind: Watched
    key: Key
    uid: str
    type: str
    reason: str
    message: str
    process: str
    times: int

    @property
    def name(self) -> str:
        """Name of the Event object: the same for the same text about the same object, in one process.

        (All but `series` of an Event is immutable.)
        """
        told = f"{self.process}/{self.uid}/{self.type}/{self.reason}/{self.message}"
        return f"{self.key.name[:230]}.{hashlib.sha256(told.encode()).hexdigest()[:16]}"

    @property
    def namespace(self) -> str:
        """Events about cluster-scoped objects live in `default`."""
        return self.key.namespace or "default"


class Budget:
    """Token buckets, one per object; the least recently used are forgotten."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, uid: str) -> bool:
        """Take a token of this object; False when none is left."""
        now = self._clock()
        tokens, at = self._buckets.pop(uid, (BURST, now))
        tokens = min(BURST, tokens + (now - at) * REFILL_PER_SECOND)
        granted = tokens >= 1
        self._buckets[uid] = (tokens - 1 if granted else tokens, now)
        while len(self._buckets) > REMEMBERED_OBJECTS:
            self._buckets.popitem(last=False)
        return granted


class Recorder:
    """Queue of Events; posting them never delays anything else."""

    def __init__(
        self,
        api: Api,
        identity: str,
        metrics: Metrics,
        clock: Callable[[], float],
        stamp: Callable[[], str] = micro_time,
    ) -> None:
        self._api = api
        self._identity = identity
        self._metrics = metrics
        self._stamp = stamp
        self._process = secrets.token_hex(4)
        self._budget = Budget(clock)
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._queue: deque[Posting] = deque()
        self._wake = asyncio.Event()

    def record(self, kind: Watched, key: Key, uid: str, notes: Iterable[Note]) -> None:
        """Queue Events about one object."""
        for note in notes:
            if not uid or len(self._queue) >= QUEUE or not self._budget.take(uid):
                self._metrics.count("lvs_controller_kubernetes_events_total", result="dropped")
                continue
            posting = Posting(kind, key, uid, note.type, str(note.reason), note.message, self._process, 1)
            count = self._counts.pop(posting.name, 0) + 1
            self._counts[posting.name] = count
            while len(self._counts) > REMEMBERED_EVENTS:
                self._counts.popitem(last=False)
            self._queue.append(posting._replace(times=count))
        self._wake.set()

    def pending(self) -> tuple[Posting, ...]:
        """Return what is queued."""
        return tuple(self._queue)

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            self._wake.clear()
            await self.post_queued()
            await self._wake.wait()

    async def post_queued(self) -> None:
        """Post what is queued now."""
        while self._queue:
            await self._post(self._queue.popleft())

    async def _post(self, posting: Posting) -> None:
        try:
            if posting.times == 1 or not await self._count_up(posting):
                await self._create(posting)
            self._metrics.count("lvs_controller_kubernetes_events_total", result="posted")
        except ControllerError as error:
            # Nothing depends on Events: the conditions say the same.
            log.warning("Event %s about %s %s is lost: %s", posting.reason, posting.kind.kind, posting.key, error)
            self._metrics.count("lvs_controller_kubernetes_events_total", result="failed")

    async def _create(self, posting: Posting) -> None:
        collection = f"/apis/events.k8s.io/v1/namespaces/{posting.namespace}/events"
        await self._api.request("POST", collection, body=self._body(posting))

    async def _count_up(self, posting: Posting) -> bool:
        path = f"/apis/events.k8s.io/v1/namespaces/{posting.namespace}/events/{posting.name}"
        series = {"count": posting.times, "lastObservedTime": self._stamp()}
        try:
            await self._api.request(
                "PATCH",
                path,
                body={"series": series},
                content_type="application/merge-patch+json",
            )
        except NotFound:
            return False
        return True

    def _body(self, posting: Posting) -> Body:
        regarding = {
            "apiVersion": posting.kind.api_version,
            "kind": posting.kind.kind,
            "name": posting.key.name,
            "uid": posting.uid,
        }
        if posting.key.namespace:
            regarding["namespace"] = posting.key.namespace
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": posting.name, "namespace": posting.namespace},
            "eventTime": self._stamp(),
            "reportingController": COMPONENT,
            "reportingInstance": self._identity[:128],
            "action": posting.reason,
            "reason": posting.reason,
            "type": posting.type,
            "note": posting.message[:NOTE_CHARACTERS],
            "regarding": regarding,
        }
