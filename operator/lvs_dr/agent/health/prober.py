"""Runs the checks: each at its interval, equal ones once, results into the state machines of `core.health`."""

import asyncio
import logging
import random
import resource
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from lvs_dr.agent.health.attempt import CannotCheckError
from lvs_dr.agent.health.marks import Marks
from lvs_dr.agent.health.outcomes import Outcome, Outcomes
from lvs_dr.agent.health.source_addresses import SourceAddresses
from lvs_dr.agent.timetable import Timetable
from lvs_dr.core.health import (
    CheckKey,
    CheckState,
    Health,
    HealthView,
    carry_over,
    pause,
    step,
)

log = logging.getLogger(__name__)

IN_FLIGHT: Final = 4096  # checks at the same time; more wait for their turn
OTHER_FILES: Final = 256  # that the agent may have open besides
HELD_SECONDS: Final = 6.0  # for which a check waits for its firewall mark before that is called a trouble
HELD_PAUSE_SECONDS: Final = 1.0
LATE_PART: Final = 0.1  # of its interval: a check that starts later than this after its time counts as late
LOGGED: Final = 10  # checks that cannot be made, by name, in so many seconds:
QUIET_SECONDS: Final = 60.0

Check = Callable[[CheckKey, str], Awaitable[str]]
"""Makes one check from an own address ("" = any); returns "" or what is wrong. Raises CannotCheckError."""


