"""Two to five speakers under faults of all kinds: at most one is Active, and no VIP has two holders for long."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lvs_dr.vrrp.hold_down import LONGEST
from lvs_dr.vrrp.instance import CENTISECOND, GIVES_WAY, InstanceConfig, State
from lvs_dr.vrrp.machine import SUCCESSOR_EXTRA
from tests.unit.vrrp.faults import FAULTS, befall, configure
from tests.unit.vrrp.segment import Segment, bound, longest_lifetime

VIPS = ("192.0.2.100", "192.0.2.101")


@st.composite
def groups(draw: Any) -> list[InstanceConfig]:
    """Speakers of one group: same VIPs, intervals and preemption, own priorities."""
    count = draw(st.integers(2, 5))
    interval = draw(st.sampled_from((2, 10, 100)))
    preempt = draw(st.booleans())
    delay = draw(st.sampled_from((0.0, 0.7)))
    priorities = draw(st.lists(st.integers(1, 254), min_size=count, max_size=count))
    return [
        InstanceConfig(51, priority, VIPS, interval, preempt, delay, stop_hold=2.0, start_delay=0.05)
        for priority in priorities
    ]


walks = st.lists(
    st.tuples(st.sampled_from(sorted(FAULTS)), st.integers(0, 4), st.integers(0, 4), st.floats(0.0, 3.0)), max_size=25
)


def mend(segment: Segment, cut: int) -> list[list[int]]:
    """End all faults but one clean cut; return the parts."""
    befall(segment, "heal", 0, 0)
    for number in range(len(segment.nodes)):
        segment.set_link(number, up=True)
        segment.thaw(number)
    segment.run(SUCCESSOR_EXTRA + bound([node.config for node in segment.nodes]))  # who is stopping has stopped
    for number in range(len(segment.nodes)):
        segment.start(number)
        configure(segment, number, VIPS)
    count = len(segment.nodes)
    parts = [part for part in (list(range(min(cut, count))), list(range(min(cut, count), count))) if part]
    if len(parts) > 1:
        befall(segment, "partition", cut - 1, 0)
    return parts


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(groups(), walks, st.integers(0, 5), st.integers(0, 2**16))
def test_one_active_per_segment_and_no_two_holders_for_long(
    configs: list[InstanceConfig], walk: list[tuple[str, int, int, float]], cut: int, seed: int
) -> None:
    """Two directors would answer for one VIP, or none would."""
    segment = Segment(configs, seed)
    for number in range(len(configs)):
        segment.start(number)
    for fault, one, other, pause in walk:
        befall(segment, fault, one, other)
        segment.run(pause)
    parts = mend(segment, cut)
    within = bound(configs)
    losses = sum(fault == "link_down" for fault, *_ in walk)
    held_down = min(LONGEST, configs[0].start_delay * 2**losses)
    settle = 2 * within + longest_lifetime(configs) + 2.0 + held_down
    segment.run(settle)
    for part in parts:
        nodes = [segment.nodes[number] for number in part]
        active = [node for node in nodes if node.active]
        assert len(active) == 1, [(node.number, node.machine and node.machine.state) for node in nodes]
        assert [node.number for node in nodes if node.holds(segment.now)] == [active[0].number]
        if configs[0].preempt:
            best = max(node.config.priority for node in nodes)
            assert active[0].config.priority == best
    assert segment.longest_double <= longest_lifetime(configs) + within


@settings(max_examples=25, deadline=None)
@given(groups(), st.integers(0, 2**16))
def test_a_dead_active_is_replaced_within_the_bound(configs: list[InstanceConfig], seed: int) -> None:
    """Clients would wait longer than the protocol promises."""
    segment = Segment(configs, seed)
    for number in range(len(configs)):
        segment.start(number)
    segment.run(3 * bound(configs) + 2)
    [active] = [node for node in segment.nodes if node.active]
    segment.crash(active.number)
    segment.run(bound(configs))
    assert [node for node in segment.nodes if node.active and node is not active]
    segment.run(longest_lifetime(configs))
    assert len([node for node in segment.nodes if node.holds(segment.now)]) == 1


@settings(max_examples=25, deadline=None)
@given(groups(), st.integers(0, 2**16))
def test_a_graceful_stop_leaves_no_gap(configs: list[InstanceConfig], seed: int) -> None:
    """An upgrade of the speaker would cost connections."""
    segment = Segment(configs, seed)
    for number in range(len(configs)):
        segment.start(number)
    segment.run(3 * bound(configs) + 2)
    [active] = [node for node in segment.nodes if node.active]
    began = segment.now
    segment.stop(active.number)
    while not any(node.active for node in segment.nodes):
        assert any(node.holds(segment.now) for node in segment.nodes)
        assert segment.now - began < bound(configs)
        segment.run(configs[0].interval * CENTISECOND / 20)
    segment.run(configs[0].interval * CENTISECOND)
    assert active.machine is None or active.machine.state is not State.ACTIVE
    assert segment.now - began <= 2.2 * configs[0].interval * CENTISECOND, "priority 0 hands over within the skew"
    segment.run(GIVES_WAY)
    assert not active.holds(segment.now)
