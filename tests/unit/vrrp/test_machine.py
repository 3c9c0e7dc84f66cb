"""One instance, event by event: what RFC 9568 (6.4) says, and what we add to it."""

from math import inf
from typing import Any

import pytest

from lvs_dr.vrrp.hold_down import HoldDown
from lvs_dr.vrrp.instance import (
    GIVES_WAY,
    Action,
    Announce,
    Conflict,
    Count,
    Hold,
    InstanceConfig,
    Release,
    Send,
    State,
    Stopped,
    Take,
    lifetime_of,
    listed,
)
from lvs_dr.vrrp.machine import Machine
from lvs_dr.vrrp.obstacles import INTERFACE_DOWN
from lvs_dr.vrrp.packet import Advertisement

VIPS = ("192.0.2.100", "192.0.2.101")
OWN, LOWER, HIGHER = "192.0.2.11", "192.0.2.10", "192.0.2.12"
CONFIG = InstanceConfig(51, 200, VIPS, interval=10)
DOWN = 3 * 0.1 + 56 / 256 * 0.1


def of(actions: tuple[Action, ...], kind: type) -> list[Any]:
    """Pick the actions of a kind."""
    return [each for each in actions if isinstance(each, kind)]


def state(machine: Machine) -> State:
    """Return the state, as something that may have changed since it was last looked at."""
    return machine.state


def started(**changes: Any) -> Machine:
    """Return a machine that is Backup since time 0."""
    machine = Machine(CONFIG._replace(**changes), OWN)
    machine.start(0.0)
    return machine


def active(**changes: Any) -> Machine:
    """Return a machine that has just become Active."""
    machine = started(**changes)
    machine.tick(machine.deadline)
    assert machine.state is State.ACTIVE
    return machine


def advert(priority: int, interval: int = 10, addresses: tuple[str, ...] = VIPS) -> Advertisement:
    """Return what another router says."""
    return Advertisement(51, priority, interval, addresses)


def test_a_backup_becomes_active_after_the_down_interval() -> None:
    """Nobody would take over, or too early."""
    machine = started()
    assert machine.deadline == pytest.approx(DOWN)
    assert machine.tick(DOWN - 0.001) == ()
    actions = machine.tick(DOWN + 0.001)
    assert state(machine) is State.ACTIVE
    assert of(actions, Send)[0].advert == advert(200)
    assert of(actions, Take) == [Take(VIPS, 1, VIPS)]


def test_an_active_keeps_its_cadence() -> None:
    """Lateness would add up, and Backups count."""
    machine = active()
    due = machine.deadline
    assert of(machine.tick(due + 0.03), Send)
    assert machine.deadline == pytest.approx(due + 0.1)


def test_a_backup_adopts_the_interval_of_the_active() -> None:
    """A Backup with a shorter interval would make a second Active (RFC 9568, 7.1)."""
    machine = started()
    machine.advert(0.1, HIGHER, advert(220, interval=100))
    assert machine.deadline == pytest.approx(0.1 + 3 + 56 / 256)
    assert machine.counts[Count.INTERVAL_DIFFERS] == 1


def test_priority_zero_hands_over_after_the_skew() -> None:
    """A planned stop would cost three intervals."""
    machine = started()
    machine.advert(0.1, HIGHER, advert(220))
    machine.advert(0.2, HIGHER, advert(0))
    assert machine.deadline == pytest.approx(0.2 + 56 / 256 * 0.1)


@pytest.mark.parametrize(
    ("changes", "priority", "yields"),
    [
        ({"preempt": False}, 100, True),
        ({"preempt": True}, 100, False),
        ({"preempt": True}, 200, True),
        ({"preempt": True, "preempt_delay": 5.0}, 100, True),
        ({"preempt": False, "degraded_below": 150}, 100, False),
        ({"preempt": False, "degraded_below": 150}, 160, True),
        ({"preempt": False, "degraded_below": 250}, 100, True),
    ],
)
def test_who_yields_to_a_lower_priority(changes: dict[str, Any], priority: int, yields: bool) -> None:  # noqa: FBT001
    """The VIP would move back and forth, or stay where it should not."""
    machine = started(**changes)
    before = machine.deadline
    machine.advert(0.1, HIGHER, advert(priority))
    assert (machine.deadline != before) is yields


