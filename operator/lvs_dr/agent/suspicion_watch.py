"""Looks from time to time for what may keep clients of VIPs from an answer of this node as a real server."""

import logging

from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.kernel.errors import KernelError
from lvs_dr.agent.seen import Surroundings
from lvs_dr.core.arp_settings import silent
from lvs_dr.core.desired import LOOPBACK
from lvs_dr.core.kernel import KernelState
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.suspicions import OwnInterface, Suspicion, suspicions

log = logging.getLogger(__name__)


class SuspicionWatch:
    """Remembers what it found until the next look."""

    def __init__(self, door: KernelDoor) -> None:
        self._door = door
        self._found: tuple[Suspicion, ...] = ()
        self._blind = ""  # why nothing can be looked for

    async def look(
        self, spec: LVSNodeSpec, around: Surroundings, actual: KernelState, *, deep: bool
    ) -> tuple[Suspicion, ...]:
        """Return what may keep clients of the node's VIPs from an answer, looked at with the surroundings."""
        if deep or not spec.backend_services:
            self._found = ()
        if deep and spec.backend_services:
            interfaces = [OwnInterface(one.name, one.addresses) for one in around.own]
            try:
                view = await self._door.own_view([one.name for one in interfaces])
            except KernelError as error:  # it explains failures, and no more: what is to be served is served without
                if str(error) != self._blind:
                    log.warning("what keeps clients from an answer is not looked for: %s", error)
                self._blind = str(error)
                return ()
            self._blind = ""
            self._found = suspicions(
                spec.backend_services,
                view,
                interfaces,
                on_lo=[key.address for key in actual.addresses if key.interface == LOOPBACK],
                silent=silent(actual.sysctls),
            )
        return self._found
