"""What a node tells of its IPVS: how full it is, what in it is not ours, and whether marked packets arrive."""

from lvs_dr.agent.facts import Facts, status
from lvs_dr.agent.health.outcomes import Outcome
from lvs_dr.agent.ipvs_report import (
    CONNECTIONS_PER_SLOT,
    MAXIMUM_NAMED,
    ConnectionCount,
    ipvs_report,
    overlapping,
    small_table,
)
from lvs_dr.core.destinations import Destinations
from lvs_dr.core.health import Health
from lvs_dr.core.kernel import DestinationConfig, DestinationKey, KernelState, ServiceConfig, ServiceKey
from lvs_dr.core.ledger import ServiceNote
from lvs_dr.core.node_status import IpvsReport
from lvs_dr.core.objects import Protocol
from lvs_dr.core.reasons import Reason
from lvs_dr.core.table import TablePort
from tests.unit.agent.bench import DIRECTOR, VIP, Bench, vrrp
from tests.unit.agent.test_report_content import VERSION, table
from tests.unit.core.plan_cases import Node, destination, director, service
from tests.unit.core.plan_cases import table as plain

PLAIN = ServiceConfig("wlc")


def test_foreign_services_are_counted_and_some_are_named() -> None:
    """An administrator would not see that others use the same table; or the report would grow without bound."""
    node = Node()
    others = [service("192.0.2.200", port) for port in range(1, 21)]
    node.kernel.services |= dict.fromkeys(others, PLAIN)
    made = node.follow(director(), {"a/web": plain()})
    report = ipvs_report(made, KernelState(ipvs_slots=4096), ConnectionCount())
    assert (report.foreign_services, report.connection_table_size) == (20, 4096)
    assert len(report.foreign) == MAXIMUM_NAMED
    assert report.foreign[0] == "TCP 192.0.2.200:1"


def test_connections_of_others_are_not_counted_as_ours() -> None:
    """The number would not be what the services of this operator carry."""
    node = Node()
    theirs = DestinationKey(service("192.0.2.200"), "192.0.2.201", 8443)
    node.kernel.services[theirs.service] = PLAIN
    node.kernel.destinations[theirs] = DestinationConfig(1)
    made = node.follow(director(), {"a/web": plain()})
    actual = KernelState(connections=Destinations.of([(theirs, 5000), (destination("192.0.2.21"), 200)]))
    assert ipvs_report(made, actual, ConnectionCount()).connections == 200


def test_the_number_of_connections_is_told_when_it_has_changed_much() -> None:
    """A busy director would write its status every second for ever."""
    count = ConnectionCount()
    assert [count.told(number) for number in (10, 150, 200, 1000, 1100, 1249, 1250, 1100, 0)] == [
        0, 150, 150, 1000, 1000, 1000, 1250, 1250, 0,
    ]  # fmt: skip


def test_a_small_connection_table_is_told() -> None:
    """Packets would get slower with every connection, and nobody would know why."""
    fits = IpvsReport(connection_table_size=4096, connections=CONNECTIONS_PER_SLOT * 4096)
    assert not list(small_table(fits))
    (problem,) = small_table(IpvsReport(connection_table_size=4096, connections=CONNECTIONS_PER_SLOT * 4096 + 1))
    assert problem.reason == Reason.CONNECTION_TABLE_SMALL
    assert "conn_tab_bits" in problem.message
    assert not list(small_table(IpvsReport(connections=10**6))), "a kernel that does not tell is not accused"


