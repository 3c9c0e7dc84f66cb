"""Whether enough real servers are healthy: for a service to be ready, and to do without its sorry server."""

from collections.abc import Iterable
from typing import NamedTuple

from lvs_dr.core.conditions import FALSE, find
from lvs_dr.core.health import Health
from lvs_dr.core.objects import Quorum
from lvs_dr.core.reasons import Reason
from lvs_dr.core.status import VirtualServiceStatus
from lvs_dr.core.table import TableQuorum

_LOST = frozenset({Reason.QUORUM_LOST, Reason.NO_HEALTHY_REAL_SERVER, Reason.SORRY_SERVER})


class Strength(NamedTuple):
    """How many real servers, and the sum of their weights."""

    servers: int
    weight: int


class Need(NamedTuple):
    """What it takes, and in words why."""

    servers: int
    text: str
    weight: int = 0
    weight_text: str = ""


def need(quorum: Quorum, total: int, previous: VirtualServiceStatus | None, total_weight: int = 0) -> Need:
    """Return what a service of `total` real servers needs now.

    Once the quorum was lost it takes more to be ready again, but never more than there are.
    """
    ready = find(previous.conditions, "Ready") if previous is not None else None
    lost = ready is not None and ready.status is FALSE and ready.reason in _LOST
    least, weight = quorum.minimum, quorum.minimum_weight
    text, weight_text = f"quorum.minimumHealthy is {least}", f"quorum.minimumWeight is {weight}"
    back = max(least, min(least + quorum.hysteresis, total)) if lost else least
    back_weight = max(weight, min(weight + quorum.weight_hysteresis, total_weight)) if lost else weight
    if back > least:
        text = f"{back} needed until it is back (quorum {least}, hysteresis {quorum.hysteresis})"
    if back_weight > weight:
        weight_text = f"{back_weight} needed until it is back (quorum {weight}, hysteresis {quorum.weight_hysteresis})"
    return Need(back, text, back_weight, weight_text)


def table_quorum(quorum: Quorum, divisor: int = 1) -> TableQuorum:
    """Return the quorum for directors, where all weights have been divided by `divisor`."""
    weight = quorum.minimum_weight
    return TableQuorum(
        minimum=quorum.minimum,
        back=quorum.minimum + quorum.hysteresis,
        minimum_weight=_up(weight, divisor),
        back_weight=_up(weight + quorum.weight_hysteresis, divisor) if weight else 0,
    )


def _up(value: int, divisor: int) -> int:
    return -(-value // divisor)


def is_short(quorum: TableQuorum, verdicts: Iterable[tuple[int, Health]], *, already: bool) -> bool:
    """Tell whether too few are healthy. `verdicts`: of those with a weight, with that.

    `already`: it was short before; then what is not known yet does not count, and hysteresis does. Else it counts: a
    service that starts is not short.
    """
    known = [(weight, health) for weight, health in verdicts if weight > 0]
    good = [weight for weight, health in known if health is Health.UP or (health is Health.UNKNOWN and not already)]
    if not already:
        return len(good) < quorum.minimum or sum(good) < quorum.minimum_weight
    servers = max(quorum.minimum, min(quorum.back, len(known)))
    weight = max(quorum.minimum_weight, min(quorum.back_weight, sum(weight for weight, _ in known)))
    return len(good) < servers or sum(good) < weight
