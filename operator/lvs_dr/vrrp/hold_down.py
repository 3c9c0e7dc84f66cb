"""How long a link that goes up and down is not trusted. Pure; times in seconds."""

from typing import Final

WINDOW: Final = 60.0
"""A link that stayed up for this long has no past."""
LONGEST: Final = 60.0


class HoldDown:
    """Doubles the delay with each loss of the link that follows the last one closely."""

    __slots__ = ("_last", "losses")

    def __init__(self) -> None:
        self.losses = 0
        """In a row, each within the window after the one before."""
        self._last = float("-inf")

    def lost(self, now: float) -> None:
        """Note that the link went down."""
        self.losses = self.losses + 1 if now - self._last <= WINDOW else 1
        self._last = now

    def delay(self, base: float) -> float:
        """Return how long to wait now that it is up; `base` after a single loss."""
        if not self.losses:
            return 0.0
        return min(LONGEST, base * (1 << min(self.losses - 1, 16)))
