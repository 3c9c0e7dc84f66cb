"""What waits to be compiled: changes gather here for a moment, failures come back later.

A burst of changes becomes one pass: the queue hands over when nothing has come for `IDLE_SECONDS`, and after
`LONGEST_SECONDS` at the latest. A key that failed is handed over again after a pause that doubles.
"""

import asyncio
import random
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from lvs_dr.core.decisions import Dirty
from lvs_dr.core.objects import Key

IDLE_SECONDS = 0.01
LONGEST_SECONDS = 0.1
FIRST_RETRY_SECONDS = 0.2
LAST_RETRY_SECONDS = 30.0


class Item(NamedTuple):
    """One thing to compile: a service or a node."""

    kind: str  # "service" or "node"
    key: Key
    table: str = ""  # of a service: which of its tables, when it is not the one for its VIP

    def __str__(self) -> str:
        what = f"{self.kind} {self.key if self.key.namespace else self.key.name}"
        return f"{what} ({self.table})" if self.table else what


def merged(left: Dirty, right: Dirty) -> Dirty:
    """Return the union."""
    return Dirty(
        services=left.services | right.services,
        real_servers=left.real_servers | right.real_servers,
        groups=left.groups | right.groups,
        nodes=left.nodes | right.nodes,
    )


def items(dirty: Dirty) -> frozenset[Item]:
    """Return what of `dirty` compiles to an object."""
    services = (Item("service", key) for key in dirty.services)
    return frozenset((*services, *(Item("node", Key("", name)) for name in dirty.nodes)))


def dirty_of(failed: Iterable[Item]) -> Dirty:
    """Return the inverse of `items`."""
    gathered = frozenset(failed)
    return Dirty(
        services=frozenset(item.key for item in gathered if item.kind == "service"),
        nodes=frozenset(item.key.name for item in gathered if item.kind == "node"),
    )


class Failure(NamedTuple):
    """An item that could not be carried out."""

    attempts: int
    since: float
    due: float
    error: str


class Pending:
    """Queue of one consumer. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float], jitter: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._jitter = jitter
        self._dirty = Dirty()
        self._first = 0.0
        self._last = 0.0
        self._wake = asyncio.Event()
        self.failures: dict[Item, Failure] = {}

    def add(self, dirty: Dirty) -> None:
        """Gather what has to be compiled."""
        if dirty == Dirty():
            return
        now = self._clock()
        if self._dirty == Dirty():
            self._first = now
        self._last = now
        self._dirty = merged(self._dirty, dirty)
        self._wake.set()

    def failed(self, item: Item, error: str) -> None:
        """Hand `item` over again later."""
        now = self._clock()
        known = self.failures.get(item)
        attempts = known.attempts + 1 if known else 1
        pause = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(attempts - 1, 20)) * (0.75 + self._jitter() / 2)
        self.failures[item] = Failure(attempts, known.since if known else now, now + pause, error)
        self._wake.set()

    def succeeded(self, item: Item) -> None:
        """Forget an earlier failure."""
        self.failures.pop(item, None)

    def keep_only(self, key: Key, tables: Collection[str]) -> None:
        """Forget failures of a service's other tables than these."""
        for item in [each for each in self.failures if each.key == key and each.table and each.table not in tables]:
            del self.failures[item]

    def due_in(self) -> float | None:
        """Seconds until the next hand-over, 0 when it is due; None when nothing waits."""
        times = [failure.due for failure in self.failures.values()]
        if self._dirty != Dirty():
            times.append(min(self._last + IDLE_SECONDS, self._first + LONGEST_SECONDS))
        return max(0.0, min(times) - self._clock()) if times else None

    def take(self) -> Dirty:
        """Return what is due now, with the failed items whose pause is over."""
        now = self._clock()
        again = dirty_of(item for item, failure in self.failures.items() if failure.due <= now)
        taken, self._dirty = merged(self._dirty, again), Dirty()
        return taken

    def take_nodes(self) -> Dirty:
        """Return the nodes that were added meanwhile, without waiting; the rest stays."""
        nodes = self._dirty.nodes
        self._dirty = Dirty(
            services=self._dirty.services, real_servers=self._dirty.real_servers, groups=self._dirty.groups
        )
        return Dirty(nodes=nodes)

    async def next(self) -> Dirty:
        """Wait until something is due and return it."""
        while True:
            self._wake.clear()
            seconds = self.due_in()
            if seconds is None:
                await self._wake.wait()
                continue
            if seconds <= 0 and (taken := self.take()) != Dirty():
                return taken
            try:
                async with asyncio.timeout(max(seconds, 0.001)):
                    await self._wake.wait()
            except TimeoutError:
                continue
