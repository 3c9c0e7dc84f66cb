"""Keeps the speaker at its newest assignment, without making the loop wait while it probes for a VIP."""

import asyncio
import logging
from collections.abc import Callable

from lvs_dr.vrrp.messages import Assignment, Speaker, SpeakerState

log = logging.getLogger(__name__)

ASSIGN_SECONDS = 60.0  # probing many new VIPs takes its time
RELEASE_SECONDS = 3.0


class Assigner:
    """Hands whole assignments to the speaker, one at a time; `wake` is called when its state has changed."""

    def __init__(self, speaker: Speaker, *, wake: Callable[[], None]) -> None:
        self._speaker = speaker
        self._wake = wake
        self._wanted: Assignment | None = None
        self._active: Assignment | None = None  # being carried out
        self._news = asyncio.Event()
        self._announce = False
        self._progress = asyncio.Condition()
        self.trouble = ""  # why the last assignment failed as a whole

    @property
    def state(self) -> SpeakerState:
        """What the speaker holds."""
        return self._speaker.state()

    @property
    def exposed(self) -> frozenset[str]:
        """VIPs that the speaker holds, or may take any moment: it is configured with them, or about to be."""
        state = self.state
        active = self._active.addresses if self._active is not None and not self._active.paused else frozenset()
        return frozenset(state.held) | state.configured | active

    def want(self, assignment: Assignment, *, again: bool = False) -> None:
        """Bring the speaker there soon; `again`: also if it was told so before (it looks and repairs)."""
        if assignment != self._wanted or again:
            self._wanted = assignment
            self._news.set()

    def announce(self) -> None:
        """Have the held addresses announced again soon."""
        self._announce = True
        self._news.set()

    async def release(self, keep: Assignment, *, seconds: float = RELEASE_SECONDS) -> None:
        """Have everything but `keep` released, and wait for it, but not for ever: who calls looks at `exposed`."""
        self.want(keep)
        if not self.state.connected:
            return  # it cannot be told; what it may still take is told in the report
        wanted = keep.addresses
        try:
            async with asyncio.timeout(seconds), self._progress:
                await self._progress.wait_for(lambda: self.exposed <= wanted or bool(self.trouble))
        except TimeoutError:
            log.warning("the speaker has not released %s yet", ", ".join(sorted(self.exposed - wanted)))

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            before = self.state
            self._active = self._wanted
            try:
                await self._once(self._active)
                self.trouble = ""
            except Exception as error:
                if not self.trouble:
                    log.exception("the speaker failed")
                self.trouble = f"{type(error).__name__}: {error}"
            finally:
                self._active = None
            async with self._progress:
                self._progress.notify_all()
            if self.state != before or self.trouble:
                self._wake()
            if self.trouble:
                await asyncio.sleep(1.0)

    async def _once(self, assignment: Assignment | None) -> None:
        if assignment is not None:
            async with asyncio.timeout(ASSIGN_SECONDS):
                await self._speaker.assign(assignment)
        if self._announce:
            self._announce = False
            async with asyncio.timeout(ASSIGN_SECONDS):
                await self._speaker.announce()