def test_preemption_waits_for_its_delay() -> None:
    """A director would take over before its table of connections is complete."""
    machine = started(preempt=True, preempt_delay=1.0)
    now = 0.0
    while now < 0.95:
        now += 0.1
        machine.advert(now, HIGHER, advert(100))
    assert state(machine) is State.BACKUP
    while now < 1.6 and machine.state is State.BACKUP:
        now += 0.1
        machine.advert(now, HIGHER, advert(100))
        machine.tick(now)
    assert state(machine) is State.ACTIVE


@pytest.mark.parametrize(
    ("source", "priority", "yields"),
    [(HIGHER, 200, True), (LOWER, 200, False), (LOWER, 201, True), (HIGHER, 199, False)],
)
def test_two_active_routers_settle_it(source: str, priority: int, yields: bool) -> None:  # noqa: FBT001
    """Both would stay Active, or both would give up."""
    machine = active()
    actions = machine.advert(machine.deadline - 0.01, source, advert(priority))
    if yields:
        assert state(machine) is State.BACKUP
        assert of(actions, Release) == [Release(VIPS, GIVES_WAY)]
    else:
        assert state(machine) is State.ACTIVE
        assert of(actions, Send), "answered at once"
        assert of(actions, Announce) == [Announce(VIPS)], "whoever listened to the other comes back"


def test_addresses_compare_as_numbers_not_as_text() -> None:
    """Both sides of a tie must come to the same end."""
    machine = Machine(CONFIG, "192.0.2.9")
    machine.start(0.0)
    machine.tick(machine.deadline)
    machine.advert(machine.deadline - 0.01, "192.0.2.10", advert(200))
    assert state(machine) is State.BACKUP


def test_other_addresses_under_our_vrid_are_a_conflict_and_not_obeyed() -> None:
    """To obey somebody who has none of our VIPs would leave them with nobody."""
    machine = active()
    actions = machine.advert(machine.deadline - 0.01, HIGHER, advert(254, addresses=("192.0.2.250",)))
    assert state(machine) is State.ACTIVE
    assert HIGHER in of(actions, Conflict)[0].text
    assert machine.counts[Count.DISJOINT] == 1


def test_a_stranger_with_our_addresses_is_a_conflict_and_obeyed() -> None:
    """Two machines would answer for the VIP; a director we have not been told of yet looks the same."""
    machine = active(peers=frozenset((LOWER,)))
    actions = machine.advert(machine.deadline - 0.01, HIGHER, advert(254))
    assert of(actions, Conflict)
    assert state(machine) is State.BACKUP


def test_an_overlapping_list_is_counted_and_accepted() -> None:
    """Each new VIP would make two Actives, since directors learn of it at different times."""
    machine = started()
    machine.advert(0.1, HIGHER, advert(220, addresses=(*VIPS, "192.0.2.102")))
    assert machine.counts[Count.ADDRESSES_DIFFER] == 1
    assert machine.deadline == pytest.approx(0.1 + DOWN)


def test_without_a_vip_it_is_silent() -> None:
    """A director without anything to serve would win the election."""
    machine = started(addresses=())
    assert machine.deadline == inf
    machine.configure(1.0, CONFIG, OWN)
    assert state(machine) is State.BACKUP
    machine.tick(machine.deadline)
    actions = machine.configure(3.0, CONFIG._replace(addresses=()), OWN)
    assert state(machine) is State.INITIALIZE
    assert of(actions, Release) == [Release(VIPS)]
    assert not of(actions, Send)


