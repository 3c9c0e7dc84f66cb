"""What the agent asks of the speaker, and what the speaker tells: virtual routers with their VIPs in, state out.

The speaker owns the VIPs on the director's interface: it alone adds and removes them there, and announces them while
it is Active. Whoever implements `Speaker` is given whole assignments, not changes, so that a lost message heals with
the next one.
"""

from collections.abc import Awaitable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

DEGRADED_BELOW: Final = 200
"""An Active with a priority below this is replaced also without preemption, by a director that has this or more."""
LOWERED_BY: Final = 60
"""What a priority loses while its agent is silent, or sees too few healthy real servers."""


class RouterKey(NamedTuple):
    """What tells virtual routers apart on a segment: VRID and family (4 or 6)."""

    vrid: int
    family: int


@dataclass(frozen=True, slots=True)
class RouterAssignment:
    """A virtual router of one family as it is to be on this node."""

    key: RouterKey
    priority: int
    addresses: tuple[str, ...]
    fault: str = ""  # why this node must not be Active now


@dataclass(frozen=True, slots=True)
class Assignment:
    """The virtual routers that this node takes part in; everything else of ours on any interface is released."""

    interface: str  # "" = none: release all
    routers: tuple[RouterAssignment, ...] = ()
    interval_milliseconds: int = 100
    preempt: bool = False
    preempt_delay_seconds: int = 0
    stop_hold_seconds: int = 300
    alone: bool = False  # no other director is in the group: addresses are permanent
    unicast: bool = False
    peers: tuple[str, ...] = ()  # addresses of the other directors, as far as they are known
    strangers: bool = False  # whether an IPv4 advert that is from none of `peers` is a stranger's
    source6: str = ""  # own address for unicast IPv6 adverts; "": the link-local one
    paused: bool = False  # change nothing

    @property
    def addresses(self) -> frozenset[str]:
        """All VIPs."""
        return frozenset(address for router in self.routers for address in router.addresses)


@dataclass(frozen=True, slots=True)
class AddressProblem:
    """A VIP that could not be taken, or that someone else answers for; without an address it is about the speaker."""

    address: str
    reason: str  # core.reasons.Reason, as text
    message: str


@dataclass(frozen=True, slots=True)
class RouterState:
    """A virtual router of one family as it is on this node."""

    key: RouterKey
    state: str  # vrrp.instance.State
    priority: int  # now
    configured_priority: int
    addresses: tuple[str, ...] = ()  # as configured
    held: tuple[str, ...] = ()
    since: int = 0  # seconds of the Unix clock: when it came into the state
    reason: str = ""
    active_source: str = ""
    faults: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    heard: tuple[tuple[str, float], ...] = field(default=(), compare=False)  # sources, and how many seconds ago


@dataclass(frozen=True, slots=True)
class SpeakerState:
    """What the speaker holds and does now; two states differ only when there is something new to tell."""

    interface: str
    held: tuple[str, ...]
    problems: tuple[AddressProblem, ...] = ()
    routers: tuple[RouterState, ...] = ()
    configured: AbstractSet[str] = frozenset()  # VIPs that it may take at any moment
    connected: bool = True
    memory_locked: bool = False
    real_time: bool = False


class Speaker(Protocol):
    """The interface the agent uses."""

    def assign(self, assignment: Assignment) -> Awaitable[SpeakerState]:
        """Make it so, as far as possible, and tell the state reached. Never raises for one bad address."""
        ...

    def state(self) -> SpeakerState:
        """Tell the state last reached."""
        ...

    def announce(self) -> Awaitable[None]:
        """Announce every held address again (after ARP settings were repaired)."""
        ...
