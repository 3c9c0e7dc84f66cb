"""The IPVS part of a plan: what to do to services and destinations."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from lvs_dr.core.desired import Desired
from lvs_dr.core.destination_diff import Configs, destination_diff
from lvs_dr.core.destinations import Destinations, Place
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
from lvs_dr.core.ledger import Ledger, ServiceNote, destination_listing, found_listing, listing

_new: Final = tuple.__new__  # as DestinationOp(*fields), without a frame of Python for each of thousands


class IpvsChanges(Struct, frozen=True):
    """What to change, what stays for now, and which services leave a VIP that others go on serving."""

    services: Changes[ServiceKey, ServiceConfig]
    destinations: Changes[DestinationKey, DestinationConfig]
    stays: Leaving
    notes: Notes
    replaced: frozenset[ServiceKey]

    def ops(self) -> Iterator[Op]:
        """Return the operations, not yet in order."""
        services, destinations = self.services, self.destinations
        for verb, settings in ((Verb.ADD, services.add), (Verb.SET, services.edit)):
            for key, config in settings.items():
                yield ServiceOp(verb, key, config)
        yield from (ServiceOp(Verb.DELETE, key) for key in services.delete)
        for verb, entries in ((Verb.ADD, destinations.add), (Verb.SET, destinations.edit)):
            for entry, setting in entries.items():
                yield _new(DestinationOp, (verb, entry, setting))
        yield from (DestinationOp(Verb.DELETE, entry) for entry in destinations.delete)

    def recorded(self, ledger: Ledger) -> Ledger:
        """Return the ledger as it must be before the first operation."""
        return replace(
            ledger,
            services=listing(self.services.ours, ledger.services, ledger.own_services),
            adopted_services=tuple(sorted(self.services.adopted.items())),
            destinations=destination_listing(self.destinations.ours, ledger),
            adopted_destinations=found_listing(self.destinations.adopted, ledger),
            draining=self.stays.records,
            notes=self.noted(),
        )

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
    stays = leaving(desired, actual, ledger, notes, now)
    services = _services(desired, actual, ledger, stays, notes)
    wanted = _wanted_destinations(desired, actual, ledger, stays)
    destinations = destination_diff(
        wanted,
        actual.destinations,
        ledger.own_destinations,
        ledger.as_found,
        told=desired.services,
        left_alone=(lambda key: key not in desired.services and notes.of(key).address in desired.left_alone)
        if desired.left_alone
        else None,
    )
    if services.delete:
        emptied = frozenset(services.delete)
        edits = ((key, config) for key, config in destinations.edit.items() if key.service not in emptied)
        destinations = replace(destinations, edit=Destinations.of(edits))
        served = frozenset(notes.of(key).address for key in desired.services)
        replaced = frozenset(key for key in services.delete if notes.of(key).address in served)
    else:
        replaced = frozenset()
    return IpvsChanges(services, destinations, stays, notes, replaced)


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
) -> Destinations[DestinationConfig]:
    """Return what must be there after this pass: without those that are not checked yet, with those that stay."""
    if not (desired.uncertain or desired.failed or stays.serving or stays.draining):
        return desired.destinations
    wanted = dict(desired.destinations.groups)
    for service, places in desired.uncertain.groups.items():
        wanted[service] = _as_certain(desired.destinations.group(service), places, actual.destinations.group(service))
    # What someone else put there is never removed: it takes no new connections until it is well again.
    for service, places in desired.failed.groups.items():
        here, ours = actual.destinations.group(service), ledger.own_destinations.group(service)
        kept = {place: here[place]._replace(weight=0) for place in places if place in here and place not in ours}
        wanted[service] = {**wanted.get(service, {}), **kept}
    staying = [(key, actual.destinations[key]) for key in stays.serving]
    staying += [(key, actual.destinations[key]._replace(weight=0)) for key in stays.draining]
    for service, group in Destinations.of(staying).groups.items():
        wanted[service] = {**wanted.get(service, {}), **group}
    return Destinations({service: group for service, group in wanted.items() if group})


def _as_certain(wanted: Configs, uncertain: AbstractSet[Place], here: Configs) -> Configs:
    """Return wanted destinations without the uncertain ones that are not there; no uncertain one gets more weight."""
    result: dict[Place, DestinationConfig] = {}
    for place, config in wanted.items():
        if place not in uncertain:
            result[place] = config
        elif place in here:
            result[place] = config._replace(weight=min(config.weight, here[place].weight))
    return result
