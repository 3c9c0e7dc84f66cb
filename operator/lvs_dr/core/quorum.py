"""Whether enough real servers are healthy for a service to be called ready."""

from typing import NamedTuple

from lvs_dr.core.conditions import FALSE, find
from lvs_dr.core.objects import Quorum
from lvs_dr.core.reasons import Reason
from lvs_dr.core.status import VirtualServiceStatus

_LOST = frozenset({Reason.QUORUM_LOST, Reason.NO_HEALTHY_REAL_SERVER})


class Need(NamedTuple):
    """How many healthy real servers it takes, and in words why."""

    servers: int
    text: str


def need(quorum: Quorum, total: int, previous: VirtualServiceStatus | None) -> Need:
    """Return what a service of `total` real servers needs now.

    Once the quorum was lost it takes more to be ready again, but never more than there are.
    """
    ready = find(previous.conditions, "Ready") if previous is not None else None
    lost = ready is not None and ready.status is FALSE and ready.reason in _LOST
    back = max(quorum.minimum, min(quorum.minimum + quorum.hysteresis, total))
    if lost and back > quorum.minimum:
        return Need(back, f"{back} needed until it is back (quorum {quorum.minimum}, hysteresis {quorum.hysteresis})")
    return Need(quorum.minimum, f"quorum.minimumHealthy is {quorum.minimum}")
