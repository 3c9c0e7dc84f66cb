"""Passes between two looks at everything: they read what they touch, and nothing else costs a read."""

import asyncio
from pathlib import Path

from msgspec import structs

from lvs_dr.core.health import CheckKey
from lvs_dr.core.kernel import DestinationKey, ServiceKey
from lvs_dr.core.table import DirectorTableSpec
from tests.unit.agent.big_node import CHECK, BigNode, table

TABLES = 30


def weighed(spec: DirectorTableSpec, weight: int) -> DirectorTableSpec:
    """Return the table with another weight of its first real server."""
    return structs.replace(
        spec, destinations=(structs.replace(spec.destinations[0], weight=weight), *spec.destinations[1:])
    )


def change(node: BigNode, number: int, spec: DirectorTableSpec, generation: int = 2) -> None:
    """Have the watch tell a new version of a table."""
    item = table(number, 2)
    meta = structs.replace(item.meta, generation=generation)
    node.source.tables.changed(structs.replace(item, meta=meta, spec=spec))


def place(number: int, server: int) -> DestinationKey:
    """Return one destination."""
    spec = table(number, 2).spec
    return DestinationKey(ServiceKey(spec.address, 443, 6), spec.destinations[server].address, 443)


async def start(node: BigNode, *, check: bool = False) -> None:
    """Bring all tables into the kernel."""
    node.be_director(TABLES)
    items = [table(number, 2, check=check) for number in range(TABLES)]
    node.source.tables.replaced({item.meta.key: item for item in items})
    await node.settled()
    await node.settled()


async def test_one_change_reads_one_service(tmp_path: Path) -> None:
    """With hundreds of services each change would wait for a read of them all."""
    node = BigNode(tmp_path)
    async with node.running():
        await start(node)
        before = node.kernel.services_read
        await node.settled()
        assert node.kernel.services_read == before
        change(node, 7, weighed(table(7, 2, check=False).spec, 7))
        await node.settled()
        assert node.kernel.destinations[place(7, 0)].weight == 7
        assert node.kernel.services_read - before <= 2  # before the change, and after it


async def test_a_new_service_reads_no_other(tmp_path: Path) -> None:
    """The more there are, the longer each further one would take."""
    node = BigNode(tmp_path)
    async with node.running():
        await start(node)
        before = node.kernel.services_read
        fresh = table(TABLES, 2, check=False)
        node.source.tables.changed(fresh)
        await node.settled()
        assert node.kernel.destinations[place(TABLES, 1)].weight == 100
        assert node.kernel.services_read - before <= 1


async def test_nothing_is_written_to_what_was_not_read(tmp_path: Path) -> None:
    """A failed check would set a destination that somebody removed meanwhile, and leave the other one lost."""
    node = BigNode(tmp_path)
    async with node.running():
        await start(node, check=True)
        key = CheckKey(place(3, 0).address, 443, CHECK)
        others = [number for number in range(TABLES) if number != 3]
        del node.kernel.destinations[place(3, 1)]
        assert key in node.prober.view()
        for _ in range(CHECK.fall):
            node.prober._result(key, "connection refused", 1)
        await node.settled()
        # All tables have the same real servers here, so one verdict is about all of them.
        assert not any(place(number, 0) in node.kernel.destinations for number in (3, *others))
        assert node.kernel.destinations[place(3, 1)].weight == 100


async def test_what_others_change_is_found_when_everything_is_looked_at(tmp_path: Path) -> None:
    """Drift would stay for ever in services that nothing is done to."""
    node = BigNode(tmp_path)
    async with node.running():
        await start(node)
        lost = place(5, 1)
        del node.kernel.destinations[lost]
        await node.settled()
        assert lost not in node.kernel.destinations
        node.loop.look_around()
        async with asyncio.timeout(5):
            while lost not in node.kernel.destinations:
                await node.settled()


async def test_a_service_that_vanished_is_put_back_at_once(tmp_path: Path) -> None:
    """The list of services is read in every pass: what was known of a lost one's destinations is not true any more."""
    node = BigNode(tmp_path)
    async with node.running():
        await start(node)
        before = node.kernel.snapshot()
        node.kernel.flush_ipvs()
        await node.settled()
        assert node.kernel.snapshot() == before


async def test_after_a_failed_pass_everything_is_read(tmp_path: Path) -> None:
    """What a pass did before it broke off is not known."""
    node = BigNode(tmp_path)
    async with node.running():
        await start(node)
        node.kernel.read_error = RuntimeError("boom")
        node.loop.wake()
        async with asyncio.timeout(10):
            while not node.loop.trouble:  # noqa: ASYNC110 - a failed pass is noted, not announced
                await asyncio.sleep(0.005)
        node.kernel.read_error = None
        lost = place(5, 1)
        del node.kernel.destinations[lost]
        await node.settled()
        await node.settled()
        assert node.kernel.destinations[lost].weight == 100


async def test_connections_that_a_drain_waits_for_are_counted_in_every_pass(tmp_path: Path) -> None:
    """A drained real server would be held up until the next look at everything."""
    node = BigNode(tmp_path)
    async with node.running():
        await start(node)
        spec = weighed(table(4, 2, check=False).spec, 0)
        drained = structs.replace(
            spec, destinations=(structs.replace(spec.destinations[0], draining=True), spec.destinations[1])
        )
        change(node, 4, drained)
        for count in (3, 0):
            node.kernel.connections[place(4, 0)] = count
            async with asyncio.timeout(10):
                while [each.connections for one in node.status.tables for each in one.draining] != [count]:
                    await node.settled()
