"""The IPVS part of a plan: what to do to services and destinations."""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import repeat
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from lvs_dr.core.desired import Desired
from lvs_dr.core.diff import Changes, diff
from lvs_dr.core.kernel import (
    DestinationConfig,
    DestinationKey,
    DestinationOp,
    KernelState,
    Op,
    ServiceConfig,
    ServiceKey,
    ServiceOp,
    Verb,
)
from lvs_dr.core.leaving import Leaving, Notes, leaving
from lvs_dr.core.ledger import Ledger, ServiceNote

# As ServiceOp(*fields) and DestinationOp(*fields) do, without a frame of Python for each of thousands.
_service_op: Final = partial(tuple.__new__, ServiceOp)
_destination_op: Final = partial(tuple.__new__, DestinationOp)


class IpvsChanges(Struct, frozen=True):
    """What to change, what stays for now, and which services leave a VIP that others go on serving."""

    services: Changes[ServiceKey, ServiceConfig]
    destinations: Changes[DestinationKey, DestinationConfig]
    stays: Leaving
    notes: Notes
    replaced: frozenset[ServiceKey]

    def ops(self) -> Iterator[Op]:
        """Return the operations, not yet in order."""
        for make, changes in ((_service_op, self.services), (_destination_op, self.destinations)):
            yield from map(make, zip(repeat(Verb.ADD), changes.add, changes.add.values()))
            yield from map(make, zip(repeat(Verb.SET), changes.edit, changes.edit.values()))
            yield from map(make, zip(repeat(Verb.DELETE), changes.delete, repeat(None)))

    def noted(self) -> tuple[tuple[ServiceKey, ServiceNote], ...]:
        """Return what the ledger must remember about services of ours."""
        unusual = self.notes.unusual()
        if not unusual:
            return ()
        known = {*self.services.ours, *self.services.adopted, *(key.service for key in self.stays.keys)}
        return tuple(sorted((key, note) for key, note in unusual.items() if key in known))


def ipvs_changes(desired: Desired, actual: KernelState, ledger: Ledger, now: float) -> IpvsChanges:
    """Return what to change about services and destinations. `now`: seconds of the monotonic clock."""
    notes = Notes(desired, ledger)
    stays = leaving(desired, actual, ledger, notes, now) if _any_unwanted(desired, ledger) else Leaving()
    services = _services(desired, actual, ledger, stays, notes)
    wanted = _wanted_destinations(desired, actual, ledger, stays)
    destinations = diff(
        wanted,
        actual.destinations,
        ledger.own_destinations,
        dict(ledger.adopted_destinations),
        (lambda key: key.service not in desired.services and notes.of(key.service).address in desired.left_alone)
        if desired.left_alone
        else None,
    )
    if services.delete:
        emptied = frozenset(services.delete)
        edits = {key: config for key, config in destinations.edit.items() if key.service not in emptied}
        destinations = replace(destinations, edit=edits)
        served = frozenset(notes.of(key).address for key in desired.services)
        replaced = frozenset(key for key in services.delete if notes.of(key).address in served)
    else:
        replaced = frozenset()
    return IpvsChanges(services, destinations, stays, notes, replaced)


def _any_unwanted(desired: Desired, ledger: Ledger) -> bool:
    """Tell whether any destination that we added or adopted is no longer wanted: nothing else can be leaving."""
    if ledger.own_destinations.difference(desired.destinations):
        return True
    return any(key not in desired.destinations for key, _ in ledger.adopted_destinations)


def _services(
    desired: Desired, actual: KernelState, ledger: Ledger, stays: Leaving, notes: Notes
) -> Changes[ServiceKey, ServiceConfig]:
    wanted = dict(desired.services)
    ours = ledger.own_services
    for key in (*stays.draining, *stays.serving):
        if key.service in ours and key.service in actual.services:  # one that was adopted stays by itself
            wanted.setdefault(key.service, actual.services[key.service])
    return diff(
        wanted,
        actual.services,
        ours,
        dict(ledger.adopted_services),
        (lambda key: notes.of(key).address in desired.left_alone) if desired.left_alone else None,
    )


def _wanted_destinations(
    desired: Desired, actual: KernelState, ledger: Ledger, stays: Leaving
) -> Mapping[DestinationKey, DestinationConfig]:
    """Return what must be there after this pass: without those that are not checked yet, with those that stay."""
    if not (desired.uncertain or desired.failed or stays.serving or stays.draining):
        return desired.destinations
    wanted = dict(desired.destinations)
    for key in desired.uncertain:
        config, found = wanted[key], actual.destinations.get(key)
        if found is None:
            del wanted[key]
        else:
            wanted[key] = config._replace(weight=min(config.weight, found.weight))
    if desired.failed:
        # What someone else put there is never removed: it takes no new connections until it is well again.
        ours = ledger.own_destinations
        for key in desired.failed:
            found = actual.destinations.get(key)
            if found is not None and key not in ours:
                wanted[key] = found._replace(weight=0)
    for key in stays.serving:
        wanted[key] = actual.destinations[key]
    for key in stays.draining:
        wanted[key] = actual.destinations[key]._replace(weight=0)
    return wanted
