"""The speaker's messages (vrrp.state_message) as values; what is not known is ignored, so that versions can differ."""

import time
from collections.abc import Callable, Iterable, Mapping

import msgspec

from lvs_dr.core.reasons import Reason
from lvs_dr.vrrp.messages import AddressProblem, RouterKey, RouterState

SAME_MOMENT_SECONDS = 2.0
"""Ages are told, and clocks are set: moments this close together are one."""


class _Message(msgspec.Struct, frozen=True, rename="camel"):
    """Part of a message."""


class Instance(_Message, frozen=True):
    """A virtual router of one family."""

    vrid: int
    family: int
    state: str
    since_seconds: float = 0.0
    reason: str = ""
    priority: int = 0
    configured_priority: int = 0
    active_source: str = ""
    held: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    heard_seconds_ago: Mapping[str, float] = {}
    counts: Mapping[str, int] = {}
    addresses: tuple[str, ...] | None = None  # as configured; not in every message

    @property
    def key(self) -> RouterKey:
        """Its name."""
        return RouterKey(self.vrid, self.family)


class Addresses(_Message, frozen=True):
    """The addresses of all instances."""

    problems: Mapping[str, str] = {}
    duplicates: Mapping[str, str] = {}  # VIP -> MAC
    contested: Mapping[str, int] = {}
    renewals: int = 0
    restored: int = 0
    announced: int = 0


class Packets(_Message, frozen=True):
    """The counters of the wire."""

    refused: Mapping[str, int] = {}
    not_ours: int = 0
    not_sent: int = 0
    problem: str = ""


class Process(_Message, frozen=True):
    """How the process fares."""

    memory_locked: bool = False
    real_time: bool = False
    latest_timer_milliseconds: float = 0.0
    failures: int = 0
    last_failure: str = ""


class Told(_Message, frozen=True):
    """One message of the speaker."""

    kind: str
    id: str = ""
    message: str = ""  # of a refusal
    interface: str = ""
    agent_silent: bool = False
    stopping: bool = False
    not_kept: str = ""
    leaving: tuple[str, ...] = ()
    instances: tuple[Instance, ...] = ()
    addresses: Addresses = Addresses()
    packets: Packets = Packets()
    process: Process = Process()

    @property
    def held(self) -> frozenset[str]:
        """Every VIP that is, or may still be, on the interface."""
        held = {address for each in self.instances for address in each.held}
        return frozenset((held - self.addresses.problems.keys()) | {*self.leaving})

    @property
    def configured(self) -> frozenset[str] | None:
        """Every VIP that may be taken; None where the message does not tell."""
        if any(each.addresses is None for each in self.instances):
            return None
        return frozenset(address for each in self.instances for address in each.addresses or ())


def decode(line: bytes) -> Told:
    """Read a message. Raises ValueError."""
    return msgspec.json.decode(line, type=Told)


def router_states(
    told: Told, before: Iterable[RouterState], clock: Callable[[], float] = time.time
) -> tuple[RouterState, ...]:
    """Return the virtual routers; what did not change is told as it was `before`, whatever its age is by now."""
    known = {each.key: each for each in before}
    now = clock()
    found = []
    for each in sorted(told.instances, key=lambda one: one.key):
        was = known.get(each.key)
        since = now - each.since_seconds
        if was is not None and was.state == each.state and abs(was.since - since) < SAME_MOMENT_SECONDS:
            since = was.since
        configured = was.addresses if was is not None and each.addresses is None else each.addresses or ()
        found.append(
            RouterState(
                key=each.key,
                state=each.state,
                priority=each.priority,
                configured_priority=each.configured_priority,
                addresses=configured,
                held=each.held,
                since=int(since),
                reason=each.reason,
                active_source=each.active_source,
                faults=each.faults,
                conflicts=tuple(sorted(each.conflicts)),
                heard=tuple(sorted(each.heard_seconds_ago.items())),
            )
        )
    return tuple(found)


def problems(told: Told) -> tuple[AddressProblem, ...]:
    """Return what the speaker says is wrong."""
    where = told.interface
    found = [
        AddressProblem(address, Reason.KERNEL_REFUSED, f"{address} cannot be set on {where}: {text}")
        for address, text in told.addresses.problems.items()
    ]
    found += [
        AddressProblem(
            address,
            Reason.ADDRESS_IN_USE,
            f"another machine ({mac}) answers for {address}, which is held here on {where}",
        )
        for address, mac in told.addresses.duplicates.items()
    ]
    found += [
        AddressProblem(
            address,
            Reason.CONTESTED,
            f"someone keeps removing {address} from {where}; find and stop them (a network manager, keepalived)",
        )
        for address in told.addresses.contested
    ]
    for text in (
        told.packets.problem and f"VRRP on {where}: {told.packets.problem}",
        told.not_kept and f"its configuration cannot be kept on disk: {told.not_kept}",
        told.process.last_failure and f"the speaker met an unexpected failure: {told.process.last_failure}",
    ):
        if text:
            found.append(AddressProblem("", Reason.SPEAKER_UNAVAILABLE, text))
    return tuple(sorted(found, key=lambda one: (one.address, one.reason, one.message)))
