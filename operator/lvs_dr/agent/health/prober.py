"""Runs the checks: each at its interval, equal ones once, results into the state machines of `core.health`."""

import asyncio
import heapq
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec

from lvs_dr.agent.health import tcp
from lvs_dr.core.health import CheckKey, CheckState, Health, carry_over, step

log = logging.getLogger(__name__)

IN_FLIGHT = 512  # checks at the same time; more wait for their turn

Connect = Callable[[str, int, float], Awaitable[str]]


class Outcome(msgspec.Struct, frozen=True):
    """What a report says about a check that does not succeed."""

    health: Health
    message: str = ""  # of the last failure


class Prober:
    """Checks what it was last given. `changed` is called when a verdict changes, `counted` after every check."""

    def __init__(
        self,
        *,
        changed: Callable[[], None],
        counted: Callable[[bool], None] = lambda _: None,
        connect: Connect = tcp.check,
    ) -> None:
        self._changed = changed
        self._counted = counted
        self._connect = connect
        self._states: dict[CheckKey, CheckState] = {}
        self._messages: dict[CheckKey, str] = {}
        self._due: list[tuple[float, int, CheckKey]] = []
        self._numbers = itertools.count()
        self._tickets: dict[CheckKey, int] = {}  # the entry of the heap that counts; older ones are void
        self._running: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._news = asyncio.Event()
        self._view: dict[CheckKey, Health] | None = None

    def update(self, wanted: Iterable[CheckKey], in_service: Iterable[CheckKey] = ()) -> None:
        """Check exactly these from now on; `in_service` says which of them the kernel already sends to."""
        now = asyncio.get_running_loop().time()
        states = carry_over(self._states, wanted, in_service)
        for key in self._tickets.keys() - states.keys():
            del self._tickets[key]
            self._messages.pop(key, None)
        self._states = states
        self._view = None
        for key in states.keys() - self._tickets.keys():
            # What is not served waits for its first result; what is can wait for its turn, spread evenly.
            known = states[key].health is not Health.UNKNOWN
            self._schedule(key, now + random.random() * key.check.interval_seconds if known else now)

    def view(self) -> Mapping[CheckKey, Health]:
        """Return the verdicts."""
        if self._view is None:
            self._view = {key: state.health for key, state in self._states.items()}
        return self._view

    def outcome(self, key: CheckKey) -> Outcome:
        """Return what to tell about one check."""
        state = self._states.get(key)
        return Outcome(state.health if state else Health.UNKNOWN, self._messages.get(key, ""))

    async def run(self) -> None:
        """Run checks until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._news.clear()
                while self._due and self._due[0][0] <= loop.time():
                    _, ticket, key = heapq.heappop(self._due)
                    if self._tickets.get(key) == ticket:
                        await self._slots.acquire()
                        self._start(key, ticket)
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

    def _schedule(self, key: CheckKey, due: float) -> None:
        ticket = next(self._numbers)
        self._tickets[key] = ticket
        heapq.heappush(self._due, (due, ticket, key))
        if self._due[0][1] == ticket:  # earlier than what is being waited for
            self._news.set()

    def _start(self, key: CheckKey, ticket: int) -> None:
        task = asyncio.create_task(self._one(key, ticket), name=f"check {key.address}:{key.port}")
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._slots.release()
        if not task.cancelled() and task.exception() is not None:
            log.error("a check failed unexpectedly", exc_info=task.exception())

    async def _one(self, key: CheckKey, ticket: int) -> None:
        """Check once, and schedule the next from the start of this one."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        message = "the check itself failed"
        try:
            message = await self._connect(key.address, key.port, float(key.check.timeout_seconds))
        finally:
            if self._tickets.get(key) == ticket:  # still wanted
                first = self._states[key].health is Health.UNKNOWN  # many may have started at once: spread them
                pause = key.check.interval_seconds * (random.uniform(0.5, 1.0) if first else 1.0)
                self._schedule(key, max(loop.time(), began + pause))
        self._counted(not message)
        if self._tickets.get(key) is not None:
            self._result(key, message)

    def _result(self, key: CheckKey, message: str) -> None:
        before = self._states[key]
        after = step(before, key.check, success=not message)
        self._states[key] = after
        news = after.health is not before.health
        if message:
            # The words of a report change only with the verdict, else every failure would be written.
            if news or key not in self._messages:
                self._messages[key] = message
        elif after.health is Health.UP:
            self._messages.pop(key, None)
        if news:
            log.info("%s:%d is %s%s", key.address, key.port, after.health.lower(), f" ({message})" if message else "")
            self._view = None
            self._changed()
