"""What a director tells of real servers that are being taken out: the truth, in time, and sparingly."""

from msgspec import structs

from lvs_dr.agent.drains import DrainCounts
from lvs_dr.core.destinations import Destinations
from lvs_dr.core.drain_report import DrainReport
from lvs_dr.core.kernel import DestinationConfig, DestinationKey, KernelState, ServiceKey
from lvs_dr.core.objects import OnFailure, Protocol
from lvs_dr.core.table import DirectorTableSpec, TableDestination, TablePersistence, TablePort
from tests.unit.agent.bench import DIRECTOR, TABLE, VIP, Bench

HTTP, HTTPS = ServiceKey(VIP, 80, 6), ServiceKey(VIP, 443, 6)
RIP = "192.0.2.12"
NAME = "web/webdav"


def tables(*, draining: bool = True) -> dict[str, DirectorTableSpec]:
    """Return one table of two ports, whose second real server drains."""
    return {
        NAME: DirectorTableSpec(
            director_group="default",
            service_generation=1,
            address=VIP,
            ports=(TablePort(80, Protocol.TCP), TablePort(443, Protocol.TCP)),
            scheduler="wlc",
            on_failure=OnFailure.REMOVE,
            destinations=(
                TableDestination("storage-1", "192.0.2.11", 100),
                TableDestination("storage-2", RIP, 0, draining=draining),
            ),
        )
    }


def kernel(http: int, https: int = 0, *, weight: int = 0) -> KernelState:
    """Return a kernel with so many connections to it."""
    keys = {DestinationKey(HTTP, RIP, 80): http, DestinationKey(HTTPS, RIP, 443): https}
    return KernelState(
        destinations=Destinations.of((key, DestinationConfig(weight)) for key in keys),
        connections=Destinations.of(keys.items()),
    )


def test_all_ports_count_and_idle_takes_its_second() -> None:
    """A connection whose handshake is on its way is not counted yet, and would be cut."""
    counts, given = DrainCounts(), tables()
    assert counts.follow(given, kernel(2, 3), 0.0) == {NAME: (DrainReport("storage-2", 5),)}
    assert counts.follow(given, kernel(0), 10.0) == {NAME: (DrainReport("storage-2"),)}
    assert counts.waiting
    assert counts.follow(given, kernel(0, 1), 10.5) == {NAME: (DrainReport("storage-2", 1),)}
    assert counts.follow(given, kernel(0), 11.0) == {NAME: (DrainReport("storage-2"),)}
    assert counts.follow(given, kernel(0), 11.9) == {NAME: (DrainReport("storage-2"),)}
    assert counts.follow(given, kernel(0), 12.0) == {NAME: (DrainReport("storage-2", idle=True),)}
    assert not counts.waiting


def test_remembered_clients_count_unless_they_are_to_go_elsewhere() -> None:
    """Somebody's session would be lost; or a busy server would never be empty."""
    given = tables()[NAME]
    given = structs.replace(given, persistence=TablePersistence(timeout_seconds=300, prefix_length=32))
    one, two = given.destinations
    forgetting = structs.replace(given, destinations=(one, structs.replace(two, forget_clients=True)))
    remembering = structs.replace(kernel(0), templates=Destinations.of([(DestinationKey(HTTP, RIP, 80), 2)]))
    for table, told in ((given, DrainReport("storage-2", 0, 2)), (forgetting, DrainReport("storage-2", idle=True))):
        counts, wanted = DrainCounts(), {NAME: table}
        counts.follow(wanted, remembering, 0.0)
        assert counts.follow(wanted, remembering, 1.0) == {NAME: (told,)}


def test_one_that_still_gets_connections_is_not_idle() -> None:
    """It would leave before its weight is 0 in the kernel."""
    counts, given = DrainCounts(), tables()
    assert counts.follow(given, kernel(0, weight=100), 0.0) == {NAME: (DrainReport("storage-2"),)}
    assert counts.follow(given, kernel(0, weight=100), 9.0) == {NAME: (DrainReport("storage-2"),)}
    assert counts.follow(given, kernel(0), 10.0) == {NAME: (DrainReport("storage-2"),)}
    assert counts.follow(given, kernel(0), 11.0) == {NAME: (DrainReport("storage-2", idle=True),)}


def test_a_director_without_the_services_has_nothing_of_it() -> None:
    """A Backup that is a real server of the VIP itself has no services: it must not hold the drain up."""
    counts, given = DrainCounts(), tables()
    counts.follow(given, KernelState(), 0.0)
    assert counts.follow(given, KernelState(), 1.0) == {NAME: (DrainReport("storage-2", idle=True),)}


