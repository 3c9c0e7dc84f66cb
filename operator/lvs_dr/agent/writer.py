"""Changes the kernel as a pass has planned it, and tells what it refuses."""

import asyncio
import logging
import time
from collections.abc import Callable

from msgspec import structs

from lvs_dr.agent.assigner import Assigner
from lvs_dr.agent.decider import without_removals
from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.drift import Drift
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.seen import Done
from lvs_dr.agent.words import command
from lvs_dr.core.desired import Desired
from lvs_dr.core.kernel import Failure, SysctlOp
from lvs_dr.core.plan import Plan

log = logging.getLogger(__name__)

LOGGED = 10  # refusals of one pass that are logged one by one


class KernelWriter:
    """Carries out plans, the ledger first. `drift` counts what had to be repaired."""

    def __init__(
        self,
        door: KernelDoor,
        ledger: LedgerFile,
        assigner: Assigner,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._door = door
        self._ledger = ledger
        self._assigner = assigner
        self._clock = clock
        self.drift = Drift()
        self._failing: set[str] = set()

    def admit(self, goal: Desired, made: Plan, *, heard: bool) -> Done:
        """Return what to do now, which the ledger says from now on. In a thread: it takes a while. Raises OSError."""
        ops, early = (made.ops, ()) if heard else without_removals(made.ops, goal)
        admitted, withheld = self.drift.admit(ops, self._clock())
        self._ledger.save_plan(made.ledger)
        return Done(made, admitted, withheld + early)

    async def carry_out(self, planned: Done) -> Done:
        """Change the kernel, count what was repaired. Raises KernelError, KernelStuckError."""
        if not planned.admitted:
            self._failing = set()
            return planned
        failures = await self._door.apply(planned.admitted)
        done = structs.replace(planned, failures=failures)
        repaired_settings = await asyncio.to_thread(self._look_back, done)
        if self._assigner.state.held and repaired_settings:
            self._assigner.announce()  # clients may have learnt a wrong MAC meanwhile
        return done

    def _look_back(self, done: Done) -> bool:
        """Note what was done, in a thread, and tell whether a sysctl was repaired."""
        repairs, refused = done.made.repairs, done.refused
        self.drift.applied(done.admitted, done.failures, repairs, self._clock())
        self._log_failures(done.failures)
        _ = done.added, done.beyond_ipvs  # worked out here, where nobody waits
        repaired = [op for op in done.admitted if op in repairs and op not in refused] if repairs else []
        if repaired:
            log.warning("repaired %d entries that were lost or changed", len(repaired))
        return any(isinstance(op, SysctlOp) for op in repaired)

    def _log_failures(self, failures: tuple[Failure, ...]) -> None:
        """Say what the kernel refuses, once each, and not again every few seconds."""
        texts = {f"{command(failure.op)}: {failure.message}" for failure in failures}
        for text in sorted(texts - self._failing)[:LOGGED]:
            log.warning("refused: %s", text)
        if len(texts - self._failing) > LOGGED:
            log.warning("refused: %d more", len(texts - self._failing) - LOGGED)
        self._failing = texts
