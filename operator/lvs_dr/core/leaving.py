"""Destinations that are no longer wanted but must stay for a while: for connections, or until others can take over."""

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from lvs_dr.core.desired import Desired
from lvs_dr.core.destinations import keys_of
from lvs_dr.core.kernel import DestinationKey, KernelState, ServiceKey
from lvs_dr.core.ledger import DrainRecord, Ledger, ServiceNote, usual_note

HANDOVER_SECONDS: Final = 30.0
"""How long destinations go on serving until those in their place have their first check, at most."""

SETTLE_SECONDS: Final = 1.0
"""How long a destination takes no new connections before none counts as none.

One may have come in after it was counted, and IPVS counts a TCP connection as active only once it is established
(ip_vs_proto_tcp.c, tcp_state_active_table). Removed meanwhile, it would be cut off without a word.
"""


class Notes:
    """What is known of services besides what the kernel keeps: of the wanted ones, and of ours that are leaving."""

    def __init__(self, desired: Desired, ledger: Ledger) -> None:
        self._known: dict[ServiceKey, ServiceNote] = {**dict(ledger.notes), **desired.notes}

    def of(self, key: ServiceKey) -> ServiceNote:
        """Return what is known of one service."""
        return self._known.get(key) or usual_note(key)

    def unusual(self) -> Mapping[ServiceKey, ServiceNote]:
        """Return what the ledger must remember."""
        return {key: note for key, note in self._known.items() if note != usual_note(key)}


class Leaving(Struct, frozen=True):
    """What stays for now: `draining` takes no new connections, `serving` does; each with since when."""

    draining: Mapping[DestinationKey, float] = {}
    serving: Mapping[DestinationKey, float] = {}

    @property
    def keys(self) -> frozenset[DestinationKey]:
        """All of them."""
        return frozenset({**self.draining, **self.serving})

    @property
    def records(self) -> tuple[DrainRecord, ...]:
        """What the ledger must say of it."""
        found = [DrainRecord(key, since) for key, since in self.draining.items()]
        found += [DrainRecord(key, since, serving=True) for key, since in self.serving.items()]
        return tuple(sorted(found, key=lambda record: record.key))


def leaving(desired: Desired, actual: KernelState, ledger: Ledger, notes: Notes, now: float) -> Leaving:
    """Return what must stay although it is no longer wanted.

    Connections are waited for only where packets still arrive: on a node that does not hold the VIP nothing lives
    that could be cut off. `now`: seconds of the monotonic clock.
    """
    gone = list(_gone(desired, actual, ledger))
    if not gone:
        return Leaving()
    since = {(record.key, record.serving): record.since for record in ledger.draining}
    ours = ledger.own_destinations
    services, addresses = _without_anyone(desired, actual, notes)
    draining: dict[DestinationKey, float] = {}
    serving: dict[DestinationKey, float] = {}
    # While IPVS has the service, it refuses what a redirector is there to answer.
    listening = {each.service for each in desired.redirects}
    for key in gone:
        note = notes.of(key.service)
        if note.address in desired.left_alone or key.service in listening:
            continue
        needed = key.service in services or (key.service not in desired.services and note.address in addresses)
        began = since.get((key, True), now)
        if needed and actual.destinations[key].weight > 0 and now - began < HANDOVER_SECONDS:
            serving[key] = began
            continue
        began = since.get((key, False), now)
        alive = actual.connections.get(key, 0) or now - began < SETTLE_SECONDS
        if alive and key in ours and note.address in desired.held and now - began < note.quiesce_seconds:
            draining[key] = began
    return Leaving(draining, serving)


def _gone(desired: Desired, actual: KernelState, ledger: Ledger) -> Iterator[DestinationKey]:
    """Return destinations in the kernel that we added or adopted, and that are no longer wanted."""
    for groups in (ledger.own_destinations.groups, ledger.as_found.groups):
        for service, places in groups.items():
            wanted = desired.destinations.group(service)
            if wanted.keys() >= frozenset(places):
                continue
            here, failed = actual.destinations.group(service), desired.failed.group(service)
            left = [place for place in places if place not in wanted and place in here and place not in failed]
            yield from keys_of(service, left)


def _without_anyone(
    desired: Desired, actual: KernelState, notes: Notes
) -> tuple[frozenset[ServiceKey], frozenset[str]]:
    """Return wanted services, and their VIPs, where all that could serve waits for its first check."""
    awaiting = {key.service for key in desired.awaited if not _serves(key, actual)}
    for service in tuple(awaiting):
        unsure = desired.uncertain.group(service)
        for (address, port), config in desired.destinations.group(service).items():
            sure = (address, port) not in unsure
            if config.weight > 0 and (sure or _serves(DestinationKey(service, address, port), actual)):
                awaiting.discard(service)
                break
    return frozenset(awaiting), frozenset(notes.of(key).address for key in awaiting)


def _serves(key: DestinationKey, actual: KernelState) -> bool:
    found = actual.destinations.get(key)
    return found is not None and found.weight > 0
