"""Rise and fall of a destination."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from lvs_dr.core.checks import ExecCheck, HttpCheck, PingCheck, TableHealthCheck, TcpCheck
from lvs_dr.core.desired import desired
from lvs_dr.core.health import (
    CALM_PASSES,
    CheckKey,
    CheckState,
    Health,
    carry_over,
    check_keys,
    flaps,
    initial,
    needed_to_rise,
    pause,
    step,
)
from lvs_dr.core.ipvs_table import check_ports
from lvs_dr.core.ledger import Ledger
from tests.unit.core.plan_cases import CHECK, RIPS, director, table

KEY = CheckKey(RIPS[4][0], 8443, CHECK)


def run(state: CheckState, *results: bool, check: TableHealthCheck = CHECK) -> CheckState:
    """Return the state after results."""
    for success in results:
        state = step(state, check, success=success)
    return state


def test_the_first_result_decides_at_once() -> None:
    """A new real server would wait for `rise` checks before it gets its first connection."""
    assert run(CheckState(), True).health is Health.UP
    assert run(CheckState(), False).health is Health.DOWN


def test_a_healthy_destination_falls_only_after_fall_failures_in_a_row() -> None:
    """One lost packet would take a real server out."""
    assert run(initial(in_service=True), False, False).health is Health.UP
    assert run(initial(in_service=True), False, False, True, False, False).health is Health.UP
    assert run(initial(in_service=True), False, False, False).health is Health.DOWN


def test_a_failed_destination_rises_only_after_rise_successes_in_a_row() -> None:
    """A flapping real server would get connections."""
    down = run(CheckState(), False)
    assert run(down, True).health is Health.DOWN
    assert run(down, True, False, True).health is Health.DOWN
    assert run(down, True, True).health is Health.UP


def test_one_that_flaps_must_pass_ever_more_checks_and_is_forgiven() -> None:
    """A service that crashes under load, and is well without, would be sent clients again every few seconds."""
    state, needed = initial(in_service=True), []
    for _ in range(8):
        state = run(state, *[False] * CHECK.fall)
        assert state.health is Health.DOWN
        count = 0
        while state.health is Health.DOWN:
            state, count = run(state, True), count + 1
        needed.append(count // CHECK.rise)
    assert needed == [1, 1, 1, 2, 4, 8, 8, 8]
    assert flaps(state)
    assert run(state, *[True] * (CALM_PASSES - 1), False, True).falls == 8
    calm = run(state, *[True] * CALM_PASSES)
    assert calm == CheckState(Health.UP)
    assert run(calm, *[False] * CHECK.fall, *[True] * CHECK.rise).health is Health.UP


def test_what_the_kernel_serves_starts_as_up() -> None:
    """The restart of an agent would withdraw every real server."""
    states = carry_over({}, [KEY], in_service=[KEY])
    assert states[KEY].health is Health.UP
    assert carry_over({}, [KEY])[KEY].health is Health.UNKNOWN


def test_changed_settings_keep_the_verdict() -> None:
    """Editing an interval would bring a dead real server back, or take a good one out."""
    other = TableHealthCheck(TcpCheck(), 10, 1, 1, 1)
    fresh = CheckKey(KEY.address, KEY.port, other)
    for health in (Health.UP, Health.DOWN):
        assert carry_over({KEY: CheckState(health, 1)}, [fresh]) == {fresh: CheckState(health)}
    assert carry_over({KEY: CheckState(Health.DOWN, 1)}, [KEY]) == {KEY: CheckState(Health.DOWN, 1)}
    both = {KEY: CheckState(Health.UP), CheckKey(KEY.address, KEY.port, other): CheckState(Health.DOWN)}
    third = CheckKey(KEY.address, KEY.port, TableHealthCheck(TcpCheck(), 3, 1, 1, 1))
    assert carry_over(both, [third])[third].health is Health.DOWN


def test_each_port_is_checked_alone_and_equal_checks_once() -> None:
    """A real server with one dead port would lose or keep all ports."""
    spec = table(ports=(80, 443), rips=RIPS[4][:2], check=CHECK)
    assert {(key.address, key.port) for key in check_keys(spec)} == {
        (rip, port) for rip in RIPS[4][:2] for port in (80, 443)
    }
    assert check_keys(table()) == ()


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 5), st.integers(1, 5), st.sampled_from(("up", "down")))
def test_a_verdict_changes_only_after_enough_results_in_a_row(
    results: list[bool], rise: int, fall: int, start: str
) -> None:
    """Whatever the results, a change needs its run of equal results, and the run brings it."""
    check = TableHealthCheck(TcpCheck(), 2, 1, rise, fall)
    state = initial(in_service=True) if start == "up" else step(CheckState(), check, success=False)
    streak, previous = 0, None
    for success in results:
        streak = streak + 1 if success is previous else 1
        previous = success
        before = state.health
        needed = needed_to_rise(state, check) if success else fall
        state = step(state, check, success=success)
        wanted = Health.UP if success else Health.DOWN
        if streak >= needed:
            assert state.health is wanted
        else:
            assert state.health is before


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=40), st.integers(1, 5), st.integers(1, 5), st.integers(0, 5))
def test_the_interval_is_short_exactly_while_the_verdict_is_in_doubt(
    results: list[bool], rise: int, fall: int, fast: int
) -> None:
    """A dead real server is found out sooner, and one that is settled is not asked more often than told."""
    check = TableHealthCheck(TcpCheck(), 7, 1, rise, fall, fast_interval_seconds=fast)
    state = CheckState()
    for success in results:
        state = step(state, check, success=success)
        doubted = state.health is not (Health.UP if success else Health.DOWN)
        assert pause(state, check) == (fast if doubted and fast else 7)


def test_a_real_server_is_checked_where_it_says() -> None:
    """Its status page may be on another network; the director sends to its own address all the same."""
    spec = table(rips=RIPS[4][:1], check=CHECK)
    (entry,) = spec.destinations
    other = replace(spec, destinations=(replace(entry, check_address="198.51.100.9"),))
    (key,) = check_keys(other)
    assert key.address == "198.51.100.9"
    for verdict, found in ((Health.UP, {entry.address}), (Health.DOWN, set())):
        wanted = desired(director(), {"a/b": other}, {key: verdict}, Ledger("boot"), held=frozenset(), reserved={})
        assert {each.address for each in wanted.destinations} == found


@pytest.mark.parametrize(
    ("check", "ports", "of_mark"),
    [
        (TableHealthCheck(TcpCheck()), (80, 443), ()),
        (TableHealthCheck(TcpCheck(port=22)), (22,), (22,)),
        (TableHealthCheck(http=HttpCheck()), (80, 443), ()),
        (TableHealthCheck(ping=PingCheck()), (0,), (0,)),
        (TableHealthCheck(script=ExecCheck("x")), (80, 443), (0,)),
        (TableHealthCheck(), (80, 443), ()),
    ],
)
def test_what_is_asked_of_which_service(
    check: TableHealthCheck, ports: tuple[int, ...], of_mark: tuple[int, ...]
) -> None:
    """A ping asks a machine once, not once for each port; a marked service has no port of its own."""
    spec = table(ports=(80, 443), check=check)
    assert check_ports(spec) == ports
    assert check_ports(replace(spec, ports=(), firewall_mark=7)) == of_mark


def test_a_ping_takes_a_real_server_out_and_in() -> None:
    """Its check has no port; it decides all the same, for all ports."""
    spec = table(ports=(80, 443), rips=RIPS[4][:1], check=TableHealthCheck(ping=PingCheck()))
    (key,) = check_keys(spec)
    for verdict, count in ((Health.UP, 2), (Health.DOWN, 0)):
        wanted = desired(director(), {"a/b": spec}, {key: verdict}, Ledger("boot"), held=frozenset(), reserved={})
        assert len(wanted.destinations) == count
