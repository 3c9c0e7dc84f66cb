"""A real server that comes back takes its share bit by bit."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lvs_dr.core.load_spec import TableSlowStart
from lvs_dr.core.slow_start import next_step, ramp, resumed

POLICY = TableSlowStart(60, 20)
POLICIES = st.builds(TableSlowStart, st.integers(1, 3600), st.integers(1, 100))


def test_it_begins_at_the_floor_and_ends_whole() -> None:
    """A cold cache would get everything at once, or never all."""
    assert [ramp(POLICY, 100, 100 + seconds) for seconds in (0, 2, 3, 30, 59, 60, 1000)] == [
        20, 20, 24, 60, 96, 100, 100,
    ]  # fmt: skip
    assert ramp(POLICY, 100, 99) == 100


@settings(deadline=None)
@given(POLICIES, st.floats(0, 1e6), st.lists(st.floats(0, 4000), max_size=20))
def test_it_only_grows_within_its_bounds(policy: TableSlowStart, began: float, times: list[float]) -> None:
    """A server would lose connections that it just got."""
    found = [ramp(policy, began, began + each) for each in sorted(times)]
    assert found == sorted(found)
    assert all(policy.floor_percent <= each <= 100 for each in found)


@settings(deadline=None)
@given(POLICIES, st.floats(0, 1e6))
def test_following_its_steps_sees_every_change(policy: TableSlowStart, began: float) -> None:
    """A weight would stay behind until something else wakes the agent; or wake it a hundred times a second."""
    now, steps, seen = began, 0, [ramp(policy, began, began)]
    while (due := next_step(policy, began, now)) is not None:
        assert due > now
        now, steps = due, steps + 1
        seen.append(ramp(policy, began, now + 1e-6))
    assert steps <= 30
    assert seen[-1] == 100


@settings(deadline=None)
@given(POLICIES, st.integers(1, 100), st.floats(0, 1e6))
def test_a_restart_goes_on_where_it_was(policy: TableSlowStart, percent: int, now: float) -> None:
    """Each restart of the agent would begin the ramp anew, or end it."""
    found = ramp(policy, resumed(policy, percent, now), now + 1e-6)
    assert found <= 100
    if policy.floor_percent <= percent < 100:
        assert abs(found - percent) <= 1 + (100 - policy.floor_percent) / 20
