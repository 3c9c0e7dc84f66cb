"""Finds real servers that answer ARP for a VIP: clients would learn their MAC, and all go to that one.

No check by TCP can see it. A director asks each real server by itself, with unicast requests, slowly: switches that
inspect ARP shut ports at some 15 frames a second.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from lvs_dr.agent.facts import problem
from lvs_dr.agent.wire import WireError
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.node_status import InterfaceReport, Problem
from lvs_dr.core.objects import ForwardingMethod
from lvs_dr.core.reasons import Reason
from lvs_dr.core.table import DirectorTableSpec

log = logging.getLogger(__name__)

ROUND_SECONDS: Final = 30.0
PACE_SECONDS: Final = 1.0  # from one real server to the next
VIPS_AT_ONCE: Final = 4
ASK_SECONDS: Final = 5.0
MAXIMUM_PROBLEMS: Final = 16


class Asker(Protocol):
    """What is needed of the network."""

    async def answers(self, interface: str, source: str, real_server: str, vips: Collection[str]) -> Mapping[str, str]:
        """Return which of the VIPs a real server answers for, each with the MAC it tells. Raises WireError."""
        ...


class Suspect(NamedTuple):
    """A real server, by its address, and the VIPs that must be silent there."""

    address: str
    name: str
    node: str
    vips: tuple[str, ...]


def suspects(
    spec: LVSNodeSpec, tables: Iterable[DirectorTableSpec], own: Iterable[InterfaceReport]
) -> tuple[Suspect, ...]:
    """Return the real servers to ask: those of IPv4 by direct routing that are no directors.

    A director may be Active and answer rightly; what it tells on the wire is the speaker's affair.
    """
    if spec.director is None:
        return ()
    peers = spec.director.vrrp.peers
    directing = {each.node for each in peers} - {""}
    mine = {text.partition("/")[0] for one in own for text in one.addresses}
    mine |= {address for each in peers for address in each.addresses}
    found: dict[str, tuple[str, str, set[str]]] = {}
    for table in tables:
        if ":" in table.address:
            continue
        for entry in table.entries:
            if entry.forwarding is not ForwardingMethod.DIRECT_ROUTING or ":" in entry.address:
                continue
            if entry.address not in mine and not (entry.node and entry.node in directing):
                found.setdefault(entry.address, (entry.real_server, entry.node, set()))[2].add(table.address)
    return tuple(Suspect(address, name, node, tuple(sorted(vips))) for address, (name, node, vips) in found.items())


class ArpWatch:
    """Asks those whom the last pass named, one after the other."""

    def __init__(
        self,
        asker: Asker,
        *,
        changed: Callable[[], None],
        every: float = ROUND_SECONDS,
        pace: float = PACE_SECONDS,
    ) -> None:
        self._asker = asker
        self._changed = changed
        self._every = every
        self._pace = pace
        self._interface = self._source = ""
        self._suspects: tuple[Suspect, ...] = ()
        self._next: dict[str, int] = {}  # by real server: from which VIP on
        self._found: dict[str, dict[str, str]] = {}  # by real server: VIPs, each with the MAC
        self._news = asyncio.Event()
        self._of: object = None
        self._tables: Mapping[str, DirectorTableSpec] | None = None

    def follow(
        self,
        spec: LVSNodeSpec,
        tables: Mapping[str, DirectorTableSpec],
        interface: str,
        own: tuple[InterfaceReport, ...],
    ) -> None:
        """Say whom to ask, and from where."""
        of = (spec.director, interface, own)
        if of == self._of and tables is self._tables:
            return
        self._of, self._tables = of, tables
        found = suspects(spec, tables.values(), own)
        texts = (text.partition("/")[0] for one in own if one.name == interface for text in one.addresses)
        source = next((text for text in texts if ":" not in text), "")
        if found and not self._suspects:
            self._news.set()
        self._interface, self._source, self._suspects = interface, source, found
        known = {each.address for each in found}
        self._found = {address: one for address, one in self._found.items() if address in known}

    async def run(self) -> None:
        """Ask until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self._news.clear()
            for each in self._suspects:
                if self._interface and self._source:
                    await self._ask(each)
                await asyncio.sleep(self._pace)
            try:
                async with asyncio.timeout(max(self._pace, self._every - (loop.time() - began))):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _ask(self, one: Suspect) -> None:
        before = self._found.get(one.address, {})
        start = self._next.get(one.address, 0)
        more = tuple(one.vips[(start + step) % len(one.vips)] for step in range(min(VIPS_AT_ONCE, len(one.vips))))
        self._next[one.address] = start + VIPS_AT_ONCE
        asked = dict.fromkeys((*sorted(before)[:VIPS_AT_ONCE], *more))
        try:
            async with asyncio.timeout(ASK_SECONDS):
                heard = await self._asker.answers(self._interface, self._source, one.address, tuple(asked))
        except (WireError, TimeoutError) as error:
            log.debug("%s was not asked by ARP: %s", one.address, error)
            return
        now = {vip: mac for vip, mac in before.items() if vip not in asked and vip in one.vips} | dict(heard)
        if now == before:
            return
        for vip in heard.keys() - before.keys():
            log.warning("%s (%s) answers ARP for %s", one.address, heard[vip], vip)
        self._found[one.address] = now
        self._changed()

    def problems(self) -> tuple[Problem, ...]:
        """Return what was found, by VIP."""
        told = []
        for one in self._suspects:
            for vip, mac in sorted(self._found.get(one.address, {}).items()):
                where = f"node {one.node}" if one.node else "no node of this cluster"
                text = (
                    f"real server {one.name} ({where}, MAC {mac}) answers ARP for {vip}: clients that hear it go past "
                    "the director; set net.ipv4.conf.all.arp_ignore=1 and arp_announce=2 there, and the VIP on lo only"
                )
                told.append(problem(Reason.ARP_ANSWERED, text, vip))
        return tuple(told[:MAXIMUM_PROBLEMS])
