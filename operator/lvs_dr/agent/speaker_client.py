"""The speaker as the agent sees it: `vrrp.messages.Speaker` over the control socket of `lvs-speaker`.

The speaker keeps its configuration and holds its VIPs without us. What is added here: a VIP is probed for before it is
handed over for the first time, and while nobody answers the interface itself is asked what is held.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from lvs_dr.agent import speaker_message
from lvs_dr.agent.admission import Admission, Present
from lvs_dr.agent.kernel.protocol import Kernel
from lvs_dr.agent.speaker_link import SpeakerGoneError, SpeakerLink, SpeakerRefusedError
from lvs_dr.agent.speaker_message import Told
from lvs_dr.agent.wire import Wire
from lvs_dr.core.reasons import Reason
from lvs_dr.vrrp import kept
from lvs_dr.vrrp.messages import DEGRADED_BELOW, LOWERED_BY, AddressProblem, Assignment, SpeakerState

log = logging.getLogger(__name__)

T = TypeVar("T")

SOCKET_NAME: Final = "speaker.sock"
KEPT_NAME: Final = "speaker.json"
AGENT_TIMEOUT_SECONDS: Final = 10
_CENTISECOND_MILLISECONDS: Final = 10


class Calls(Protocol):
    """Runs functions of the kernel in its thread, within a time limit (`agent.door.KernelDoor`)."""

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Run it. Raises KernelError, KernelStuckError."""
        ...


