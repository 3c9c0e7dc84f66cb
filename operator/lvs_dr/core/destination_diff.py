"""Comparing wanted with actual destinations: service by service, and hardly at all where a service has not changed."""

from collections.abc import Callable, Container, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, TypeVar

from lvs_dr.core.destinations import DestinationKey, Destinations, DestinationSet, Place, ServiceKey, keys_of
from lvs_dr.core.diff import Changes, diff
from lvs_dr.core.kernel import DestinationConfig

Configs = Mapping[Place, DestinationConfig]
DestinationChanges = Changes[DestinationKey, DestinationConfig]

V = TypeVar("V")

_NOBODY: Final[frozenset[Place]] = frozenset()
_NOTHING: Final[Configs] = {}


def destination_diff(
    desired: Destinations[DestinationConfig],
    actual: Destinations[DestinationConfig],
    ours: DestinationSet,
    adopted: Destinations[DestinationConfig],
    *,
    told: Container[ServiceKey],
    left_alone: Callable[[ServiceKey], bool] | None = None,
) -> DestinationChanges:
    """Return what `diff` would, `left_alone` of services. Mappings and sets in it are grouped as well.

    Foreign destinations are told of the services `told`: in others they are in nobody's way, and may be thousands.
    `ours` and `adopted` are the very objects that were given where they stay as they are.
    """
    found = _Collected(ours.groups, adopted.groups)
    for service, wanted in desired.groups.items():
        here, mine = actual.groups.get(service), ours.groups.get(service)
        if here == wanted and mine == wanted.keys() and service not in adopted.groups:
            continue  # all is ours, and there: most services in most passes
        if here is None and mine is None and service not in adopted.groups:
            found.add[service] = wanted
            found.ours[service] = frozenset(wanted)
            continue
        found.compare(service, wanted, here or _NOTHING, alone=left_alone is not None and left_alone(service))
    for service, here in actual.groups.items():
        if service not in desired.groups and (service in ours.groups or service in adopted.groups or service in told):
            found.compare(service, _NOTHING, here, alone=left_alone is not None and left_alone(service))
    for service in {**ours.groups, **adopted.groups}:
        if service not in desired.groups and service not in actual.groups:
            found.forget(service)
    return found.changes(ours, adopted)


class _Collected:
    """What was found in the services so far; `ours` and `adopted` hold the groups that are not as they were."""

    def __init__(self, before: Mapping[ServiceKey, AbstractSet[Place]], adopted: Mapping[ServiceKey, Configs]) -> None:
        self._before = before
        self._adopted_before = adopted
        self.add: dict[ServiceKey, Configs] = {}
        self.edit: dict[ServiceKey, Configs] = {}
        self.delete: list[DestinationKey] = []
        self.ours: dict[ServiceKey, AbstractSet[Place]] = {}
        self.adopted: dict[ServiceKey, Configs] = {}
        self.foreign: list[DestinationKey] = []
        self.lost: dict[ServiceKey, AbstractSet[Place]] = {}

    def compare(self, service: ServiceKey, wanted: Configs, here: Configs, *, alone: bool) -> None:
        """Compare one service."""
        mine, taken = self._before.get(service, _NOBODY), self._adopted_before.get(service, _NOTHING)
        one = diff(wanted, here, frozenset(mine), taken, _always if alone else None)
        if one.add:
            self.add[service] = one.add
        if one.edit:
            self.edit[service] = one.edit
        self.delete.extend(keys_of(service, one.delete))
        if one.ours != mine:
            self.ours[service] = one.ours
        if one.adopted != taken:
            self.adopted[service] = one.adopted
        self.foreign.extend(keys_of(service, one.foreign))
        if one.lost:
            self.lost[service] = one.lost

    def forget(self, service: ServiceKey) -> None:
        """Take a service out of the ledger: nobody wants it, and it is not in the kernel."""
        if service in self._before:
            self.ours[service] = _NOBODY
        if service in self._adopted_before:
            self.adopted[service] = _NOTHING

    def changes(self, ours: DestinationSet, adopted: Destinations[DestinationConfig]) -> DestinationChanges:
        """Return all of it."""
        return Changes(
            add=Destinations(self.add),
            edit=Destinations(self.edit),
            delete=tuple(self.delete),
            ours=DestinationSet(_merged(self._before, self.ours)) if self.ours else ours,
            adopted=Destinations(_merged(self._adopted_before, self.adopted)) if self.adopted else adopted,
            foreign=tuple(self.foreign),
            lost=DestinationSet(self.lost),
        )


def _always(_place: Place) -> bool:
    return True


def _merged(before: Mapping[ServiceKey, V], changed: Mapping[ServiceKey, V]) -> dict[ServiceKey, V]:
    """Return the groups of both, without those that have become empty."""
    return {service: group for service, group in {**before, **changed}.items() if group}
