"""Rise and fall of a destination."""

from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.core.health import CheckKey, CheckState, Health, carry_over, check_keys, initial, step
from lvs_dr.core.table import TableHealthCheck, TcpCheck
from tests.unit.core.plan_cases import CHECK, RIPS, table

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
        state = step(state, check, success=success)
        needed = rise if success else fall
        wanted = Health.UP if success else Health.DOWN
        if streak >= needed:
            assert state.health is wanted
        else:
            assert state.health is before
