"""Full LISTs: before anything is decided, once a minute, and whenever a watch had to start anew.

They find what the watches have missed, deletions above all. The LIST that a watch begins with is followed by ours.
"""

import asyncio
import logging

from lvs_dr.controller import watched
from lvs_dr.controller.apiclient import Api
from lvs_dr.controller.errors import ControllerError, KindsMissing, NotFound
from lvs_dr.controller.intake import Intake
from lvs_dr.controller.watched import Watched
from lvs_dr.process.metrics import Metrics

log = logging.getLogger(__name__)

EVERY_SECONDS = 60.0


class Pruner:
    """Lists the watched kinds."""

    def __init__(self, api: Api, intake: Intake, metrics: Metrics) -> None:
        self._api = api
        self._intake = intake
        self._metrics = metrics
        self._asked: set[Watched] = set()
        self._wake = asyncio.Event()

    def ask(self, kind: Watched) -> None:
        """Have a kind listed soon."""
        self._asked.add(kind)
        self._wake.set()

    async def list_kind(self, kind: Watched) -> int:
        """List one kind; return how many changes that told. Raises ApiError or Unreachable."""
        bodies, version = await self._api.list(kind.collection)
        self._metrics.count("lvs_controller_lists_total", kind=kind.kind)
        return self._intake.listed(kind, bodies, version)

    async def list_everything(self) -> None:
        """List every kind once: nothing may be decided before. Raises ApiError or Unreachable."""
        for kind in watched.WATCHED:
            await self.list_kind(kind)

    async def run(self) -> None:
        """Work until cancelled. A LIST that fails is tried again with the next round."""
        while True:
            kinds = await self._due()
            for kind in kinds:
                try:
                    missed = await self.list_kind(kind)
                except NotFound as error:
                    raise KindsMissing(f"{kind.kind} is no longer served") from error
                except ControllerError as error:
                    log.warning("cannot list %s: %s", kind.kind, error)
                    await asyncio.sleep(1.0)
                    self.ask(kind)
                    continue
                if missed:
                    log.info("a LIST of %s told %d changes that the watch had not", kind.kind, missed)
                    self._metrics.count("lvs_controller_missed_total", missed, kind=kind.kind)

    async def _due(self) -> list[Watched]:
        try:
            async with asyncio.timeout(EVERY_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return list(watched.WATCHED)
        self._wake.clear()
        asked, self._asked = self._asked, set()
        return [kind for kind in watched.WATCHED if kind in asked]
