"""When held VIPs are announced: at once, some more times within seconds, then once a minute."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from lvs_dr.agent.wire import Wire, WireError
from lvs_dr.core.kernel import AddressKey

log = logging.getLogger(__name__)

REPEAT_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)
"""Pauses after the first announcement: a frame may be lost, a switch port may be slow to forward."""
REFRESH_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 1.0


class Announcer:
    """Keeps the schedule. `run` sends what is due until it is cancelled."""

    def __init__(self, wire: Wire, clock: Callable[[], float]) -> None:
        self._wire = wire
        self._clock = clock
        self._due: dict[AddressKey, tuple[float, int]] = {}  # when, and how many were sent
        self._news = asyncio.Event()
        self._failing = False
        self.sent = 0  # announcements of one address each

    def start(self, keys: Iterable[AddressKey]) -> None:
        """Announce now and repeat; also for addresses that were announced before."""
        now = self._clock()
        self._due.update((key, (now, 0)) for key in keys)
        self._news.set()

    def keep(self, keys: Iterable[AddressKey]) -> None:
        """Announce only these from now on; new ones start."""
        wanted = frozenset(keys)
        for key in self._due.keys() - wanted:
            del self._due[key]
        self.start(sorted(wanted - self._due.keys()))

    async def send_due(self) -> None:
        """Send what is due now. A link that is down is tried again soon; whoever is announced stays so."""
        now = self._clock()
        by_interface: dict[str, list[AddressKey]] = {}
        for key, (when, _) in self._due.items():
            if when <= now:
                by_interface.setdefault(key.interface, []).append(key)
        for interface, keys in by_interface.items():
            # Scheduled before it is sent: an address released meanwhile must not come back.
            for key in keys:
                self._schedule_next(key, now)
            try:
                await self._wire.announce(interface, [key.address for key in keys])
            except WireError as error:
                if not self._failing:
                    log.warning("%d VIPs cannot be announced on %s: %s", len(keys), interface, error)
                self._failing = True
                for key in keys:
                    if key in self._due:
                        self._due[key] = (now + RETRY_SECONDS, 0)
                continue
            self._failing = False
            self.sent += len(keys)

    async def run(self) -> None:
        """Send what is due until cancelled."""
        while True:
            try:
                await self.send_due()
            except Exception:  # the loop survives: VIPs must go on being announced
                log.exception("announcing failed")
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._news.clear()
            soonest = min((when for when, _ in self._due.values()), default=self._clock() + REFRESH_SECONDS)
            try:
                async with asyncio.timeout(max(0.0, soonest - self._clock())):
                    await self._news.wait()
            except TimeoutError:
                continue

    def _schedule_next(self, key: AddressKey, now: float) -> None:
        if key not in self._due:
            return
        count = self._due[key][1]
        pause = REPEAT_SECONDS[count] if count < len(REPEAT_SECONDS) else REFRESH_SECONDS
        self._due[key] = (now + pause, count + 1)
