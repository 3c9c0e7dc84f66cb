"""The address holder: owns the VIPs on the director's interface.

It implements `vrrp.messages.Speaker` inside the agent's process, for groups with one director that holds the
VIPs. It alone adds and removes them there, probes before first use, announces, and puts back what vanished.
"""

import asyncio
import ipaddress
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, TypeVar

from lvs_dr.agent.announcer import Announcer
from lvs_dr.agent.kernel.protocol import Interface, Kernel
from lvs_dr.agent.wire import Wire, WireError
from lvs_dr.core.desired import SCOPE_GLOBAL
from lvs_dr.core.kernel import AddressConfig, AddressKey, Failure
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.reasons import Reason
from lvs_dr.vrrp.messages import AddressProblem, Assignment, Role, SpeakerState

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOPBACK: Final = "lo"
CONFLICT_SECONDS: Final = 5.0
"""How long an address that somebody else answered for is not probed again."""


class Calls(Protocol):
    """Runs functions of the kernel in its thread, within a time limit (`agent.door.KernelDoor`)."""

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Run it. Raises KernelError, KernelStuckError."""
        ...


class HeldLedger(Protocol):
    """The speaker's part of the ledger (`agent.ledger.LedgerFile`)."""

    @property
    def current(self) -> Ledger:
        """What is on disk."""
        ...

    def save_held(self, held: Mapping[AddressKey, bool]) -> bool:
        """Write which addresses are held, and whether each was adopted. Raises OSError."""
        ...


class _Present:
    """What is on the interfaces now."""

    def __init__(self, interfaces: tuple[Interface, ...]) -> None:
        self.links = {one.name: one for one in interfaces}
        self.hosts: set[AddressKey] = set()
        self.others: set[AddressKey] = set()  # with a network's prefix: the node's own
        for one in interfaces:
            for text in one.addresses:
                own = ipaddress.ip_interface(text)
                host = own.network.prefixlen == own.max_prefixlen
                (self.hosts if host else self.others).add(AddressKey(one.name, str(own.ip)))

    def elsewhere(self, key: AddressKey) -> str:
        """Return another interface, not lo, that has the address; "" if none has."""
        names = (one.interface for one in self.hosts | self.others if one.address == key.address)
        return next((name for name in sorted(names) if name not in (key.interface, LOOPBACK)), "")


