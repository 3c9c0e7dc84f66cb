"""Weights as the schedulers take them.

Sources: net/netfilter/ipvs/ip_vs_{rr,lc,dh,sh}.c.
"""

from collections.abc import Iterable, Sequence
from math import gcd
from typing import Final

from msgspec.structs import replace

from lvs_dr.core.table import DirectorTableSpec, TableDestination

IGNORING: Final = frozenset({"rr", "lc", "dh"})
"""Schedulers that ask only whether a weight is 0."""

SH: Final = "sh"
SH_SLOTS: Final = 256
"""Buckets of sh (IP_VS_SH_TAB_BITS). It hands out as many as the weight says to one real server after the other."""


def as_scheduled(scheduler: str, destinations: Sequence[TableDestination]) -> tuple[TableDestination, ...]:
    """Return the destinations with weights that mean the same share to the scheduler.

    sh is given the smallest weights of the same proportion: with 100 each, the slots would end with the third real
    server, and the fourth would get nothing.
    """
    common = divisor(scheduler, destinations)
    if common == 1:
        return tuple(destinations)
    return tuple(replace(each, weight=each.weight // common) for each in destinations)


def divisor(scheduler: str, destinations: Sequence[TableDestination]) -> int:
    """Return what `as_scheduled` divides all weights by."""
    return max(1, gcd(*(each.weight for each in destinations))) if scheduler == SH else 1


def ignored(table: DirectorTableSpec) -> str:
    """Return why the table's weights do not have the effect one expects; "" when they do."""
    weights = [each.weight for each in table.destinations if each.weight > 0]
    if table.redirect is not None:
        if table.redirect.algorithm in IGNORING and len(set(weights)) > 1:
            return (
                f"algorithm {table.redirect.algorithm} looks at no weights, and the real servers have different ones: "
                "use wrr or wlc, or give all the same weight"
            )
        return ""
    if table.scheduler in IGNORING and len(set(weights)) > 1:
        return (
            f"scheduler {table.scheduler} looks at no weights, and the real servers have different ones: use wrr or "
            "wlc, or give all the same weight"
        )
    if table.scheduler == SH and (left := _without_slots(weights)):
        return (
            f"scheduler sh has {SH_SLOTS} slots, and the real servers' weights ask for {sum(weights)}: {left} of "
            f"{len(weights)} may get no connection; give weights with a large common divisor, or use mh"
        )
    return ""


def _without_slots(weights: Iterable[int]) -> int:
    """Return how many real servers sh leaves out at most, whatever their order."""
    used = count = 0
    largest_first = sorted(weights, reverse=True)
    for weight in largest_first:
        if used >= SH_SLOTS:
            break
        used += weight
        count += 1
    return len(largest_first) - count
