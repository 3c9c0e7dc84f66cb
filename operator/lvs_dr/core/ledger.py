"""The ledger: what the agent added to the kernel, what it adopted, and how it found that.

Kernel entries carry no owner, so this is the only proof of what is ours. It is written before the change it
announces; an entry that never made it into the kernel does no harm. After a reboot nothing of it is true.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import NamedTuple, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from lvs_dr.core.borrowed import EARLIER, Borrowed
from lvs_dr.core.destinations import Destinations, DestinationSet, Place
from lvs_dr.core.kernel import (
    AddressConfig,
    AddressKey,
    DaemonConfig,
    DaemonKey,
    DestinationConfig,
    DestinationKey,
    GuardKey,
    GuePortKey,
    RouteKey,
    ServiceConfig,
    ServiceKey,
    SysctlKey,
    TimeoutKey,
    TunnelKey,
)

QUIESCE_SECONDS = 60

K = TypeVar("K")


class ServiceNote(NamedTuple):
    """What an IPVS service does not tell by itself: the VIP that its packets come to, and how long it may drain."""

    address: str
    quiesce_seconds: int = QUIESCE_SECONDS


class OwnDestinations(NamedTuple):
    """The destinations of one service that are ours, sorted."""

    service: ServiceKey
    places: tuple[Place, ...]


SysctlRecord = Borrowed[SysctlKey, str]
TimeoutRecord = Borrowed[TimeoutKey, int]  # seconds


class DaemonRecord(Struct, frozen=True, omit_defaults=True):
    """A sync daemon that is ours, or was `adopted`; and the interface and address it was started on.

    `earlier`: configurations we wanted before, one of which may still be in the kernel.
    """

    key: DaemonKey
    config: DaemonConfig
    number: int = 0
    source: str = ""
    adopted: bool = False
    earlier: tuple[DaemonConfig, ...] = ()

    def wanting(self, config: DaemonConfig) -> "DaemonRecord":
        """Return the record for another configuration of ours."""
        if config == self.config:
            return self
        return replace(self, config=config, earlier=(*self.earlier, self.config)[-EARLIER:])

    def is_ours(self, config: DaemonConfig) -> bool:
        """Tell whether a daemon of this configuration is one that we started."""
        return config == self.config or config in self.earlier


class DrainRecord(Struct, frozen=True, omit_defaults=True):
    """A destination that is quiesced before it is removed, and since when (seconds of the monotonic clock).

    One that is `serving` is not quiesced yet: those that take its place wait for their first check.
    """

    key: DestinationKey
    since: float
    serving: bool = False


class Ledger(Struct, frozen=True, omit_defaults=True, dict=True):
    """What is ours in this boot of the kernel; every tuple is sorted by key."""

    boot_id: str
    services: tuple[ServiceKey, ...] = ()
    adopted_services: tuple[tuple[ServiceKey, ServiceConfig], ...] = ()
    destinations: tuple[OwnDestinations, ...] = ()
    adopted_destinations: tuple[tuple[DestinationKey, DestinationConfig], ...] = ()
    addresses: tuple[AddressKey, ...] = ()  # on lo
    adopted_addresses: tuple[tuple[AddressKey, AddressConfig], ...] = ()
    routes: tuple[RouteKey, ...] = ()
    adopted_routes: tuple[RouteKey, ...] = ()
    sysctls: tuple[SysctlRecord, ...] = ()
    timeouts: tuple[TimeoutRecord, ...] = ()
    daemons: tuple[DaemonRecord, ...] = ()
    tunnels: tuple[TunnelKey, ...] = ()  # never adopted: a device that was there is left alone
    gue_ports: tuple[GuePortKey, ...] = ()
    adopted_gue_ports: tuple[GuePortKey, ...] = ()
    guards: tuple[GuardKey, ...] = ()
    adopted_guards: tuple[GuardKey, ...] = ()
    draining: tuple[DrainRecord, ...] = ()
    notes: tuple[tuple[ServiceKey, ServiceNote], ...] = ()  # where they differ from the usual (`note`)

    @cached_property
    def own_services(self) -> frozenset[ServiceKey]:
        """The services as a set: hashing thousands of keys costs more than most that is done with them."""
        return frozenset(self.services)

    @cached_property
    def own_destinations(self) -> DestinationSet:
        """The destinations as a set."""
        return DestinationSet({one.service: frozenset(one.places) for one in self.destinations})

    @cached_property
    def as_found(self) -> Destinations[DestinationConfig]:
        """The adopted destinations, as they were found."""
        return Destinations.of(self.adopted_destinations)

    @property
    def known_destinations(self) -> AbstractSet[DestinationKey]:
        """All destinations that the ledger names: added and adopted ones."""
        return self.own_destinations | self.as_found.keys() if self.adopted_destinations else self.own_destinations

    @property
    def holds_nothing(self) -> bool:
        """Tell whether nothing in the kernel is, or might be, ours or changed by us."""
        return self == Ledger(self.boot_id)

    def note(self, key: ServiceKey) -> ServiceNote:
        """Return what is known of a service of ours; one by address holds its VIP in its key."""
        found = next((note for service, note in self.notes if service == key), None) if self.notes else None
        return found or usual_note(key)

    def sysctl(self, key: SysctlKey) -> SysctlRecord | None:
        """Return the record of one sysctl."""
        return next((record for record in self.sysctls if record.key == key), None)


def usual_note(key: ServiceKey) -> ServiceNote:
    """Return what holds of a service of which nothing else is noted."""
    return ServiceNote(key.address)


def listing(keys: AbstractSet[K], before: tuple[K, ...], known: frozenset[K]) -> tuple[K, ...]:
    """Return keys as the ledger lists them; the very same listing where nothing changed, for that is told fastest.

    `known`: the set of `before`.
    """
    if keys is known or keys == known:
        return before
    return tuple(sorted(keys))  # type: ignore[type-var]


def destination_listing(now: AbstractSet[DestinationKey], ledger: Ledger) -> tuple[OwnDestinations, ...]:
    """Return destinations as the ledger lists them; those of a service that has the same are the same object."""
    known = ledger.own_destinations
    if now is known:
        return ledger.destinations
    groups = now.groups if isinstance(now, DestinationSet) else DestinationSet.of(now).groups
    before = {one.service: one for one in ledger.destinations}
    found: list[OwnDestinations] = []
    for service in sorted(groups):
        listed, group = before.get(service), groups[service]
        if listed is None or group != known.groups[service]:
            listed = OwnDestinations(service, tuple(sorted(group)))
        found.append(listed)
    return tuple(found)


def found_listing(
    now: Mapping[DestinationKey, DestinationConfig], ledger: Ledger
) -> tuple[tuple[DestinationKey, DestinationConfig], ...]:
    """Return adopted destinations as the ledger lists them; the very same listing where nothing changed."""
    return ledger.adopted_destinations if now is ledger.as_found else tuple(sorted(now.items()))


def ledger_for(boot_id: str, stored: Ledger | None) -> Ledger:
    """Return the stored ledger if it is of this boot, else an empty one."""
    if stored is None or stored.boot_id != boot_id:
        return Ledger(boot_id)
    return stored