def test_only_what_is_in_the_way_is_a_problem() -> None:
    """kube-proxy's services would be called a problem of every director; or a service that takes our packets not."""
    ours, any_port = ServiceKey(VIP, 443, 6), ServiceKey("192.0.2.9", 0, 17)
    notes = {ours: ServiceNote(VIP), any_port: ServiceNote("192.0.2.9")}
    node = Node()
    made = node.follow(director(), {})
    harmless = (
        ServiceKey("10.96.0.1", 443, 6),
        ServiceKey(VIP, 0, 17),
        ServiceKey(VIP, 80, 6),
        ServiceKey("", 0, 0, 3),
    )
    takes_the_rest, takes_a_port = ServiceKey(VIP, 0, 6), ServiceKey("192.0.2.9", 53, 17)
    inside = DestinationKey(ours, "192.0.2.99", 443)
    found = dict(overlapping(_with(made, (*harmless, takes_the_rest, takes_a_port)), notes))
    assert set(found) == {VIP, "192.0.2.9"}
    ((where, words),) = overlapping(_with(made, (inside,)), notes)
    assert (where, words) == (VIP, f"IPVS destination 192.0.2.99:443 in TCP {VIP}:443")


def _with(made: object, foreign: tuple[object, ...]) -> object:
    from msgspec.structs import replace  # noqa: PLC0415 - a few lines of one test

    return replace(made, foreign=foreign)


def test_a_mark_that_no_packet_carries_is_told_with_the_command() -> None:
    """A VirtualService by firewall mark would look ready although nobody marks its packets."""
    spec = table(80, ports=(), firewall_mark=7, check=None)
    key = ServiceKey("", 0, 0, 7)
    facts = Facts("0.1.0", "boot", 1, {"web/one": spec}, {"web/one": VERSION}, silent=frozenset({key}))
    (report,) = status(facts, lambda _: Outcome(Health.UP)).tables
    (exception,) = report.exceptions
    assert exception.reason == Reason.MARK_NOT_SEEN
    assert "--set-mark 7" in exception.message
    heard = Facts("0.1.0", "boot", 1, {"web/one": spec}, {"web/one": VERSION})
    assert not status(heard, lambda _: Outcome(Health.UP)).tables[0].exceptions


def test_a_service_by_mark_has_no_port_in_its_report() -> None:
    """A failure of the service would not be found among the tables."""
    spec = table(80, ports=(TablePort(0, Protocol.TCP),), check=None)
    assert status(Facts("0", "b", 1, {"web/one": spec}, {}), lambda _: Outcome(Health.UP)).tables[0].total == 2


async def test_only_who_holds_the_vip_misses_marked_packets(bench: Bench) -> None:
    """Every Backup would complain of packets that only the Active gets."""
    director = DIRECTOR["director"]
    async with bench.running():
        await bench.table(ports=[], firewallMark=7)
        await bench.node({"decided": True, "director": director | vrrp()})
        told = await bench.api.status_where(lambda status: status.get("tables", [{}])[0].get("generation") == 1)
        assert "exceptions" not in told["tables"][0]
        await bench.node(DIRECTOR)
        told = await bench.api.status_where(lambda status: "exceptions" in status.get("tables", [{}])[0])
        assert [one["reason"] for one in told["tables"][0]["exceptions"]] == ["MarkNotSeen"]
        assert bench.speaker.held == {VIP}, "a mark that is not seen yet takes nothing away"
        bench.kernel.marks_seen.add(7)
        await bench.api.status_where(lambda status: "exceptions" not in status["tables"][0])


async def test_a_director_reports_its_ipvs_and_a_backend_none(bench: Bench) -> None:
    """The status would say nothing of the table that all directors share with others."""
    bench.kernel.services[ServiceKey("192.0.2.200", 53, 17)] = PLAIN
    bench.kernel.services[ServiceKey(VIP, 0, 6)] = PLAIN
    async with bench.running():
        await bench.table()
        await bench.node(DIRECTOR)
        told = await bench.api.status_where(lambda status: "ipvs" in status and "problems" in status)
        assert told["ipvs"]["foreignServices"] == 2
        assert set(told["ipvs"]["foreign"]) == {"UDP 192.0.2.200:53", f"TCP {VIP}:0"}
        problems = [one for one in told["problems"] if one["reason"] == "ForeignEntry"]
        assert [one["address"] for one in problems] == [VIP]
        await bench.node({"decided": True})
        await bench.api.status_where(lambda status: "ipvs" not in status)
