"""Real servers that answer ARP for a VIP are found, named, and forgotten when they fall silent."""

import asyncio
from collections.abc import Callable, Collection, Mapping

import msgspec

from lvs_dr.agent.arp_watch import ArpWatch, suspects
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.node_status import InterfaceReport
from lvs_dr.core.reasons import Reason
from lvs_dr.core.table import DirectorTableSpec, TableDestination

OWN = (InterfaceReport("eth0", ("192.0.2.11/24",)),)
SPEC = msgspec.convert(
    {"director": {"group": "g", "vrrp": {"peers": [{"node": "d2", "addresses": ["192.0.2.12"]}]}}}, LVSNodeSpec
)


def table(vip: str, *destinations: Mapping[str, str]) -> DirectorTableSpec:
    """Return a table with these destinations."""
    given = {
        "directorGroup": "g",
        "serviceGeneration": 1,
        "address": vip,
        "ports": [{"port": 80, "protocol": "TCP"}],
        "scheduler": "rr",
        "onFailure": "Remove",
        "destinations": [{"weight": 1, **each} for each in destinations],
    }
    return msgspec.convert(given, DirectorTableSpec)


ONE = {"realServer": "s1", "address": "192.0.2.21", "node": "s1"}
TABLES = {"a": table("192.0.2.100", ONE), "b": table("192.0.2.101", ONE)}


class Segment:
    """Whom somebody answers for."""

    def __init__(self) -> None:
        self.answering: dict[str, str] = {}
        self.asked: list[tuple[str, str, str, tuple[str, ...]]] = []

    async def answers(self, interface: str, source: str, real_server: str, vips: Collection[str]) -> Mapping[str, str]:
        self.asked.append((interface, source, real_server, tuple(vips)))
        await asyncio.sleep(0)
        return {vip: mac for vip, mac in self.answering.items() if vip in vips}


def test_only_those_are_asked_who_must_be_silent() -> None:
    """A director may answer rightly, and a masqueraded real server has no VIP at all."""
    tables = [
        table(
            "192.0.2.100",
            ONE,
            {"realServer": "d2", "address": "192.0.2.12", "node": "d2"},
            {"realServer": "d1", "address": "192.0.2.11", "node": "d1"},
            {"realServer": "nat", "address": "192.0.2.31", "forwarding": "Masquerade"},
        ),
        table("2001:db8::100", {"realServer": "s1", "address": "2001:db8::21"}),
    ]
    found = suspects(SPEC, tables, OWN)
    assert [(each.address, each.vips) for each in found] == [("192.0.2.21", ("192.0.2.100",))]
    assert suspects(LVSNodeSpec(), tables, OWN) == ()


def test_the_sorry_server_is_asked_too() -> None:
    """It has the VIP on lo all the time, so it could take all clients away while the real servers are well."""
    sorry = msgspec.convert({"realServer": "sorry", "address": "192.0.2.41", "weight": 1}, TableDestination)
    served = msgspec.structs.replace(table("192.0.2.100", ONE), sorry_server=sorry)
    assert [each.address for each in suspects(SPEC, [served], OWN)] == ["192.0.2.21", "192.0.2.41"]


async def test_who_answers_is_named_with_node_and_mac_until_silent() -> None:
    """All clients would go to one machine, and no check would see it."""
    segment, news = Segment(), asyncio.Event()
    segment.answering["192.0.2.101"] = "02:00:00:00:00:21"
    watch = ArpWatch(segment, changed=news.set, every=0.01, pace=0.0)
    watch.follow(SPEC, TABLES, "eth0", OWN)
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(10):
        await news.wait()
    (told,) = watch.problems()
    assert (told.reason, told.address) == (Reason.ARP_ANSWERED, "192.0.2.101")
    assert "node s1, MAC 02:00:00:00:00:21" in told.message
    assert segment.asked[0] == ("eth0", "192.0.2.11", "192.0.2.21", ("192.0.2.100", "192.0.2.101"))
    segment.answering.clear()
    await _until(lambda: watch.problems() == ())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the watch tells of news only
            await asyncio.sleep(0.005)
