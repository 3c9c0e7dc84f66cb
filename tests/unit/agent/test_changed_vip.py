"""A changed VIP on a director: two tables side by side; and what happens to an agent that missed the second one."""

from typing import Any

from tests.unit.agent.bench import DIRECTOR, VIP, Bench

NEW = "192.0.2.101"


def director(tables: list[str], vips: list[str]) -> dict[str, Any]:
    """Return an LVSNode's spec."""
    routers = [{"id": 51, "priority": 250, "addresses": vips}]
    return DIRECTOR | {"director": DIRECTOR["director"] | {"tables": tables, "vrrp": {"routers": routers}}}


def served(bench: Bench) -> set[str]:
    """Return the VIPs with services in the kernel."""
    return {key.address for key in bench.kernel.services}


async def test_the_old_vip_stays_held_and_served_while_the_new_one_comes_up(bench: Bench) -> None:
    """A changed VIP is an outage of as long as the new address is probed for."""
    async with bench.running():
        await bench.table()
        await bench.node(DIRECTOR)
        await bench.until(lambda: bench.speaker.held == {VIP})
        bench.speaker.probing.clear()
        await bench.table("webdav.2", address=NEW)
        await bench.node(director(["web/webdav", "web/webdav.2"], [VIP, NEW]))
        await bench.until(lambda: NEW in served(bench))
        await bench.passes(3)
        assert bench.speaker.held == {VIP}
        assert served(bench) == {VIP, NEW}
        bench.speaker.probing.set()
        await bench.until(lambda: bench.speaker.held == {VIP, NEW})
        await bench.api.delete("directortables", "web/webdav")
        await bench.node(director(["web/webdav.2"], [NEW]))
        await bench.until(lambda: bench.speaker.held == {NEW} and served(bench) == {NEW})
        assert bench.speaker.services_at_release[VIP] == 1


async def test_an_agent_that_missed_a_table_releases_its_vip_before_its_services_go(bench: Bench) -> None:
    """The same name may be for another VIP than the agent last saw: clients must not meet a VIP without service."""
    async with bench.running():
        await bench.table()
        await bench.node(DIRECTOR)
        await bench.until(lambda: bench.speaker.held == {VIP})
        await bench.table(address=NEW)
        await bench.passes(2)
        assert VIP in bench.speaker.held, "it is still to be announced"
        assert VIP in served(bench)
        await bench.node(director(["web/webdav"], [NEW]))
        await bench.until(lambda: bench.speaker.held == {NEW} and served(bench) == {NEW})
        assert bench.speaker.services_at_release[VIP] == 1
