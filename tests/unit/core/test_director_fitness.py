"""Who sees better may take over; a server that dies for all to see moves nothing."""

import random
from math import inf
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvs_dr.core.director_fitness import Evidence, Verdict, due, evidence, judge, together
from lvs_dr.core.health import CheckKey, Health
from lvs_dr.core.table import DirectorTableSpec

CHECK = {"tcp": {}, "intervalSeconds": 1, "timeoutSeconds": 1, "rise": 2, "fall": 3}
GOOD, BAD = Evidence(10, 10, 4.0), Evidence(0, 10, 4.0)
LOWERED_BY, DEGRADED_BELOW = 60, 200
POLL = 1.0
"""Seconds after which a verdict that is due is looked at."""


def table(address: str = "192.0.2.100", servers: int = 4, **changes: Any) -> DirectorTableSpec:
    """Return a table with checked real servers 10.0.0.1, 2, ..."""
    raw = {
        "directorGroup": "default",
        "serviceGeneration": 1,
        "address": address,
        "ports": [{"port": 80, "protocol": "TCP"}],
        "scheduler": "rr",
        "onFailure": "Remove",
        "healthCheck": CHECK,
        "destinations": [{"realServer": f"s{n}", "address": f"10.0.0.{n}", "weight": 1} for n in range(1, servers + 1)],
    }
    return msgspec.convert(raw | changes, DirectorTableSpec)


def test_the_evidence_counts_what_is_checked_and_serves() -> None:
    """Real servers that nobody checks, or that take nothing, would hide or feign a director that is cut off."""
    spec = table()
    assert spec.health_check is not None
    health = {CheckKey("10.0.0.1", 80, spec.health_check): Health.DOWN}
    unchecked = table("192.0.2.101", healthCheck=None)
    drained = table("192.0.2.102", destinations=[{"realServer": "s", "address": "10.0.0.1", "weight": 0}])
    found = evidence({str(n): each for n, each in enumerate((spec, unchecked, drained))}, health)
    assert found["192.0.2.100"] == Evidence(3, 4, 4.0)
    assert "192.0.2.101" not in found
    assert found["192.0.2.102"].share == 1.0
    both = together(found, {"192.0.2.100", "192.0.2.101", "192.0.2.102"})
    assert both == Evidence(3, 4, 4.0)
    assert together(found, {"192.0.2.199"}).share == 1.0


def test_the_evidence_is_of_the_address_that_is_checked() -> None:
    """A director that is cut off from real servers checked elsewhere would stay Active for ever."""
    entries = [
        {"realServer": f"s{n}", "address": f"10.0.0.{n}", "weight": 1, "checkAddress": f"10.9.0.{n}"} for n in (1, 2)
    ]
    spec = table(destinations=entries)
    assert spec.health_check is not None
    health = {CheckKey("10.9.0.1", 80, spec.health_check): Health.DOWN}
    assert evidence({"a": spec}, health)["192.0.2.100"] == Evidence(1, 2, 4.0)


def test_a_verdict_needs_time_and_a_clear_change() -> None:
    """A short disturbance, or a share about the limit, would move VIPs back and forth."""
    verdict = judge(Verdict(), BAD, active=True, now=100.0)
    assert verdict == Verdict(low=False, since=100.0)
    assert due(verdict, BAD, active=True) == 112.0, "three times the slowest check"
    assert judge(verdict, BAD, active=True, now=111.9) == verdict
    assert judge(verdict, GOOD, active=True, now=111.9) == Verdict()
    low = judge(verdict, BAD, active=True, now=112.0)
    assert low == Verdict(low=True)
    between = Evidence(7, 10, 4.0)
    assert judge(low, between, active=False, now=113.0) == low, "not clearly better"
    assert due(judge(low, GOOD, active=False, now=200.0), GOOD, active=False) == 212.0
    assert due(low, between, active=False) == inf
    quick = Evidence(0, 10, 0.1)
    assert due(judge(Verdict(), quick, active=True, now=0.0), quick, active=True) == 10.0, "ten seconds at least"


def test_what_nobody_is_served_of_counts_as_dead() -> None:
    """A director whose redirector does not run gives way to one whose does."""
    spec = table(healthCheck=None)
    found = evidence({"up": spec}, {}, {"up"})[spec.address]
    assert (found.healthy, found.total) == (0, len(spec.destinations))


class Director:
    """One director of a simulated group."""

    def __init__(self, base: int, phase: float) -> None:
        self.base = base
        self.verdict = Verdict()
        self.next = phase
        self.sees: list[tuple[float, Evidence]] = [(0.0, GOOD)]

    @property
    def priority(self) -> int:
        """What it advertises."""
        return self.base - (LOWERED_BY if self.verdict.low else 0)

    def look(self, now: float, *, active: bool) -> None:
        """Judge, once a poll is due."""
        if now >= self.next:
            self.next += POLL
            seen = [each for at, each in self.sees if at <= now][-1]
            self.verdict = judge(self.verdict, seen, active=active, now=now)


def moves(directors: list[Director], seconds: float) -> int:
    """Let time pass; return how often the VIPs moved (`preempt: false`, `degradedBelow`)."""
    active, count = 0, 0
    for step in range(int(seconds * 10)):
        now = step / 10
        for number, director in enumerate(directors):
            director.look(now, active=number == active)
        if directors[active].priority < DEGRADED_BELOW:
            better = [n for n, each in enumerate(directors) if each.priority >= DEGRADED_BELOW]
            if better:
                active, count = max(better, key=lambda n: directors[n].priority), count + 1
    return count


@settings(max_examples=60, deadline=None)
@given(count=st.integers(2, 5), seed=st.integers(0, 2**32), check=st.sampled_from([0.3, 3.0, 4.0, 9.0, 25.0]))
def test_servers_that_die_for_all_move_nothing(count: int, seed: int, check: float) -> None:
    """Every outage of the real servers would be followed by one of the director's connections, and another after it."""
    rolled = random.Random(seed)
    directors = [Director(250 - 5 * number, rolled.random() * POLL) for number in range(count)]
    for director in directors:
        down = 5.0 + rolled.random() * check
        up = 5.0 + 8 * max(10.0, check) + rolled.random() * check
        director.sees += [(down, Evidence(0, 10, check)), (up, Evidence(10, 10, check))]
    assert moves(directors, 20 * max(10.0, check)) == 0


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 5), seed=st.integers(0, 2**32), check=st.sampled_from([0.3, 3.0, 9.0]))
def test_a_director_that_is_cut_off_gives_up_its_vips_once(count: int, seed: int, check: float) -> None:
    """Clients would be sent to a director that reaches no real server, or from one to the next."""
    rolled = random.Random(seed)
    directors = [Director(250 - 5 * number, rolled.random() * POLL) for number in range(count)]
    directors[0].sees += [(5.0, Evidence(0, 10, check)), (8 * max(10.0, check), Evidence(10, 10, check))]
    assert moves(directors, 16 * max(10.0, check)) == 1


@pytest.mark.parametrize("active", [True, False])
def test_who_is_active_is_lowered_last_and_raised_first(active: bool) -> None:  # noqa: FBT001 - the case
    """Directors notice at different moments: in between a VIP would move to one that is about to be as badly off."""
    falling = due(Verdict(since=0.0), BAD, active=active)
    rising = due(Verdict(low=True, since=0.0), GOOD, active=active)
    assert (falling, rising) == ((12.0, 4.0) if active else (4.0, 12.0))
