"""Weights that follow load: simulated servers of different size, and what holds whatever is reported."""

import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvs_dr.core.load_feedback import (
    LARGEST_WEIGHT,
    LoadState,
    adjust,
    effective,
    forgotten,
    is_stale,
    measure,
    reference,
    scale,
    started,
)
from lvs_dr.core.load_spec import LoadSource, TableLoadFeedback
from tests.unit.core.load_plants import Simulation, Used, linear, pressure, wlc, wrr

POLICY = TableLoadFeedback(LoadSource.CPU_PRESSURE, target=20)
SERVERS = (2, 3, 10, 50)


def pool(count: int) -> list[float]:
    """Return servers of different size, two at least of which differ."""
    random = Random(count)
    return [2.0, 6.0, *(random.choice([2.0, 3.0, 4.0, 6.0, 8.0]) for _ in range(count - 2))]


def steady(part: float, sizes: list[float]) -> Callable[[float], float]:
    """Return a demand of a part of what all can do."""
    whole = part * sum(sizes)
    return lambda _: whole


def busiest(simulation: Simulation, last: int = 60) -> float:
    """Return how much more the busiest server is used than all are on average, over the last intervals."""
    recent = simulation.uses[-last:]
    whole = sum(simulation.sizes)
    found = []
    for used in recent:
        together = sum(one * size for one, size in zip(used, simulation.sizes, strict=True)) / whole
        found.append(max(used) / together)
    return sum(found) / len(found)


@pytest.mark.parametrize("count", SERVERS)
@pytest.mark.parametrize("lag", [0.0, 30.0])
@pytest.mark.parametrize("load", [pressure, linear])
def test_servers_of_different_size_get_what_they_can_do(count: int, lag: float, load: Callable[[float], float]) -> None:
    """The smallest server would be overrun, or its weight would swing for ever."""
    simulation = Simulation(POLICY, pool(count), scheduler=wrr, load=load, lag=lag)
    simulation.run(10, steady(0.7, simulation.sizes))
    assert busiest(simulation) > 1.4, "with equal weights"
    simulation.run(1500, steady(0.7, simulation.sizes))
    assert busiest(simulation) < 1.3
    assert simulation.changes(100) <= 0.08 * 100 * count
    assert simulation.swing(60) < 1.3


@pytest.mark.parametrize("count", SERVERS)
@pytest.mark.parametrize("scheduler", [wrr, wlc])
@pytest.mark.parametrize("noise", [0.2, 0.5])
def test_noise_is_not_followed(count: int, scheduler: Used, noise: float) -> None:
    """Each wobble of a load would move connections to and fro."""
    simulation = Simulation(POLICY, pool(count), scheduler=scheduler, noise=noise, lag=10)
    simulation.run(1500, steady(0.7, simulation.sizes))
    assert simulation.changes(100) <= 0.3 * 100 * count
    assert busiest(simulation) < 1.35
    assert simulation.swing(60) < 2


@pytest.mark.parametrize("count", SERVERS)
def test_a_server_that_loses_half_of_its_power_is_relieved(count: int) -> None:
    """A neighbour on the same host starts a backup: the others must take over within a minute or two."""
    simulation = Simulation(POLICY, [4.0] * count, scheduler=wrr, lag=10)
    simulation.run(200, steady(0.6, simulation.sizes))
    assert simulation.changes(10**6) == 0, "equal servers, hardly loaded: nothing to do"
    demand = steady(0.6, simulation.sizes)
    simulation.sizes[0] = 2.0
    simulation.run(120, demand)
    assert simulation.weights[0] < 85
    assert simulation.used is not None
    assert simulation.used[0] < 1.0
    simulation.sizes[0] = 4.0
    simulation.run(600, demand)
    assert simulation.weights[0] > 85, "and back"


def test_a_ramp_of_demand_is_followed() -> None:
    """In the morning rush the small server would be the first to fail."""
    simulation = Simulation(POLICY, [4.0, 4.0, 1.0], scheduler=wrr, lag=10)
    simulation.run(1800, lambda now: 1 + 6.5 * now / 1800)
    assert simulation.used is not None
    assert simulation.used[2] < 1.0
    assert simulation.weights[:2] == [100, 100]
    simulation.run(1800, lambda now: 7.5 - 6.5 * (now - 1800) / 1800)
    assert simulation.weights == [100, 100, 100], "at night all have their whole weight again"


