"""Decides what a pass is to do, and not again what it has decided already.

All of it is pure and takes tens of milliseconds with ten thousand entries, so it runs in a thread beside the event
loop. While nothing changes, the same objects come in, and the same objects go out.
"""

from collections.abc import Iterable, Mapping

import msgspec

from lvs_dr.core.desired import Desired, desired
from lvs_dr.core.health import HealthView
from lvs_dr.core.kernel import DestinationKey, KernelState, Op
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.plan import Plan, plan
from lvs_dr.core.settings import Link
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.table_entries import EntriesMemory
from lvs_dr.core.weight_factors import NO_FACTORS, FactorView

# What a plan does not depend on, once nothing is leaving.
_PASSING = frozenset(("connections", "templates", "silent_marks", "mark_packets", "ipvs_slots"))
_LASTING = tuple(name for name in KernelState.__struct_fields__ if name not in _PASSING)


class Situation(msgspec.Struct, frozen=True):
    """What the goal of a pass follows from."""

    spec: LVSNodeSpec
    tables: Mapping[str, DirectorTableSpec]
    health: HealthView
    ledger: Ledger
    reserved: Mapping[str, str]
    held: frozenset[str]
    unreadable: frozenset[str]
    owner: str = ""
    link: Link | None = None
    interface: str = ""  # the director's
    macs: Mapping[str, tuple[str, ...]] = {}  # of peer directors, by node
    factors: FactorView = NO_FACTORS  # one object: an empty dict would be another one in each pass
    strict: bool = False  # rp_filter is 1 for all interfaces

    def same(self, other: "Situation | None") -> bool:
        """Tell whether nothing changed: who passes on an unchanged object passes on the same one."""
        return (
            other is not None
            and self.tables is other.tables
            and self.health is other.health
            and self.ledger is other.ledger
            and self.reserved is other.reserved
            and self.factors is other.factors
            and (self.spec is other.spec or self.spec == other.spec)
            and (self.held, self.unreadable, self.owner, self.link)
            == (other.held, other.unreadable, other.owner, other.link)
            and (self.interface, self.macs, self.strict) == (other.interface, other.macs, other.strict)
        )


class Decider:
    """Remembers the last decision. One thread at a time."""

    def __init__(self) -> None:
        self._situation: Situation | None = None
        self._goal = Desired(writable=False)
        self._entries = EntriesMemory()
        self._seen: tuple[Desired, KernelState, Plan] | None = None

    def decide(self, now: Situation, actual: KernelState, clock: float) -> tuple[Desired, Plan]:
        """Return what the kernel must hold and what to do. `clock`: monotonic seconds."""
        if not now.same(self._situation):
            self._goal = desired(
                now.spec,
                now.tables,
                now.health,
                now.ledger,
                held=now.held,
                reserved=now.reserved,
                unreadable=now.unreadable,
                owner=now.owner,
                link=now.link,
                interface=now.interface,
                macs=now.macs,
                memory=self._entries,
                factors=now.factors,
                strict=now.strict,
            )
            self._situation = now
        return self._goal, self._plan(self._goal, actual, now.ledger, clock)

    def _plan(self, goal: Desired, actual: KernelState, ledger: Ledger, clock: float) -> Plan:
        if self._seen is not None:
            before, read, made = self._seen
            if before is goal and made.ledger == ledger and _same(read, actual):
                return made
        made = plan(goal, actual, ledger, now=clock)
        quiet = not made.ops and not made.draining
        self._seen = (goal, actual, made) if quiet else None
        return made


def _same(one: KernelState, other: KernelState) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in _LASTING)


def without_removals(ops: Iterable[Op], goal: Desired) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
    """Split operations into those that build what is wanted, and those that take something away.

    Until the API server was heard the last good state may be older than what an agent before us did: it is good
    enough to build from, and to take out a real server that fails its checks, but not to take anything else away.
    """
    others: frozenset[object] = frozenset((*goal.services, *goal.addresses, *goal.routes, *goal.sysctls))
    others |= {*goal.shared.timeouts, *goal.shared.daemons, *goal.tunnels.devices, *goal.tunnels.gue_ports}
    others |= {*goal.guard.wanted}
    building: list[Op] = []
    removing: list[Op] = []
    for op in ops:
        key = op.key
        inside = isinstance(key, DestinationKey) and (key in goal.destinations or key in goal.failed)
        (building if inside or key in others else removing).append(op)
    return tuple(building), tuple(removing)
