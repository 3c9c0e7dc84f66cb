"""Keeps the last good state on disk as what is in force changes."""

import asyncio
import logging

from lvs_dr.agent.desired import DesiredState
from lvs_dr.agent.inforce import Force, InForce
from lvs_dr.agent.lastgood import LastGoodFile

log = logging.getLogger(__name__)

NAME = "last good state"
STORE_SECONDS = 1.0  # between two writes


class LastGoodKeeper:
    """Writes the file when there is something new. What keeps it from that stands in `troubles`, by `NAME`."""

    def __init__(
        self, file: LastGoodFile, in_force: InForce, source: DesiredState, *, troubles: dict[str, str]
    ) -> None:
        self._file = file
        self._in_force = in_force
        self._source = source
        self._troubles = troubles
        self._news = asyncio.Event()

    def look(self) -> None:
        """Have it looked soon whether there is something new."""
        self._news.set()

    async def run(self) -> None:
        """Write it soon after a change, in a thread: disks are slow."""
        written: Force | None = None
        while True:
            await self._news.wait()
            self._news.clear()
            force = self._in_force.force
            if force is not written and await asyncio.to_thread(self.save):
                written = force
            await asyncio.sleep(STORE_SECONDS)

    def save(self) -> bool:
        """Write it if there is something new; returns whether the file is up to date."""
        state = self._in_force.last_good()
        if state is None or not self._source.decided:
            return False
        try:
            self._file.save(state)
        except OSError as error:
            if NAME not in self._troubles:
                log.warning("cannot write %s: %s", self._file.path, error)
            self._troubles[NAME] = f"cannot write {self._file.path}: {error}"
            return False
        self._troubles.pop(NAME, None)
        return True
