"""Does things again and again, each at its time, a bounded number at once: health checks, questions for load.

What waits for its turn is an entry of a heap and no task: thousands cost little memory.
"""

import asyncio
import heapq
import itertools
import logging
from collections.abc import Callable, Coroutine, Hashable, KeysView
from functools import partial
from typing import Any, Final, Generic, TypeVar

log = logging.getLogger(__name__)

BATCH: Final = 64  # that start without a look at answers in between

Entry = TypeVar("Entry", bound=Hashable)


class Timetable(Generic[Entry]):
    """Calls `once(entry, ticket, due)` in a task when an entry is due, once; who wants it again schedules it again.

    `what` names it in the log. Times are seconds of the event loop's clock.
    """

    def __init__(self, what: str, once: Callable[[Entry, int, float], Coroutine[Any, Any, None]]) -> None:
        self._what = what
        self._once = once
        self._due: list[tuple[float, int, Entry]] = []
        self._numbers = itertools.count()
        self._tickets: dict[Entry, int] = {}  # the entry of the heap that counts; older ones are void
        self._running: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()

    @property
    def entries(self) -> KeysView[Entry]:
        """What is scheduled, or under way and not dropped."""
        return self._tickets.keys()

    def schedule(self, entry: Entry, due: float) -> None:
        """Have it done at this time, and at no other."""
        ticket = next(self._numbers)
        self._tickets[entry] = ticket
        heapq.heappush(self._due, (due, ticket, entry))
        if self._due[0][1] == ticket:  # earlier than what is being waited for
            self._news.set()

    def drop(self, entry: Entry) -> None:
        """Do it no more; what is under way goes on, but is not wanted. Raises KeyError if it is not scheduled."""
        del self._tickets[entry]

    def is_wanted(self, entry: Entry, ticket: int) -> bool:
        """Tell whether the entry was neither dropped nor scheduled anew since its task began."""
        return self._tickets.get(entry) == ticket

    async def run(self, at_once: int) -> None:
        """Work until cancelled; then what is under way is cancelled too."""
        loop = asyncio.get_running_loop()
        slots = asyncio.Semaphore(at_once)
        try:
            while True:
                self._news.clear()
                for number in itertools.count(1):
                    if not self._due or self._due[0][0] > loop.time():
                        break
                    if number % BATCH == 0:
                        await asyncio.sleep(0)  # answers are looked at before more is asked
                    due, ticket, entry = heapq.heappop(self._due)
                    if self.is_wanted(entry, ticket):
                        await slots.acquire()
                        task = asyncio.create_task(self._once(entry, ticket, due))
                        self._running.add(task)
                        task.add_done_callback(partial(self._ended, slots))
                pause = self._due[0][0] - loop.time() if self._due else None
                try:
                    async with asyncio.timeout(pause):
                        await self._news.wait()
                except TimeoutError:
                    pass
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def _ended(self, slots: asyncio.Semaphore, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        slots.release()
        if not task.cancelled() and task.exception() is not None:
            log.error("%s failed", self._what, exc_info=task.exception())