def test_a_new_vip_is_taken_by_the_active_alone() -> None:
    """A VIP would wait for the next takeover, or a removed one would stay."""
    machine = active()
    actions = machine.configure(1.0, CONFIG._replace(addresses=("192.0.2.101", "192.0.2.102")), OWN)
    assert of(actions, Release) == [Release(("192.0.2.100",))]
    assert of(actions, Take) == [Take(("192.0.2.102",), 1, ("192.0.2.102",))]
    assert of(actions, Send)[0].advert.addresses == ("192.0.2.101", "192.0.2.102")
    backup = started()
    assert not of(backup.configure(0.1, CONFIG._replace(addresses=("192.0.2.102",)), OWN), Take)


def test_a_longer_interval_is_announced_at_the_old_pace_first() -> None:
    """Backups that miss the one advert would take over."""
    machine = active()
    machine.configure(1.0, CONFIG._replace(interval=1000), OWN)
    moments = []
    for _ in range(4):
        moments.append(machine.deadline)
        machine.tick(machine.deadline)
    steps = [later - sooner for sooner, later in zip([1.0, *moments], moments, strict=False)]
    assert steps == pytest.approx([0.1, 0.1, 0.1, 10.0])


def test_a_graceful_stop_waits_for_the_successor() -> None:
    """The VIP would be nobody's until the successor has it."""
    machine = active()
    actions = machine.stop(1.0)
    assert [each.advert.priority for each in of(actions, Send)] == [0]
    assert not of(actions, Release)
    assert state(machine) is State.RELEASING
    assert machine.advert(1.01, LOWER, advert(0)) == ()
    actions = machine.advert(1.02, LOWER, advert(100))
    assert of(actions, Release) == [Release(VIPS, GIVES_WAY)], "clients hear of the successor later than we do"
    assert of(actions, Stopped)


def test_a_graceful_stop_with_nobody_there_holds_the_vip_for_a_while() -> None:
    """The last director's upgrade would end the service."""
    machine = active(stop_hold=77.0)
    machine.stop(1.0)
    actions = machine.tick(machine.deadline)
    assert of(actions, Hold) == [Hold(VIPS, 77.0)]
    assert of(actions, Stopped)
    assert not of(actions, Release)


def test_alone_the_addresses_are_permanent_and_finite_with_a_peer() -> None:
    """A single director's crash would end the service; with a peer it would have two holders."""
    machine = started(alone=True)
    assert of(machine.tick(machine.deadline), Take) == [Take(VIPS, 0, VIPS)]
    actions = machine.configure(1.0, CONFIG, OWN)
    assert of(actions, Take) == [Take(VIPS, 1, ())]
    back = machine.configure(2.0, CONFIG._replace(alone=True), OWN)
    assert of(back, Take) == [Take(VIPS, 0, ())]
    assert of(machine.stop(3.0), Stopped)


def test_a_hand_over_that_nobody_takes_is_called_off() -> None:
    """A drain with no other director would end the service."""
    machine = active()
    machine.hand_over(1.0)
    actions = machine.tick(machine.deadline)
    assert state(machine) is State.ACTIVE
    assert of(actions, Send)


def test_leftovers_stay_until_somebody_else_is_heard() -> None:
    """A restart of the speaker would interrupt the service, or leave two holders."""
    machine = Machine(CONFIG, OWN)
    assert not of(machine.start(0.0, VIPS), Release)
    assert of(machine.advert(0.1, HIGHER, advert(100)), Release) == [Release(VIPS)]
    again = Machine(CONFIG, OWN)
    again.start(0.0, VIPS)
    assert of(again.tick(again.deadline), Take)


def test_a_fault_releases_at_once_and_a_flapping_link_is_held_down() -> None:
    """A node that cannot serve would stay Active; a bad cable would move the VIP every second."""
    machine = active()
    actions = machine.fault(1.0, INTERFACE_DOWN)
    assert of(actions, Release) == [Release(VIPS)]
    assert [each.advert.priority for each in of(actions, Send)] == [0]
    machine.cleared(2.0, INTERFACE_DOWN)
    assert state(machine) is State.INITIALIZE
    assert machine.deadline == pytest.approx(3.0)
    machine.fault(2.5, INTERFACE_DOWN)
    machine.cleared(2.6, INTERFACE_DOWN)
    assert machine.deadline == pytest.approx(4.6)
    machine.tick(4.6)
    assert state(machine) is State.BACKUP


