"""Watches the DirectorTables of the one group that this node directs for."""

import asyncio
import logging
from contextlib import suppress

from lvs_dr.agent.apiclient import ApiClient
from lvs_dr.agent.desired import DesiredState
from lvs_dr.agent.watch import IDLE_SECONDS, Watch
from lvs_dr.core.table import DirectorTableSpec

log = logging.getLogger(__name__)

TABLES = "/apis/lvs-operator.io/v1alpha1/directortables"


class GroupWatch:
    """Starts and stops the watch as the group in our LVSNode changes. `restarts` counts watches opened again."""

    def __init__(self, client: ApiClient, source: DesiredState, *, idle: float = IDLE_SECONDS) -> None:
        self._client = client
        self._source = source
        self._idle = idle
        self._watch: Watch[DirectorTableSpec] | None = None
        self._before = 0
        self._news = asyncio.Event()
        source.on_group_change(self._news.set)

    @property
    def restarts(self) -> int:
        """How often a watch was opened again."""
        return self._before + (self._watch.restarts if self._watch is not None else 0)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            group = self._source.group
            log.info("serving the tables of DirectorGroup %s", group) if group else log.info("serving no DirectorGroup")
            task = asyncio.create_task(self._follow(group), name=f"tables of {group}") if group else None
            try:
                while self._source.group == group:
                    self._news.clear()
                    await self._news.wait()
            finally:
                await self._end(task)

    async def _follow(self, group: str) -> None:
        self._watch = Watch(
            self._client,
            TABLES,
            DirectorTableSpec,
            self._source.tables,
            field_selector=f"spec.directorGroup={group}",
            idle=self._idle,
        )
        await self._watch.run()

    async def _end(self, task: "asyncio.Task[None] | None") -> None:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._watch is not None:
            self._before += self._watch.restarts
            self._watch = None
