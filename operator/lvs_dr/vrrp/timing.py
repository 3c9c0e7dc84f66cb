"""The protocol's times (RFC 9568, 6.1), and when a lower priority is not put up with. Pure; times in seconds."""

from math import inf
from typing import Final

from lvs_dr.vrrp.instance import CENTISECOND, InstanceConfig
from lvs_dr.vrrp.packet import OWNER_PRIORITY

DOWN_INTERVALS: Final = 3
_ANSWERS_PER_INTERVAL: Final = 4
_PRIORITIES: Final = 256


class Timing:
    """The own interval and that of the Active, and what follows from them."""

    def __init__(self, interval: int) -> None:
        self.own = interval * CENTISECOND
        self.active = self.own
        """The interval of whoever is Active (Active_Adver_Interval)."""
        self.last_sent = -inf
        self._hurry = 0
        self._hurried = 0.0

    def skew(self, priority: int) -> float:
        """Return Skew_Time."""
        return (_PRIORITIES - priority) * self.active / _PRIORITIES

    def down(self, priority: int) -> float:
        """Return Active_Down_Interval."""
        return DOWN_INTERVALS * self.active + self.skew(priority)

    def pace(self) -> float:
        """Return the time to the next advert."""
        if self._hurry:
            self._hurry -= 1
            return min(self.own, self._hurried)
        return self.own

    def change(self, interval: int) -> None:
        """Use another interval. A longer one is told at the old pace: Backups that miss it count in the old one."""
        old, self.own = self.own, interval * CENTISECOND
        self._hurry, self._hurried = (DOWN_INTERVALS if self.own > old else 0), old

    def silent_too_long(self, now: float) -> bool:
        """Whether peers may have taken over while this process did not run: no advert was sent for three intervals."""
        return now - self.last_sent > DOWN_INTERVALS * self.own

    def may_answer(self, now: float) -> bool:
        """Whether another advert may be sent out of turn: a flood is not answered by a flood."""
        return now - self.last_sent >= self.own / _ANSWERS_PER_INTERVAL


class Preemption:
    """Decides whether an Active with a lower priority is replaced."""

    def __init__(self) -> None:
        self._since: float | None = None

    def forget(self) -> None:
        """The Active is no lower any more, or there is none."""
        self._since = None

    def due(self, now: float, config: InstanceConfig, priority: int) -> bool:
        """Tell whether the advert of a lower `priority` is to be ignored, so that the timer runs out."""
        if config.priority == OWNER_PRIORITY or priority < config.degraded_below <= config.priority:
            return True
        if not config.preempt:
            return False
        if self._since is None:
            self._since = now
        return now - self._since >= config.preempt_delay
