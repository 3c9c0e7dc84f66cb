"""When VIPs are announced, and when they are put back."""

from math import inf

from lvs_dr.vrrp.announcer import AFTER_LIFETIME, AT_ONCE, REFRESH, Announcer
from lvs_dr.vrrp.restoring import LONGEST, Restoring

VIP = "192.0.2.100"


def moments(announcer: Announcer, until: float) -> list[float]:
    """Return when the VIP is announced."""
    found = []
    while announcer.deadline <= until:
        now = announcer.deadline
        found += [round(now, 3)] * len(announcer.due(now))
    return found


def test_a_takeover_is_announced_at_once_repeatedly_and_after_the_old_holder_is_gone() -> None:
    """Clients that the old holder answered last would go on sending to it."""
    announcer = Announcer()
    announcer.start(10.0, (VIP,), 3)
    assert moments(announcer, 140.0) == [10.0, 10.2, 10.7, 11.7, 13.5, 13.7, 73.7, 133.7]
    assert 10.0 + 3 + AFTER_LIFETIME == 13.5
    assert REFRESH == 60.0


def test_many_vips_are_paced() -> None:
    """Switches drop bursts, and some close a port at a flood of ARP."""
    announcer = Announcer()
    vips = tuple(f"192.0.2.{number}" for number in range(100))
    announcer.start(0.0, vips, 0)
    found: list[str] = []
    now = 0.0
    while now < 0.1 and len(found) < 100:
        handful = announcer.due(now)
        assert len(handful) <= AT_ONCE
        found += handful
        assert announcer.deadline > now
        now = announcer.deadline
    assert sorted(found) == sorted(vips)


def test_losing_adverts_ask_for_one_announcement_a_second_at_most() -> None:
    """A loud stranger would make us flood the segment."""
    announcer = Announcer()
    announcer.start(0.0, (VIP,), 0)
    moments(announcer, 30.0)
    for number in range(100):
        announcer.again(30.0 + number * 0.01, (VIP,))
        announcer.due(30.0 + number * 0.01)
    announcer.again(31.2, (VIP,))
    assert announcer.due(31.2) == [VIP]
    assert len([each for each in moments(announcer, 60.0) if each < 60.0]) == 0


def test_what_is_forgotten_is_not_announced() -> None:
    """A released VIP would be claimed once more."""
    announcer = Announcer()
    announcer.start(0.0, (VIP,), 0)
    announcer.forget((VIP,))
    assert announcer.due(1.0) == []
    assert announcer.deadline in (inf, 1.01)


def test_a_removed_address_is_put_back_at_once_and_then_ever_later() -> None:
    """Two programs would fight over an address a thousand times a second."""
    restoring = Restoring()
    delays = []
    now = 0.0
    for _ in range(14):
        restoring.lost(now, VIP)
        delays.append(round(restoring.waiting[VIP] - now, 3))
        now = restoring.waiting[VIP]
        assert restoring.due(now) == (VIP,)
    assert delays[:4] == [0.0, 0.05, 0.1, 0.2]
    assert delays[-1] == LONGEST
    assert restoring.contested(now) == {VIP: 14}
    assert restoring.contested(now + 61) == {}
    restoring.lost(now + 200, VIP)
    assert restoring.waiting[VIP] == now + 200