def test_a_large_number_is_told_when_it_has_changed() -> None:
    """Each report is a write: a busy server would cause one a second."""
    counts, given = DrainCounts(), tables()

    def told(number: int) -> int:
        (report,) = counts.follow(given, kernel(number), 0.0)[NAME]
        return report.connections

    assert [told(number) for number in (1000, 990, 951, 949, 940, 19, 18, 1, 0)] == [
        1000, 1000, 1000, 949, 949, 19, 18, 1, 0,
    ]  # fmt: skip


def test_nothing_is_told_of_others() -> None:
    """Weight 0 alone is no drain: counting it would cost every second for ever."""
    counts = DrainCounts()
    assert counts.follow(tables(draining=False), kernel(3), 0.0) == {}
    assert not counts.waiting


async def test_a_panic_reaches_the_kernel_and_the_report(bench: Bench) -> None:
    """All checks fail at once: connections still go to all, and the report says why, beside each failed check."""
    async with bench.running():
        await bench.node(DIRECTOR | {"requires": ["vrrp"]})
        check = {"tcp": {}, "intervalSeconds": 1, "timeoutSeconds": 1, "rise": 1, "fall": 1}
        given = {"healthCheck": check, "panicThresholdPercent": 60, "requires": ["panic-threshold"]}
        await bench.table(**given)
        await bench.api.status_where(lambda status: status["tables"][0].get("healthy", 0) == 2)
        assert bench.destinations() == {"192.0.2.11": 100, RIP: 100}, "status is never ahead of the kernel"
        bench.down |= {("192.0.2.11", 80), (RIP, 80)}
        told = await bench.api.status_where(lambda status: status["tables"][0].get("healthy", 0) == 0)
        reasons = [each["reason"] for each in told["tables"][0]["exceptions"]]
        assert reasons == ["Panic", "CheckFailed", "CheckFailed"]
        assert "fewer than 60%" in told["tables"][0]["exceptions"][0]["message"]
        assert bench.destinations() == {"192.0.2.11": 100, RIP: 100}
        bench.down.clear()
        told = await bench.api.status_where(lambda status: status["tables"][0].get("healthy", 0) == 2)
        assert "exceptions" not in told["tables"][0]


async def test_the_sorry_server_reaches_the_kernel_and_the_report(bench: Bench) -> None:
    """All real servers fail: clients get the page that says so, and the report says that they do."""
    async with bench.running():
        await bench.node(DIRECTOR)
        check = {"tcp": {}, "intervalSeconds": 1, "timeoutSeconds": 1, "rise": 1, "fall": 1}
        sorry = {"realServer": "sorry", "address": "192.0.2.99", "weight": 1}
        await bench.table(healthCheck=check, sorryServer=sorry, quorum={"minimum": 1}, requires=["sorry-server"])
        await bench.until(lambda: len(bench.destinations()) == 2)
        bench.down |= {("192.0.2.11", 80), (RIP, 80)}
        reasons = ["SorryServer", "CheckFailed", "CheckFailed"]
        told = await bench.api.status_where(
            lambda status: [each["reason"] for each in status["tables"][0]["exceptions"]] == reasons
        )
        assert "sorry server sorry (192.0.2.99)" in told["tables"][0]["exceptions"][0]["message"]
        await bench.until(lambda: bench.destinations() == {"192.0.2.99": 1})
        bench.down.clear()
        await bench.api.status_where(lambda status: "exceptions" not in status["tables"][0])
        await bench.until(lambda: bench.destinations() == {"192.0.2.11": 100, RIP: 100})


async def test_a_drain_from_the_table_to_the_report(bench: Bench) -> None:
    """The whole agent: weight 0, the count, and the end of the last connection, which no event tells."""
    one, two = TABLE["destinations"]
    async with bench.running(resync=60.0, poll=0.05):
        await bench.node(DIRECTOR)
        await bench.table()
        await bench.until(lambda: len(bench.destinations()) == 2)
        key = DestinationKey(HTTP, RIP, 80)
        bench.kernel.connections[key] = 2
        await bench.table(destinations=[one, two | {"weight": 0, "draining": True}])
        told = await bench.api.status_where(lambda status: status["tables"][0].get("draining"))
        assert told["tables"][0]["draining"] == [{"realServer": "storage-2", "connections": 2}]
        assert bench.destinations() == {"192.0.2.11": 100, RIP: 0}
        bench.kernel.connections[key] = 0
        told = await bench.api.status_where(
            lambda status: status["tables"][0]["draining"] == [{"realServer": "storage-2", "idle": True}]
        )
        assert told["tables"][0]["generation"] == 2