class SpeakerClient:
    """Implements `Speaker`. Start `run` beside it; `news` is called when the state is another one."""

    def __init__(
        self,
        kernel: Kernel,
        door: Calls,
        wire: Wire,
        *,
        run_directory: Path,
        state_directory: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kernel = kernel
        self._door = door
        self._lock = asyncio.Lock()
        self._admission = Admission(wire, clock)
        self._link = SpeakerLink(
            run_directory / SOCKET_NAME,
            greet=self._greet,
            told=self._take,
            lost=self._lost,
            alive=lambda: self.alive(),  # noqa: PLW0108 - it is set later
        )
        self.news: Callable[[], None] = lambda: None
        self.alive: Callable[[], bool] = lambda: True
        self.told = Told("state")  # the last message, for the metrics
        self._wanted: Mapping[str, Any] | None = None  # the configuration that is to be in force
        self._sent: Mapping[str, Any] | None = None  # what is in force on this connection
        self._refused = ""
        self._problems: tuple[AddressProblem, ...] = ()
        found = kept.load(str(state_directory / KEPT_NAME))
        addresses = (address for each in found.instances for address in each.machine.addresses) if found else ()
        self._state = SpeakerState(
            interface=found.interface if found else "",
            held=(),
            configured=frozenset(addresses),  # it may run with that, and we do not hear it
            connected=False,
        )

    def state(self) -> SpeakerState:
        """Tell what is known now."""
        return self._state

    def missing(self) -> str:
        """Return why VIPs are not in good hands, "" if they are: for readiness."""
        return next((one.message for one in self._troubles() if not one.address), "")

    async def assign(self, assignment: Assignment) -> SpeakerState:
        """Hand over an assignment, without the VIPs that others on the segment have.

        Takes half a second when an address must be probed for. Raises KernelError and KernelStuckError when the
        interfaces cannot be read.
        """
        async with self._lock:
            if assignment.paused:
                return self._state
            present = Present(await self._door.call(self._kernel.interfaces))
            ours = self._state.configured | frozenset(self._state.held)
            known = ours if assignment.interface == self._state.interface else frozenset()
            sorted_out = self._admission.look(assignment, present, known, ours)
            if sorted_out.fresh:
                if self._state.configured and not (self._state.configured <= sorted_out.admitted):
                    # What is to go, goes before the time that probing takes.
                    await self._configure(assignment, sorted_out.admitted)
                sorted_out = await self._admission.probe(assignment, sorted_out)
            self._problems = sorted_out.problems
            await self._configure(assignment, sorted_out.admitted)
            if not self._link.connected:
                self._look_at(present)
            self._renew()
            return self._state

    async def announce(self) -> None:
        """Have every held address announced again."""
        try:
            await self._link.ask("announce")
        except (SpeakerGoneError, SpeakerRefusedError) as error:
            log.debug("not announced: %s", error)  # a speaker that comes back announces by itself

    async def run(self) -> None:
        """Keep up the connection until cancelled."""
        await self._link.run()

    # The connection.

    async def _greet(self) -> None:
        """Learn what it does, and tell it what it is to do."""
        await self._link.ask("state")
        async with self._lock:
            if self._wanted is not None and self._wanted != self._sent:
                await self._send(self._wanted)
        log.info("the speaker answers")
        self._renew()
        self.news()

    def _take(self, told: Told) -> None:
        before = self._state
        self.told = told
        self._renew()
        if self._state != before:
            self.news()

    async def _lost(self) -> None:
        """Say so, and ask the interface."""
        self._sent = None
        try:
            self._look_at(Present(await self._door.call(self._kernel.interfaces)))
        finally:
            self._renew()
            self.news()

    async def _configure(self, assignment: Assignment, admitted: frozenset[str]) -> None:
        wanted = configuration(assignment, admitted)
        self._wanted = wanted
        if wanted != self._sent:
            await self._send(wanted)

    async def _send(self, wanted: Mapping[str, Any]) -> None:
        named = frozenset(address for each in wanted["instances"] for address in each["addresses"])
        if not self._link.connected:
            return
        # Until it has answered it may follow either; whoever asks for what may be taken must know.
        self._state = replace(self._state, configured=self._state.configured | named)
        try:
            await self._link.ask("configure", wanted)
        except SpeakerRefusedError as error:
            if str(error) != self._refused:
                log.error("the speaker refuses its configuration: %s", error)  # noqa: TRY400 - no trace
            self._refused, self._sent = str(error), None
        except SpeakerGoneError as error:
            log.debug("the configuration is sent again later: %s", error)
        else:
            self._refused, self._sent = "", wanted

    # The state.

    def _renew(self) -> None:
        """Put the state together from the last message and what is known here."""
        before, told = self._state, self.told
        if not self._link.connected:
            self._state = replace(before, connected=False, problems=self._all_problems())
            return
        configured = told.configured
        self._state = SpeakerState(
            interface=told.interface,
            held=tuple(sorted(told.held)),
            problems=self._all_problems(),
            routers=speaker_message.router_states(told, before.routers),
            configured=before.configured if configured is None else configured,
            connected=True,
            memory_locked=told.process.memory_locked,
            real_time=told.process.real_time,
        )

    def _look_at(self, present: Present) -> None:
        """Take what is found on the interface for held: nobody tells more."""
        before = self._state
        found = (before.configured | frozenset(before.held)) & present.hosts(before.interface)
        self._state = replace(before, held=tuple(sorted(found)), routers=())

    def _all_problems(self) -> tuple[AddressProblem, ...]:
        told = speaker_message.problems(self.told) if self._link.connected else ()
        return tuple(sorted({*self._problems, *told, *self._troubles()}, key=_order))

    def _troubles(self) -> Iterable[AddressProblem]:
        """Yield what is wrong with the speaker itself, where VIPs depend on it."""
        if not self._link.connected and (self._state.configured or (self._wanted or {}).get("instances")):
            text = f"lvs-speaker, which holds the VIPs, does not answer ({self._link.trouble}); look at its container"
            yield AddressProblem("", Reason.SPEAKER_UNAVAILABLE, text)
        elif self._refused:
            text = f"lvs-speaker refuses its configuration and goes on with the one before: {self._refused}"
            yield AddressProblem("", Reason.SPEAKER_UNAVAILABLE, text)


def configuration(assignment: Assignment, admitted: frozenset[str]) -> dict[str, Any]:
    """Return what the speaker is sent (vrrp.configuration); a virtual router without a VIP is left out."""
    instances = []
    for router in assignment.routers:
        addresses = [each for each in router.addresses if each in admitted]
        if not addresses:
            continue
        family = router.key.family
        peers = [each for each in assignment.peers if (":" in each) == (family == 6)]  # noqa: PLR2004 - IPv6
        unicast = assignment.unicast and bool(peers)
        # IPv6 adverts come from link-local addresses, which nobody reports.
        named = unicast or (family == 4 and assignment.strangers)  # noqa: PLR2004 - IPv4
        instances.append(
            {
                "vrid": router.key.vrid,
                "family": family,
                "priority": router.priority,
                "addresses": addresses,
                "intervalMilliseconds": max(
                    _CENTISECOND_MILLISECONDS,
                    assignment.interval_milliseconds // _CENTISECOND_MILLISECONDS * _CENTISECOND_MILLISECONDS,
                ),
                "preempt": assignment.preempt,
                "preemptDelaySeconds": assignment.preempt_delay_seconds,
                "stopHoldSeconds": assignment.stop_hold_seconds,
                "degradedBelow": DEGRADED_BELOW,
                "alone": assignment.alone,
                "peers": peers if named else [],
                "unicast": unicast,
                "source": assignment.source6 if unicast and family == 6 else "",  # noqa: PLR2004 - IPv6
                "fault": router.fault,
            }
        )
    return {
        "interface": assignment.interface,
        "agentTimeoutSeconds": AGENT_TIMEOUT_SECONDS,
        "agentSilentLowersBy": LOWERED_BY,
        "instances": instances,
    }


def _order(one: AddressProblem) -> tuple[str, str, str]:
    return (one.address, one.reason, one.message)
