"""When an address that somebody else removed is put back: at once, then ever later, and said when it goes on. Pure."""

from typing import Final

FIRST: Final = 0.05
LONGEST: Final = 30.0
QUIET: Final = 60.0
"""Seconds without a loss after which an address has no past."""
CONTESTED: Final = 3
"""So many losses in a row are no accident."""


class Restoring:
    """Remembers the losses of each address."""

    def __init__(self) -> None:
        self._losses: dict[str, tuple[int, float]] = {}
        self.waiting: dict[str, float] = {}
        """Addresses to be put back, and when."""
        self.restored = 0

    def lost(self, now: float, address: str) -> None:
        """Note a loss, and plan."""
        count, last = self._losses.get(address, (0, now))
        count = count + 1 if now - last <= QUIET else 1
        self._losses[address] = count, now
        delay = 0.0 if count == 1 else min(LONGEST, FIRST * (1 << min(count - 2, 16)))
        self.waiting[address] = now + delay

    def due(self, now: float) -> tuple[str, ...]:
        """Return what to put back now."""
        found = tuple(address for address, when in self.waiting.items() if when <= now)
        for address in found:
            del self.waiting[address]
        self.restored += len(found)
        return found

    def forget(self, addresses: tuple[str, ...]) -> None:
        """Held no more."""
        for address in addresses:
            self.waiting.pop(address, None)
            self._losses.pop(address, None)

    def contested(self, now: float) -> dict[str, int]:
        """Return the addresses that somebody keeps removing, and how often."""
        return {
            address: count
            for address, (count, last) in self._losses.items()
            if count >= CONTESTED and now - last <= QUIET
        }
