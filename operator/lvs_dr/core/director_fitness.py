"""Whether a director sees enough healthy real servers to be Active. Pure: evidence and the time in, a verdict out.

A director that sees less than half of a virtual router's real servers healthy, for long, advertises a lower priority;
others that see better take over. When real servers die for all to see, nothing may move. No two directors notice at
the same moment, so they do not wait equally long: who is Active is the last to be lowered and the first to be raised.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from math import inf
from typing import Final, NamedTuple

from msgspec import Struct

from lvs_dr.core.health import Health, HealthView, check_key
from lvs_dr.core.ipvs_table import check_ports
from lvs_dr.core.table import DirectorTableSpec

LOW: Final = 0.5
WELL: Final = 0.75
CHECK_TIMES: Final = 3
LEAST_SECONDS: Final = 10.0


class Evidence(NamedTuple):
    """What a director sees of a virtual router's real servers."""

    healthy: int = 0
    total: int = 0
    slowest: float = 0.0
    """Seconds that the slowest check takes to notice a change."""

    @property
    def share(self) -> float:
        """Which part is healthy, 0 to 1; all of it where nothing is checked."""
        return self.healthy / self.total if self.total else 1.0


class Verdict(Struct, frozen=True):
    """Whether the priority is lowered, and since when (monotonic seconds) the evidence speaks against that."""

    low: bool = False
    since: float | None = None


def evidence(
    tables: Mapping[str, DirectorTableSpec], health: HealthView, unserved: AbstractSet[str] = frozenset()
) -> Mapping[str, Evidence]:
    """Return what is seen, by VIP. Real servers that are not checked, or whose check has not ended, say nothing bad.

    All those of tables in `unserved` count as dead.
    """
    found: dict[str, Evidence] = {}
    for name, table in tables.items():
        check = table.health_check
        if name in unserved:
            before = found.get(table.address, Evidence())
            found[table.address] = before._replace(total=before.total + max(1, len(table.destinations)))
            continue
        if check is None:
            continue
        ports = check_ports(table)
        serving = [each for each in table.destinations if each.weight > 0]
        down = sum(
            1
            for each in serving
            if any(health.get(check_key(table, each, port, check)) is Health.DOWN for port in ports)
        )
        before = found.get(table.address, Evidence())
        slowest = float(max(check.fall, check.rise) * check.interval_seconds + check.timeout_seconds)
        found[table.address] = Evidence(
            before.healthy + len(serving) - down, before.total + len(serving), max(before.slowest, slowest)
        )
    return found


def together(found: Mapping[str, Evidence], addresses: AbstractSet[str]) -> Evidence:
    """Return the evidence of several VIPs as one."""
    parts = [found[address] for address in addresses if address in found]
    return Evidence(
        sum(each.healthy for each in parts),
        sum(each.total for each in parts),
        max((each.slowest for each in parts), default=0.0),
    )


def judge(before: Verdict, seen: Evidence, *, active: bool, now: float) -> Verdict:
    """Return the verdict at `now` (monotonic seconds); `active`: whether this director is Active."""
    against = seen.share > WELL if before.low else seen.share < LOW
    if not against:
        return Verdict(before.low)
    since = now if before.since is None else before.since
    if now - since >= _patience(before, seen, active=active):
        return Verdict(not before.low)
    return Verdict(before.low, since)


def due(verdict: Verdict, seen: Evidence, *, active: bool) -> float:
    """Return when the verdict is to be looked at again although the evidence stays; inf: not before it changes."""
    return inf if verdict.since is None else verdict.since + _patience(verdict, seen, active=active)


def _patience(verdict: Verdict, seen: Evidence, *, active: bool) -> float:
    """Return how long evidence must last: three times as long for what would move a VIP if others are not as far."""
    longest = max(LEAST_SECONDS, CHECK_TIMES * seen.slowest)
    return longest if active != verdict.low else longest / CHECK_TIMES
