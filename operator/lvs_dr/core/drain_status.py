"""Condition `Drained` of a RealServer: whether whoever takes it out may go on, and what that waits for."""

import datetime as dt
from collections.abc import Sequence

from lvs_dr.core.conditions import Finding, find, well, wrong
from lvs_dr.core.directors import listed
from lvs_dr.core.drain import progress
from lvs_dr.core.objects import Invalid, Key, RealServer, RealServerState
from lvs_dr.core.reasons import Reason
from lvs_dr.core.status import Condition, ConditionStatus
from lvs_dr.core.world import TableRecord, World

DRAINED = "Drained"
_OWN = "as its own node counts them"


def drained(world: World, real_server: RealServer | Invalid, earlier: Sequence[Condition], now: str) -> Finding | None:
    """Return whether the real server is out of all tables; None unless its state is Drain.

    `earlier`: its conditions so far. `now`: RFC 3339. Since when it drains is the time of transition of this very
    condition, so that no restart forgets it.
    """
    if not isinstance(real_server, RealServer) or real_server.state is not RealServerState.DRAIN:
        return None
    key = real_server.meta.key
    # Whoever selects it: one that cannot be read keeps its last table.
    tables = [world.tables[each] for each in sorted(world.index.tables_by_real_server.get(key, ()))]
    before = find(earlier, DRAINED)
    if not tables:
        return _out(world, key, before, real_server.drain_seconds)
    since = before.last_transition_time if before is not None and before.status is ConditionStatus.FALSE else now
    return wrong(Reason.DRAINING, f"{_left(world, key, tables)}; {_until(since, real_server.drain_seconds)}")


def drain_end(since: str, seconds: int) -> dt.datetime | None:
    """Return when a drain that began at `since` (RFC 3339) is over at the latest; None: it has no end.

    Raises ValueError for a time that is none.
    """
    return dt.datetime.fromisoformat(since) + dt.timedelta(seconds=seconds) if seconds else None


def _out(world: World, key: Key, before: Condition | None, seconds: int) -> Finding:
    """Return that it is out. Why it is stays as it was told first: afterwards nobody can tell."""
    if before is not None and before.status is ConditionStatus.TRUE:
        return well(Reason.DRAINED, before.message)
    if before is None:
        return well(Reason.DRAINED, "no director sends to it")
    if key in world.drain_over:
        left = before.message.partition(";")[0]
        return well(Reason.DRAINED, f"its time is over (drain.timeoutSeconds: {seconds}); last known: {left}")
    if _OWN in before.message:
        return well(Reason.DRAINED, "its node has no connection left")
    return well(Reason.DRAINED, "no director has a connection to it left")


def _left(world: World, key: Key, tables: Sequence[TableRecord]) -> str:
    """Return how many connections are left, and who has not told."""
    count = remembered = 0
    own = True
    most: set[str] = set()
    untold: set[str] = set()
    for table in tables:
        found = progress(world, table, key.name)
        own = own and found.own is not None
        count += found.own.connections if found.own is not None else found.connections
        remembered += found.remembered
        untold.update(found.untold)
        if found.connections and found.own is None:
            most.add(found.most)
    text = f"{count} connection{'' if count == 1 else 's'} left"
    if most:
        text += f", as {listed(sorted(most))} counts them"
    if own and tables:
        text += f", {_OWN}"
    if remembered:
        text += f", and {remembered} client{'' if remembered == 1 else 's'} that persistence brings back"
    if untold:
        text += f" (not told yet by {listed(sorted(untold))})"
    return text


def _until(since: str, seconds: int) -> str:
    end = drain_end(since, seconds)
    if end is None:
        return "they are waited for without limit"
    return f"it is taken out at {end.strftime('%Y-%m-%dT%H:%M:%SZ')} at the latest"
