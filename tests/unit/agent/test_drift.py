"""Drift: counted, and fought over no faster than is good for the node."""

from itertools import pairwise

from lvs_dr.agent.drift import FREE_REPAIRS, LONGEST_PAUSE_SECONDS, WINDOW_SECONDS, Drift
from lvs_dr.core.kernel import (
    DestinationConfig,
    DestinationKey,
    DestinationOp,
    Failure,
    Op,
    ServiceConfig,
    ServiceKey,
    ServiceOp,
    SysctlKey,
    SysctlOp,
    TimeoutOp,
    Verb,
)
from lvs_dr.core.settings import TCP, sysctl_key

SERVICE = ServiceKey("192.0.2.100", 80, 6)
ADD = ServiceOp(Verb.ADD, SERVICE, ServiceConfig("rr"))
KEY = DestinationKey(SERVICE, "192.0.2.11", 80)
SYSCTL = SysctlOp(Verb.SET, SysctlKey(("ipv4", "conf", "all", "arp_ignore")), "1")


def made(drift: Drift, op: Op, now: float) -> bool:
    """Make a change if it may be made; returns whether it was."""
    admitted, _ = drift.admit([op], now)
    drift.applied(admitted, (), frozenset(), now)
    return bool(admitted)


def test_a_first_change_is_no_repair() -> None:
    """What is new is not drift."""
    drift = Drift()
    made(drift, ADD, 0.0)
    assert drift.repairs == 0
    made(drift, ADD, 10.0)
    assert drift.repairs == 1


def test_what_the_plan_knows_to_be_lost_counts_also_after_a_restart() -> None:
    """A new agent has no memory, but the ledger."""
    drift = Drift()
    drift.applied([ADD], (), frozenset({ADD}), 0.0)
    assert drift.repairs == 1


def test_a_fight_slows_down_and_is_named() -> None:
    """Against another writer the changes get rarer, up to one a minute."""
    drift = Drift()
    times, now = [], 0.0
    while now < 600.0:
        if made(drift, SYSCTL, now):
            times.append(now)
        now += 1.0
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[:FREE_REPAIRS] == [1.0] * FREE_REPAIRS
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    assert drift.contested(now) == ("sysctl net.ipv4.conf.all.arp_ignore",)


def test_peace_is_believed() -> None:
    """After a while without a fight repairs are at once again, and nobody is accused."""
    drift = Drift()
    for now in range(10):
        made(drift, SYSCTL, float(now))
    late = 10.0 + 2 * WINDOW_SECONDS
    assert drift.contested(late) == ()
    assert made(drift, SYSCTL, late)


def test_changes_to_and_fro_are_no_fight() -> None:
    """A real server that flaps between two weights is our own doing."""
    drift = Drift()
    for now in range(20):
        assert made(drift, DestinationOp(Verb.SET, KEY, DestinationConfig(now % 2)), float(now))
    assert drift.repairs == 0
    assert drift.contested(20.0) == ()


def test_destinations_wait_for_their_service() -> None:
    """Adding to a service that is held back could only fail."""
    drift = Drift()
    for now in range(10):
        made(drift, ADD, float(now))
    entry = DestinationOp(Verb.ADD, KEY, DestinationConfig(1))
    assert drift.admit([ADD, entry], 9.5) == ((), (ADD, entry))


def test_a_refused_change_is_no_repair() -> None:
    """What the kernel refuses is told as that, not as a fight."""
    drift = Drift()
    for now in range(10):
        admitted, _ = drift.admit([ADD], float(now))
        drift.applied(admitted, (Failure(ADD, 2, "KernelRefused", "no"),), frozenset(), float(now))
    assert drift.repairs == 0
    assert drift.contested(10.0) == ()


SHARED = TimeoutOp(Verb.SET, TCP, 7200)


def test_a_shared_setting_that_somebody_keeps_setting_is_given_up() -> None:
    """Two programs would change the timeouts of everybody's connections for ever."""
    for op in (SHARED, SysctlOp(Verb.SET, sysctl_key("conn_reuse_mode"), "0")):
        drift = Drift()
        times = [now for now in range(0, 3600, 5) if made(drift, op, float(now))]
        assert len(times) == FREE_REPAIRS + 1
        assert len(drift.conflicts()) == 1
        assert drift.contested(3600.0) == ()


def test_a_changed_wish_is_tried_again() -> None:
    """An administrator who settled the conflict would have to restart the agent."""
    drift = Drift()
    for now in range(0, 60, 5):
        made(drift, SHARED, float(now))
    assert drift.conflicts()
    assert made(drift, SHARED._replace(seconds=3600), 60.0)
    assert drift.conflicts() == ()


def test_a_conflict_ends_when_nobody_disagrees_any_more() -> None:
    """The condition would stay for ever, and so would the setting once it drifts by accident."""
    drift = Drift()
    for now in range(0, 60, 5):
        made(drift, SHARED, float(now))
    assert drift.contested(60.0 + WINDOW_SECONDS) == ()
    assert drift.conflicts() == ()
    assert made(drift, SHARED, 61.0 + WINDOW_SECONDS)