def test_the_hold_down_forgets() -> None:
    """A link that was bad last week would be distrusted for ever."""
    hold = HoldDown()
    for moment in range(20):
        hold.lost(float(moment))
    assert hold.delay(1.0) == 60.0
    hold.lost(100.0)
    assert hold.delay(1.0) == 1.0


def test_a_process_that_was_held_up_listens_first() -> None:
    """A frozen Active that wakes up would take the VIP back from its successor, preemption or not."""
    machine = active(preempt=False)
    late = machine.deadline + 5.0
    actions = machine.advert(late, LOWER, advert(100))
    assert state(machine) is State.BACKUP
    assert of(actions, Release) == [Release(VIPS)]
    again = active()
    assert not of(again.tick(again.deadline + 5.0), Send)
    actions = again.tick(again.deadline)
    assert state(again) is State.ACTIVE, "nobody there: go on after two intervals"
    assert of(actions, Take)


def test_an_owner_does_not_wait() -> None:
    """Priority 255 means that the addresses are the node's own (RFC 9568, 6.4.1)."""
    machine = started(priority=255)
    assert state(machine) is State.ACTIVE


@pytest.mark.parametrize(("interval", "lifetime"), [(1, 1), (10, 1), (33, 1), (67, 2), (100, 3), (4095, 122)])
def test_lifetimes_follow_the_interval(interval: int, lifetime: int) -> None:
    """Addresses would expire under a healthy Active, or stay long after its successor took over."""
    assert lifetime_of(CONFIG._replace(interval=interval)) == lifetime


def test_lowered_and_raised_priorities_take_effect_at_once() -> None:
    """A dead agent's director would go on winning."""
    machine = active()
    assert of(machine.configure(1.0, CONFIG._replace(priority=50), OWN), Send)[0].advert.priority == 50
    backup = started()
    backup.configure(0.1, CONFIG._replace(priority=1), OWN)
    assert backup.deadline == pytest.approx(0.3 + 255 / 256 * 0.1)


MANY = tuple(sorted(f"192.0.{number // 250}.{number % 250 + 1}" for number in range(1000)))


def test_an_advert_lists_what_fits_and_all_of_it_is_held() -> None:
    """A director with a thousand services could not be Active at all."""
    machine = Machine(CONFIG._replace(addresses=MANY), OWN)
    machine.start(0.0)
    actions = machine.tick(machine.deadline)
    assert of(actions, Take)[0].addresses == MANY
    assert of(actions, Send)[0].advert.addresses == MANY[:255]
    assert lifetime_of(machine.config) == 4
    six = tuple(sorted(f"2001:db8::{number:x}" for number in range(1, 300)))
    assert len(listed(six)) == 80
    assert listed(VIPS) == VIPS


def test_whoever_lists_one_of_ours_is_believed_also_beyond_what_we_list() -> None:
    """Two directors that learn of VIPs at different times would both be Active."""
    machine = Machine(CONFIG._replace(addresses=MANY), OWN)
    machine.start(0.0)
    assert not of(machine.advert(0.1, HIGHER, advert(210, addresses=MANY[:255])), Conflict)
    assert machine.counts[Count.ADDRESSES_DIFFER] == 0
    assert not of(machine.advert(0.2, HIGHER, advert(210, addresses=MANY[900:])), Conflict)
    assert machine.active_source == HIGHER
    assert machine.counts[Count.ADDRESSES_DIFFER] == 1
    [conflict] = of(machine.advert(0.3, HIGHER, advert(210, addresses=("198.51.100.1",))), Conflict)
    assert conflict.source == HIGHER
