"""One instance at work: its machine, the timer that drives it, and its actions carried out."""

import logging
from collections.abc import Callable

from lvs_dr.vrrp.address_keeper import AddressKeeper
from lvs_dr.vrrp.configuration import InstanceSettings
from lvs_dr.vrrp.event_loop import EventLoop
from lvs_dr.vrrp.instance import (
    Action,
    Announce,
    Changed,
    Conflict,
    Hold,
    InstanceConfig,
    Release,
    Send,
    State,
    Stopped,
    Take,
)
from lvs_dr.vrrp.machine import Machine
from lvs_dr.vrrp.packet import Advertisement
from lvs_dr.vrrp.transceiver import Transceiver

log = logging.getLogger(__name__)

CONFLICT_SECONDS = 60.0
"""How long a conflict is told after it was last heard."""


class VirtualRouter:
    """The shell around a machine. `changed` is called when there is news for the agent."""

    def __init__(
        self,
        loop: EventLoop,
        *,
        settings: InstanceSettings,
        source: str,
        transceiver: Transceiver,
        keeper: AddressKeeper,
        changed: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.machine = Machine(settings.machine, source)
        self.stopped = False
        self.reason = ""
        self.conflicts: dict[str, tuple[str, float]] = {}
        self._loop = loop
        self._transceiver = transceiver
        self._keeper = keeper
        self._changed = changed
        self._timer = loop.timer(lambda now: self.do(self.machine.tick(now)))

    def start(self, now: float, leftover: tuple[str, ...]) -> None:
        """Take part."""
        self.do(self.machine.start(now, leftover))

    def heard(self, source: str, advert: Advertisement, now: float) -> None:
        """Pass on an advert."""
        self.do(self.machine.advert(now, source, advert))

    def configure(self, now: float, settings: InstanceSettings, config: InstanceConfig, source: str) -> None:
        """Pass on a configuration; `config` is the one in force, with the priority lowered or not."""
        self.settings = settings
        self.do(self.machine.configure(now, config, source))

    def set_fault(self, now: float, name: str, *, present: bool) -> None:
        """Raise or clear a fault."""
        self.do(self.machine.fault(now, name) if present else self.machine.cleared(now, name))

    def close(self) -> None:
        """End the timer; the machine is not used any more."""
        self._loop.drop(self._timer)

    def current_conflicts(self, now: float) -> list[str]:
        """Return what is wrong with others that use the VRID."""
        self.conflicts = {who: told for who, told in self.conflicts.items() if now - told[1] < CONFLICT_SECONDS}
        return [text for text, _ in self.conflicts.values()]

    def do(self, actions: tuple[Action, ...]) -> None:
        """Carry out what the machine asks for, and set its timer."""
        for action in actions:
            if isinstance(action, Send):
                self._transceiver.send(self.settings, action.advert, self._loop.clock())
            else:
                self._do_rarer(action)
        self._timer.when = self.machine.deadline

    def _do_rarer(self, action: Action) -> None:
        keeper = self._keeper
        if isinstance(action, Take):
            keeper.take(self, action.addresses, action.lifetime, action.announced)
        elif isinstance(action, Release):
            keeper.release(self, action.addresses, action.after)
        elif isinstance(action, Hold):
            keeper.leave(self, action.addresses, max(1, int(action.seconds)))
        elif isinstance(action, Announce):
            keeper.announce(action.addresses)
        elif isinstance(action, Changed):
            self._tell(action)
        elif isinstance(action, Conflict):
            self._conflict(action)
        elif isinstance(action, Stopped):
            self.stopped = True
            self._changed()

    def _tell(self, action: Changed) -> None:
        key = self.settings.key
        log.info("VRID %d, IPv%d: %s -> %s: %s", key.vrid, key.family, action.before, action.after, action.reason)
        self.reason = action.reason
        if action.after is State.BACKUP and self.machine.held:
            self._keeper.leave(self, self.machine.held, 0)  # held, but not renewed while in doubt
        self._changed()

    def _conflict(self, action: Conflict) -> None:
        if action.source not in self.conflicts:
            log.warning("%s", action.text)
            self._changed()
        elif len(self.conflicts) > 16:  # noqa: PLR2004 - strangers do not fill our memory
            self.conflicts.clear()
        self.conflicts[action.source] = action.text, self._loop.clock()
