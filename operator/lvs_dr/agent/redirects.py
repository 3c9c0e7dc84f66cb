"""Has the redirector do what the passes want, and tells what it cannot do. Takes nothing down when it is away.

The redirector is a process beside this one (`lvs_dr.redirect`); without it the agent still keeps the listening sockets,
so clients wait instead of being refused.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from lvs_dr.agent.load.reader import LoadReader, Want
from lvs_dr.agent.redirect_listeners import Secrets, key_of, lacking, listener
from lvs_dr.agent.secrets import Secret, SecretUnavailableError
from lvs_dr.core.desired import Desired
from lvs_dr.core.load_spec import LoadQuestion
from lvs_dr.core.loads import ServerLoad, Sockets
from lvs_dr.core.node_status import TableException
from lvs_dr.core.reasons import Reason
from lvs_dr.core.redirected import Redirected, RedirectTarget
from lvs_dr.redirect.handoff import Handoff
from lvs_dr.redirect.messages import MAXIMUM_LISTENERS, Listener, Load, Report, TargetState

log = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 5.0  # a redirector that restarts, and takes its sockets along, is no trouble
STARTING_SECONDS: Final = 15.0  # for which real servers go on unchecked that the agent before may have told
LOAD_SECONDS: Final = 1.0
LONGEST: Final = 500
NO_REDIRECTOR: Final = (
    "this agent runs without a redirector: install the component redirect (manifests/components/redirect)"
)
AWAY: Final = (
    "the redirector does not run: look at the container redirector of the agent's pod; connections wait for it"
)

Troubles = Mapping[str, tuple[TableException, ...]]
InFlight = Mapping[tuple[str, str], int]
"""Uploads that a real server is thought to have, by table and RealServer."""


class Redirecting(NamedTuple):
    """What the report says of redirects."""

    troubles: Troubles
    in_flight: InFlight


class Redirects:
    """One redirector, reached at `socket` by processes of `uids`; None: there is none here.

    `secret` returns a Secret or raises SecretUnavailableError; `wake` is called when there is something to report.
    """

    def __init__(
        self,
        socket: Path | None,
        *,
        uids: Collection[int],
        secret: Callable[[str], Secret],
        loads: LoadReader,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handoff = Handoff(socket, uids=uids, on_report=self._reported) if socket is not None else None
        self._secret = secret
        self._loads = loads
        self._wake = wake
        self._clock = clock
        self._started = clock()
        self._goal: Desired | None = None
        self._secrets: Secrets = {}
        self._unreadable: dict[str, str] = {}
        self._starting = True
        self._wanted: tuple[Redirected, ...] = ()
        self._left_out: frozenset[str] = frozenset()  # listeners beyond what there may be
        self._listeners: tuple[Listener, ...] | None = None
        self._serving: set[tuple[str, int, str]] = set()  # address, port, real server: what was told
        self._since: dict[tuple[str, TableException], float] = {}
        self._told: Troubles = {}
        self._problems: tuple[str, ...] = ()

    async def run(self) -> None:
        """Serve the redirector until cancelled. Raises OSError if it cannot be listened for."""
        if self._handoff is None:
            await asyncio.get_running_loop().create_future()
            return
        async with self._handoff:
            if self._listeners is not None:
                self._handoff.update(self._listeners)
            while True:
                await asyncio.sleep(LOAD_SECONDS)
                self._tell_loads(self._handoff)

    @property
    def connected(self) -> bool:
        """Whether a redirector is there."""
        return self._handoff is not None and self._handoff.connected

    @property
    def count(self) -> int:
        """Listeners that there are to be."""
        return len(self._listeners or ())

    @property
    def addresses(self) -> frozenset[str]:
        """VIPs with a redirected port."""
        return frozenset({one.service.address for one in self._wanted} | {one.address for one in self._listeners or ()})

    # What is wanted.

    def follow(self, goal: Desired) -> None:
        """Have the redirector do what a pass wants."""
        if not goal.writable:
            return
        secrets, unreadable = self._read(goal.redirects)
        starting = self._clock() - self._started < STARTING_SECONDS
        if goal is self._goal and (secrets, unreadable, starting) == (self._secrets, self._unreadable, self._starting):
            return
        self._goal, self._secrets, self._unreadable, self._starting = goal, secrets, unreadable, starting
        self._wanted = goal.redirects[:MAXIMUM_LISTENERS]
        self._left_out = frozenset(one.table for one in goal.redirects[MAXIMUM_LISTENERS:])
        kept = [one for one in self._listeners or () if one.service in goal.kept_redirects]
        listeners = (*kept, *(listener(one, secrets, self._whether(one)) for one in self._wanted))[:MAXIMUM_LISTENERS]
        if listeners != self._listeners:
            self._listeners = listeners
            self._serving = {
                (one.address, one.port, each.name)
                for one in listeners
                for each in one.targets
                if each.state is TargetState.IN_SERVICE
            }
            if self._handoff is not None:
                self._handoff.update(listeners)
        self._loads.want("redirects", self._questions())

    def _whether(self, one: Redirected) -> Callable[[RedirectTarget], bool]:
        """Return what tells whether a real server goes on that no check has looked at: as it did before."""
        place = one.service.address, one.service.port
        return lambda each: self._starting or (*place, each.entry.real_server) in self._serving

    def _read(self, wanted: Iterable[Redirected]) -> tuple[Secrets, dict[str, str]]:
        found: dict[str, Mapping[str, bytes] | None] = {}
        unreadable: dict[str, str] = {}
        for name in sorted({name for one in wanted for name in one.settings.secrets}):
            try:
                found[name] = self._secret(name).data
            except SecretUnavailableError as error:
                found[name], unreadable[name] = None, str(error)
        return found, unreadable

    # What becomes of it.

    def troubles(self) -> Troubles:
        """Return what is wrong, by table, for the report: what has lasted."""
        now = self._clock()
        found = {(table, each) for table, each in self._found()}
        self._since = {each: self._since.get(each, now) for each in found}
        lasting: dict[str, list[TableException]] = {}
        for (table, each), since in sorted(self._since.items(), key=lambda item: (item[0][0], item[0][1].message)):
            if now - since >= PATIENCE_SECONDS or self._handoff is None:
                lasting.setdefault(table, []).append(each)
        self._told = {table: tuple(each) for table, each in lasting.items()}
        return self._told

    @property
    def unserved(self) -> frozenset[str]:
        """Tables that clients ask in vain here: another director may do better."""
        return frozenset(self._told)

    @property
    def news(self) -> bool:
        """Whether there is something else to report than before."""
        told = self._told
        return self.troubles() != told

    def _found(self) -> Iterable[tuple[str, TableException]]:
        reported = {one.key: one.problem for one in self._report.listeners} if self._report is not None else {}
        for table in self._left_out:
            text = f"a director has at most {MAXIMUM_LISTENERS} redirected ports"
            yield table, TableException(Reason.CANNOT_LISTEN, text)
        for one in self._wanted:
            if self._handoff is None:
                yield one.table, TableException(Reason.REDIRECTOR_UNAVAILABLE, NO_REDIRECTOR)
                continue
            if text := self._handoff.problems.get(key_of(one), ""):
                yield one.table, TableException(Reason.CANNOT_LISTEN, text[:LONGEST])
            if not self._handoff.connected:
                yield one.table, TableException(Reason.REDIRECTOR_UNAVAILABLE, AWAY)
            secrets = [self._unreadable[name] for name in sorted(one.settings.secrets & self._unreadable.keys())]
            missing = "; ".join(secrets) or lacking(one.settings, self._secrets)
            if text := missing or reported.get(key_of(one), ""):
                yield one.table, TableException(Reason.REDIRECT_REFUSED, f"{key_of(one)}: {text}"[:LONGEST])

    @property
    def _report(self) -> Report | None:
        return self._handoff.report if self._handoff is not None else None

    def _reported(self, report: Report) -> None:
        problems = tuple(one.problem for one in report.listeners)
        if problems != self._problems:
            self._problems = problems
            self._wake()

    def in_flight(self) -> InFlight:
        """Return the uploads under way, as the redirector thinks; of what it does not tell, nothing is known."""
        found: dict[tuple[str, str], float] = {}
        for one in self._report.listeners if self._report is not None else ():
            for each in one.targets:
                found[one.service, each.name] = found.get((one.service, each.name), 0.0) + each.in_flight
        return {where: math.ceil(count) for where, count in found.items()}

    # Loads of real servers, which their agents tell.

    def _questions(self) -> Mapping[LoadQuestion, Want]:
        want = Want(LOAD_SECONDS, Sockets.BYTES)
        entries = (each.entry for one in self._wanted for each in one.targets)
        return {LoadQuestion(entry.address): want for entry in entries if entry.node}

    def _tell_loads(self, handoff: Handoff) -> None:
        """Pass on what real servers say. A port is asked for on all addresses: clients come by whichever name."""
        now = asyncio.get_running_loop().time()
        places = {(each.entry.address, one.target_port) for one in self._wanted for each in one.targets}
        loads: list[Load] = []
        for address, port in sorted(places):
            heard = self._loads.heard(LoadQuestion(address))
            if heard is None or not isinstance(heard.answer, ServerLoad) or heard.answer.sockets is not Sockets.BYTES:
                continue
            ports = [each for each in heard.answer.ports if each.port == port]
            established, received = sum(each.established for each in ports), sum(each.received_bytes for each in ports)
            loads.append(Load(address, port, established, received, max(0.0, now - heard.at)))
        if loads:
            handoff.tell_loads(loads)
