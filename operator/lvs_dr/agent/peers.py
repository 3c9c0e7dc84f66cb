"""Where the peer directors are on the segment: their MAC addresses, asked for now and then.

The loop guard needs them. What was heard last is kept: a peer that does not answer may still send.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from lvs_dr.agent.wire import WireError
from lvs_dr.core.loop_guard import guarded_addresses
from lvs_dr.core.node import LVSNodeSpec, PeerDirector
from lvs_dr.core.node_status import InterfaceReport
from lvs_dr.core.table import DirectorTableSpec

log = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 2.0  # while there is a peer that was never heard
RESOLVE_SECONDS: Final = 10.0


class Resolver(Protocol):
    """What is needed of the network."""

    async def resolve(self, interface: str, addresses: Collection[str], sources: Collection[str]) -> dict[str, str]:
        """Return the MACs of addresses, as far as they answer. Raises WireError."""
        ...


class _Asked(NamedTuple):
    """Whom to ask for, and from where."""

    interface: str = ""
    sources: tuple[str, ...] = ()
    peers: tuple[PeerDirector, ...] = ()


class PeerMacs:
    """Knows the MACs of the peers that the last pass named."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        changed: Callable[[], None],
        refresh: float = REFRESH_SECONDS,
        retry: float = RETRY_SECONDS,
    ) -> None:
        self._resolver = resolver
        self._changed = changed
        self._refresh = refresh
        self._retry = retry
        self._asked = _Asked()
        self._news = asyncio.Event()
        self.known: Mapping[str, tuple[str, ...]] = {}
        """By node, sorted; a new object when something changes."""
        self.trouble = ""

    def look_for(
        self,
        spec: LVSNodeSpec,
        tables: Mapping[str, DirectorTableSpec],
        interface: str,
        own: Iterable[InterfaceReport],
    ) -> Mapping[str, tuple[str, ...]]:
        """Return the MACs of peer directors as far as they are known, and have them looked for if they matter."""
        guarded = guarded_addresses(spec, {table.address for table in tables.values()})
        sources = [each.partition("/")[0] for one in own if one.name == interface for each in one.addresses]
        peers = spec.director.vrrp.peers if spec.director is not None and guarded else ()
        self.follow(interface, sources, peers)
        return self.known

    def follow(self, interface: str, sources: Sequence[str], peers: Sequence[PeerDirector]) -> None:
        """Say whom to look for; none when there is nothing to guard. `sources`: our own addresses there."""
        asked = _Asked(interface, tuple(sources), tuple(peers))
        if asked == self._asked:
            return
        if asked.interface != self._asked.interface:
            self.known = {}
        names = {peer.node for peer in peers}
        if not self.known.keys() <= names:
            self.known = {node: macs for node, macs in self.known.items() if node in names}
        self._asked = asked
        self._news.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            self._news.clear()
            asked = self._asked
            if asked.interface and asked.peers:
                await self._ask(asked)
            complete = all(self.known.get(peer.node) for peer in asked.peers)
            # Not wait_for: Python 3.11's can swallow a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._refresh if complete else self._retry):
                    await self._news.wait()

    async def _ask(self, asked: _Asked) -> None:
        addresses = {address for peer in asked.peers for address in peer.addresses}
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                found = await self._resolver.resolve(asked.interface, sorted(addresses), asked.sources)
        except (WireError, TimeoutError) as error:
            text = str(error) or "no answer in time"
            if text != self.trouble:
                log.warning("the MAC addresses of peer directors cannot be asked for: %s", text)
            self.trouble = text
            return
        self.trouble = ""
        if asked != self._asked:
            return
        heard = {
            peer.node: tuple(sorted({found[address] for address in peer.addresses if address in found}))
            for peer in asked.peers
        }
        known = {**self.known, **{node: macs for node, macs in heard.items() if macs}}
        if known != self.known:
            self.known = known
            self._changed()