def test_when_all_are_busy_nobody_is_worse_off_than_without() -> None:
    """All would fall to the floor, and be equal there: the small server is overrun in the very moment it counts."""
    simulation = Simulation(POLICY, [4.0, 4.0, 1.0], scheduler=wrr, lag=10)
    simulation.run(1500, steady(0.97, simulation.sizes))
    assert max(simulation.weights) >= 80
    assert busiest(simulation) < 1.25


def test_slow_connections_want_a_slow_control() -> None:
    """Transfers of minutes answer late to a weight: with an interval to match it settles all the same."""
    slow = TableLoadFeedback(LoadSource.CPU_PRESSURE, 20, interval_seconds=60, time_constant_seconds=60)
    simulation = Simulation(slow, [4.0, 4.0, 1.0], scheduler=wrr, lag=300)
    simulation.run(6 * 3600, steady(0.7, simulation.sizes))
    assert busiest(simulation) < 1.25
    assert simulation.swing(60) < 1.3


REPORTS = st.lists(
    st.tuples(st.floats(0.1, 40), st.floats(0, 1e9) | st.sampled_from([0.0, 20.0, 100.0]), st.floats(0, 1e9)),
    max_size=60,
)
POLICIES = st.builds(
    TableLoadFeedback,
    st.sampled_from([LoadSource.CPU_PRESSURE, LoadSource.HTTP, LoadSource.AGENT_CHECK]),
    target=st.integers(1, 10**9),
    time_constant_seconds=st.integers(1, 600),
    dead_band_percent=st.integers(0, 90),
    minimum_percent=st.integers(1, 100),
    maximum_percent=st.integers(100, 1000),
    interval_seconds=st.integers(1, 60),
)


@settings(deadline=None)
@given(POLICIES, REPORTS, st.integers(1, 65535))
def test_whatever_is_reported_the_weight_stays_within_its_bounds(
    policy: TableLoadFeedback, reports: list[tuple[float, float, float]], weight: int
) -> None:
    """Load alone would take a server out, give it everything, or change its weight all the time."""
    state, now, changed = LoadState(), 0.0, -math.inf
    for pause, load, other in reports:
        now += pause
        state = measure(state, policy, load, now)
        after = adjust(state, policy, reference(policy, [state, LoadState(average=other)]), now)
        if after.told != state.told:
            assert now - changed >= policy.interval_seconds
            changed = now
        state = after
        assert policy.minimum_percent <= state.told <= policy.maximum_percent
        assert 1 <= effective(weight, 1, state.told) <= LARGEST_WEIGHT


def test_no_report_is_no_load() -> None:
    """A server whose agent is dead would keep the share of its last minute for ever, or look idle."""
    state = measure(LoadState(), POLICY, 100, 0.0)
    for now in range(5, 60, 5):
        state = adjust(measure(state, POLICY, 100, now), POLICY, 20, now)
    assert state.told < 60
    assert not is_stale(state, POLICY, 55 + POLICY.stale_seconds)
    assert is_stale(state, POLICY, 56 + POLICY.stale_seconds)
    assert forgotten(state).told == 100
    assert is_stale(LoadState(), POLICY, 0)
    back = measure(state, POLICY, 1, 1000.0)
    assert back.average == 1, "what was before the silence is not averaged with what comes after"


def test_an_agent_check_is_followed_as_it_says() -> None:
    """HAProxy's users expect 75% to mean 75%; 0% is the floor, because load alone takes nobody out."""
    policy = TableLoadFeedback(LoadSource.AGENT_CHECK, time_constant_seconds=1, interval_seconds=1, minimum_percent=5)
    state, now = LoadState(), 0.0

    def said(percent: float) -> int:
        nonlocal state, now
        for _ in range(20):
            now += 1
            state = adjust(measure(state, policy, percent, now), policy, 0.0, now)
        return state.told

    assert [said(percent) for percent in (75, 40, 0, 100, 98, 200)] == [75, 40, 5, 100, 100, 100]


def test_small_weights_are_made_fine_enough() -> None:
    """Of weight 1 nothing is left to take: 62% of it is 1 again."""
    assert scale([1, 2]) == 100
    assert scale([100, 300]) == 1
    assert scale([50, 0]) == 2
    assert scale([1, 65535]) == 1
    assert scale([0]) == 1
    assert [effective(2, 100, 62), effective(0, 100, 100), effective(1, 1, 10, 10)] == [124, 0, 1]


def test_an_agent_that_starts_goes_on_with_what_the_kernel_has() -> None:
    """Each restart of an agent would give the overloaded server its whole weight."""
    assert started(POLICY, 37).told == 37
    assert started(POLICY, 3).told == POLICY.minimum_percent
