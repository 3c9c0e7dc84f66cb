"""The loop: one pass after every wake-up, at once after the first, and one at least every few seconds."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from lvs_dr.agent.door import KernelStuckError

log = logging.getLogger(__name__)

RESYNC_SECONDS = 5.0  # IPVS tells nothing when it is changed
POLL_SECONDS = 1.0  # nor do ARP settings, and a wrong one steals traffic
ALIVE_SECONDS = 30.0  # a pass that takes longer than this is no progress
SUCCESS_SECONDS = 15.0  # three passes at least have failed
SHORTEST_GAP_SECONDS = 0.005
LONGEST_GAP_SECONDS = 0.2
HINT_GAP_SECONDS = 0.2  # pods come and go, and each makes events

Pass = Callable[[bool], Awaitable[None]]


class Loop:
    """Runs `once(deep)`; `poll` tells between passes whether one is needed."""

    def __init__(
        self,
        once: Pass,
        poll: Callable[[], Awaitable[bool]],
        *,
        failed: Callable[[str], None] = lambda _: None,
        resync: float = RESYNC_SECONDS,
        poll_every: float = POLL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._once = once
        self._poll = poll
        self._failed = failed
        self._resync = resync
        self._poll_every = poll_every
        self._news = asyncio.Event()
        self._deep = True
        self._stopping = False
        self._clock = clock
        self._progress = clock()
        self._succeeded = clock()
        self._next_deep = float("-inf")  # no hint makes a deep pass before
        self.passes = 0
        self.seconds = 0.0  # spent in passes
        self.trouble = ""  # what the last pass failed with
        self.first_done = asyncio.Event()

    def wake(self) -> None:
        """Have a pass made soon."""
        self._news.set()

    def look_around(self) -> None:
        """Have a deep pass made soon: links or addresses changed."""
        self._deep = True
        self._news.set()

    def stop(self) -> None:
        """End after the pass that is being made. The kernel stays as it is."""
        self._stopping = True
        self._news.set()

    def alive(self) -> bool:
        """Whether the loop makes progress: what the Lease and /healthz say."""
        return self._clock() - self._progress < ALIVE_SECONDS

    def succeeding(self) -> bool:
        """Whether a pass has succeeded lately."""
        return self._clock() - self._succeeded < SUCCESS_SECONDS

    def ready(self) -> str:
        """Return what is missing for readiness, "" if nothing is."""
        return self.trouble or ("" if self.first_done.is_set() else "the first pass is not done yet")

    async def run(self) -> None:
        """Make passes until `stop`."""
        clock = asyncio.get_running_loop().time
        next_resync = next_poll = clock()
        while not self._stopping:
            self._news.clear()
            now = clock()
            deep = now >= next_resync or (self._deep and now >= self._next_deep)
            if deep:
                self._deep, next_resync = False, now + self._resync
            await self._guarded(deep=deep)
            took = clock() - now
            next_poll = clock() + self._poll_every
            # What comes in meanwhile shares the next pass: at most half of the time is spent in passes. One that reads
            # everything says little about what the next will take, if that need not.
            pause = min(LONGEST_GAP_SECONDS, max(SHORTEST_GAP_SECONDS, took))
            if deep:
                self._next_deep, pause = now + max(HINT_GAP_SECONDS, took + pause), SHORTEST_GAP_SECONDS
            if not self._stopping:
                await asyncio.sleep(pause)
            while not self._news.is_set() and clock() < (due := self._due(next_resync)):
                await self._wait(min(next_poll, due) - clock())
                if not self._news.is_set() and clock() >= next_poll:
                    next_poll = clock() + self._poll_every
                    if await self._polled():
                        break

    def _due(self, next_resync: float) -> float:
        """Return when the next pass is made without being woken: a deep one that was put off comes soon."""
        return min(next_resync, self._next_deep) if self._deep else next_resync

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _guarded(self, *, deep: bool) -> None:
        """Make one pass. Whatever it raises is seen: in the log, in readiness and in the report."""
        began = self._clock()
        try:
            await self._once(deep)
        except Exception as error:  # noqa: BLE001 - the loop must outlive every pass
            self._report(error)
            if isinstance(error, KernelStuckError):
                return  # no progress: the Lease ends, and the kubelet restarts us
        else:
            if self.trouble:
                log.info("passes succeed again")
            self.trouble = ""
            self._succeeded = self._clock()
            self.first_done.set()
        self.passes += 1
        self._progress = self._clock()
        self.seconds += self._progress - began

    async def _polled(self) -> bool:
        try:
            return await self._poll()
        except Exception as error:  # noqa: BLE001 - as above
            self._report(error)
            return True

    def _report(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if text != self.trouble:
            log.error("a pass failed: %s", text, exc_info=error)
        self.trouble = text
        self._failed(text)
