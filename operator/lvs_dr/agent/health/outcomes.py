"""What a report says of each check: words, since when, and whether it could be made."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from lvs_dr.core.health import CALM_PASSES, CheckKey, CheckState, Health, flaps, needed_to_rise


class Outcome(msgspec.Struct, frozen=True):
    """What a report says about a check."""

    health: Health
    message: str = ""  # of the failure that led to the verdict, or of the first one of a healthy real server
    trouble: str = ""  # why the check cannot be made; the verdict is then that of before
    since: str = ""  # of the verdict, or of the trouble; RFC 3339
    milliseconds: int = 0  # that the check took
    blackholed: bool = False  # it answers on its own address, and not on the VIP
    flapping: bool = False  # it failed again and again


class _Told(msgspec.Struct, frozen=True):
    message: str
    since: str
    milliseconds: int
    blackholed: bool = False
    flapping: bool = False


class Outcomes:
    """Remembers what there is to say of checks. `clock` counts seconds since 1970."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._messages: dict[CheckKey, _Told] = {}
        self._troubles: dict[CheckKey, _Told] = {}

    def of(self, key: CheckKey, health: Health) -> Outcome:
        """Return what to tell about one check whose verdict this is."""
        told, trouble = self._messages.get(key), self._troubles.get(key)
        about = trouble if trouble is not None and health is not Health.DOWN else told
        return Outcome(
            health,
            told.message if told is not None else "",
            trouble.message if trouble is not None else "",
            about.since if about is not None else "",
            about.milliseconds if about is not None else 0,
            told is not None and told.blackholed,
            told is not None and told.flapping,
        )

    def forget(self, key: CheckKey) -> None:
        """Remember nothing more of a check."""
        self._messages.pop(key, None)
        self._troubles.pop(key, None)

    def in_trouble(self, key: CheckKey) -> bool:
        """Tell whether the check could not be made."""
        return key in self._troubles

    def trouble(self, key: CheckKey, text: str, milliseconds: int) -> bool:
        """Note that a check could not be made; returns whether that is news."""
        if key in self._troubles:
            return False
        self._troubles[key] = _Told(text, self._now(), milliseconds)
        return True

    def result(self, key: CheckKey, message: str, after: CheckState, milliseconds: int, *, news: bool) -> bool:
        """Note what a check found, and the state after it (`news`: its verdict); returns whether a trouble is over."""
        if message:
            # The words of a report change only with the verdict, else every failure would be written.
            if news or key not in self._messages:
                flapping = news and flaps(after)
                text = f"{message}; {_flapping(after, key)}" if flapping else message
                self._messages[key] = _Told(text, self._now(), milliseconds, flapping=flapping)
        elif after.health is Health.UP:
            self._messages.pop(key, None)
        return self._troubles.pop(key, None) is not None

    def blackholed(self, key: CheckKey, *, well: bool) -> bool:
        """Note whether a real server that fails on the VIP is well on its own address; returns whether that is news."""
        told = self._messages.get(key)
        if told is None or told.blackholed is well:
            return False
        self._messages[key] = msgspec.structs.replace(told, blackholed=well)
        return True

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _flapping(state: CheckState, key: CheckKey) -> str:
    needed = needed_to_rise(state, key.check)
    return (
        f"failed {state.falls} times with fewer than {CALM_PASSES} good checks in a row between: it comes back after"
        f" {needed} of them"
    )
