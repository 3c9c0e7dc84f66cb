"""Whether a node answers the lab, and whether it could reach the API server."""

import asyncio
import contextlib
import logging
from pathlib import Path

from lvs_lab.node import NodeHandle

LOG = logging.getLogger(__name__)
PERIOD_SECONDS = 1.0
ANSWER_SECONDS = 1.5
CLOSED_PORT = 9
"""A TCP port (discard) that nobody listens on: a refusal is a sign of life."""


class NodeLink:
    """Watches one node for the kubelet stand-in.

    The lab's hands are on a network of their own, so a node that is cut off from the management network still
    `answers`, and its containers go on; but a kubelet there could tell nobody, so it is not `connected`.
    """

    def __init__(self, handle: NodeHandle, runtime: Path) -> None:
        self.handle = handle
        self.runtime = runtime
        """guest/container.py, as the node sees it."""
        self.connected = False
        self.changed = asyncio.Event()
        """Set when `connected` changed; for one reader, which clears it."""
        self._answers = asyncio.Event()
        self._connected = asyncio.Event()

    @property
    def name(self) -> str:
        """The node's name."""
        return self.handle.name

    async def until_answering(self) -> None:
        """Wait until the node answers."""
        await self._answers.wait()

    async def until_connected(self) -> None:
        """Wait until the node answers and is on the management network."""
        await self._connected.wait()

    async def run(self) -> None:
        """Look once a second until cancelled."""
        while True:
            answers = self.handle.alive and await self.handle.ping(ANSWER_SECONDS)
            connected = answers and await self._on_management()
            _set(self._answers, answers)
            _set(self._connected, connected)
            if connected != self.connected:
                LOG.info("%s: %s", self.name, "connected" if connected else "not connected")
                self.connected = connected
                self.changed.set()
            await asyncio.sleep(PERIOD_SECONDS)

    async def _on_management(self) -> bool:
        address = self.handle.spec.management_address
        with contextlib.suppress(TimeoutError, OSError):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    _, writer = await asyncio.open_connection(address, CLOSED_PORT)
            except ConnectionRefusedError:
                return True
            writer.close()
            return True
        return False


def _set(event: asyncio.Event, value: bool) -> None:  # noqa: FBT001 - the value is the datum
    if value:
        event.set()
    else:
        event.clear()
