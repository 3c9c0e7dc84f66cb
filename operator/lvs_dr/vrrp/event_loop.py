"""One thread's loop: descriptors and timers.

Received data first, then timers: a process that was held up must know what happened before it acts on a clock.
There are a few dozen timers at most, so they stand in a list: finding the next allocates nothing.
"""

import logging
import select
import time
from collections.abc import Callable
from math import inf
from typing import Final

log = logging.getLogger(__name__)

_LONGEST_WAIT: Final = 1.0


class Timer:
    """Calls `action` once `when` (of the monotonic clock) has come; the action sets `when` anew or leaves it at inf."""

    __slots__ = ("action", "when")

    def __init__(self, action: Callable[[float], None]) -> None:
        self.action = action
        self.when = inf


class EventLoop:
    """Runs callbacks; one that fails is logged and counted, and the loop goes on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.failures = 0
        self.last_failure = ""
        self.latest = 0.0
        """By how many seconds a timer was late at most since this was last reset."""
        self._readers: dict[int, Callable[[float], None]] = {}
        self._timers: list[Timer] = []
        self._stopped = False

    def read(self, descriptor: int, action: Callable[[float], None]) -> None:
        """Call an action whenever a descriptor is readable."""
        self._readers[descriptor] = action

    def forget(self, descriptor: int) -> None:
        """End `read`."""
        self._readers.pop(descriptor, None)

    def timer(self, action: Callable[[float], None]) -> Timer:
        """Make a timer, not set."""
        made = Timer(action)
        self._timers.append(made)
        return made

    def drop(self, timer: Timer) -> None:
        """End a timer."""
        timer.when = inf
        if timer in self._timers:
            self._timers.remove(timer)

    def stop(self) -> None:
        """Let `run` return."""
        self._stopped = True

    def run(self) -> None:
        """Serve until stopped."""
        while not self._stopped:
            self.turn()

    def turn(self) -> None:
        """Wait for the next event and serve what is due."""
        now = self.clock()
        wait = _LONGEST_WAIT
        for timer in self._timers:
            wait = min(wait, timer.when - now)
        # select, not epoll: epoll counts in milliseconds, a tenth of the shortest interval
        ready = select.select(self._readers, (), (), max(0.0, wait))[0]
        for descriptor in ready:
            action = self._readers.get(descriptor)
            if action is not None:
                self._call(action, self.clock())
        now = self.clock()
        for timer in tuple(self._timers):
            if timer.when <= now:
                self.latest = max(self.latest, now - timer.when)
                timer.when = inf
                self._call(timer.action, now)

    def _call(self, action: Callable[[float], None], now: float) -> None:
        try:
            action(now)
        except Exception as error:  # the loop survives: adverts must go on
            self.failures += 1
            self.last_failure = f"{type(error).__name__}: {error}"
            log.exception("unexpected failure; going on")