class AddressHolder:
    """Implements `Speaker`. Start `run` beside it: it repeats and refreshes the announcements.

    Until the first assignment its state is what the ledger says: after a restart of the agent the VIPs are
    held as before.
    """

    def __init__(
        self,
        kernel: Kernel,
        door: Calls,
        ledger: HeldLedger,
        wire: Wire,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kernel = kernel
        self._door = door
        self._ledger = ledger
        self._wire = wire
        self._clock = clock
        self._lock = asyncio.Lock()
        self._announcer = Announcer(wire, clock)
        self._conflicts: dict[AddressKey, tuple[str, float]] = {}  # MAC, and not to be probed before
        self._link: tuple[str, str, bool] | None = None
        self.repairs = 0  # addresses put back
        records = self._records()
        interface = next((key.interface for key in records), "")
        self._state = _state(interface, records, ())

    def state(self) -> SpeakerState:
        """Tell the state last reached."""
        return self._state

    async def assign(self, assignment: Assignment) -> SpeakerState:
        """Release what is not assigned, then take what is: as far as possible, problems in the state.

        Takes half a second when an address must be probed for. Raises KernelError and KernelStuckError when
        the interfaces cannot be read.
        """
        async with self._lock:
            if assignment.paused:
                return self._state
            present = _Present(await self._door.call(self._kernel.interfaces))
            wanted = [AddressKey(assignment.interface, address) for address in sorted(set(assignment.addresses))]
            records = self._records()
            problems = await self._release(records, frozenset(wanted), present)
            held = [key for key in records if key not in wanted]  # could not be released
            fresh: list[AddressKey] = []
            for key in wanted:
                problem = await self._keep(key, records, present)
                if problem is not None:
                    problems.append(problem)
                elif key in records:
                    held.append(key)
                else:
                    fresh.append(key)
            # Told before probing: what was released or kept is true now.
            self._reached(assignment.interface, held, present, problems)
            taken, refused = await self._take(fresh, records)
            self._conflicts = {key: seen for key, seen in self._conflicts.items() if key in wanted}
            self._reached(assignment.interface, [*held, *taken], present, [*problems, *refused])
            await self._announcer.send_due()
            return self._state

    async def announce(self) -> None:
        """Announce every held address again."""
        self._announcer.start([AddressKey(self._state.interface, address) for address in self._state.held])
        await self._announcer.send_due()

    async def run(self) -> None:
        """Repeat and refresh announcements until cancelled; also of what was held before a restart."""
        self._announcer.keep(AddressKey(self._state.interface, address) for address in self._state.held)
        await self._announcer.run()

    def _records(self) -> dict[AddressKey, bool]:
        ledger = self._ledger.current
        return dict.fromkeys(ledger.held, False) | dict.fromkeys(ledger.adopted_held, True)

    async def _release(
        self, records: dict[AddressKey, bool], wanted: frozenset[AddressKey], present: _Present
    ) -> list[AddressProblem]:
        problems: list[AddressProblem] = []
        for key, adopted in list(records.items()):
            if key in wanted:
                continue
            if not adopted and key in present.hosts:
                failure = await self._door.call(self._kernel.delete_address, key)
                if failure is not None:
                    problems.append(_refused(failure, key))
                    continue
                present.hosts.discard(key)
            log.info("released %s on %s%s", key.address, key.interface, " (left as found)" if adopted else "")
            del records[key]
        self._save(records)
        return problems

    async def _keep(self, key: AddressKey, records: dict[AddressKey, bool], present: _Present) -> AddressProblem | None:
        """Deal with an address that is here already, or was: kept, adopted, put back, or not to be taken."""
        if key in records:
            if key in present.hosts:
                return None
            failure = await self._door.call(self._kernel.add_address, key, _config(key))
            if failure is not None:
                return _refused(failure, key)
            log.warning("%s had vanished from %s and is put back", key.address, key.interface)
            self.repairs += 1
            self._announcer.start([key])
            return None
        if key.interface not in present.links:
            text = f"there is no interface {key.interface}" if key.interface else "no interface faces the clients"
            return AddressProblem(key.address, Reason.NO_INTERFACE, text)
        other = key.interface if key in present.others else present.elsewhere(key)
        if other:
            text = f"{key.address} is an address of this node on {other}; it cannot be a VIP here"
            return AddressProblem(key.address, Reason.RESERVED_ADDRESS, text)
        if key in present.hosts:
            records[key] = True
            self._save(records)
            log.info("%s is on %s already: taken over as found", key.address, key.interface)
        return None

    async def _take(
        self, fresh: list[AddressKey], records: dict[AddressKey, bool]
    ) -> tuple[list[AddressKey], list[AddressProblem]]:
        """Probe for addresses that were never held here, and add those that nobody has."""
        now = self._clock()
        probing = [key for key in fresh if key not in self._conflicts or self._conflicts[key][1] <= now]
        if probing:
            interface = probing[0].interface
            try:
                claims = await self._wire.probe(interface, [key.address for key in probing])
            except WireError as error:
                text = f"it could not be probed for: {error}"
                return [], [AddressProblem(key.address, Reason.NO_INTERFACE, text) for key in fresh]
            for key in probing:
                self._conflicts.pop(key, None)
                if key.address in claims:
                    self._conflicts[key] = (claims[key.address], self._clock() + CONFLICT_SECONDS)
        problems = [_in_use(key, self._conflicts[key][0]) for key in fresh if key in self._conflicts]
        clear = [key for key in probing if key not in self._conflicts]
        self._save(records | dict.fromkeys(clear, False))  # before the kernel is changed
        taken: list[AddressKey] = []
        for key in clear:
            failure = await self._door.call(self._kernel.add_address, key, _config(key))
            if failure is not None:
                problems.append(_refused(failure, key))
                continue
            log.info("took %s on %s", key.address, key.interface)
            records[key] = False
            taken.append(key)
        self._save(records)
        return taken, problems

    def _save(self, records: Mapping[AddressKey, bool]) -> None:
        self._ledger.save_held(records)

    def _reached(
        self, interface: str, held: list[AddressKey], present: _Present, problems: list[AddressProblem]
    ) -> None:
        """Note the state, and what is to be announced: all of it after the link came up or was exchanged."""
        self._state = _state(interface, held, problems)
        self._announcer.keep(held)
        found = present.links.get(interface)
        link = (found.name, found.mac, found.up) if found is not None else None
        if link is not None and link[2] and self._link is not None and link != self._link:
            self._announcer.start(held)
        self._link = link


def _config(key: AddressKey) -> AddressConfig:
    """Return how a VIP is set: IPv6 deprecated, so that the director never uses it as a source."""
    return AddressConfig(SCOPE_GLOBAL, deprecated=":" in key.address)


def _state(interface: str, held: Iterable[AddressKey], problems: Iterable[AddressProblem]) -> SpeakerState:
    addresses = tuple(sorted(key.address for key in held))
    role = Role.ACTIVE if addresses else Role.BACKUP if interface else Role.INITIALIZE
    return SpeakerState(role, interface, addresses, tuple(sorted(problems, key=lambda one: one.address)))


def _refused(failure: Failure, key: AddressKey) -> AddressProblem:
    return AddressProblem(key.address, failure.reason, f"{key.address} on {key.interface}: {failure.message}")


def _in_use(key: AddressKey, mac: str) -> AddressProblem:
    text = f"another machine ({mac}) answers for {key.address} on {key.interface}; remove it there"
    return AddressProblem(key.address, Reason.ADDRESS_IN_USE, text)
