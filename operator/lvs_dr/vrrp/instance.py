"""What one VRRP instance is told to be, what it asks for, and what it counts. Pure.

An instance is one VRID of one address family on one interface; its VIPs move together.
"""

from enum import StrEnum
from typing import Final, NamedTuple

from lvs_dr.vrrp.packet import LONGEST_INTERVAL, MOST_ADDRESSES, OWNER_PRIORITY, Advertisement

CENTISECOND: Final = 0.01
DEFAULT_STOP_HOLD: Final = 300.0
MOST_HELD: Final = 4096
"""Addresses of one instance. An advert lists as many of them as fit (`listed`)."""
MOST_LISTED6: Final = 80
"""IPv6 addresses in an advert that no link with an MTU of 1,500 bytes, or a tunnel over one, has to cut up."""
RENEWED_PER_SECOND: Final = 250
"""So many addresses for each second of lifetime: renewing costs the speaker and the kernel no more than that."""
GIVES_WAY: Final = 0.15
"""Seconds for which an Active that hears its successor keeps the addresses: the advert comes first, then the kernel
there takes them, then clients are told. It ends before the successor's second announcement."""
_LARGEST_VRID: Final = 255
_LIFETIME_INTERVALS: Final = 3


class InstanceConfig(NamedTuple):
    """One instance's configuration. Times in seconds, except `interval`: centiseconds, as on the wire."""

    vrid: int
    priority: int
    addresses: tuple[str, ...]
    """VIPs of one family, sorted; none: the instance does not speak."""
    interval: int = 10
    preempt: bool = False
    preempt_delay: float = 0.0
    degraded_below: int = 0
    """An Active that advertises less than this is replaced also without `preempt`, by whoever has this or more
    itself: its agent is dead, its tables are stale. 0: never."""
    alone: bool = False
    """No other director is in the group: addresses are permanent."""
    peers: frozenset[str] = frozenset()
    """Source addresses of the other directors; empty: not known, nobody is a stranger."""
    lifetime: int = 0
    """Of addresses in the kernel, in whole seconds; 0: by interval and number (see `lifetime_of`)."""
    together: int = 0
    """Addresses of all instances of the node: it may come to hold, and to renew, them all."""
    start_delay: float = 1.0
    """How long the link must be up again before the instance takes part; switches block a new port for a while."""
    stop_hold: float = DEFAULT_STOP_HOLD
    """How long addresses stay after a stop when nobody takes over."""


class State(StrEnum):
    """RFC 9568, 6.4, and one of our own."""

    INITIALIZE = "Initialize"
    BACKUP = "Backup"
    ACTIVE = "Active"
    RELEASING = "Releasing"
    """Was Active and has said so with priority 0; holds the VIPs until a successor is heard."""


class Count(StrEnum):
    """What is counted about valid adverts."""

    SENT = "Sent"
    RECEIVED = "Received"
    PRIORITY_ZERO = "PriorityZero"
    LOSING = "LosingAdvertHeard"
    """While Active: somebody else said so too, and loses."""
    INTERVAL_DIFFERS = "IntervalDiffers"
    ADDRESSES_DIFFER = "AddressesDiffer"
    DISJOINT = "AddressesDisjoint"
    STRANGER = "Stranger"
    BECAME_ACTIVE = "BecameActive"
    BECAME_BACKUP = "BecameBackup"
    STALLED = "Stalled"
    """This process was held up for so long that a peer may have taken over."""


class Send(NamedTuple):
    """Send an advertisement."""

    advert: Advertisement


class Take(NamedTuple):
    """Have the addresses on the interface, for `lifetime` seconds (0: permanent), renewed while held.

    Announce `announced` of them once the kernel has them.
    """

    addresses: tuple[str, ...]
    lifetime: int
    announced: tuple[str, ...]


class Release(NamedTuple):
    """Remove the addresses from the interface, after so many seconds."""

    addresses: tuple[str, ...]
    after: float = 0.0


class Hold(NamedTuple):
    """Leave the addresses for so many seconds more, not renewed."""

    addresses: tuple[str, ...]
    seconds: float


class Announce(NamedTuple):
    """Announce addresses that are held."""

    addresses: tuple[str, ...]


class Changed(NamedTuple):
    """The instance went from one state to another; tell whoever wants to know."""

    before: State
    after: State
    reason: str


class Conflict(NamedTuple):
    """Somebody else uses the VRID (condition VRIDConflict)."""

    source: str
    text: str


class Stopped(NamedTuple):
    """Nothing is to be waited for any more after `stop`."""


Action = Send | Take | Release | Hold | Announce | Changed | Conflict | Stopped


def lifetime_of(config: InstanceConfig) -> int:
    """Return the kernel lifetime of addresses in whole seconds; 0 for permanent.

    By default three intervals, one second at least: whoever takes over waits for three intervals and a bit, so the
    old holder's addresses are gone then, or (short intervals) a second later. Shorter is not possible: the kernel
    counts seconds. With more than 250 addresses it is a second for each 250.
    """
    if config.alone:
        return 0
    by_interval = int(_LIFETIME_INTERVALS * config.interval * CENTISECOND)
    by_number = -(-max(config.together, len(config.addresses)) // RENEWED_PER_SECOND)
    return config.lifetime or max(1, by_interval, by_number)


def listed(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return the addresses that an advert lists: the first ones, as many as fit. The others are held with them."""
    most = MOST_LISTED6 if addresses and ":" in addresses[0] else MOST_ADDRESSES
    return addresses[:most]


def refusal_of(config: InstanceConfig) -> str:
    """Tell what is impossible in a configuration; "" when nothing is."""
    families = {":" in each for each in config.addresses}
    for wrong, text in (
        (not 0 < config.vrid <= _LARGEST_VRID, "the VRID must be 1 to 255"),
        (not 0 < config.priority <= OWNER_PRIORITY, "the priority must be 1 to 255"),
        (not 0 < config.interval <= LONGEST_INTERVAL, "the interval must be 10 to 40950 ms"),
        (len(config.addresses) > MOST_HELD, f"an instance holds at most {MOST_HELD} addresses"),
        (len(families) > 1, "the addresses of an instance are of one family"),
        (
            min(config.preempt_delay, config.start_delay, config.stop_hold, config.lifetime) < 0,
            "times are not negative",
        ),
    ):
        if wrong:
            return text
    return ""
