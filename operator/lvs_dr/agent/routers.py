"""From the director's role to what the speaker is told: virtual routers by family, with the priority that is due."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from itertools import chain
from math import inf

from lvs_dr.core.director_fitness import Evidence, Verdict, due, evidence, judge, together
from lvs_dr.core.health import HealthView
from lvs_dr.core.node import DirectorRole
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.vrrp.messages import DEGRADED_BELOW, LOWERED_BY, Assignment, RouterAssignment, RouterKey, SpeakerState

ACTIVE = "Active"
FAMILIES = (4, 6)


class Fitness:
    """Judges, for each virtual router, whether this director sees enough healthy real servers."""

    def __init__(self) -> None:
        self._verdicts: dict[int, Verdict] = {}
        self._seen: dict[int, Evidence] = {}
        self._of: tuple[Mapping[str, DirectorTableSpec], HealthView, AbstractSet[str]] | None = None
        self._evidence: Mapping[str, Evidence] = {}
        self.due = inf
        """When a verdict may change by itself (monotonic seconds)."""

    def look(
        self,
        role: DirectorRole,
        tables: Mapping[str, DirectorTableSpec],
        health: HealthView,
        state: SpeakerState,
        now: float,
        *,
        unserved: AbstractSet[str] = frozenset(),
    ) -> None:
        """Judge anew. `tables` and `health` are the same objects until something in them changes.

        `unserved`: tables of which nobody is served here, whatever the checks say.
        """
        if self._of is None or self._of[0] is not tables or self._of[1] is not health or self._of[2] != unserved:
            self._evidence = evidence(tables, health, unserved)
            self._of = (tables, health, unserved)
        active = {each.key.vrid for each in state.routers if each.state == ACTIVE}
        # An agent before us has lowered these: they stay so until the checks have said what there is.
        lowered = {each.key.vrid for each in state.routers if each.configured_priority < DEGRADED_BELOW}
        verdicts: dict[int, Verdict] = {}
        self.due = inf
        for router in role.vrrp.routers:
            seen = together(self._evidence, frozenset(router.addresses))
            known = self._verdicts.get(router.id)
            if known is None:
                known = Verdict(low=router.id in lowered and router.priority >= DEGRADED_BELOW)
            verdict = judge(known, seen, active=router.id in active, now=now)
            verdicts[router.id], self._seen[router.id] = verdict, seen
            self.due = min(self.due, due(verdict, seen, active=router.id in active))
        self._verdicts = verdicts

    def lowered(self, vrid: int) -> bool:
        """Whether the priority of a virtual router is to be lower."""
        return self._verdicts.get(vrid, Verdict()).low

    def words(self, vrid: int) -> str:
        """Return what is seen, for people."""
        seen = self._seen.get(vrid, Evidence())
        return f"{seen.healthy} of {seen.total} real servers are healthy as seen from here"


def assignment(
    interface: str,
    role: DirectorRole,
    *,
    may: AbstractSet[str],
    keep: AbstractSet[str],
    fitness: Fitness,
    fault: str,
    source6: str,
    state: SpeakerState,
) -> Assignment:
    """Return what to tell the speaker.

    `may`: VIPs that are ready to be held here. `keep`: VIPs that stay where the speaker has them although the role
    does not name them (any more). `fault`: why the node must not be Active. `source6`: its own IPv6 address.
    """
    vrrp = role.vrrp
    found: dict[RouterKey, RouterAssignment] = {}
    for router in vrrp.routers:
        priority = max(1, router.priority - (LOWERED_BY if fitness.lowered(router.id) else 0))
        for family in FAMILIES:
            own = tuple(each for each in router.addresses if (":" in each) == (family == 6) and each in may)  # noqa: PLR2004
            if own:
                key = RouterKey(router.id, family)
                found[key] = RouterAssignment(key, priority, own, fault)
    named = frozenset(chain.from_iterable(each.addresses for each in found.values()))
    for known in state.routers:
        more = tuple(each for each in known.addresses if each in keep and each not in named)
        if more:
            there = found.get(known.key) or RouterAssignment(known.key, max(1, known.configured_priority), (), fault)
            found[known.key] = RouterAssignment(known.key, there.priority, (*there.addresses, *more), fault)
    peers = tuple(chain.from_iterable(peer.addresses for peer in vrrp.peers))
    return Assignment(
        interface=interface,
        routers=tuple(found[key] for key in sorted(found)),
        interval_milliseconds=vrrp.advertisement_interval_milliseconds,
        preempt=vrrp.preempt,
        preempt_delay_seconds=vrrp.preempt_delay_seconds,
        stop_hold_seconds=vrrp.stop_hold_seconds,
        alone=not vrrp.peers,
        unicast=vrrp.unicast,
        peers=peers,
        strangers=all(any(":" not in each for each in peer.addresses) for peer in vrrp.peers),
        source6=source6,
    )
