"""What the agent asks of the speaker, and what the speaker tells: VIPs and role in, state out.

The speaker owns the VIPs on the director's interface: it alone adds and removes them there, probes before
first use and announces. Whoever implements `Speaker` (today a module of the agent, later a process of its
own speaking VRRP) is given whole assignments, not changes, so that a lost message heals with the next one.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Role(StrEnum):
    """Role of a router for its VIPs (RFC 9568, 6.4)."""

    ACTIVE = "Active"
    BACKUP = "Backup"
    INITIALIZE = "Initialize"


@dataclass(frozen=True, slots=True)
class Assignment:
    """The VIPs that this node is to hold on `interface`; everything else of ours on any interface is released."""

    interface: str  # "" = none: release all
    addresses: tuple[str, ...] = ()
    paused: bool = False  # change nothing


@dataclass(frozen=True, slots=True)
class AddressProblem:
    """A VIP that could not be taken, or that someone else answers for."""

    address: str
    reason: str  # core.reasons.Reason, as text
    message: str


@dataclass(frozen=True, slots=True)
class SpeakerState:
    """What the speaker holds now."""

    role: Role
    interface: str
    held: tuple[str, ...]
    problems: tuple[AddressProblem, ...] = ()


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
