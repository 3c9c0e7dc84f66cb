"""The state machine of one VRRP instance: events and the time in, actions out (RFC 9568, 6.4). Pure.

Each event returns actions, to be carried out in their order; `deadline` says when `tick` is due. Times are seconds of
one steady clock. What differs from the RFC, and why, is in docs/design/0010-the-speaker.md.
"""

from math import inf
from typing import Final

from lvs_dr.vrrp.candidate import Candidate
from lvs_dr.vrrp.instance import (
    CENTISECOND,
    GIVES_WAY,
    Action,
    Announce,
    Changed,
    Count,
    Hold,
    InstanceConfig,
    Release,
    State,
    Stopped,
    Take,
)
from lvs_dr.vrrp.neighbours import Neighbours
from lvs_dr.vrrp.obstacles import Obstacles
from lvs_dr.vrrp.packet import OWNER_PRIORITY, RELEASING, Advertisement
from lvs_dr.vrrp.timing import Preemption, Timing

SUCCESSOR_EXTRA: Final = 1.0
"""Seconds beyond four intervals that a stopping Active waits for a successor to be heard."""

_NOTHING: Final[tuple[Action, ...]] = ()


class Machine:
    """One instance. `source` is the address its adverts carry; without one it does not speak."""

    def __init__(self, config: InstanceConfig, source: str) -> None:
        self.config = config
        self.source = source
        self.state = State.INITIALIZE
        self.deadline = inf
        self.since = 0.0
        """When the state was entered."""
        self.held: tuple[str, ...] = ()
        """Addresses that are on the interface because of this instance."""
        self.active_source = ""
        """Who was last heard as Active; "" for nobody."""
        self.obstacles = Obstacles()
        self.counts = dict.fromkeys(Count, 0)
        self.neighbours = Neighbours(self.counts)
        self._running = False
        self._leaving = False
        self._own = Candidate(config, source)
        """What it is in the election now."""
        self._timing = Timing(config.interval)
        self._preemption = Preemption()
        self._timer_from = 0.0

    # --- events ---

    def start(self, now: float, leftover: tuple[str, ...] = ()) -> tuple[Action, ...]:
        """Take part. `leftover` are VIPs found on the interface: kept until somebody else is heard to be Active."""
        self._running = True
        self.since = now
        found = frozenset(leftover)
        self.held = tuple(each for each in self.config.addresses if each in found)
        return self._enter(now, "started")

    def tick(self, now: float) -> tuple[Action, ...]:
        """Do what the deadline stands for, when it has come."""
        if now < self.deadline:
            return _NOTHING
        if self.state is State.ACTIVE:
            if self._stalled(now):
                return self._doubt(now)
            self._timing.last_sent = now
            pace = self._timing.pace()
            self.deadline = self.deadline + pace if self.deadline + pace > now else now + pace
            self.counts[Count.SENT] += 1
            return self._own.say
        if self.state is State.BACKUP:
            return self._become_active(now, f"no advert for {now - self._timer_from:.2f} s")
        if self.state is State.RELEASING:
            return self._nobody_came(now)
        self.deadline = inf
        return self._enter(now, "the link has been up long enough")

    def advert(self, now: float, source: str, advert: Advertisement) -> tuple[Action, ...]:
        """Take notice of a valid advertisement of this VRID; hop limit, checksum and version have been checked."""
        if source == self.source:
            return _NOTHING
        conflict = self.neighbours.heard(now, source, advert, self.config, self._own.addresses)
        noted: tuple[Action, ...] = (conflict,) if conflict else _NOTHING
        if not self._own.shares(advert):
            return noted  # it holds none of our addresses: to obey would leave them with nobody
        if self.state is State.ACTIVE and self._stalled(now):
            noted += self._doubt(now)
        if self.state is State.BACKUP:
            return noted + self._advert_in_backup(now, source, advert)
        if self.state is State.ACTIVE:
            return noted + self._advert_in_active(now, source, advert)
        if advert.priority == RELEASING:
            return noted
        self.active_source = source
        return noted + (self._succeeded(now, source) if self.state is State.RELEASING else self._release_all())

    def stop(self, now: float) -> tuple[Action, ...]:
        """Stop for good; `Stopped` says that nothing is left to wait for (RFC 9568: Shutdown)."""
        if self.state is not State.ACTIVE:
            if self.state is State.RELEASING:
                self._leaving = True
                return _NOTHING
            self._running = False
            return (*self._to(State.INITIALIZE, now, "stopped"), Stopped())
        self._leaving = True
        if self.config.alone:
            self._running = False
            return (self._own.farewell, *self._to(State.INITIALIZE, now, "stopped"), Stopped())
        return self._offer(now, "stopping")

    def hand_over(self, now: float) -> tuple[Action, ...]:
        """Let another take over without a gap; with nobody there, go on. Lower the priority first, if it preempts."""
        return self._offer(now, "handing over") if self.state is State.ACTIVE else _NOTHING

    def withdraw(self, now: float) -> tuple[Action, ...]:
        """Give up the addresses at once: the instance is configured no more."""
        self._running = False
        farewell: tuple[Action, ...] = (self._own.farewell,) if self.state is State.ACTIVE else ()
        return (*farewell, *self._release_all(), *self._to(State.INITIALIZE, now, "configured no more"), Stopped())

    def fault(self, now: float, name: str) -> tuple[Action, ...]:
        """Stop serving because of a fault, until it is cleared. The successor needs no advert of ours to end."""
        if not self.obstacles.add(now, name):
            return _NOTHING
        farewell: tuple[Action, ...] = (self._own.farewell,) if self.state is State.ACTIVE else ()
        ended: tuple[Action, ...] = ()
        if self._leaving:
            self._running, ended = False, (Stopped(),)
        return (*farewell, *self._release_all(), *self._to(State.INITIALIZE, now, f"fault: {name}"), *ended)

    def cleared(self, now: float, name: str) -> tuple[Action, ...]:
        """Take part again once the last fault is cleared; after a lost link, only when it has been up for a while."""
        if not self.obstacles.remove(now, name, self.config):
            return _NOTHING
        return self._enter(now, f"{name} is over")

    def configure(self, now: float, config: InstanceConfig, source: str) -> tuple[Action, ...]:
        """Use another configuration of the same VRID and family from now on."""
        if config == self.config and source == self.source:
            return _NOTHING
        before = self._own
        self._timing.change(config.interval)
        self.config, self.source = config, source
        self._own = Candidate(config, source)
        actions: list[Action] = []
        gone = tuple(each for each in self.held if each not in self._own.addresses)
        if gone:
            self.held = tuple(each for each in self.held if each in self._own.addresses)
            actions.append(Release(gone))
        if not self._own.speaks:
            # Priority 0 would make a peer that has not heard of the change take the address for a moment.
            actions += self._release_all()
            actions += self._to(State.INITIALIZE, now, "no VIP" if source else "no source address")
        elif self.state is State.INITIALIZE:
            actions += self._enter(now, "configured")
        elif self.state is State.ACTIVE:
            actions += self._configured_active(now, before)
        elif self.state is State.BACKUP:
            if not self.active_source:
                self._timing.active = self._timing.own
            self.deadline = self._timer_from + self._timing.down(self.config.priority)
        return tuple(actions)

    # --- what the events have in common ---

    def _stalled(self, now: float) -> bool:
        return not self.config.alone and self._timing.silent_too_long(now)

    def _to(self, state: State, now: float, reason: str) -> tuple[Action, ...]:
        if state is State.INITIALIZE:
            self.deadline = inf
        if state is self.state:
            return _NOTHING
        before, self.state, self.since = self.state, state, now
        if state is State.ACTIVE:
            self.counts[Count.BECAME_ACTIVE] += 1
        elif state is State.BACKUP:
            self.counts[Count.BECAME_BACKUP] += 1
        return (Changed(before, state, reason),)

    def _enter(self, now: float, reason: str) -> tuple[Action, ...]:
        """Leave Initialize if nothing stands against it (RFC 9568: Startup)."""
        if self.state is not State.INITIALIZE or not self._running:
            return _NOTHING
        if self.obstacles.faults or not self._own.speaks:
            return self._release_all()
        if now < self.obstacles.until:
            self.deadline = self.obstacles.until
            return _NOTHING
        if self.config.priority == OWNER_PRIORITY:
            return self._become_active(now, f"{reason}; it owns the addresses")
        self._timing.active = self._timing.own
        return self._to_backup(now, reason)

    def _to_backup(self, now: float, reason: str) -> tuple[Action, ...]:
        changed = self._to(State.BACKUP, now, reason)
        self._preemption.forget()
        self._timer_from = now
        self.deadline = now + self._timing.down(self.config.priority)
        return changed

    def _become_active(self, now: float, reason: str) -> tuple[Action, ...]:
        changed = self._to(State.ACTIVE, now, reason)
        self.active_source = ""
        self.held = self.config.addresses
        return (*self._send_now(now), *changed, Take(self.held, self._own.lifetime, self.held))

    def _release_all(self, after: float = 0.0) -> tuple[Action, ...]:
        gone, self.held = self.held, ()
        return (Release(gone, after),) if gone else _NOTHING

    def _offer(self, now: float, reason: str) -> tuple[Action, ...]:
        changed = self._to(State.RELEASING, now, reason)
        self.deadline = now + 4 * self.config.interval * CENTISECOND + SUCCESSOR_EXTRA
        return (self._own.farewell, *changed)

    def _succeeded(self, now: float, source: str) -> tuple[Action, ...]:
        """A successor was heard while releasing."""
        released = self._release_all(GIVES_WAY)
        if self._leaving:
            self._running = False
            return (*released, *self._to(State.INITIALIZE, now, f"{source} took over"), Stopped())
        return (*released, *self._to_backup(now, f"{source} took over"))

    def _nobody_came(self, now: float) -> tuple[Action, ...]:
        if not self._leaving:
            return self._become_active(now, "nobody took over")
        held, self.held, self._running = self.held, (), False
        changed = self._to(State.INITIALIZE, now, "stopped, nobody took over")
        return (Hold(held, self.config.stop_hold), *changed, Stopped())

    def _doubt(self, now: float) -> tuple[Action, ...]:
        """Listen before going on as Active, since this process was held up. The addresses stay, but not renewed."""
        self.counts[Count.STALLED] += 1
        self._timing.active = self._timing.own
        changed = self._to_backup(now, f"held up for {now - self._timing.last_sent:.2f} s")
        self.deadline = now + 2 * self._timing.active  # an Active peer is heard within one
        return changed

    # --- adverts ---

    def _advert_in_backup(self, now: float, source: str, advert: Advertisement) -> tuple[Action, ...]:
        if advert.priority == RELEASING:
            self._timer_from = now - 3 * self._timing.active
            self.deadline = now + self._timing.skew(self.config.priority)
            return _NOTHING
        if advert.priority < self.config.priority:
            if self._preemption.due(now, self.config, advert.priority):
                return self._release_all()  # the timer goes on: when it ends we are Active
        else:
            self._preemption.forget()
        self.active_source = source
        self._timing.active = advert.interval * CENTISECOND
        self._timer_from = now
        self.deadline = now + self._timing.down(self.config.priority)
        return self._release_all()

    def _advert_in_active(self, now: float, source: str, advert: Advertisement) -> tuple[Action, ...]:
        if advert.priority == RELEASING:
            return self._send_now(now)
        if self._own.yields_to(source, advert):
            self.active_source = source
            self._timing.active = advert.interval * CENTISECOND
            released = self._release_all(GIVES_WAY)
            reason = f"{source} has priority {advert.priority}, we {self.config.priority}"
            return (*released, *self._to_backup(now, reason))
        self.counts[Count.LOSING] += 1
        if not self._timing.may_answer(now):
            return (Announce(self.held),)
        return (*self._send_now(now), Announce(self.held))

    def _send_now(self, now: float) -> tuple[Action, ...]:
        self._timing.last_sent = now
        self.deadline = now + self._timing.pace()
        self.counts[Count.SENT] += 1
        return self._own.say

    def _configured_active(self, now: float, old: Candidate) -> tuple[Action, ...]:
        config = self.config
        before = frozenset(self.held)
        new = tuple(each for each in config.addresses if each not in before)
        self.held = config.addresses
        actions = self._send_now(now)
        if old.lifetime != self._own.lifetime:
            return (*actions, Take(config.addresses, self._own.lifetime, new))
        return (*actions, Take(new, self._own.lifetime, new)) if new else actions
