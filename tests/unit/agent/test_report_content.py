"""What a report says: tables and their generations, real servers that are not well, the node's own addresses."""

from typing import Any

import pytest

from lvs_dr.agent.facts import Facts, status
from lvs_dr.agent.health.outcomes import Outcome
from lvs_dr.agent.interface import director_interface, missing_interface, own_addresses
from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.agent.lastgood import TableVersion
from lvs_dr.agent.programmed import Programmed
from lvs_dr.core.health import CheckKey, Health
from lvs_dr.core.ipvs_table import served, services_of
from lvs_dr.core.kernel import Failure, ServiceConfig, ServiceOp, Verb
from lvs_dr.core.merged_tables import Refusal
from lvs_dr.core.node import DirectorRole
from lvs_dr.core.node_status import MAXIMUM_EXCEPTIONS, InterfaceReport, LVSNodeStatus
from lvs_dr.core.objects import OnFailure, Protocol
from lvs_dr.core.reasons import Reason
from lvs_dr.core.table import DirectorTableSpec, TableDestination, TableHealthCheck, TablePort, TcpCheck

CHECK = TableHealthCheck(TcpCheck(), 2, 1, 2, 3)
VERSION = TableVersion(4, "uid")


def table(*ports: int, count: int = 2, check: TableHealthCheck | None = CHECK, **changes: Any) -> DirectorTableSpec:
    """Return a table with real servers one, two, …"""
    fields: dict[str, Any] = {
        "director_group": "default",
        "service_generation": 1,
        "address": "192.0.2.100",
        "ports": tuple(TablePort(port, Protocol.TCP) for port in ports or (80,)),
        "scheduler": "rr",
        "on_failure": OnFailure.REMOVE,
        "destinations": tuple(TableDestination(f"s{n}", f"198.51.100.{n}", 1) for n in range(count)),
        "health_check": check,
    }
    return DirectorTableSpec(**(fields | changes))


def told(spec: DirectorTableSpec, down: dict[tuple[str, int], Outcome] | None = None, **more: Any) -> LVSNodeStatus:
    """Return the status for one table web/one."""
    facts = Facts("0.1.0", "boot", 1, {"web/one": spec}, {"web/one": VERSION}, **more)
    found = down or {}
    return status(facts, lambda key: found.get((key.address, key.port), Outcome(Health.UP)))


def test_a_real_server_is_healthy_when_all_its_ports_are() -> None:
    """One dead port makes a real server unwell, and the report says which."""
    down = {("198.51.100.1", 443): Outcome(Health.DOWN, "connection refused")}
    (report,) = told(table(80, 443), down).tables
    assert (report.healthy, report.total, report.generation, report.uid) == (1, 2, 4, "uid")
    (exception,) = report.exceptions
    assert (exception.real_server, exception.reason) == ("s1", Reason.CHECK_FAILED)
    assert exception.message == "198.51.100.1 port 443: connection refused"
    down = {("198.51.100.1", 443): Outcome(Health.DOWN, "connection refused; failed 4 times", flapping=True)}
    (report,) = told(table(80, 443), down).tables
    assert [one.reason for one in report.exceptions] == [Reason.FLAPPING]


def test_a_check_that_cannot_be_made_is_told_apart_from_one_that_failed() -> None:
    """Who is served goes on counting as served; who was never in does not; who failed before has failed."""
    trouble = "there is no script /x"
    found = {
        ("198.51.100.0", 80): Outcome(Health.UP, trouble=trouble, since="2026-11-23T12:00:00Z", milliseconds=3),
        ("198.51.100.1", 80): Outcome(Health.UNKNOWN, trouble=trouble),
        ("198.51.100.2", 80): Outcome(Health.DOWN, "connection refused", trouble=trouble),
    }
    (report,) = told(table(count=4), found).tables
    assert report.healthy == 2
    assert [(one.real_server, one.reason, one.serves) for one in report.exceptions] == [
        ("s0", Reason.CHECK_BROKEN, True),
        ("s1", Reason.CHECK_BROKEN, False),
        ("s2", Reason.CHECK_FAILED, False),
    ]
    first = report.exceptions[0]
    assert (first.since, first.check_milliseconds) == ("2026-11-23T12:00:00Z", 3)
    assert first.message == f"198.51.100.0 port 80: cannot be checked (it goes on as it was): {trouble}"


