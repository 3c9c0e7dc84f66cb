"""Writes LVSNode.status: at once after a change, then at most once a second, and only what changed."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import msgspec

from lvs_dr.agent.apiclient import ApiClient, ApiError
from lvs_dr.agent.watch import backoff
from lvs_dr.core.node_status import LVSNodeStatus

log = logging.getLogger(__name__)

FIELD_MANAGER = "lvs-agent"
API_VERSION = "lvs-operator.io/v1alpha1"
LVSNODES = "/apis/lvs-operator.io/v1alpha1/lvsnodes"
BYTES_PER_SECOND = 32 * 1024  # larger reports are written less often
LEAST_GAP_SECONDS = 1.0
LONGEST_GAP_SECONDS = 10.0


def gap(size: int, least: float = LEAST_GAP_SECONDS) -> float:
    """Return how many seconds a report of `size` bytes keeps the next one waiting."""
    return min(LONGEST_GAP_SECONDS, max(least, size / BYTES_PER_SECOND))


class Reporter:
    """Holds the newest status and brings it to the API server."""

    def __init__(
        self,
        client: ApiClient,
        node: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        counted: Callable[[], None] = lambda: None,
        least_gap: float = LEAST_GAP_SECONDS,
    ) -> None:
        self._client = client
        self._node = node
        self._clock = clock
        self._sleep = sleep
        self._counted = counted
        self._least_gap = least_gap
        self._newest: LVSNodeStatus | None = None
        self._written: LVSNodeStatus | None = None
        self._news = asyncio.Event()
        self._next = float("-inf")  # no write before this
        self._failures = 0

    def offer(self, status: LVSNodeStatus, *, again: bool = False) -> None:
        """Report this; `again`: also if it is what was written last (somebody removed it)."""
        self._newest = status
        if again:
            self._written = None
        if status != self._written:
            self._news.set()

    @property
    def pending(self) -> bool:
        """Whether the API server does not have the newest status yet."""
        return self._newest is not None and self._newest != self._written

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._news.wait()
            pause = self._next - self._clock()
            if pause > 0:
                await self._sleep(pause)  # what is offered meanwhile goes with it
            self._news.clear()
            if not self.pending:
                continue
            try:
                await self.write()
            except ApiError as error:
                self._failures += 1
                if self._failures in (1, 5):
                    log.warning("cannot write the status of LVSNode %s: %s", self._node, error)
                self._next = self._clock() + max(1.0, backoff(self._failures))
                self._news.set()

    async def write(self) -> None:
        """Write the newest status now. Raises ApiError."""
        status = self._newest
        if status is None:
            return
        body = msgspec.json.encode(
            {"apiVersion": API_VERSION, "kind": "LVSNode", "metadata": {"name": self._node}, "status": status}
        )
        await self._client.apply(f"{LVSNODES}/{self._node}/status", body, manager=FIELD_MANAGER)
        self._next = self._clock() + gap(len(body), self._least_gap)
        self._written = status
        self._failures = 0
        self._counted()
