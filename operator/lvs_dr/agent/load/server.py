"""Tells directors how busy this node is: one read-only page, /load, on the node's own addresses.

`/load?sockets=count` counts connections too, `sockets=bytes` also what came in on them. Whoever asks at the same time
gets the same report. A VIP does not answer: clients have no business here.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from lvs_dr.agent.load.sampler import Sampler
from lvs_dr.core.loads import ServerLoad, Sockets
from lvs_dr.core.node_status import InterfaceReport
from lvs_dr.process.web import Page, PageServer

log = logging.getLogger(__name__)

PORT: Final = 9442
LOAD_PATH: Final = "/load"
FRESH_SECONDS: Final = 0.4  # a report that is not older is handed out again
_JSON: Final = "application/json"
_QUESTIONS: Final = {"": Sockets.NONE} | {f"sockets={each}": each for each in Sockets}


class LoadServer(PageServer):
    """Serves the page while the process runs. `own`: interfaces with the node's own addresses, None: not known yet."""

    def __init__(self, listen: str, sampler: Sampler, *, own: Callable[[], Iterable[InterfaceReport] | None]) -> None:
        super().__init__(listen)
        self._sampler = sampler
        self._own = own
        self._last: dict[Sockets, tuple[float, ServerLoad]] = {}
        self._making: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError if the address is taken."""
        async with self:
            await asyncio.get_running_loop().create_future()

    async def page(self, path: str, query: str, local: str) -> Page:
        """Return the report."""
        if path != LOAD_PATH or query not in _QUESTIONS:
            return Page(404, f"there is {LOAD_PATH}, {LOAD_PATH}?sockets=count and {LOAD_PATH}?sockets=bytes\n")
        interfaces = self._own()
        if interfaces is None:
            return Page(503, "the agent has just started\n")
        interfaces = tuple(interfaces)
        if not _is_own(local, interfaces):
            return Page(403, f"{local} is no address of the node's own\n")
        load = await self._load(_QUESTIONS[query], [each.name for each in interfaces])
        return Page(200, msgspec.json.encode(load).decode() + "\n", _JSON)

    async def _load(self, sockets: Sockets, interfaces: list[str]) -> ServerLoad:
        clock = asyncio.get_running_loop().time
        found = self._last.get(sockets)
        if found is None or clock() - found[0] > FRESH_SECONDS:
            if self._making is None or self._making.done():
                self._making = asyncio.create_task(self._make(sockets, interfaces))
            # Shielded: the thread goes on when the asker has gone, and the sampler is not for two of them.
            await asyncio.shield(self._making)
            return await self._load(sockets, interfaces)
        return msgspec.structs.replace(found[1], age_milliseconds=round((clock() - found[0]) * 1000))

    async def _make(self, sockets: Sockets, interfaces: list[str]) -> None:
        made = await asyncio.to_thread(self._sampler.sample, interfaces, sockets)
        self._last[sockets] = (asyncio.get_running_loop().time(), made)


def _is_own(local: str, interfaces: Iterable[InterfaceReport]) -> bool:
    try:
        asked = ipaddress.ip_address(local.partition("%")[0])
    except ValueError:
        return False
    if asked.is_loopback:
        return True
    return any(ipaddress.ip_interface(text).ip == asked for each in interfaces for text in each.addresses)