def test_what_is_not_known_yet_is_not_healthy() -> None:
    """Before the first result nothing is claimed."""
    (report,) = told(table(), {("198.51.100.0", 80): Outcome(Health.UNKNOWN)}).tables
    assert report.healthy == 1
    assert [one.reason for one in report.exceptions] == [Reason.CHECKING]


def test_without_a_check_everything_counts_as_healthy() -> None:
    """Who does not want checks gets his real servers served."""
    (report,) = told(table(check=None)).tables
    assert (report.healthy, report.exceptions) == (2, ())


def test_exceptions_are_bounded_and_the_rest_counted() -> None:
    """A dead rack does not make reports of megabytes."""
    spec = table(count=100)
    down = {(one.address, 80): Outcome(Health.DOWN, "x" * 5000) for one in spec.destinations}
    (report,) = told(spec, down).tables
    assert len(report.exceptions) == MAXIMUM_EXCEPTIONS
    assert report.cut == 100 - MAXIMUM_EXCEPTIONS
    assert max(len(one.message) for one in report.exceptions) <= 512


def test_a_service_that_could_not_be_made_is_told_once() -> None:
    """One missing scheduler, one exception: not one for each real server."""
    spec = table()
    key = served(spec)[0].service
    op = ServiceOp(Verb.ADD, key, ServiceConfig("rr"))
    failure = Failure(op, 2, Reason.SCHEDULER_UNAVAILABLE, "the kernel has no scheduler")
    (report,) = told(spec, failures=[failure]).tables
    assert [(one.reason, one.real_server) for one in report.exceptions] == [(Reason.SCHEDULER_UNAVAILABLE, "")]


def test_a_kernel_without_ipvs_is_a_problem_of_the_node() -> None:
    """It is seen at the node, and at each of its tables."""
    spec = table()
    op = ServiceOp(Verb.ADD, served(spec)[0].service, ServiceConfig("rr"))
    result = told(spec, failures=[Failure(op, 2, Reason.IPVS_UNAVAILABLE, "no ip_vs")])
    assert [one.reason for one in result.problems] == [Reason.IPVS_UNAVAILABLE]
    assert [one.reason for one in result.tables[0].exceptions] == [Reason.IPVS_UNAVAILABLE]


def test_a_refusal_is_told_where_it_belongs() -> None:
    """About a table at the table, about lo at the node."""
    refusals = [
        Refusal(Reason.PORT_CLAIMED, "taken", "192.0.2.100", "web/one"),
        Refusal(Reason.RESERVED_ADDRESS, "own", "192.0.2.1"),
    ]
    result = told(table(), refusals=refusals)
    assert [one.reason for one in result.tables[0].exceptions] == [Reason.PORT_CLAIMED]
    assert [(one.reason, one.address) for one in result.problems] == [(Reason.RESERVED_ADDRESS, "192.0.2.1")]


# Which generation is in the kernel.


def settle(programmed: Programmed, spec: DirectorTableSpec | None, generation: int, **more: Any) -> dict[str, int]:
    """Note a pass, and return what is told after it."""
    tables = {"web/one": spec} if spec is not None else {}
    versions = {"web/one": TableVersion(generation, "uid")} if spec is not None else {}
    programmed.settle(tables, versions, busy=more.get("busy", frozenset()), untouched=more.get("untouched", set()))
    return {name: version.generation for name, version in programmed.versions().items()}


def test_a_generation_counts_when_nothing_of_the_old_one_is_left() -> None:
    """A backend gives its VIP up when it reads this: no director may still send to it."""
    programmed = Programmed()
    old, new = table(80), table(81)
    assert settle(programmed, old, 1) == {"web/one": 1}
    assert settle(programmed, new, 2, busy=services_of(old)) == {"web/one": 1}
    assert settle(programmed, new, 2) == {"web/one": 2}


