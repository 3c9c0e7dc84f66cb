"""The ledger: what the agent added to the kernel, what it adopted, and how it found that.

Kernel entries carry no owner, so this is the only proof of what is ours. It is written before the change it
announces; an entry that never made it into the kernel does no harm. After a reboot nothing of it is true.
"""

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from lvs_dr.core.kernel import (
    AddressConfig,
    AddressKey,
    DestinationConfig,
    DestinationKey,
    RouteKey,
    ServiceConfig,
    ServiceKey,
    SysctlKey,
)


class SysctlRecord(Struct, frozen=True):
    """A sysctl that is ours for a while."""

    key: SysctlKey
    found: str
    ours: str


class DrainRecord(Struct, frozen=True):
    """A destination that is quiesced before it is removed, and since when (seconds of the monotonic clock)."""

    key: DestinationKey
    since: float


class Ledger(Struct, frozen=True, omit_defaults=True):
    """What is ours in this boot of the kernel; every tuple is sorted by key."""

    boot_id: str
    services: tuple[ServiceKey, ...] = ()
    adopted_services: tuple[tuple[ServiceKey, ServiceConfig], ...] = ()
    destinations: tuple[DestinationKey, ...] = ()
    adopted_destinations: tuple[tuple[DestinationKey, DestinationConfig], ...] = ()
    addresses: tuple[AddressKey, ...] = ()  # on lo
    adopted_addresses: tuple[tuple[AddressKey, AddressConfig], ...] = ()
    routes: tuple[RouteKey, ...] = ()
    adopted_routes: tuple[RouteKey, ...] = ()
    sysctls: tuple[SysctlRecord, ...] = ()
    draining: tuple[DrainRecord, ...] = ()
    held: tuple[AddressKey, ...] = ()  # added by the speaker to the director's interface
    adopted_held: tuple[AddressKey, ...] = ()  # found there and taken over: stays when it is released

    @property
    def holds_nothing(self) -> bool:
        """Tell whether nothing in the kernel is, or might be, ours or changed by us."""
        return self == Ledger(self.boot_id)

    def sysctl(self, key: SysctlKey) -> SysctlRecord | None:
        """Return the record of one sysctl."""
        return next((record for record in self.sysctls if record.key == key), None)


def ledger_for(boot_id: str, stored: Ledger | None) -> Ledger:
    """Return the stored ledger if it is of this boot, else an empty one."""
    if stored is None or stored.boot_id != boot_id:
        return Ledger(boot_id)
    return stored


def merge_plan(current: Ledger, planned: Ledger) -> Ledger:
    """Return the planned ledger with what the speaker recorded meanwhile: each changes only its own part."""
    return replace(planned, held=current.held, adopted_held=current.adopted_held)


def merge_speaker(current: Ledger, held: Mapping[AddressKey, bool]) -> Ledger:
    """Return the ledger with the speaker's addresses: each with whether it was adopted."""
    return replace(
        current,
        held=tuple(sorted(key for key, adopted in held.items() if not adopted)),
        adopted_held=tuple(sorted(key for key, adopted in held.items() if adopted)),
    )
