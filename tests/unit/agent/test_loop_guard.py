"""The loop guard from LVSNode to kernel and report."""

from collections.abc import Collection
from typing import Any

from lvs_dr.core.kernel import GuardKey, GuardPart
from tests.unit.agent.bench import DIRECTOR, VIP, Bench

PEER, MAC = "192.0.2.2", "02:00:00:00:00:02"
BOTH: dict[str, Any] = {
    **DIRECTOR,
    "backendAddresses": [VIP],
    "director": {
        **DIRECTOR["director"],
        "addresses": [],
        "vrrp": {"peers": [{"node": "node-2", "addresses": [PEER]}]},
    },
}
FILTER = GuardKey("eth0", GuardPart.PEER, VIP, MAC)


class Segment:
    """The machines on the wire."""

    def __init__(self) -> None:
        self.macs: dict[str, str] = {}

    async def resolve(self, interface: str, addresses: Collection[str], sources: Collection[str]) -> dict[str, str]:
        """Answer those who ask from the right place."""
        right = (interface, list(sources)) == ("eth0", ["192.0.2.1"])
        return {one: mac for one, mac in self.macs.items() if one in addresses and right}


def reasons(status: dict[str, Any]) -> dict[str, str]:
    """Return the problems of a status, reason -> message."""
    return {one["reason"]: one["message"] for one in status.get("problems", [])}


async def test_a_peers_mac_is_found_and_guarded_against(bench: Bench) -> None:
    """The guard would never be made, or nobody would know that it is not complete."""
    segment = Segment()
    bench.resolver = segment
    async with bench.running() as agent:
        assert agent.peers is not None
        await bench.table()
        await bench.node(BOTH)
        told = await bench.api.status_where(lambda status: "LoopGuardIncomplete" in reasons(status))
        assert "node-2" in reasons(told)["LoopGuardIncomplete"]
        segment.macs = {PEER: MAC}
        await bench.until(lambda: FILTER in bench.kernel.guards)
        await bench.api.status_where(lambda status: "LoopGuardIncomplete" not in reasons(status))
        assert bench.kernel.services == {}, "not its holder"
        await bench.node(DIRECTOR)
        await bench.until(lambda: not bench.kernel.guards)


async def test_a_restart_keeps_the_guard(bench: Bench) -> None:
    """It would be gone until the peer answers the new agent, which a dead peer never does."""
    segment = Segment()
    bench.resolver = segment
    segment.macs = {PEER: MAC}
    async with bench.running():
        await bench.table()
        await bench.node(BOTH)
        await bench.until(lambda: FILTER in bench.kernel.guards)
    segment.macs = {}
    before = dict(bench.kernel.guards)
    async with bench.running():
        await bench.api.status_where(lambda status: "LoopGuardIncomplete" in reasons(status))
        await bench.passes(2)
        assert bench.kernel.guards == before


async def test_an_interface_that_somebody_else_filters_is_named(bench: Bench) -> None:
    """The user would believe that there is a guard."""
    segment = Segment()
    segment.macs = {PEER: MAC}
    bench.resolver = segment
    bench.kernel.ingress_qdiscs.add("eth0")
    async with bench.running():
        await bench.table()
        await bench.node(BOTH)
        told = await bench.api.status_where(lambda status: "clsact" in reasons(status).get("LoopGuardIncomplete", ""))
        assert bench.kernel.guards == {}
        assert [one for one in told["problems"] if "not tried" in one["message"]]