def test_a_removed_table_is_told_until_it_is_gone() -> None:
    """The same for a deleted VirtualService."""
    programmed = Programmed()
    settle(programmed, table(), 1)
    assert settle(programmed, None, 0, busy=services_of(table())) == {"web/one": 1}
    assert settle(programmed, None, 0) == {}


def test_a_paused_table_keeps_the_generation_it_had() -> None:
    """What was not written is not claimed."""
    programmed = Programmed()
    assert settle(programmed, table(), 1, untouched={"web/one"}) == {}
    settle(programmed, table(), 1)
    assert settle(programmed, table(), 2, untouched={"web/one"}) == {"web/one": 1}


def test_a_new_agent_knows_what_the_one_before_programmed() -> None:
    """A restart in the middle of a removal must not make the table look gone."""
    programmed = Programmed()
    spec = table()
    versions = {"web/one": TableVersion(3, "uid")}
    programmed.start_from({"web/one": spec}, versions, services_of(spec))
    assert settle(programmed, None, 0, busy=services_of(spec)) == {"web/one": 3}
    fresh = Programmed()
    fresh.start_from({"web/one": spec}, versions, frozenset())
    assert fresh.versions() == {}


# Interfaces.

LO = Interface(1, "lo", "", True, ("127.0.0.1/8", "::1/128", "192.0.2.100/32", "10.9.9.9/32"))
ETH0 = Interface(2, "eth0", "02:00:00:00:00:01", True, ("192.0.2.1/24", "192.0.2.100/32", "2001:db8::1/64"))
ETH1 = Interface(3, "eth1", "02:00:00:00:00:02", True, ("198.51.100.1/24",))


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (DirectorRole("g", interface_name="eth1"), "eth1"),
        (DirectorRole("g", interface_name="eth7"), ""),
        (DirectorRole("g", interface_subnet="198.51.100.0/24"), "eth1"),
        (DirectorRole("g", interface_subnet="192.0.2.100/32"), ""),
        (DirectorRole("g", internal_addresses=("203.0.113.1", "192.0.2.1")), "eth0"),
        (DirectorRole("g", internal_addresses=("10.9.9.9",)), ""),
        (DirectorRole("g"), ""),
    ],
)
def test_the_interface_that_faces_the_clients(role: DirectorRole, expected: str) -> None:
    """By name, by subnet, or the one with the Node's InternalIP; never lo, never by a VIP."""
    assert director_interface(role, (LO, ETH0, ETH1)) == expected
    assert missing_interface(role)


def test_an_interface_that_lost_its_address_for_a_moment_stays() -> None:
    """A DHCP renewal must not release the VIPs."""
    role = DirectorRole("g", internal_addresses=("192.0.2.1",))
    bare = Interface(2, "eth0", "02:00:00:00:00:01", True, ())
    assert director_interface(role, (LO, bare), before="eth0") == "eth0"
    assert director_interface(role, (LO,), before="eth0") == ""


def test_vips_are_not_the_nodes_own_addresses() -> None:
    """A reported VIP would be refused as the node's own address the next time."""
    assert own_addresses((ETH0, LO), {"192.0.2.100"}) == (
        InterfaceReport("eth0", ("192.0.2.1/24", "2001:db8::1/64")),
        InterfaceReport("lo", ("10.9.9.9/32",)),
    )


def test_check_keys_are_what_the_report_looks_up() -> None:
    """The report and the prober speak of the same checks."""
    asked: list[CheckKey] = []

    def outcome(key: CheckKey) -> Outcome:
        asked.append(key)
        return Outcome(Health.UP)

    status(Facts("0.1.0", "boot", 1, {"web/one": table(443)}, {}), outcome)
    assert asked[0] == CheckKey("198.51.100.0", 443, CHECK)
