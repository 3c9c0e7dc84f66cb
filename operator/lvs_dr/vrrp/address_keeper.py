"""The VIPs on the interface: taken, renewed in one batch, announced, put back when somebody removes them, released."""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from lvs_dr.vrrp.address_writer import AddressWriter
from lvs_dr.vrrp.announcer import Announcer
from lvs_dr.vrrp.event_loop import EventLoop
from lvs_dr.vrrp.restoring import Restoring
from lvs_dr.vrrp.segment_watch import SegmentWatch

log = logging.getLogger(__name__)

CERTAIN: Final = 1.0
"""Seconds beyond a lifetime after which no former holder can have the address."""
_RENEWALS: Final = 3
_ANNOUNCE_RETRY: Final = 0.5


class Kept(NamedTuple):
    """An address we hold: for whom, and with which lifetime in seconds (0: for ever)."""

    owner: object
    lifetime: int


class AddressKeeper:
    """Keeps addresses on one interface, for several owners; an address belongs to the one that took it last."""

    def __init__(
        self, loop: EventLoop, writer: AddressWriter, interface: str, changed: Callable[[], None] = lambda: None
    ) -> None:
        self.index = 0
        self.kept: dict[str, Kept] = {}
        self.problems: dict[str, str] = {}
        """What the kernel says of addresses that it refused."""
        self.watch = SegmentWatch(loop, interface)
        self.restoring = Restoring()
        self.leaving: dict[str, int] = {}
        """Addresses that are being removed: the kernel may still answer for them."""
        self.renewals = 0
        self.renewal_seconds = 0.0
        """How long the kernel took for the last batch."""
        self._loop = loop
        self._writer = writer
        self._changed = changed
        self._announcer = Announcer()
        self._releasing: dict[str, int] = {}
        self._renewing = False
        self._renewed_at = self._renewal_begun = loop.clock()
        self._renew_timer = loop.timer(self._renew)
        self._announce_timer = loop.timer(self._announce)
        self._restore_timer = loop.timer(self._restore)

    def close(self) -> None:
        """Let go of sockets and timers; addresses stay."""
        self.watch.close()
        for timer in (self._renew_timer, self._announce_timer, self._restore_timer):
            self._loop.drop(timer)

    def take(self, owner: object, addresses: tuple[str, ...], lifetime: int, announced: tuple[str, ...]) -> None:
        """Have addresses on the interface and announce some of them."""
        now = self._loop.clock()
        for each in addresses:
            self.kept[each] = Kept(owner, lifetime)
        self.watch.hold(announced, now + lifetime + CERTAIN)
        self._writer.take(
            self.index, addresses, lifetime, lambda failed: self._taken(failed, addresses, announced, lifetime)
        )
        self._plan_renewal(now)

    def release(self, owner: object, addresses: tuple[str, ...], after: float = 0.0) -> None:
        """Remove addresses after so many seconds, unless another owner has them by now or somebody takes them then."""
        gone = tuple(each for each in addresses if self.kept.get(each, Kept(owner, 0)).owner is owner)
        self._forget(gone)
        if not gone:
            return
        for each in gone:
            self.leaving[each] = self.leaving.get(each, 0) + 1
        if after:
            self._later(after, lambda: self._remove(gone))
        else:
            self._remove(gone)

    def leave(self, owner: object, addresses: tuple[str, ...], seconds: int) -> None:
        """Leave addresses to themselves for so many seconds (0: as long as they have)."""
        mine = tuple(each for each in addresses if each in self.kept and self.kept[each].owner is owner)
        self._forget(mine)
        if mine and seconds:
            self._writer.take(self.index, mine, seconds, self._left)

    def announce(self, addresses: tuple[str, ...]) -> None:
        """Announce addresses once more, unless that has just been done."""
        self._announcer.again(self._loop.clock(), addresses)
        self._announce_timer.when = self._announcer.deadline

    def announce_all(self) -> None:
        """Start over with all announcements: the link was changed, or ARP settings were repaired."""
        self._start_announcing(tuple(self.kept), 0)

    def lost(self, address: str, now: float) -> None:
        """The kernel tells that an address was removed: by us, or by somebody else."""
        expected = self._releasing.get(address, 0)
        if expected:
            self._releasing[address] = expected - 1
            return
        if address in self.kept:
            self.restoring.lost(now, address)
            log.warning("%s was removed by somebody else; putting it back", address)
            self._plan_restoring()

    # --- inside ---

    def waiting(self, now: float) -> float:
        """Return for how long the kernel has not answered a renewal, in seconds; 0 when none is under way.

        While its lock is held by others it neither renews nor expires: the VIPs stay, and so does the role.
        """
        return now - self._renewed_at if self._renewing else 0.0

    def _forget(self, addresses: tuple[str, ...]) -> None:
        for each in addresses:
            self.kept.pop(each, None)
            self.problems.pop(each, None)
        self._announcer.forget(addresses)
        self.restoring.forget(addresses)
        self.watch.let_go(addresses)

    def _taken(
        self, failed: dict[str, str], addresses: tuple[str, ...], announced: tuple[str, ...], lifetime: int
    ) -> None:
        self._note(failed, addresses)
        self._start_announcing(tuple(each for each in announced if each in self.kept and each not in failed), lifetime)

    def _start_announcing(self, addresses: tuple[str, ...], lifetime: int) -> None:
        now = self._loop.clock()
        self._announcer.start(now, addresses, lifetime)
        self._announce(now)

    def _note(self, failed: dict[str, str], addresses: tuple[str, ...]) -> None:
        now = self._loop.clock()
        before = dict(self.problems)
        for each in addresses:
            if each in failed and each in self.kept:
                if self.problems.get(each) != failed[each]:
                    log.warning("%s cannot be set: %s", each, failed[each])
                self.problems[each] = failed[each]
                self.restoring.lost(now, each)
            else:
                self.problems.pop(each, None)
        self._plan_restoring()
        if self.problems != before:
            self._changed()

    def _released(self, failed: dict[str, str], addresses: tuple[str, ...]) -> None:
        for each in addresses:
            if self.leaving[each] > 1:
                self.leaving[each] -= 1
            else:
                del self.leaving[each]
            if each in failed:
                log.error("%s cannot be removed: %s", each, failed[each])
        # The kernel's news of these removals are queued before its answer: what is still expected never comes.
        self._later(CERTAIN, lambda: self._expect_no_more(addresses))
        self._changed()

    def _expect_no_more(self, addresses: tuple[str, ...]) -> None:
        for each in addresses:
            self._releasing.pop(each, None)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something once; also after close()."""

        def once(_: float) -> None:
            self._loop.drop(timer)
            act()

        timer = self._loop.timer(once)
        timer.when = self._loop.clock() + seconds

    def _remove(self, addresses: tuple[str, ...]) -> None:
        still = tuple(each for each in addresses if each not in self.kept)
        if not still:
            self._released({}, addresses)
            return
        for each in still:
            self._releasing[each] = self._releasing.get(each, 0) + 1
        self._writer.release(self.index, still, lambda failed: self._released(failed, addresses))

    def _left(self, failed: dict[str, str]) -> None:
        for each, text in failed.items():
            log.error("%s cannot be left for a while: %s", each, text)

    def _plan_renewal(self, now: float) -> None:
        shortest = min((kept.lifetime for kept in self.kept.values() if kept.lifetime), default=0)
        if shortest:
            self._renew_timer.when = min(self._renew_timer.when, now + shortest / _RENEWALS)

    def _renew(self, now: float) -> None:
        """Renew all lifetimes in one batch; while one is under way no other is sent."""
        by_lifetime: dict[int, list[str]] = {}
        for address, kept in self.kept.items():
            if kept.lifetime and address not in self.restoring.waiting:
                by_lifetime.setdefault(kept.lifetime, []).append(address)
        if not self._renewing:
            for lifetime, addresses in by_lifetime.items():
                self._renewing, self._renewal_begun = True, now
                self._writer.take(self.index, addresses, lifetime, self._renewed)
        self._plan_renewal(now)
        self.watch.expire(now)

    def _renewed(self, failed: dict[str, str]) -> None:
        self._renewing = False
        self.renewals += 1
        self._renewed_at = self._loop.clock()
        self.renewal_seconds = self._renewed_at - self._renewal_begun
        self._note(failed, tuple(failed))

    def _announce(self, now: float) -> None:
        addresses = self._announcer.due(now)
        if addresses and not self.watch.announce(addresses, now):
            self._announcer.start(now + _ANNOUNCE_RETRY, tuple(addresses), 0)
        self._announce_timer.when = self._announcer.deadline

    def _plan_restoring(self) -> None:
        self._restore_timer.when = min(self.restoring.waiting.values(), default=float("inf"))

    def _restore(self, now: float) -> None:
        for address in self.restoring.due(now):
            kept = self.kept.get(address)
            if kept is not None:
                self.take(kept.owner, (address,), kept.lifetime, (address,))
        self._plan_restoring()
