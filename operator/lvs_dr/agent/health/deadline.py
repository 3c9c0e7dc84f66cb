"""The time limit of a check, by a clock that stands still while the agent itself does not get its turn.

On a director that is short of CPU every answer comes in time and is looked at too late. If that counted as silence,
an overload would take out all real servers at once; so the time that was stolen is given back.
"""

import asyncio
from types import TracebackType
from typing import Final, Self

TICK_SECONDS: Final = 0.05
LEAST_SECONDS: Final = 0.01  # a delay that every event loop has now and then
MOST_TIMES: Final = 4  # of its limit that a check may take in all


class StolenTime:
    """Counts the seconds in which the event loop was late; it looks only while somebody needs it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.users = 0
        self._ticking = False

    def watch(self) -> None:
        """See to it that it is looked."""
        if not self._ticking:
            self._ticking = True
            loop = asyncio.get_running_loop()
            loop.call_at(loop.time() + TICK_SECONDS, self._tick, loop.time() + TICK_SECONDS)

    def _tick(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        late = loop.time() - due
        if late > LEAST_SECONDS:
            self.seconds += late
        self._ticking = False
        if self.users:
            self.watch()


class Deadline:
    """Limits what is done inside; raises TimeoutError. `starved`: it was cut off without having had its time."""

    def __init__(self, seconds: float, stolen: StolenTime) -> None:
        self._seconds = seconds
        self._stolen = stolen
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._granted = 0.0
        self._over = False
        self.starved = False

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._began, self._stolen_before = loop.time(), self._stolen.seconds
        self._stolen.users += 1
        self._stolen.watch()
        self._arm(loop, self._began + self._seconds)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stolen.users -= 1
        if self._timer is not None:
            self._timer.cancel()
        if self._over and self._task is not None and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _arm(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._timer = loop.call_at(due, self._due, due)

    def _due(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        late = now - due
        stolen = max(self._stolen.seconds - self._stolen_before - self._granted, late if late > LEAST_SECONDS else 0.0)
        if stolen > LEAST_SECONDS:
            if now - self._began < MOST_TIMES * self._seconds:
                self._granted += stolen
                self._arm(loop, now + min(stolen, self._seconds))
                return
            self.starved = True
        self._over = True
        if self._task is not None:
            self._task.cancel()
