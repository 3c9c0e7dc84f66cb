"""What two reports of a node's load mean together."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvs_dr.core.loads import InterfaceLoad, Part, PortLoad, ServerLoad, Trouble, cpu_pressure, link_use


def report(milliseconds: int, **given: object) -> ServerLoad:
    """Return a report of one node."""
    return msgspec.convert({"node": "storage-1", "milliseconds": milliseconds, **given}, ServerLoad)


def link(name: str, received: int, sent: int, megabits: int = 1000) -> dict[str, object]:
    """Return an interface's counters."""
    return {"name": name, "receivedBytes": received, "sentBytes": sent, "megabits": megabits}


def test_pressure_is_the_stalled_part_of_the_time_between_two_reports() -> None:
    """A server that waits for its CPU half of the time would look idle."""
    before = report(10_000, cpuStallMicroseconds=4_000_000)
    assert cpu_pressure(before, report(12_000, cpuStallMicroseconds=5_000_000)) == pytest.approx(50)
    assert cpu_pressure(before, report(12_000, cpuStallMicroseconds=4_000_000)) == 0
    assert cpu_pressure(before, report(12_000, cpuStallMicroseconds=9_000_000)) == 100, "clocks differ a little"


@pytest.mark.parametrize(
    "now",
    [
        report(10_050, cpuStallMicroseconds=4_000_000),
        report(2_000, cpuStallMicroseconds=1_000),
        report(12_000, cpuStallMicroseconds=1_000),
        ServerLoad("storage-2", 12_000, cpu_stall_microseconds=5_000_000),
    ],
    ids=["too soon", "booted", "counter began anew", "another node at the address"],
)
def test_no_rate_is_made_up(now: ServerLoad) -> None:
    """After a reboot a server would seem to be at its limit, or idle."""
    before = report(10_000, cpuStallMicroseconds=4_000_000)
    assert cpu_pressure(before, now) is None


def test_the_busiest_direction_of_the_busiest_link_counts() -> None:
    """A full link next to an idle one would look half used."""
    before = report(0, interfaces=[link("eth0", 0, 0), link("eth1", 0, 0, 10_000)])
    now = report(2_000, interfaces=[link("eth0", 10_000_000, 200_000_000), link("eth1", 0, 200_000_000, 10_000)])
    assert link_use(before, now) == pytest.approx(80)


def test_a_link_of_unknown_speed_needs_to_be_told() -> None:
    """A virtual link has no speed: any number would be wrong."""
    before, now = (report(ms, interfaces=[link("eth0", 0, each, 0)]) for ms, each in ((0, 0), (1_000, 12_500_000)))
    assert link_use(before, now) is None
    assert link_use(before, now, 1000) == pytest.approx(10)
    reset = report(2_000, interfaces=[link("eth0", 0, 0, 1000)])
    assert link_use(now, reset) is None, "the interface was made anew"


def test_connections_to_a_service_are_those_to_its_address_and_ports() -> None:
    """Connections of another service on the same machine would count for this one."""
    ports = (PortLoad("192.0.2.100", 443, 5), PortLoad("192.0.2.100", 80, 2), PortLoad("192.0.2.11", 443, 9))
    load = ServerLoad("storage-1", 1, ports=ports)
    assert load.established(["192.0.2.100"], [443]) == 5
    assert load.established(["192.0.2.100"], []) == 7
    assert load.established(["192.0.2.101"], [443]) == 0


def test_what_could_not_be_read_is_named() -> None:
    """An absent pressure file would read as an idle machine."""
    load = ServerLoad("storage-1", 1, troubles=(Trouble(Part.CPU_PRESSURE, "no PSI"),))
    assert load.trouble(Part.CPU_PRESSURE) == "no PSI"
    assert load.trouble(Part.RUN_QUEUE) == ""


COUNTER = st.integers(0, 2**63 - 1)
LOADS = st.builds(
    ServerLoad,
    node=st.sampled_from(["a", "b"]),
    milliseconds=COUNTER,
    cpu_stall_microseconds=COUNTER,
    interfaces=st.lists(
        st.builds(InterfaceLoad, st.sampled_from(["eth0", "eth1"]), COUNTER, COUNTER, st.integers(0, 10**7)), max_size=3
    ).map(tuple),
)


@settings(deadline=None)
@given(LOADS, LOADS)
def test_whatever_two_reports_say_a_rate_is_a_percentage(before: ServerLoad, now: ServerLoad) -> None:
    """A node that lies could give another one all the traffic."""
    for found in (cpu_pressure(before, now), link_use(before, now), link_use(before, now, 1000)):
        assert found is None or 0 <= found <= 100


@settings(deadline=None)
@given(LOADS)
def test_a_report_survives_the_wire(load: ServerLoad) -> None:
    """What is sent is what is heard."""
    assert msgspec.json.decode(msgspec.json.encode(load), type=ServerLoad) == load
