"""When held VIPs are announced, and how fast: at once, some more times, then once a minute. Pure.

Frames of many VIPs are paced: switches and slow links drop bursts, and some close a port at a flood of ARP.
"""

from collections import deque
from math import inf
from typing import Final

REPEATS: Final = (0.2, 0.5, 1.0, 2.0)
"""Seconds between the first announcements: a frame may be lost, a switch port may be slow to forward."""
REFRESH: Final = 60.0
AFTER_LIFETIME: Final = 0.5
"""Seconds after the old holder's addresses are gone: whoever asked meanwhile may have been answered by it."""
LEAST_APART: Final = 1.0
"""Seconds between announcements that losing adverts ask for."""
AT_ONCE: Final = 32
PACE: Final = 0.01


class Announcer:
    """Says which addresses are to be announced now. Call `due` at `deadline`."""

    def __init__(self) -> None:
        self.deadline = inf
        self._schedule: dict[str, deque[float]] = {}
        self._last: dict[str, float] = {}
        self._waiting: deque[str] = deque()
        self._not_before = 0.0

    def start(self, now: float, addresses: tuple[str, ...], lifetime: float) -> None:
        """Announce now, repeatedly, and once more when a former holder's addresses (of `lifetime` seconds) are gone."""
        moments = [now]
        for pause in REPEATS:
            moments.append(moments[-1] + pause)
        if lifetime:
            moments = sorted([*moments, now + lifetime + AFTER_LIFETIME])
        for address in addresses:
            self._schedule[address] = deque(moments)
        self._set_deadline()

    def again(self, now: float, addresses: tuple[str, ...]) -> None:
        """Announce once more soon, unless that has just been done."""
        for address in addresses:
            planned = self._schedule.get(address)
            if planned and self._last.get(address, -inf) + LEAST_APART <= now < planned[0]:
                planned.appendleft(now)
        self._set_deadline()

    def forget(self, addresses: tuple[str, ...]) -> None:
        """Announce these no more."""
        for address in addresses:
            self._schedule.pop(address, None)
            self._last.pop(address, None)
        self._set_deadline()

    def due(self, now: float) -> list[str]:
        """Return what to announce now: a handful at a time."""
        waiting = set(self._waiting)
        for address, planned in self._schedule.items():
            if planned[0] <= now:
                while planned and planned[0] <= now:
                    planned.popleft()
                if not planned:
                    planned.append(now + REFRESH)
                if address not in waiting:
                    self._waiting.append(address)
        found: list[str] = []
        while self._waiting and len(found) < AT_ONCE:
            address = self._waiting.popleft()
            if address in self._schedule:
                found.append(address)
                self._last[address] = now
        self._not_before = now + PACE
        self._set_deadline()
        return found

    def _set_deadline(self) -> None:
        soonest = min((planned[0] for planned in self._schedule.values()), default=inf)
        self.deadline = self._not_before if self._waiting else soonest
