"""The time limit of a check, by a clock that stands still while the agent itself does not get its turn.

On a director that is short of CPU every answer comes in time and is looked at too late. If that counted as silence,
an overload would take out all real servers at once; so the time that was stolen is given back.
"""

import asyncio
from types import TracebackType
from typing import Final, Self

TICK_SECONDS: Final = 0.05
LEAST_SECONDS: Final = 0.01  # a delay that every event loop has now and then
SMALL_PART: Final = 0.1  # of its limit that a check need not have had
MOST_TIMES: Final = 4  # of its limit that a check may take in all


class StolenTime:
    """Counts the seconds in which the event loop was late; it looks only while somebody needs it."""

    def __init__(self) -> None:
        self.users = 0
        self._seconds = 0.0
        self._due: float | None = None  # of the next look

    def until(self, now: float) -> float:
        """Return the seconds that were stolen so far; only differences mean something."""
        late = now - self._due if self._due is not None else 0.0
        return self._seconds + (late if late > LEAST_SECONDS else 0.0)

    def watch(self) -> None:
        """See to it that it is looked."""
        if self._due is None:
            loop = asyncio.get_running_loop()
            self._due = loop.time() + TICK_SECONDS
            loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._seconds = self.until(asyncio.get_running_loop().time())
        self._due = None
        if self.users:
            self.watch()


class Deadline:
    """Limits what is done inside; raises TimeoutError. `starved`: it was cut off without having had its time."""

    def __init__(self, seconds: float, stolen: StolenTime) -> None:
        self._seconds = seconds
        self._stolen = stolen
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began = self._stolen_before = 0.0
        self._over = False
        self.starved = False

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._began = loop.time()
        self._stolen_before = self._stolen.until(self._began)
        self._stolen.users += 1
        self._stolen.watch()
        self._timer = loop.call_at(self._began + self._seconds, self._due)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stolen.users -= 1
        if self._timer is not None:
            self._timer.cancel()
        if self._over and self._task is not None and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _due(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        elapsed = now - self._began
        left = self._seconds - (elapsed - (self._stolen.until(now) - self._stolen_before))
        if left > self._seconds * SMALL_PART:
            if elapsed < MOST_TIMES * self._seconds:
                self._timer = loop.call_at(now + left, self._due)
                return
            self.starved = True
        self._over = True
        if self._task is not None:
            self._task.cancel()