class Prober:
    """Checks what it was last given. `changed` is called when a verdict changes, `counted` after every check.

    `late` and `broken` count checks that started late, and that could not be made.
    """

    def __init__(
        self,
        *,
        changed: Callable[[], None],
        check: Check,
        counted: Callable[[bool], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
        marks: Marks | None = None,
    ) -> None:
        self._changed = changed
        self._counted = counted
        self._check = check
        self._wanted: frozenset[CheckKey] = frozenset()
        self._marks = marks
        self._held: dict[CheckKey, float] = {}  # checks whose mark cannot be used, and since when
        self._unproven: set[CheckKey] = set()  # who was let in by a check of its own address
        self._states: dict[CheckKey, CheckState] = {}
        self._health: dict[CheckKey, Health] = {}  # of `_states`
        self._outcomes = Outcomes(clock)
        self._timetable = Timetable("a check", self._one)
        self._view: dict[CheckKey, Health] | None = None
        self._addresses = SourceAddresses()
        self._quiet_since = -QUIET_SECONDS
        self._logged = self._unlogged = 0
        self.late = 0
        self.broken = 0

    def update(self, wanted: Iterable[CheckKey], in_service: Iterable[CheckKey] = ()) -> None:
        """Check exactly these from now on; `in_service` says which of them the kernel already sends to.

        The same frozenset as before costs nothing. Of another one only what differs is hashed: keys are dear to hash.
        """
        wanted, before = frozenset(wanted), self._wanted  # a frozenset is taken as it is
        if wanted is before:
            return
        self._wanted = wanted
        now = asyncio.get_running_loop().time()
        added = wanted - before
        fresh = carry_over(self._states, added, in_service) if added else {}
        for key in before - wanted:
            self._timetable.drop(key)
            del self._states[key], self._health[key]
            self._held.pop(key, None)
            self._unproven.discard(key)
            self._outcomes.forget(key)
        self._states.update(fresh)
        self._health.update((key, state.health) for key, state in fresh.items())
        self._view = None
        for key, state in fresh.items():
            # What is not served waits for its first result; what is can wait for its turn, spread evenly.
            known = state.health is not Health.UNKNOWN
            self._timetable.schedule(key, now + random.random() * key.check.interval_seconds if known else now)

    def use_addresses(self, own: tuple[str, ...], facing: tuple[str, ...] = ()) -> None:
        """Ask from these addresses (with prefix length) where a check names the network it must come from.

        `facing`: those of the node's own that are on the director's interface; checks through VIPs come from them.
        """
        self._addresses.use(own, facing)

    def marks_changed(self) -> None:
        """Make the checks that wait for their marks now."""
        now = asyncio.get_running_loop().time()
        for key in tuple(self._held):
            if self._marks is None or self._marks.usable(key):
                self._timetable.schedule(key, now)

    def view(self) -> Mapping[CheckKey, Health]:
        """Return the verdicts."""
        if self._view is None:
            self._view = self._health.copy()  # with the hashes
        return self._view

    def outcome(self, decided: HealthView, key: CheckKey) -> Outcome:
        """Return what to tell about one check, whose verdict is that by which the kernel was programmed."""
        return self._outcomes.of(key, decided.get(key, Health.UNKNOWN))

    async def run(self) -> None:
        """Run checks until cancelled."""
        await self._timetable.run(allowed_at_once())

    async def _one(self, key: CheckKey, ticket: int, due: float) -> None:
        """Check once, and schedule the next from the start of this one."""
        if not self._timetable.is_wanted(key, ticket):
            return  # dropped before this task had its turn
        loop = asyncio.get_running_loop()
        began = loop.time()
        if key.mark and self._marks is not None and not self._marks.usable(key):
            await self._hold(key, self._marks.hindrance(key), began)
            return
        self._held.pop(key, None)
        first = self._states[key].health is Health.UNKNOWN  # many may have started at once: spread them
        if not first and began - due > LATE_PART * key.check.interval_seconds:
            self.late += 1
        try:
            message, trouble = await self._made(key)
        except Exception:
            message, trouble = "", "the check itself failed: see the agent's log"
            if not self._outcomes.in_trouble(key):
                log.exception("a check of %s failed unexpectedly", _name(key))
        if self._timetable.is_wanted(key, ticket):
            took = round((loop.time() - began) * 1000)
            if trouble:
                self._broken(key, trouble, took)
                await self._enter(key)
            else:
                self._result(key, message, took)
                if message and key.mark:
                    await self._compare(key)
        if self._timetable.is_wanted(key, ticket):
            self._timetable.schedule(key, max(loop.time(), began + self._pause(key, first=first)))
        self._counted(not message and not trouble)

    async def _hold(self, key: CheckKey, why: str, now: float) -> None:
        """Wait for the next pass to make the check possible; say so when that takes too long."""
        if now - self._held.setdefault(key, now) >= HELD_SECONDS:
            self._broken(key, why, 0)
            await self._enter(key)
        if key in self._held:
            self._timetable.schedule(key, now + HELD_PAUSE_SECONDS)

    async def _enter(self, key: CheckKey) -> None:
        """Let in a real server of which nothing is known, if it is well on its own address.

        A director that has just booted, where marks cannot be used, would else serve nobody.
        """
        if key.mark and self._is_unknown(key) and await self._well_on_its_own_address(key) and self._is_unknown(key):
            self._states[key] = CheckState(Health.UP)
            self._health[key] = Health.UP
            self._unproven.add(key)
            self._tell()

    def _is_unknown(self, key: CheckKey) -> bool:
        state = self._states.get(key)
        return state is not None and state.health is Health.UNKNOWN

    async def _compare(self, key: CheckKey) -> None:
        """Find out whether a real server that fails on the VIP is well on its own address: it is another trouble."""
        if self._states[key].health is not Health.DOWN:
            return
        well = await self._well_on_its_own_address(key)
        if well is not None and key in self._timetable.entries and self._outcomes.blackholed(key, well=well):
            self._tell()

    async def _well_on_its_own_address(self, key: CheckKey) -> bool | None:
        """Check a real server past the VIP; None where that cannot be done."""
        try:
            source = self._addresses.past_the_vip(key)
            return not await self._check(CheckKey(key.address, key.port, key.check), source)
        except CannotCheckError:
            return None
        except Exception as error:  # noqa: BLE001 - the verdict stands, and the next check must be made
            self._log_broken(key, f"asking its own address failed unexpectedly: {error!r}")
            return None

    async def _made(self, key: CheckKey) -> tuple[str, str]:
        """Check once; returns what is wrong with the real server, and what is wrong with the check."""
        try:
            message = await self._check(key, self._addresses.source(key))
        except CannotCheckError as error:
            return "", str(error)
        if not key.mark or self._marks is None:
            return message, ""
        state = self._states.get(key)
        health = state.health if state is not None else Health.UNKNOWN
        failed = bool(message) and health is not Health.DOWN
        entering = not message and (health is not Health.UP or key in self._unproven)
        doubt = await self._marks.doubt(key, failed=failed, entering=entering)
        return ("", doubt) if doubt else (message, "")

    def _pause(self, key: CheckKey, *, first: bool) -> float:
        seconds = pause(self._states[key], key.check)
        if first:
            return seconds * random.random()
        jitter = key.check.jitter_percent
        return seconds * (1 + random.uniform(-jitter, jitter) / 100) if jitter else seconds

    def _broken(self, key: CheckKey, trouble: str, milliseconds: int) -> None:
        """Note that the check could not be made: the verdict stays as it is."""
        self.broken += 1
        if self._outcomes.trouble(key, trouble, milliseconds):
            self._log_broken(key, trouble)
            self._tell()

    def _result(self, key: CheckKey, message: str, milliseconds: int) -> None:
        self._unproven.discard(key)
        before = self._states[key]
        after = step(before, key.check, success=not message)
        self._states[key] = after
        news = after.health is not before.health
        if news:
            self._health[key] = after.health
        if news:
            log.info("%s is %s%s", _name(key), after.health.lower(), f" ({message})" if message else "")
        if self._outcomes.result(key, message, after, milliseconds, news=news) or news:
            self._tell()

    def _log_broken(self, key: CheckKey, trouble: str) -> None:
        """Name the first ones and count the others: what breaks one check breaks thousands at the same time."""
        now = asyncio.get_running_loop().time()
        if now - self._quiet_since > QUIET_SECONDS:
            if self._unlogged:
                log.warning("%d more could not be checked", self._unlogged)
            self._quiet_since, self._logged, self._unlogged = now, 0, 0
        if self._logged < LOGGED:
            self._logged += 1
            log.warning("%s cannot be checked: %s", _name(key), trouble)
        else:
            self._unlogged += 1

    def _tell(self) -> None:
        self._view = None
        self._changed()


def _name(key: CheckKey) -> str:
    return f"{key.address}:{key.port}" if key.port else key.address


def allowed_at_once() -> int:
    """Let this process have as many files open as it may; returns how many checks may run at the same time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError) as error:
            log.warning("no more than %d files can be open: %s", soft, error)
    if soft == resource.RLIM_INFINITY:
        return IN_FLIGHT
    return max(1, min(IN_FLIGHT, soft - OTHER_FILES))
