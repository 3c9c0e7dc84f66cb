"""What keeps an instance from taking part: faults, and a link that was lost lately. Pure; times in seconds."""

from typing import Final

from lvs_dr.vrrp.hold_down import HoldDown
from lvs_dr.vrrp.instance import InstanceConfig

INTERFACE_DOWN: Final = "InterfaceDown"


class Obstacles:
    """Faults by name, and until when a link that is up again is not trusted."""

    __slots__ = ("_hold_down", "faults", "until")

    def __init__(self) -> None:
        self.faults: set[str] = set()
        self.until = 0.0
        """The moment before which the instance takes no part although nothing is wrong any more."""
        self._hold_down = HoldDown()

    def add(self, now: float, name: str) -> bool:
        """Note a fault; False when it is known."""
        if name in self.faults:
            return False
        self.faults.add(name)
        if name == INTERFACE_DOWN:
            self._hold_down.lost(now)
        return True

    def remove(self, now: float, name: str, config: InstanceConfig) -> bool:
        """Note the end of a fault; False when it was not known. Who is alone does not wait for a link."""
        if name not in self.faults:
            return False
        self.faults.discard(name)
        if name == INTERFACE_DOWN and not config.alone:
            self.until = now + self._hold_down.delay(config.start_delay)
        return True
