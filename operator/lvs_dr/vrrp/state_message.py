"""The state as it is told to the agent: a JSON object, whole each time."""

from collections.abc import Mapping
from typing import Any

from lvs_dr.vrrp.address_keeper import AddressKeeper
from lvs_dr.vrrp.event_loop import EventLoop
from lvs_dr.vrrp.instance import State
from lvs_dr.vrrp.transceiver import Transceiver
from lvs_dr.vrrp.virtual_router import VirtualRouter


def instance(router: VirtualRouter, now: float, *, whole: bool) -> Mapping[str, Any]:
    """Return what there is to tell about one instance; `whole`: also its configured addresses. Ages in seconds."""
    machine = router.machine
    configured = {"addresses": router.settings.machine.addresses} if whole else {}
    return configured | {
        "vrid": router.settings.key.vrid,
        "family": router.settings.key.family,
        "state": machine.state,
        "serving": machine.state in (State.ACTIVE, State.RELEASING),
        "sinceSeconds": round(now - machine.since, 3),
        "reason": router.reason,
        "priority": machine.config.priority,
        "configuredPriority": router.settings.machine.priority,
        "intervalMilliseconds": machine.config.interval * 10,
        "source": machine.source,
        "activeSource": machine.source if machine.state is State.ACTIVE else machine.active_source,
        "held": machine.held,
        "faults": sorted(machine.obstacles.faults),
        "conflicts": router.current_conflicts(now),
        "heardSecondsAgo": {source: round(now - at, 3) for source, at in machine.neighbours.last.items()},
        "counts": machine.counts,
    }


def addresses(keeper: AddressKeeper, now: float) -> Mapping[str, Any]:
    """Return what there is to tell about the addresses of all instances."""
    return {
        "problems": keeper.problems,
        "duplicates": {address: seen.mac for address, seen in keeper.watch.duplicates.items()},
        "contested": keeper.restoring.contested(now),
        "renewalWaitsSeconds": round(keeper.waiting(now), 3),
        "renewals": keeper.renewals,
        "lastRenewalSeconds": round(keeper.renewal_seconds, 6),
        "restored": keeper.restoring.restored,
        "announced": keeper.watch.announced,
    }


def packets(transceiver: Transceiver) -> Mapping[str, Any]:
    """Return the counters of the wire."""
    return {
        "refused": transceiver.refused,
        "checksums": transceiver.forms,
        "notOurs": transceiver.not_ours,
        "foreign": [
            {"vrid": key.vrid, "family": key.family, "source": source} for key, source in transceiver.foreign.items()
        ],
        "notSent": transceiver.not_sent,
        "problem": transceiver.problem,
    }


def process(loop: EventLoop, *, memory_locked: bool, real_time: bool) -> Mapping[str, Any]:
    """Return how the process fares."""
    return {
        "memoryLocked": memory_locked,
        "realTime": real_time,
        "latestTimerMilliseconds": round(loop.latest * 1000, 3),
        "failures": loop.failures,
        "lastFailure": loop.last_failure,
    }
