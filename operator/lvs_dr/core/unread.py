"""Reading less than all of IPVS: the kernel is asked for the destinations of each service by itself.

Between two looks at everything (`agent.loop.RESYNC_SECONDS`, which is how fast drift heals anyway) a pass reads all
services, and the destinations of those that something is to be done to: nothing is written to what was not read in the
same pass. Of the others it knows what it read when it last looked, after which nothing was done to them.
"""

from collections.abc import Set as AbstractSet
from typing import TypeVar

from msgspec.structs import replace

from lvs_dr.core.destinations import Destinations
from lvs_dr.core.kernel import DestinationOp, KernelState, ServiceKey, ServiceOp
from lvs_dr.core.plan import Plan

V = TypeVar("V")


def concerned(made: Plan) -> frozenset[ServiceKey]:
    """Return the services to which, or to whose destinations, a plan does something, or for whose it waits."""
    found = {key.service for key in made.draining}
    for op in made.ops:
        if type(op) is DestinationOp:
            found.add(op.key.service)
        elif type(op) is ServiceOp:
            found.add(op.key)
    return frozenset(found)


def completed(read: KernelState, before: KernelState, unread: AbstractSet[ServiceKey]) -> KernelState:
    """Return what was read, with the destinations of `unread` services as they were read before.

    A service that is not there any more has none.
    """
    left = unread & read.services.keys()
    if not left:
        return read
    return replace(
        read,
        destinations=_joined(read.destinations, before.destinations, left),
        connections=_joined(read.connections, before.connections, left),
        templates=_joined(read.templates, before.templates, left),
    )


def _joined(read: Destinations[V], before: Destinations[V], unread: AbstractSet[ServiceKey]) -> Destinations[V]:
    kept = {service: group for service, group in before.groups.items() if service in unread}
    return Destinations({**kept, **read.groups})
